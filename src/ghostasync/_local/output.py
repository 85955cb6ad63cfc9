"""The output of a script on this machine: to a log, and its end to events."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Self

import anyio
import attrs

from .. import events as e
from .logs import CappedLog
from .redact import Redacting
from .scripts import Tail

__all__ = ["Listener"]

_SHOW_EVERY = 0.25
"""Seconds between two events about the output of one script."""


@attrs.define(eq=False)
class Listener:
    """
    The listener to one script of a module; a context manager.

    *stream* takes secrets out before anything is kept; *tail* is the end of the output;
    *note* is called with :class:`~ghostasync.events.BuildOutput`.
    """

    module: str
    key: str
    log: Path
    stream: Redacting
    note: Callable[[e.Event], None]
    tail: Tail = attrs.field(factory=Tail)
    _file: CappedLog | None = None
    _shown: str = ""
    _shown_at: float = 0.0

    def __enter__(self) -> Self:
        self._file = CappedLog(self.log)
        self._file.write(b"")  # it is there, though nothing may be printed
        return self

    def __exit__(self, *_: object) -> None:
        # The redactor holds back bytes that may begin a secret; at the end of the
        # output they are known not to.
        self._keep(self.stream.flush())
        self._show(final=True)

    def output(self, data: bytes) -> None:
        """Take bytes that the script has just printed."""
        self._keep(self.stream.feed(data))
        if anyio.current_time() - self._shown_at >= _SHOW_EVERY:
            self._show()

    def _keep(self, clean: bytes) -> None:
        if self._file is not None:
            self._file.write(clean)
        self.tail.feed(clean)

    def _show(self, *, final: bool = False) -> None:
        self._shown_at = anyio.current_time()
        text = self.tail.text()
        if text and (final or text != self._shown):
            self._shown = text
            self.note(e.BuildOutput(self.module, self.key, text, final=final))
