"""The board on a terminal, redrawn in place."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from typing import Final

import attrs
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.segment import Segment

from ..views.board import Board
from ..views.text import plain
from ._bars import ASCII, UNICODE
from ._sink import Sink
from ._view import lines

__all__ = ["Screen"]


class Screen:
    """
    Drawing of a board in place.

    rich would redraw from a thread of its own and read the board while the event loop
    writes it. So frames are drawn on the loop, into memory, and go through *sink* as
    whole pieces of text; a frame is dropped while the last one is still being written.
    """

    interval: Final = 0.25
    """Seconds between frames; one takes 4 ms of CPU at 2,000 hosts, 14 ms at 20,000."""

    def __init__(self, board: Board, sink: Sink, encoding: str = "utf-8") -> None:
        self._board, self._sink = board, sink
        self._glyphs = UNICODE if encoding.lower().startswith("utf") else ASCII
        self._file = io.StringIO()
        self._console = Console(file=self._file, force_terminal=True)
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def draw(self) -> None:
        """Draw the board as it is now; the first time, begin to."""
        if self._board.started is not None and not self._sink.busy:
            self._live.start()
            self._live.update(self._frame(), refresh=True)
            self._pass_on()

    def close(self) -> None:
        """Draw the last frame, and give the cursor back."""
        if self._board.started is not None:
            self._live.start()
            self._live.update(self._frame())
            self._live.stop()
            self._pass_on()

    def _frame(self) -> Group:
        width, height = self._console.size
        return Group(
            *map(_Plain, lines(self._board, time.time(), width, height, self._glyphs)),
        )

    def _pass_on(self) -> None:
        self._sink.write(self._file.getvalue())
        self._file.seek(0)
        self._file.truncate()


@attrs.frozen
class _Plain:
    """What is drawn, its texts made plain; the breaks between lines are rich's own."""

    drawn: RenderableType

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[Segment]:
        for segment in console.render(self.drawn, options):
            text, style, control = segment
            ours = control is not None or text == "\n" or text.isprintable()
            yield segment if ours else Segment(plain(text), style)
