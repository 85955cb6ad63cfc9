"""Number and stamp every event, and hand it to whoever observes the run."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import attrs

from .. import events as e
from ..errors import StoreError
from ..machine import HostMachine
from ..protocols import Observer

__all__ = ["Recorder"]

_log = logging.getLogger("ghostasync")


@attrs.define(eq=False)
class Recorder:
    """
    The one place through which events become records.

    *keep* gets every record first (the journal). Where it fails, *alarm* is told, once:
    a run that is not on record goes no further, but its way back must not depend on
    the disk that is full. Observers come after; one that raises is dropped and logged,
    it can never break a deployment.
    """

    run: str
    keep: Callable[[e.Record], None]
    observers: list[Observer]
    alarm: Callable[[str], None] = _log.error
    broken: bool = False
    waves: dict[str, int] = attrs.field(factory=dict)
    clock: Callable[[], float] = time.time
    seq: int = 0

    def note(self, event: e.Event, machine: HostMachine | None = None) -> None:
        """Take note of *event*; *machine* is the host's, after the event."""
        passing = e.is_passing(event)
        if not passing:
            self.seq += 1
        record = e.Record(
            seq=self.seq,
            at=self.clock(),
            run=self.run,
            event=event,
            state=machine.state if machine else None,
            wave=self._wave(event),
        )
        if not passing and not self.broken:
            self._keep(record)
        for observe in tuple(self.observers):
            self._tell(observe, record)

    def _wave(self, event: e.Event) -> int | None:
        if isinstance(event, e.HostEvent):
            return self.waves.get(event.host)
        return getattr(event, "wave", None)

    def _keep(self, record: e.Record) -> None:
        try:
            self.keep(record)
        except StoreError as exc:
            self.broken = True
            self.alarm(f"the run cannot be recorded: {exc}")

    def _tell(self, observe: Observer, record: e.Record) -> None:
        try:
            observe(record)
        except Exception:  # noqa: BLE001  whatever it is, the run goes on
            self.observers.remove(observe)
            _log.exception("observer %r raised and is dropped", observe)
