"""The board's lines about the fleet as a whole: pipeline, progress, waves, tallies."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

import attrs
from rich.text import Text

from ..machine import NOT_LOOKED, SERVES_NEW
from ..model import Action
from ..model import State as S  # noqa: N817  as in the table of states
from ..views.board import Board, HostRow
from ..views.text import clock, plain, plural, size

__all__ = [
    "ASCII",
    "UNICODE",
    "Glyphs",
    "bar",
    "gate",
    "pipeline",
    "serving",
    "tallies",
    "waves",
    "wrapped",
]

_LABEL: Final = 12
"""Cells before a bar; the longest phase and a space on each side."""

_WIDE: Final = 70
"""Columns from which on there is room for words behind a bar."""

_PIPELINE: Final[tuple[tuple[str, frozenset[S]], ...]] = (
    ("upload", frozenset({S.CONNECTING, S.CHECKING, S.UPLOADING})),
    ("prepare", frozenset({S.PREPARING})),
    ("ready", frozenset({S.READY})),
    ("switch", frozenset({S.DRAINING, S.SWITCHING})),
    ("activate", frozenset({S.ACTIVATING})),
    ("verify", frozenset({S.VERIFYING, S.UNDRAINING})),
    ("live", frozenset({S.LIVE, S.UNCHANGED})),
)
_BARRIER_BEFORE: Final = "switch"
_WAY_BACK: Final = (S.ROLLING_BACK, S.ROLLED_BACK, S.STRANDED)
_TALLIES: Final = (
    (S.STRANDED, "stranded", "bold red"),
    (S.FAILED, "failed", "red"),
    (S.DRAINING, "draining", "cyan"),
    (S.UNDRAINING, "undraining", "cyan"),
    (S.UNCHANGED, "unchanged", "green"),
    (S.HALTED, "halted", "yellow"),
    (S.ROLLING_BACK, "going back", "yellow"),
    (S.ROLLED_BACK, "back as before", "yellow"),
)
_HELD: Final = "held by another run"
_NEW: Final = "new release live on"
_OLD: Final = "old release live on"
_NONE: Final = "no release on"
_BEFORE: Final = "as before:"
_UNKNOWN: Final = "unknown on"
_SERVING: Final = {
    _UNKNOWN: "bold red",
    _NEW: "bold",
    _OLD: "bold",
    _NONE: "",
    _BEFORE: "",
}


@attrs.frozen
class Glyphs:
    """The few signs of the board; :data:`ASCII` for terminals without Unicode."""

    good: str
    bad: str
    then: str
    barrier: str
    none: str
    full: str
    rest: str
    more: str
    dot: str


UNICODE: Final = Glyphs("✓", "✗", "›", "┃", "·", "━", "─", "…", " · ")  # noqa: RUF001  meant
ASCII: Final = Glyphs("+", "x", ">", "|", ".", "=", "-", "..", ", ")


def pipeline(board: Board, width: int, glyphs: Glyphs) -> Iterator[Text]:
    """Draw the stages with the hosts in each, the barrier in their middle."""
    cells = [
        ("build", _built(board, glyphs), "green" if board.packaged else "bold cyan")
    ]
    # A phase that all hosts have left is green, one that they have not reached is dim.
    passed = board.packaged
    for name, states in _PIPELINE:
        here = sum(board.counts[state] for state in states)
        text = str(here) if here or name == "live" else glyphs.none
        cells.append((name, text, _style(name, here, passed=passed)))
        passed = passed and not here
    least = 1 + sum(max(len(name), len(text)) + 1 for name, text, _ in cells)
    if width < least:
        there = [(f"{n} {t}", st) for n, t, st in cells if t not in {glyphs.none, "0"}]
        yield from _listed(there, width, glyphs)
        return
    # Odd gaps, so that the sign between two stages stands in the middle of its gap.
    spare = width - 2 - sum(max(len(name), len(text)) for name, text, _ in cells)
    gap = max(1, min(5, spare // len(_PIPELINE)) - 1 | 1)
    names, counts = Text(" "), Text(" ")
    for name, text, style in cells:
        if name != "build":
            barrier = name == _BARRIER_BEFORE
            sign = glyphs.barrier if barrier else glyphs.then
            names.append(f"{sign:^{gap}}", "bold" if barrier else "dim")
            counts.append(f"{sign if barrier else '':^{gap}}", "bold")
        cell = max(len(name), len(text))
        names.append(f"{name:^{cell}}", style)
        counts.append(f"{text:^{cell}}", style)
    yield names
    yield counts


def _built(board: Board, glyphs: Glyphs) -> str:
    rows = board.modules.values()
    if any(row.failed for row in rows):
        return glyphs.bad
    done = sum(row.packaged is not None for row in rows)
    if done == len(rows):
        return glyphs.good
    return f"{done}/{len(rows)}" if len(rows) > 1 else glyphs.more


def _style(name: str, here: int, *, passed: bool) -> str:
    if here:
        return "bold green" if name == "live" else "bold cyan"
    return "green" if passed and name != "live" else "dim"


def bar(board: Board, now: float, width: int, glyphs: Glyphs) -> Text:
    """Draw how far the run is with what it is at."""
    done, words, style = _progress(board)
    if (wait := board.waiting) and not board.stopped:
        gone = now - board.waiting_since
        done = min(1.0, gone / wait.seconds) if wait.seconds else 1.0
        words = f"{clock(gone)} of up to {clock(wait.seconds)}"
    tail = f"  {done:4.0%}" + (f"  {words:<25}" if width >= _WIDE else "")
    room = max(4, width - _LABEL - len(tail) - 1)
    return Text.assemble(
        (f" {board.phase:{_LABEL - 1}}", f"bold {style}"),
        _stripe(done, room, style, glyphs),
        tail,
    )


def _progress(board: Board) -> tuple[float, str, str]:
    """Return the share of the present phase that is done, its words, and a style."""
    hosts, counts = max(1, len(board.hosts)), board.counts
    match board.phase:
        case "going back":
            back, due = counts[S.ROLLED_BACK], max(1, _going_back(board))
            return back / due, f"{back} of {plural(due, 'host')}", "yellow"
        case "stopping":
            # Scripts that are at work get some time to end, so hosts come to rest one
            # by one: halted, failed or live.
            rest = hosts - board.active_count
            return rest / hosts, f"{rest} of {plural(hosts, 'host')} at rest", "yellow"
        case "gate" if not board.wave:
            return 1.0, plural(counts[S.READY], "host") + " ready", "cyan"
        case "switching" | "soaking" | "gate":
            live = counts[S.LIVE] + counts[S.UNCHANGED]
            return live / hosts, f"{live} of {plural(hosts, 'host')}", "green"
        case "preparing" | "ready":
            ready = counts[S.READY] + counts[S.UNCHANGED]
            return ready / hosts, f"{ready} of {plural(hosts, 'host')}", "cyan"
        case _:
            return board.upload_fraction, _transfer(board), "cyan"


def _going_back(board: Board) -> int:
    """Count the hosts that are back, on their way, or named to go."""
    # A host that failed in its own wave goes back by itself; live ones may stay. So
    # LIVE hosts count only where the fleet's way back names them.
    named = board.going_back.hosts if board.going_back else ()
    waiting = sum(board.hosts[name].state not in _WAY_BACK for name in named)
    return waiting + sum(board.counts[state] for state in _WAY_BACK)


def _transfer(board: Board) -> str:
    if board.fetched and not board.nbytes:
        return f"{size(board.fetched)} by hosts"
    words, rate, done = size(board.nbytes), board.rate, board.upload_fraction
    if not rate:
        return words
    left = board.nbytes * (1 - done) / done / rate if done else 0.0
    return f"{words}  {size(rate)}/s  {clock(left)}"


def _stripe(done: float, room: int, style: str, glyphs: Glyphs) -> Text:
    full = min(room, round(done * room))
    return Text.assemble(
        (glyphs.full * full, style), (glyphs.rest * (room - full), "dim")
    )


def waves(board: Board, width: int, glyphs: Glyphs) -> Text:
    """Draw one stripe a wave, the present one as far as it is live."""
    # With more waves than room only some around the present one are drawn.
    label = f" {f'wave {board.wave}/{board.wave_count}':{_LABEL - 1}}"
    tail = f"        {plural(len(board.wave_hosts), 'host'):<25}"[: width - _LABEL]
    tail = tail if width >= _WIDE else f"  {len(board.wave_hosts):4}"
    room = max(4, width - _LABEL - len(tail) - 1)
    shown = min(board.wave_count, room // 2)
    first = max(1, min(board.wave - shown // 2, board.wave_count - shown + 1))
    line = Text.assemble((label, "bold"))
    for place in range(shown):
        wave = first + place
        # Cells that the division leaves over go to the first stripes.
        cells = (room - shown + 1 + place) // shown
        over = board.waves_over.get(wave)
        # A wave that is passed over had nothing left to do, in a run that was resumed.
        past = over is not None or wave < board.wave
        done = 1.0 if past else board.wave_fraction if wave == board.wave else 0.0
        style = "red" if over and over.failed else "green"
        line.append(" " if place else "")
        line.append_text(_stripe(done, max(1, cells), style, glyphs))
    return line.append(tail)


def gate(board: Board, now: float, width: int) -> Iterator[Text]:
    """Draw what the whole fleet waits for: another run, or a script's last line."""
    if board.waiting:
        held = f"{board.waiting.host}: {board.waiting.holder}"
        yield from wrapped(held, "yellow", width, " ")
    if (row := board.gate) is None or board.stopped:
        return
    words = f" {row.name} {plain(row.where)}"
    yield Text.assemble(words, (f"  {clock(now - row.since)}", "dim"))
    if row.line:
        yield Text(f"   {plain(row.line)}", "dim")


def serving(board: Board, width: int, glyphs: Glyphs) -> Iterator[Text]:
    """Draw what the hosts serve after a run that has not brought what it was to."""
    counts = Counter(_serves(board, row) for row in board.hosts.values())
    parts = [
        (f"{text} {plural(counts[text], 'host')}", style)
        for text, style in _SERVING.items()
        if counts[text]
    ]
    return _listed(parts, width, glyphs)


def _serves(board: Board, row: HostRow) -> str:
    """Say what one host serves then."""
    started = board.started
    taken_up = started and (started.revert or started.action == Action.RESUME.value)
    # The killed run may have moved a host that this one did not get to.
    if row.state is S.STRANDED or (taken_up and row.state in NOT_LOOKED):
        return _UNKNOWN
    reverting = started is not None and started.revert
    # What a rollback was to leave is newer than where it was to go.
    leaving = started and started.action == Action.ROLLBACK.value and not reverting
    if row.state in SERVES_NEW and not reverting:
        return _OLD if leaving else _NEW
    if row.serves is None or leaving:
        return _BEFORE
    return _OLD if any(row.serves.values()) else _NONE


def tallies(board: Board, width: int, glyphs: Glyphs) -> Iterator[Text]:
    """Draw the counts of hosts off the way, the reason to stop, the last warnings."""
    counts = board.tallies
    parts = [
        (f"{counts[state]:,} {word}", style)
        for state, word, style in _TALLIES
        if counts[state]
    ]
    if board.held:
        parts.append((f"{board.held:,} {_HELD}", "yellow"))
    yield from _listed(parts, width, glyphs)
    if board.stopped and not board.finished:
        yield from wrapped(f"stopped: {board.stopped.reason}", "red", width, " ")
    for text in board.warnings[-2:]:
        # While the run goes on hosts need the height; its last words are told in full.
        if board.finished:
            yield from wrapped(text, "yellow", width, " ! ")
        else:
            yield Text(f" ! {plain(text)}", "yellow")


def wrapped(text: str, style: str, width: int, sign: str = "   ") -> Iterator[Text]:
    """Draw *text* after *sign*, on as many lines as it takes, all indented alike."""
    lines = textwrap.wrap(
        plain(text),
        max(12, width - 1),
        initial_indent=sign,
        subsequent_indent=" " * len(sign),
        break_on_hyphens=False,
    )
    yield from (Text(line, style) for line in lines)


def _listed(
    parts: Iterable[tuple[str, str]], width: int, glyphs: Glyphs
) -> Iterator[Text]:
    """Draw styled words beside each other, on as many lines as it takes."""
    line = Text(" ")
    for words, style in parts:
        if len(line) > 1:
            if line.cell_len + len(glyphs.dot + words) >= width:
                yield line
                line = Text(" ")
            else:
                line.append(glyphs.dot, "dim")
        line.append(words, style)
    if len(line) > 1:
        yield line
