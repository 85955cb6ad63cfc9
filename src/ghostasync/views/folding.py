"""
Many hosts in few words: ``web[001-287]``, and equal failures as one.

Names are split at their numbers. The fold over the first, second, … number of all names
is tried for each, and the shortest result wins: ``web1-a``, ``web2-a`` vary in the
first number, ``rack7-node[01-40]`` in the second.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import attrs

from ..model import State
from .text import plural

__all__ = ["Failure", "Failures", "fold_hosts", "short_hosts"]

_DIGITS: Final = re.compile(r"([0-9]+)")


def fold_hosts(names: Iterable[str]) -> str:
    """
    Write host names as ranges over the one number that folds them best.

    Args:
        names: Any strings, in any order; repeated ones count once.

    Returns:
        Terms joined by commas, in the order of their first names, such as
        ``db1,web[001-003,007].example.com``. Leading zeros are kept, and every term
        reads back, in inventory syntax, as the names it stands for.
    """
    split = [_DIGITS.split(name) for name in dict.fromkeys(names)]
    places = max((len(parts) // 2 for parts in split), default=0)
    folds = [_fold_at(split, 2 * place + 1) for place in reversed(range(places))]
    best = ["".join(parts) for parts in split]
    for fold in folds:
        best = fold if len(fold) < len(best) else best
    return ",".join(best)


def short_hosts(names: Sequence[str], width: int) -> str:
    """Fold *names*; a fold wider than *width* becomes the first name and a number."""
    folded = fold_hosts(names)
    if len(folded) <= width or len(names) < 2:  # noqa: PLR2004
        return folded
    return f"{names[0]} and {plural(len(names) - 1, 'other')}"


def _fold_at(split: Sequence[Sequence[str]], place: int) -> list[str]:
    """Fold over the number at *place* of each name's parts."""
    groups: dict[tuple[str, str | None], list[str]] = defaultdict(list)
    for parts in split:
        if place < len(parts):
            around = "".join(parts[:place]), "".join(parts[place + 1 :])
            groups[around].append(parts[place])
        else:
            groups["".join(parts), None] = [""]
    return [
        before if after is None else f"{before}{numbers}{after}"
        for (before, after), texts in groups.items()
        for numbers in ([""] if after is None else _ranges(texts))
    ]


def _ranges(texts: Sequence[str]) -> list[str]:
    """Write numbers as one bracket for each width of zero padding among them."""
    # 007 has a width to keep, and so has 123 beside it: [007,123] reads back as both.
    # Without zeros in front 7 and 123 need no common width.
    padded = {len(text) for text in texts if text[0] == "0" and len(text) > 1}
    widths: dict[int, list[int]] = defaultdict(list)
    for text in texts:
        widths[len(text) if len(text) in padded else 0].append(int(text))
    return [_bracket(sorted(numbers), width) for width, numbers in widths.items()]


def _bracket(numbers: Sequence[int], width: int) -> str:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    items = [
        f"{run[0]:0{width}}" + (f"-{run[-1]:0{width}}" if len(run) > 1 else "")
        for run in runs
    ]
    return items[0] if len(numbers) == 1 else f"[{','.join(items)}]"


@attrs.frozen
class Failure:
    """Hosts that failed alike: same stage, same reason."""

    stage: State | None
    reason: str
    hosts: tuple[str, ...]
    tail: str = ""


@attrs.define
class Failures:
    """Failures folded by stage and reason, in the order of their first hosts."""

    _hosts: dict[tuple[State | None, str], list[str]] = attrs.field(factory=dict)
    _tails: dict[tuple[State | None, str], str] = attrs.field(factory=dict)

    def add(self, host: str, stage: State | None, reason: str, tail: str = "") -> None:
        """Take note that *host* failed; the *tail* of the first host alike is kept."""
        key = stage, reason
        self._hosts.setdefault(key, []).append(host)
        self._tails.setdefault(key, tail)

    def forget(self, host: str) -> None:
        """Take back what was noted of *host*, which begins anew."""
        for key, hosts in tuple(self._hosts.items()):
            if host in hosts:
                hosts.remove(host)
                if not hosts:
                    del self._hosts[key], self._tails[key]

    def __iter__(self) -> Iterator[Failure]:
        for key, hosts in self._hosts.items():
            yield Failure(*key, tuple(hosts), self._tails[key])

    def __len__(self) -> int:
        return len(self._hosts)
