"""
The front end of a run: a board, lines or JSON, all fed by the same records.

The observer only folds a record and queues text; a thread writes (see ``_sink``), and
the board is drawn on a clock of its own. So neither a burst of records nor a slow
terminal holds up a host.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Final, Self, TextIO

import anyio

from .. import journal
from ..events import Record, is_passing
from ..views.board import Board
from ._lines import LineWriter
from ._options import Output
from ._sink import Sink

if TYPE_CHECKING:
    from ._live import Screen

__all__ = ["FrontEnd", "can_draw"]

_KINDS: Final = {True: "board", False: "lines"}

_DUMB: Final = ("dumb", "unknown")


class FrontEnd:
    """
    Front end of one run: :meth:`observe` is its observer, *board* the run so far.

    Use it as a context manager; :meth:`tick` runs beside the run.
    """

    def __init__(self, output: Output, stream: TextIO) -> None:
        self.output = _KINDS[can_draw(stream)] if output == "auto" else output
        self.board = Board()
        self._writer = LineWriter()
        self._sink = Sink(stream)
        self._screen = self._drawn(stream.encoding) if self.output == "board" else None
        self._stack = contextlib.ExitStack()

    def _drawn(self, encoding: str | None) -> Screen:
        # The screen alone needs rich, whose import would cost lines and JSON time.
        from ._live import Screen

        return Screen(self.board, self._sink, encoding or "ascii")

    def __enter__(self) -> Self:
        self._stack.enter_context(self._sink)
        if self._screen:
            self._stack.callback(self._screen.close)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def observe(self, record: Record) -> None:
        """Take note of *record*. Never blocks."""
        # Lines say names of modules and widths of hosts, so the board comes first.
        self.board.apply(record)
        if self.output == "json" and not is_passing(record.event):
            self._sink.write(journal.line(record) + "\n")
        # A board is drawn once the run has begun; what goes on before it is written.
        elif self.output == "lines" or (self._screen and not record.seq):
            for line in self._writer.tell(record, self.board):
                self._sink.tell(line)

    async def tick(self) -> None:
        """Redraw now and then, so that clocks run while nothing happens."""
        while self._screen:
            self._screen.draw()
            await anyio.sleep(self._screen.interval)

    def say(self, text: str) -> None:
        """Tell the user something that is no record; JSON has records only."""
        if self._screen:
            self.board.warnings.append(text)
        elif self.output == "lines":
            self._sink.tell(f"{time.strftime('%H:%M:%S')} {text}")


def can_draw(stream: TextIO) -> bool:
    """Tell whether *stream* is a terminal whose cursor can be moved."""
    # A stream that is closed, or is no file, is no terminal.
    try:
        terminal = stream.isatty()
    except (OSError, ValueError):
        return False
    return terminal and os.environ.get("TERM", "").lower() not in _DUMB
