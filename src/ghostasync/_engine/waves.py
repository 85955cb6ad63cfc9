"""
Arithmetic of waves and budgets: sizes and percentages to numbers of hosts.

Pure integer arithmetic: a percentage is always one of the *selected* fleet. Budgets are
rounded down and hosts that must serve up, so that both err on the side of the visitor;
sizes of waves are rounded up, so that none is empty.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice
from typing import Final

from ..errors import PlanError
from ..model import Host

__all__ = [
    "BUDGETS_ALLOWED",
    "GHOST_WORDS",
    "WAVES_ALLOWED",
    "allowed",
    "cut",
    "is_budget",
    "is_size",
    "needed",
    "parse_budget",
    "parse_waves",
]

_STRIPES: Final = {"1/3": 3, "25%": 4, "50%": 2}

GHOST_WORDS: Final = ("1by1", *_STRIPES)
"""Ghost's strategies; each is a whole value of ``waves``, never one size of many."""

WAVES_ALLOWED: Final = (
    'sizes in hosts or percent, like [1, "25%"], or one of '
    + ", ".join(f'"{word}"' for word in GHOST_WORDS)
)
BUDGETS_ALLOWED: Final = 'a number of hosts, at least 0, or "0%" to "100%"'

_PERCENT: Final = re.compile(r"(100|[1-9]?[0-9])%")
_COUNT: Final = re.compile(r"[0-9]{1,9}")
"""A number that someone typed; more digits than nine are no number of hosts."""


def is_size(value: int | str) -> bool:
    """Tell whether *value* can be the size of a wave: never empty."""
    if isinstance(value, str):
        return _PERCENT.fullmatch(value) is not None and value != "0%"
    return value >= 1


def is_budget(value: int | str) -> bool:
    """Tell whether *value* can be ``max_failures``."""
    if isinstance(value, str):
        return _PERCENT.fullmatch(value) is not None
    return value >= 0


def parse_waves(text: str) -> tuple[int | str, ...] | str:
    """
    Read waves as the command line gives them: ``1,25%``, or one of Ghost's words.

    ``25%`` alone is Ghost's word, as it is in the configuration.

    Raises:
        PlanError: *text* is neither.
    """
    if text in GHOST_WORDS:
        return text
    sizes = tuple(_number(part.strip()) for part in text.split(","))
    if not all(map(is_size, sizes)):
        raise PlanError(f"waves: is {text!r}; allowed: 1,25% or {_or(GHOST_WORDS)}")
    return sizes


def parse_budget(text: str) -> int | str:
    """
    Read ``max_failures`` as the command line gives it: ``3`` or ``5%``.

    Raises:
        PlanError: *text* is neither.
    """
    budget = _number(text.strip())
    if not is_budget(budget):
        raise PlanError(f"max_failures: is {text!r}; allowed: {BUDGETS_ALLOWED}")
    return budget


def allowed(max_failures: int | str, total: int) -> int:
    """Return how many of *total* hosts may fail: a count, or percent rounded down."""
    if isinstance(max_failures, str):
        return int(max_failures.removesuffix("%")) * total // 100
    return max_failures


def needed(min_serving: int | str, total: int) -> int:
    """Return how many of *total* hosts must serve: a count, or percent rounded up."""
    # -(-a // b) rounds up, as it does below.
    if isinstance(min_serving, str):
        return -(-int(min_serving.removesuffix("%")) * total // 100)
    return min_serving


def cut(
    hosts: Sequence[Host], waves: Sequence[int | str] | str, spread_by: str = ""
) -> tuple[tuple[Host, ...], ...]:
    """
    Cut *hosts* into waves; every host is in exactly one, none is empty.

    Args:
        hosts: The selected fleet. Hosts keep its order within a wave.

        waves: Sizes in hosts or percent (rounded up, at least 1), the last one
            repeating; or one of Ghost's words: ``1/3``, ``25%`` and ``50%`` are the
            stripes ``hosts[i::n]`` for n = 3, 4 and 2.

        spread_by: A label. Each wave gets its share of every value of it, give or
            take one host; hosts without the label count as one more value. The
            sizes stay what *waves* makes them.
    """
    if isinstance(waves, str) and waves in _STRIPES:
        cuts = [list(hosts[i :: _STRIPES[waves]]) for i in range(_STRIPES[waves])]
    else:
        sizes = (1,) if isinstance(waves, str) else waves
        cuts = list(_slices(hosts, sizes))
    if not spread_by or not hosts:
        return tuple(tuple(wave) for wave in cuts if wave)
    # The sizes of the waves are settled by now; shares only say which hosts fill them.
    shares = _shares(_grouped(hosts, spread_by), [len(wave) for wave in cuts if wave])
    place = {host.name: index for index, host in enumerate(hosts)}
    return tuple(
        tuple(sorted(wave, key=lambda host: place[host.name])) for wave in shares
    )


def _slices(hosts: Sequence[Host], waves: Sequence[int | str]) -> Iterator[list[Host]]:
    """Yield hosts in slices of the sizes *waves*; the last size repeats."""
    start, index = 0, 0
    while start < len(hosts):
        size = waves[min(index, len(waves) - 1)]
        if isinstance(size, str):
            size = -(-int(size.removesuffix("%")) * len(hosts) // 100)
        yield list(hosts[start : start + size])
        start, index = start + size, index + 1


def _grouped(hosts: Sequence[Host], label: str) -> list[list[Host]]:
    groups: dict[str, list[Host]] = {}
    for host in hosts:
        groups.setdefault(host.labels.get(label, ""), []).append(host)
    return list(groups.values())


def _shares(groups: Sequence[Sequence[Host]], sizes: Sequence[int]) -> list[list[Host]]:
    """
    Give each wave its share of each group.

    Zones of 3 and 1 hosts in two waves of 2: each wave is due 1.5 hosts of the one and
    0.5 of the other. It gets the whole part, 1 and 0, and one place is left over. Such
    places go, one to a group, to the groups that were given least of what they were
    due so far; the next wave then gives the other zone its place. Where that would end
    with more hosts of a group than places, they go to the groups that lack most.

    Source: Gale and Ryser on matrices of 0 and 1 with given sums.
    """
    # Row: a wave, column: a group. First the whole parts of all shares; *spare* is what
    # is left over in each wave, *missing* what is left over of each group.
    total, counts = sum(sizes), [len(group) for group in groups]
    whole = [[size * count // total for count in counts] for size in sizes]
    spare = [size - sum(seats) for size, seats in zip(sizes, whole, strict=True)]
    given = [sum(column) for column in zip(*whole, strict=True)]
    missing = [count - n for count, n in zip(counts, given, strict=True)]
    owed = [0] * len(groups)
    rooms = _room(spare, len(groups))
    for size, seats, extra, room in zip(sizes, whole, spare, rooms, strict=True):
        # Debts are kept as multiples of 1/total, so that nothing is ever rounded.
        for g, count in enumerate(counts):
            owed[g] += size * count - seats[g] * total
        for g in _pick(extra, owed, missing, room):
            seats[g] += 1
            missing[g] -= 1
            owed[g] -= total
    rows = [iter(group) for group in groups]
    return [
        [host for row, n in zip(rows, seats, strict=True) for host in islice(row, n)]
        for seats in whole
    ]


def _room(spare: Sequence[int], groups: int) -> list[list[int]]:
    """Return, for each wave, what the later ones can give to any 1, 2, … groups."""
    room = [[0] * groups]
    for extra in reversed(spare[1:]):
        room.append([n + min(extra, k) for k, n in enumerate(room[-1], start=1)])
    return room[::-1]


def _pick(
    extra: int, owed: Sequence[int], missing: Sequence[int], room: Sequence[int]
) -> list[int]:
    """Return the *extra* groups that get one more seat; ties go to the first."""
    order = sorted(range(len(owed)), key=lambda g: -owed[g])
    picked = [g for g in order if missing[g]][:extra]
    # A later wave can give a group one seat at most. So the k groups that miss most
    # after this pick must not miss more than later waves can give to any k groups.
    left = sorted((n - (g in picked) for g, n in enumerate(missing)), reverse=True)
    pairs = zip(accumulate(left), room, strict=True)
    if len(picked) == extra and all(need <= seats for need, seats in pairs):
        return picked
    return sorted(range(len(owed)), key=lambda g: -missing[g])[:extra]


def _number(text: str) -> int | str:
    return int(text) if _COUNT.fullmatch(text) else text


def _or(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
