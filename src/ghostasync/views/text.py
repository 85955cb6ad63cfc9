"""Numbers and foreign text, fit for a terminal line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

__all__ = [
    "ago",
    "balanced",
    "clock",
    "last_lines",
    "plain",
    "plural",
    "size",
    "span",
]

_ESCAPES: Final = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])"
)


def plain(text: str) -> str:
    """
    Return *text* as one line that shows all that it does to who reads it.

    Scripts, hosts and commit messages hold anything. A terminal must not obey them, and
    no text may begin a line of its own, turn the direction of one, or hide a part of
    it: what has no shape (controls, marks of direction, what has no width) is left out,
    and what parts words or lines is a blank.
    """
    if text.isprintable():
        return text
    # Whole escapes go first: without its first byte the rest of one would be text.
    text = _ESCAPES.sub("", text).rstrip("\r\n").expandtabs(4)
    return "".join(
        sign if sign.isprintable() else " " * sign.isspace() for sign in text
    )


def last_lines(text: str, count: int, longest: int | None = None) -> list[str]:
    """
    Return the last *count* lines of *text* that say something, made plain.

    Of each come at most *longest* characters, the first ones.
    """
    # A progress bar ends its lines with CR and overwrites them: the last state counts.
    lines = [plain(line.rsplit("\r", 1)[-1]) for line in text.rstrip().split("\n")]
    return [line.rstrip()[:longest] for line in lines if line.strip()][-count:]


def size(nbytes: float) -> str:
    """Write *nbytes* in decimal units with three digits, as in ``12.3 MB``."""
    units = ["B", "kB", "MB", "GB", "TB"]
    # From 999.5 on three digits would round to four.
    while nbytes >= 999.5 and len(units) > 1:  # noqa: PLR2004  a unit's step
        nbytes /= 1000
        del units[0]
    digits = 0 if units[0] == "B" or nbytes >= 99.95 else 1  # noqa: PLR2004
    return f"{nbytes:.{digits}f} {units[0]}"


def span(seconds: float) -> str:
    """Write a duration for reading, as in ``84 ms``, ``0.8 s`` or ``2 min 05 s``."""
    if seconds < 0.0995:  # noqa: PLR2004
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:  # noqa: PLR2004
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:  # noqa: PLR2004
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:  # noqa: PLR2004
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def ago(seconds: float) -> str:
    """Write how long ago something was, in its largest unit, as in ``3 h ago``."""
    minutes, hours = seconds / 60, seconds / 3600
    if minutes < 1:
        return f"{seconds:.0f} s ago"
    if hours < 1:
        return f"{minutes:.0f} min ago"
    if hours < 48:  # noqa: PLR2004
        return f"{hours:.0f} h ago"
    return f"{hours / 24:,.0f} days ago"


def clock(seconds: float) -> str:
    """Write a running duration with a steady width, as in ``0:41``."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def plural(count: int, noun: str) -> str:
    """Write *count* with its noun, as in ``1 host`` and ``1,200 hosts``."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def balanced(seconds: Mapping[str, float]) -> str:
    """Write how long a balancer may take by its own settings."""
    drain, undrain = span(seconds["drain"]), span(seconds["undrain"])
    return f"by the balancer's settings {drain} at most, undrain {undrain}"
