"""
Many hosts in few words: ``web[001-287]``, and failures that are alike as one.

Names are split at their numbers. The fold over the first, second, … number of all names
is tried for each, and the shortest result wins: ``web1-a``, ``web2-a`` vary in the
first number, ``rack7-node[01-40]`` in the second.

Failures are alike where their reasons are the same but for what is each host's own: its
name or address, in a path as well. An address that the run was not told of, from
~/.ssh/config, is known only in the reasons of hosts that could not be reached, which
name nothing else; anywhere else it may be the database that two hosts cannot reach.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import attrs

from ..model import Action, State
from .text import plural

__all__ = ["WIDTH", "Failure", "Failures", "fold_hosts", "short_hosts", "step_of"]

WIDTH: Final = 60
"""Cells for host ranges in a sentence; longer ones are counted."""

_DIGITS: Final = re.compile(r"([0-9]+)")

_HOST: Final = "HOST"
"""What stands in a reason for each host's own name or address."""

_ENDPOINT: Final = re.compile(
    r"""
    \[ [^\]\s]+ \] :[0-9]+                          # as known_hosts writes it
    | [0-9]{1,3} (?:\.[0-9]{1,3}){3} (?: :[0-9]+ )?   # an address, and a port
    | ^ \S+ :[0-9]+ (?= [:\s] )                      # a name and a port, at the start
    | (?<= @ ) [\w.:-]+
    | (?<= no\ such\ host:\  ) \S+
    | (?<= -p\  ) [0-9]+
    """,
    re.VERBOSE,
)
"""Where a login went to, as a transport writes it."""


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


def short_hosts(names: Sequence[str], width: int = WIDTH) -> str:
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


def step_of(stage: State, reason: str) -> str:
    """
    Write a stage in words, such as ``rolling back``.

    A script of exec runs on hosts that are CHECKING for as long; it has no word.
    """
    executes = reason.startswith(f"{Action.EXEC.value} of ")
    return "" if executes else stage.name.lower().replace("_", " ")


@attrs.frozen
class Failure:
    """
    Hosts that failed alike: same stage, same reason but for what is each host's own.

    *hosts* are counted here. Where all of them have failed anew since, and are counted
    there, *hosts* is empty and *before* has their names.
    """

    stage: State | None
    reason: str
    hosts: tuple[str, ...]
    tail: str = ""
    before: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The hosts to name."""
        return self.hosts or self.before

    @property
    def step(self) -> str:
        """The stage in words, see :func:`step_of`; empty where there is none."""
        return step_of(self.stage, self.reason) if self.stage else ""


@attrs.define(eq=False)
class _Group:
    stage: State | None
    reason: str
    neutral: str
    tail: str
    newest: int = 0
    hosts: dict[str, None] = attrs.field(factory=dict)
    before: dict[str, None] = attrs.field(factory=dict)


@attrs.define
class Failures:
    """
    Failures folded by stage and reason, each host counted once: where it failed last.

    They come in the order in which a person needs them: hosts that are stranded, then
    what stopped the run, then the newest.
    """

    _groups: list[_Group] = attrs.field(factory=list)
    _by_words: dict[tuple[State | None, str], _Group] = attrs.field(factory=dict)
    _of: dict[str, _Group] = attrs.field(factory=dict)
    _cause: _Group | None = None
    _count: int = 0

    def add(
        self,
        host: str,
        stage: State | None,
        reason: str,
        tail: str = "",
        *,
        address: str = "",
        unreachable: bool = False,
    ) -> None:
        """
        Take note that *host* failed.

        Args:
            host: Its name.

            stage: The state that it failed in.

            reason: Why, in one line.

            tail: The last output of a script; of hosts alike the first one is kept.

            address: Where the host is, with its port, where a plan says so.

            unreachable: Whether *reason* is of a login.
        """
        neutral = _neutral(reason, host, address, unreachable=unreachable)
        # The very same words are alike too: a host may be named like a word in them.
        group = self._by_words.get((stage, reason))
        group = group or self._by_words.get((stage, neutral))
        if group is None:
            group = _Group(stage, reason, neutral, tail)
            self._groups.append(group)
            self._by_words[stage, reason] = self._by_words[stage, neutral] = group
        elif group.reason != reason:
            group.reason = group.neutral
        if (last := self._of.get(host)) and last is not group:
            last.hosts.pop(host)
            last.before[host] = None
        self._count += 1
        group.newest = self._count
        group.hosts[host] = None
        self._of[host] = group

    def stopped_by_last(self) -> None:
        """Take note that the last failure stopped the run."""
        self._cause = max(self._groups, key=lambda g: g.newest, default=None)

    def forget(self, host: str) -> None:
        """Take back what was noted of *host*, which begins anew."""
        self._of.pop(host, None)
        for group in self._groups:
            group.hosts.pop(host, None)
            group.before.pop(host, None)

    def __iter__(self) -> Iterator[Failure]:
        def urgency(group: _Group) -> tuple[bool, bool, int]:
            stranded = group.stage is State.ROLLING_BACK
            return not stranded, group is not self._cause, -group.newest

        for group in sorted(self._groups, key=urgency):
            if group.hosts or group.before:
                yield Failure(
                    *(group.stage, group.reason, tuple(group.hosts), group.tail),
                    () if group.hosts else tuple(group.before),
                )

    def __len__(self) -> int:
        return sum(bool(group.hosts or group.before) for group in self._groups)


def _neutral(reason: str, host: str, address: str, *, unreachable: bool) -> str:
    """Return *reason* without what is the host's own."""
    text = _ENDPOINT.sub(_HOST, reason) if unreachable else reason
    own = [word for word in _own(host, address) if word in text]
    if own:
        words = "|".join(map(re.escape, own))
        text = re.sub(rf"(?<![A-Za-z0-9])(?:{words})(?![A-Za-z0-9])", _HOST, text)
    # Where the reason only begins or ends with it, the host is named beside it anyway.
    return text.removeprefix(f"{_HOST}: ").removesuffix(f" as {_HOST}")


def _own(host: str, address: str) -> Iterator[str]:
    """Yield the names of a host, the longest first; a mere number is no name."""
    # An IPv6 address has more than one colon.
    alone = address.rpartition(":")[0] if address.count(":") == 1 else ""
    for name in (address, alone, host):
        whole = name and not name.isdecimal()
        if whole:
            yield name
        # web7 for web7.example.com, but not 10 for 10.0.0.7.
        label, dot, _ = name.partition(".")
        if whole and dot and label and not label.isdecimal():
            yield label
