"""
Activation records: what a host itself has on record of each move of a link.

``<module>/.ghost/activations/<generation>`` holds lines ``key=value``; the first one is
the outcome, which is changed in place; a last one may say which run took the move back.
``record_moves.sh`` writes a record before the
link moves, and ``check.sh`` prints records, so that any machine can find out from a
host alone what serves there, what served before, and which run brought it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Literal, get_args

import attrs

__all__ = [
    "LONGEST_NUMBER",
    "Activation",
    "Ended",
    "escape",
    "read",
    "unescape",
    "write",
]

Ended = Literal["moved", "live", "reverted"]
"""
The outcome of a move: the link was to move and nothing is known beyond that; the
release has proven itself, with its whole run; or the move was taken back.
"""

_OUTCOMES: Final[dict[str, Ended]] = {each: each for each in get_args(Ended)}

LONGEST_NUMBER: Final = 15
"""Digits of a generation; sh and JSON can count no further everywhere."""

_LONGEST: Final = 200
"""Characters of a text that a person has written; a record stays below 4 KiB."""

_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f\\]")
_ESCAPE: Final = re.compile(rb"\\(?:(\\)|0([0-7]{3}))")


@attrs.frozen
class Activation:
    """
    One move of one link on one host, by the run with the number *generation*.

    *run* moved the link *target* from *previous* (its text, empty where there was none)
    to the release *release*. *resumes* is the killed run that it took up, *undoes* the
    run that it rolled back, *origin* the number of the first run of this work. *store*
    and *instance* tell from which store it came and to which machine, *actor* and *key*
    who brought it, and the fingerprint of the ssh key that logged in. *aside* is the
    path that an adopted folder was moved to, *fingerprint* that of the release. *at* is
    an RFC 3339 time of the run's clock. *reverted_by* is the run that took the move
    back, where that is on record. *no_return* is ``yes`` where a before_switch without
    a way back came with the release. A release that served already has itself as
    *previous*.
    """

    generation: int
    run: str
    release: str
    goal: str = ""
    outcome: Ended = "moved"
    previous: str = ""
    target: str = ""
    aside: str = ""
    fingerprint: str = ""
    store: str = ""
    instance: str = ""
    actor: str = ""
    key: str = ""
    reason: str = ""
    at: str = ""
    commit: str = ""
    subject: str = ""
    undoes: str = ""
    resumes: str = ""
    origin: str = ""
    no_return: str = ""
    reverted_by: str = ""

    @property
    def age(self) -> int:
        """The number of the run that set out to bring the release."""
        plain = self.origin.isascii() and self.origin.isdigit()
        first = int(self.origin[:LONGEST_NUMBER]) if plain else self.generation
        return min(first, self.generation)

    @property
    def seconds(self) -> float:
        """*at* in POSIX seconds; 0 where that is no time since 1970."""
        try:
            at = datetime.fromisoformat(self.at).astimezone(UTC)
        except (ValueError, OverflowError):
            return 0.0
        return max(at.timestamp(), 0.0)

    @property
    def moved(self) -> bool:
        """Whether the release that served before was another one."""
        return self.previous.rpartition("/")[2] != self.release


_TEXTS: Final = tuple(
    field.name
    for field in attrs.fields(Activation)
    if field.name not in {"generation", "outcome"}
)

_LATER: Final = frozenset({"reverted_by"})
"""Known when a move is taken back, and added then."""


def escape(text: str) -> str:
    r"""Return *text* on one line, as ``printf %b`` reads it back."""
    data = os.fsencode(text)
    escaped = _CONTROL.sub(
        lambda found: rb"\\" if found[0] == b"\\" else b"\\0%03o" % found[0][0], data
    )
    return os.fsdecode(escaped)


def unescape(text: str) -> str:
    """Return what :func:`escape` was given; anything else stays as it is."""
    data = _ESCAPE.sub(
        lambda found: b"\\" if found[1] else bytes([int(found[2], 8) & 0xFF]),
        os.fsencode(text),
    )
    return os.fsdecode(data)


def write(record: Activation) -> str:
    """Return the lines of a record but for its outcome, without the last newline."""
    written = {"actor", "reason", "subject"}
    lines = [f"generation={record.generation}"]
    for name in (name for name in _TEXTS if name not in _LATER):
        value: str = getattr(record, name)
        short = value[:_LONGEST] if name in written else value
        lines.append(f"{name}={escape(short)}")
    return "\n".join(lines)


def read(number: str, lines: Mapping[str, str]) -> Activation | None:
    """
    Return the record in the file *number*; None where it is damaged.

    *lines* maps its keys to their values, still escaped; keys that are unknown are left
    for later versions.
    """
    if not (number.isascii() and number.isdigit() and len(number) <= LONGEST_NUMBER):
        return None
    outcome = _OUTCOMES.get(lines.get("outcome", "").rstrip(" "))
    values = {name: unescape(lines.get(name, "")) for name in _TEXTS}
    if outcome is None or not (values["run"] and values["release"]):
        return None
    return Activation(generation=int(number), outcome=outcome, **values)
