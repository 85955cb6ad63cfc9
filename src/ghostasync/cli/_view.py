"""
The board as rich draws it: one :class:`Text` a line, none wider than asked.

A frame has at most as many lines as the terminal, save one for the cursor. The fleet as
a whole is drawn first; hosts get the rest of the height.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

import attrs
from rich.text import Text

from ..model import State as S  # noqa: N817  as in the table of states
from ..views.board import Board, HostRow, ModuleRow
from ..views.folding import Failure, short_hosts
from ..views.text import clock, plain, plural, size, span
from ._bars import (
    UNICODE,
    Glyphs,
    bar,
    gate,
    pipeline,
    serving,
    tallies,
    waves,
    wrapped,
)

__all__ = ["MAX_ROWS", "lines"]

MAX_ROWS: Final = 20
"""
Host rows drawn at most. An eye follows no more, and each costs time: rich took 11 ms
for a frame of 20 rows and 184 ms for one of 500.
"""

_STYLES: Final = {"live": "green", "unchanged": "green", "partial": "yellow"}
"""Colors of outcomes; all others are red."""

_BESIDE: Final = 24
"""Cells of a host's row beside its name: what it is at, and for how long."""

_AT_WORK: Final = 4
"""Lines that hosts at work keep beside failures that need more than one each."""

_NARROW: Final = 70
"""Columns below which a failure in one line has no room for its reason."""

_NAMES: Final = 4
"""Lines that the names of hosts that failed alike take at most."""

_COMMA: Final = re.compile(r",(?![^\[]*\])")
"""A comma between names, not one within a range."""

_SHORTEST: Final = 16
"""Cells that a host's name gets in any case."""

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
        drawn += [Text(), *serving(board, width, glyphs)]
    else:
        drawn += [Text(), *pipeline(board, width, glyphs), Text()]
    if not board.finished:
        drawn.append(bar(board, now, width, glyphs))
    # A fleet that goes back leaves its waves behind.
    if board.wave_count > 1 and not (board.is_back or board.phase == "going back"):
        drawn.append(waves(board, width, glyphs))
    if not board.finished:
        drawn += gate(board, now, width)
    drawn += tallies(board, width, glyphs)
    if not drawn[-1]:
        drawn.pop()
    if not board.finished:
        drawn += pen.rows(max(0, height - len(drawn) - 2))
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
            color = _STYLES.get(over.outcome, "red")
            style = f"bold {color}"
            sign = self.glyphs.bad if color == "red" else self.glyphs.good
            sign = f" {sign} "
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
        # Hosts in trouble need the height, and so do the closing words.
        board = self.board
        trouble = board.stopped or board.failures
        if board.packaged and (board.is_back or (trouble and not board.finished)):
            return
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
        if self.board.finished:
            return Text("not built", "dim")
        if not row.since:
            return Text(row.status, "dim")
        return Text.assemble(
            (row.status, "cyan"), (f"  {clock(self.now - row.since)}", "dim")
        )

    def rows(self, room: int) -> Iterator[Text]:
        """Draw failures, folded, then hosts at work, those longest at it first."""
        # While another run is waited for, no host is at work.
        active = [] if self.board.waiting else self.board.active(MAX_ROWS)
        at_work = min(len(active) + 1, room // 2) if active else 0
        failed = [*self._failures(room - bool(active), at_work)]
        active = active[: max(0, room - len(failed) - 1)]
        if failed or active:
            yield Text()
        yield from failed
        longest = max((len(row.name) for row in active), default=0)
        names = min(longest, max(_SHORTEST, self.width - _BESIDE))
        yield from (self._host(row, names) for row in active)
        hidden = self.board.active_count - len(active)
        if active and hidden > 0:
            yield Text(f"   {self.glyphs.more} {hidden:,} more", "dim")

    def _failures(self, room: int, at_work: int) -> Iterator[Text]:
        """
        Draw each failure in one line, or in more where it has to be and can be.

        *room* is that of failures and hosts at work, of which these keep *at_work*: a
        fleet in trouble still shows what it is doing about it.
        """
        failures = list(self.board.failures)
        aligned, most = [*self._aligned(failures)], room - at_work
        drawn = [[line] for line in aligned]
        if not all(map(self._is_whole, aligned, failures)):
            larger = room - min(at_work, _AT_WORK)
            for rows in range(_NAMES, 0, -1):
                whole = [[*self._whole(failure, rows)] for failure in failures]
                # On a narrow terminal few reasons are worth more than all names.
                few = rows == 1 and self.width < _NARROW and len(whole[0]) < larger
                if few or sum(map(len, whole)) <= larger:
                    drawn, most = whole, larger
                    break
        left = list(failures)
        for failure, lines in zip(failures, drawn, strict=True):
            space = most - (len(left) > 1)
            if space < 1:
                break
            shown = lines if len(lines) <= space else [*self._aligned([failure])]
            yield from shown
            most -= len(shown)
            left.pop(0)
        if left and most > 0:
            rest = plural(sum(len(f.hosts) for f in left), "other host")
            yield Text(f" {self.glyphs.bad} {rest}", "red")

    def _aligned(self, failures: Sequence[Failure]) -> Iterator[Text]:
        texts = [short_hosts(f.names, max(16, self.width // 2 - 6)) for f in failures]
        names = max(map(len, texts), default=0)
        steps = max((len(f.step) for f in failures), default=0)
        for failure, hosts in zip(failures, texts, strict=True):
            yield Text.assemble(
                (f" {self.glyphs.bad} {hosts:{names}}  ", "bold red"),
                (f"{failure.step:{steps}}  {plain(failure.reason)}", "red"),
            )

    def _is_whole(self, line: Text, failure: Failure) -> bool:
        """Tell whether a line is not too long, and names what a longer one would."""
        hosts = short_hosts(failure.names, _NAMES * (self.width - 4))
        return line.cell_len <= self.width and hosts in line.plain

    def _whole(self, failure: Failure, rows: int) -> Iterator[Text]:
        """Draw it with its names on up to so many *rows*, and its reason below."""
        hosts = short_hosts(failure.names, rows * (self.width - 4))
        hosts, sign = _COMMA.sub(", ", hosts), f" {self.glyphs.bad} "
        yield from wrapped(hosts, "bold red", self.width, sign)
        words = ": ".join(filter(None, (failure.step, failure.reason)))
        yield from wrapped(words, "red", self.width)

    def _host(self, row: HostRow, names: int) -> Text:
        style = "yellow" if row.state is S.ROLLING_BACK else "cyan"
        name = Text(row.name)
        name.truncate(names, overflow="ellipsis", pad=True)
        line = Text.assemble(
            "   ",
            name,
            "  ",
            (f"{row.state.name.lower().replace('_', ' '):12}", style),
            (f"{clock(self.now - row.since):>6}  ", "dim"),
        )
        if row.state is not S.UPLOADING:
            line.append(row.line, "dim").rstrip()
            return line
        full = min(_STRIPE, round(_STRIPE * row.nbytes / max(1, self.board.whole)))
        line.append(self.glyphs.full * full, style)
        line.append(self.glyphs.rest * (_STRIPE - full), "dim")
        return line.append(f"  {size(row.nbytes):>7}")
