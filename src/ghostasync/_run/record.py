"""
The record of a run: its events in order, the output of hosts and builds, its report.

How it works. Every event becomes a record in one place, and a line of the journal
before any observer is told of it. The journal is a file on this machine: no network is
needed to put on record that a link is about to move, and a store that is away stops no
way back. A store that is a directory holds that file itself, so nothing is written
twice. Any other store gets a copy, part by part and in the background; the first link
waits for it, for some seconds. The rest is handed in at the run's end, or, if the
process was killed before, by the next run on this machine (``history/_leftovers.py``).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import anyio
import attrs

from .. import events as e
from .._local.logs import CappedLog
from .._local.paths import build_log, host_log
from ..errors import StoreError
from ..history._leftovers import claim, hand_in_files, mark
from ..history.reports import REPORT
from ..history.runs import JOURNAL
from ..journal import Journal
from ..model import Report, State
from ..protocols import Observer, RunLog

__all__ = ["END_SECONDS", "Recording"]

FIRST_SWITCH_SECONDS: Final = 5.0
"""Seconds that the first switch waits for the store to have the journal."""

KEEP_SECONDS: Final = 20.0
"""Seconds that the store may take for report and logs, at the end of a run."""

END_SECONDS: Final = KEEP_SECONDS + FIRST_SWITCH_SECONDS + 5.0
"""Seconds that :meth:`Recording.finish` takes at the very most."""

PART_SECONDS: Final = 1.0
"""Least pause between two parts of a journal, in seconds: a run notes hundreds of
events a second, and a store counts requests."""

_SYNCED = (
    e.WaveStarted,
    e.FleetRollbackStarted,
    e.BeforeSwitchStarted,
    e.BeforeSwitchPassed,
    e.ScalingSuspended,
)
"""Events after which the journal is flushed to disk: PREVIOUS of every host must
survive a power failure before its link moves, and so must a migration that is done only
once, and what has to be resumed."""

_log = logging.getLogger("ghostasync")


@attrs.define(eq=False)
class Recording:
    """
    The record of one run, while it is made; :meth:`start` begins it.

    Where the journal cannot be written, *alarm* is told, once: a run that is not on
    record goes no further, but its way back must not depend on the disk that is full.
    Observers come after the journal; one that raises is dropped and logged, so that it
    can never break a deployment. Output of hosts is best effort: *incomplete* names the
    first log that could not be written, and why.

    Attributes:
        folder: The run's folder on this machine. Folders are 0700: output may say more
            than it should.

        waves: Host names to the numbers of their waves, for their records.
    """

    run: str
    folder: Path
    runs: RunLog
    observers: list[Observer]
    _journal: Journal
    _copy: _Copy | None = None
    alarm: Callable[[str], None] = _log.error
    waves: dict[str, int] = attrs.field(factory=dict)
    clock: Callable[[], float] = time.time
    broken: bool = False
    incomplete: str = ""
    seq: int = 0
    _logs: dict[str, CappedLog] = attrs.field(factory=dict)
    _claim: int | None = None
    _first: anyio.Event | None = None

    @classmethod
    def start(
        cls, run: str, folder: Path, runs: RunLog, observers: Sequence[Observer] = ()
    ) -> Recording:
        """
        Begin the record of a run.

        Args:
            run: The run's id.

            folder: The run's folder, which is new; in the store where that has folders.

            runs: The store's runs, which keep the record in the end.

            observers: Called with every record, in order.

        Raises:
            StoreError: The folder or the journal cannot be made.
        """
        # A folder outside of the store is claimed for as long as this process lives:
        # the next run here hands in the folders that nobody claims any more.
        elsewhere = runs.folder(run) != folder
        try:
            _make_folders(folder)
            claimed = claim(folder) if elsewhere else None
        except OSError as exc:
            key = "XDG_STATE_HOME" if elsewhere else "store.url"
            raise StoreError(f"{folder}: {exc.strerror}; check {key}") from exc
        journal = Journal(folder / JOURNAL)
        copy = _Copy(run, runs, journal) if elsewhere else None
        return cls(run, folder, runs, [*observers], journal, copy, claim=claimed)

    # --- Events ----------------------------------------------------------------

    def note(self, event: e.Event, state: State | None = None) -> None:
        """Put *event* on record; *state* is its host's after the event."""
        # Samples of progress go to observers alone. They carry the number of the record
        # before them, so that numbers of kept records have no gaps.
        passing = e.is_passing(event)
        if not passing:
            self.seq += 1
        record = e.Record(
            seq=self.seq,
            at=self.clock(),
            run=self.run,
            event=event,
            state=state,
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
        # For a host that is brought along no wave begins, which would flush its word.
        alone = isinstance(record.event, e.Prepared) and record.wave is None
        synced = alone or isinstance(record.event, _SYNCED)
        try:
            self._journal.append(record, sync=synced)
        except StoreError as exc:
            # First *broken*, then *alarm*: that notes an event of its own, which must
            # not be written either.
            self.broken = True
            self.alarm(f"the run cannot be recorded: {exc}")
        if self._copy is not None:
            self._copy.wake(at_once=synced)

    def _tell(self, observe: Observer, record: e.Record) -> None:
        try:
            observe(record)
        except Exception:  # noqa: BLE001  whatever it is, the run goes on
            # One that stops the run hears of that within its own call, and may raise
            # there already.
            with suppress(ValueError):
                self.observers.remove(observe)
            _log.exception("observer %r raised and is dropped", observe)

    # --- Output ----------------------------------------------------------------

    def build_log(self, module: str) -> Path:
        """Return the file for the output of a module's scripts on this machine."""
        return self.folder / build_log(module)

    def host_log(self, host: str) -> Path:
        """Return the file for the output of a host's scripts."""
        return self.folder / host_log(host)

    def write(self, host: str, data: bytes) -> None:
        """Append to the log of *host*; never raises."""
        if host not in self._logs:
            self._logs[host] = CappedLog(self.host_log(host))
        try:
            self._logs[host].write(data)
        except OSError as exc:
            path = self.host_log(host)
            self.incomplete = self.incomplete or f"{path}: {exc.strerror}"

    # --- The store -------------------------------------------------------------

    @asynccontextmanager
    async def copying(self) -> AsyncIterator[None]:
        """Have the store's copy of the journal follow it, until the body has ended."""
        if self._copy is None:
            yield
            return
        async with anyio.create_task_group() as tasks:
            # Shielded like the way back, which is to be on record elsewhere as well.
            scope = anyio.CancelScope(shield=True)
            tasks.start_soon(self._copy.follow, scope)
            try:
                yield
            finally:
                scope.cancel()

    async def before_first_switch(self) -> None:
        """
        Wait until the store has all that is on record so far, or for some seconds.

        A store that is away does not stop a deployment that is ready; a warning says
        that only this machine could resume the run.
        """
        if self._copy is None:
            return
        # All hosts of the first wave come here, and wait for one copy. A lock would let
        # them go one by one, each in another turn of the loop, and their links would
        # move seconds apart in a large wave.
        if self._first is not None:
            await self._first.wait()
            return
        self._first = anyio.Event()
        try:
            missing = await self._copy.within(FIRST_SWITCH_SECONDS)
        finally:
            self._first.set()
        if missing:
            text = f"the store has no copy of the journal yet: {missing}; until it has,"
            self.note(e.Warned(f"{text} only this machine can resume the run"))

    async def finish(self, report: Report) -> None:
        """
        Keep the report and all output, note the run's end, and hand in what is left.

        Bounded by ``END_SECONDS``; files that the store does not take are warned of,
        and stay on this machine.
        """
        missing = await self._keep_files(report)
        if missing:
            self.note(e.Warned(missing))
        if self.incomplete:
            self.note(e.Warned(f"a log is incomplete: {self.incomplete}"))
        self.note(
            e.Finished(
                outcome=report.outcome.value,
                exit=report.exit_status,
                releases=report.releases,
                hosts={name: host.state.value for name, host in report.hosts.items()},
                seconds=report.seconds,
                nbytes=report.nbytes,
                skew_ms=round(report.skew * 1000, 3),
                log=report.log,
                reason=report.reason,
            )
        )
        await self._hand_in_rest(missing)

    async def hand_in(self) -> None:
        """Have the store keep the files of a run that ends without a report."""
        if self._copy is not None:
            work = hand_in_files(self.runs, self.run, self.folder)
            await self._hand_in_rest(await _bounded(work))

    async def _hand_in_rest(self, missing: str) -> None:
        """Hand in the journal's end; *missing* is what the store lacks besides."""
        if self._copy is None:
            return
        # Too late for an event: the journal has been handed in, or could not be.
        missing = await self._copy.within(FIRST_SWITCH_SECONDS) or missing
        if missing:
            text = "the store lacks some of run %s: %s; the next run here hands it in"
            _log.warning(text, self.run, missing)
        else:
            mark(self.folder)

    async def _keep_files(self, report: Report) -> str:
        """Return why the report, or the logs, were not kept; empty where they were."""
        data = report.to_json().encode()
        if self._copy is None:
            missing = await _bounded(self.runs.save(self.run, REPORT, data))
            return missing and f"the report was not kept: {missing}"
        try:
            (self.folder / REPORT).write_bytes(data)
        except OSError as exc:
            return f"the report was not kept: {self.folder / REPORT}: {exc.strerror}"
        missing = await _bounded(hand_in_files(self.runs, self.run, self.folder))
        return missing and (
            f"the store lacks the report or a log: {missing}; all are in {self.folder}"
        )

    def close(self) -> None:
        """Close the journal and give the folder back; may be called again."""
        self._journal.close()
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None


@attrs.define(eq=False)
class _Copy:
    """
    A store's copy of a journal, which follows it part by part.

    A part is known by its offset. One whose answer was lost is offered again with the
    same bytes, whatever was written meanwhile: the store may have it.
    """

    run: str
    runs: RunLog
    journal: Journal
    _nbytes: int = 0
    _part: bytes = b""
    _turn: anyio.Lock = attrs.field(factory=anyio.Lock)
    _news: anyio.Event = attrs.field(factory=anyio.Event)
    _hurry: anyio.Event = attrs.field(factory=anyio.Event)

    def wake(self, *, at_once: bool) -> None:
        """Say that the journal has grown."""
        self._news.set()
        if at_once:
            self._hurry.set()

    async def follow(self, scope: anyio.CancelScope) -> None:
        """Keep the copy up to date until *scope* is cancelled."""
        with scope:
            while True:
                if self._nbytes == self.journal.nbytes:
                    await self._news.wait()
                self._news, self._hurry = anyio.Event(), anyio.Event()
                try:
                    await self._catch_up()
                # Not the run's trouble: the next part is offered again, and the first
                # switch and the run's end warn where the copy is missing.
                except StoreError as exc:
                    _log.info("journal of %s: %s; tried again", self.run, exc)
                with anyio.move_on_after(PART_SECONDS):
                    await self._hurry.wait()

    async def within(self, seconds: float) -> str:
        """Bring the copy up to date; return why it is not within *seconds*, else ""."""
        missing = f"no answer within {seconds:g} s"
        with anyio.move_on_after(seconds):
            while True:
                try:
                    await self._catch_up()
                except StoreError as exc:
                    missing = str(exc)
                else:
                    return ""
                await anyio.sleep(PART_SECONDS)
        return missing

    async def _catch_up(self) -> None:
        """Hand in what was in the journal at the time of the call."""
        until = self.journal.nbytes
        async with self._turn:
            while self._nbytes < until:
                self._part = self._part or self.journal.read(self._nbytes)
                await self.runs.append(self.run, JOURNAL, self._nbytes, self._part)
                self._nbytes += len(self._part)
                self._part = b""


async def _bounded(work: Coroutine[None, None, None]) -> str:
    """Return why *work* was not done, empty where it was."""
    with anyio.move_on_after(KEEP_SECONDS):
        try:
            await work
        except (StoreError, OSError) as exc:
            return str(exc)
        return ""
    return f"no answer within {KEEP_SECONDS:g} s"


def _make_folders(folder: Path) -> None:
    """Make the new folder of a run, 0700 like all that are missing above it."""
    # mkdir(parents=True) gives only the last folder its mode.
    missing = [parent for parent in folder.parents if not parent.exists()]
    new = (*reversed(missing), folder, folder / "hosts", folder / "build")
    for path in new:
        path.mkdir(mode=0o700, exist_ok=path != folder)
