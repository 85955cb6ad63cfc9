"""
The board as rich draws it: one :class:`Text` a line, none wider than asked.

A frame has at most as many lines as the terminal, save one for the cursor. The fleet as
a whole is drawn first; hosts get the rest of the height.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs
from rich.text import Text

from ..model import State as S  # noqa: N817  as in the table of states
from ..views.board import Board, HostRow, ModuleRow
from ..views.folding import short_hosts
from ..views.text import clock, plain, plural, size, span
from ._bars import UNICODE, Glyphs, bar, gate, pipeline, serving, tallies, waves

__all__ = ["MAX_ROWS", "lines"]

MAX_ROWS: Final = 20
"""
Host rows drawn at most. An eye follows no more, and each costs time: rich took 11 ms
for a frame of 20 rows and 184 ms for one of 500.
"""

_GOOD: Final = frozenset({"live", "unchanged"})
_STRIPE: Final = 10
"""Cells of the small bar beside a host that is being sent to."""


def lines(
    board: Board, now: float, width: int, height: int, glyphs: Glyphs = UNICODE
) -> list[Text]:
    """
    Draw *board* as it is at *now* (POSIX seconds) within *width* and *height* cells.

    Hosts get what height the rest leaves, and at most :data:`MAX_ROWS` rows. Once
    the run is over they are left out: the closing words tell of them.
    """
    pen = _Pen(board, now, width, glyphs)
    drawn = [*pen.header(), *pen.modules()]
    # Of a run that is over and left nothing new, the way there is of no interest.
    if board.is_back:
        drawn += [Text(), serving(board, glyphs)]
    else:
        drawn += [Text(), *pipeline(board, width, glyphs), Text()]
    if not board.finished:
        drawn.append(bar(board, width, glyphs))
    if board.wave_count > 1 and not board.is_back:
        drawn.append(waves(board, width, glyphs))
    if not board.finished:
        drawn += gate(board, now)
    drawn += tallies(board, glyphs)
    if not drawn[-1]:
        drawn.pop()
    if not board.finished:
        drawn += pen.rows(max(0, min(MAX_ROWS, height - len(drawn) - 2)))
    for line in drawn:
        line.no_wrap = True
        line.truncate(width, overflow="ellipsis" if glyphs is UNICODE else "crop")
    return drawn[: max(1, height - 1)]


@attrs.frozen
class _Pen:
    """A pen for one frame of a board."""

    board: Board
    now: float
    width: int
    glyphs: Glyphs

    def header(self) -> Iterator[Text]:
        started, over = self.board.started, self.board.finished
        if started is None:
            return
        time = Text(clock(self.board.elapsed(self.now)), "bold")
        style, sign = "bold cyan", " "
        if over:
            good = over.outcome in _GOOD
            style = "bold green" if good else "bold red"
            sign = f" {self.glyphs.good if good else self.glyphs.bad} "
        left = Text.assemble(
            (sign, style), (started.action, "bold"), " ", (plain(started.app), style)
        )
        right = Text.assemble((self.board.run, "dim"), "  ", time)
        # On a narrow terminal the clock is worth more than the id, which is in the log.
        if left.cell_len + right.cell_len + 3 > self.width:
            right = time
        gap = max(1, self.width - left.cell_len - right.cell_len - 1)
        yield Text.assemble(left, " " * gap, right)
        words = [plural(len(self.board.hosts), "host")]
        words += [f"by {plain(started.actor)}"] if started.actor else []
        words += [plain(started.reason)] if started.reason else []
        yield Text(" " + self.glyphs.dot.join(words), "dim")

    def modules(self) -> Iterator[Text]:
        yield Text()
        rows = self.board.modules.values()
        names = max((len(row.name) for row in rows), default=0)
        revisions = max((len(row.revision) for row in rows), default=0)
        for row in rows:
            head = (f"{row.revision:{revisions}}" + "  " * bool(revisions), "magenta")
            line = Text.assemble(f" {row.name:{names}}  ", head)
            yield line.append_text(self._packaging(row))
            if row.line and not row.packaged:
                yield Text(" " * (names + 3) + row.line, "dim")

    def _packaging(self, row: ModuleRow) -> Text:
        if made := row.packaged:
            entries = "1 entry" if made.entries == 1 else f"{made.entries:,} entries"
            how = f"built in {span(made.seconds)}"
            return Text.assemble(
                f"{size(made.nbytes)}, {entries}  ",
                ("built before" if made.reused else how, "dim"),
            )
        if row.failed:
            return Text(f"{self.glyphs.bad} {plain(row.failed.reason)}", "red")
        if not row.since:
            return Text(row.status, "dim")
        return Text.assemble(
            (row.status, "cyan"), (f"  {clock(self.now - row.since)}", "dim")
        )

    def rows(self, room: int) -> Iterator[Text]:
        """Draw failures, folded, then hosts at work, those longest at it first."""
        # Failures take at most half of the room: a fleet in trouble still shows what
        # it is doing about it.
        failed = list(self._failures(room // 2))
        active = self.board.active(max(0, room - len(failed) - 1))
        if failed or active:
            yield Text()
        yield from failed
        names = min(24, max((len(row.name) for row in active), default=0))
        yield from (self._host(row, names) for row in active)
        hidden = self.board.active_count - len(active)
        if active and hidden > 0:
            yield Text(f"   {self.glyphs.more} {hidden:,} more", "dim")

    def _failures(self, room: int) -> Iterator[Text]:
        failures = list(self.board.failures)
        shown = failures if len(failures) <= room else failures[: max(0, room - 1)]
        texts = [short_hosts(f.hosts, max(16, self.width // 4)) for f in shown]
        names = max(map(len, texts), default=0)
        for failure, hosts in zip(shown, texts, strict=True):
            stage = (
                failure.stage.name.lower().replace("_", " ") if failure.stage else ""
            )
            yield Text.assemble(
                (f" {self.glyphs.bad} {hosts:{names}}  ", "bold red"),
                (f"{stage:12} ", "red"),
                (plain(failure.reason), "red"),
            )
        if len(shown) < len(failures) and room:
            rest = sum(len(f.hosts) for f in failures[len(shown) :])
            yield Text(f" {self.glyphs.bad} {plural(rest, 'other host')}", "red")

    def _host(self, row: HostRow, names: int) -> Text:
        style = "yellow" if row.state is S.ROLLING_BACK else "cyan"
        line = Text.assemble(
            f"   {row.name[:names]:{names}}  ",
            (f"{row.state.name.lower().replace('_', ' '):12}", style),
            (f"{clock(self.now - row.since):>6}  ", "dim"),
        )
        if row.state is not S.UPLOADING:
            return line.append(row.line, "dim")
        full = min(_STRIPE, round(_STRIPE * row.nbytes / max(1, self.board.whole)))
        line.append(self.glyphs.full * full, style)
        line.append(self.glyphs.rest * (_STRIPE - full), "dim")
        return line.append(f"  {size(row.nbytes):>7}")
