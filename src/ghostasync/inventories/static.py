"""The hosts that the configuration lists itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from typing import Final

import attrs

from ..errors import PlanError
from ..model import Host

__all__ = ["MAX_HOSTS", "Static", "expand"]

MAX_HOSTS: Final = 100_000
"""More names than this in one pattern are a typing mistake, not a fleet."""

_RANGE: Final = re.compile(r"\[([0-9]+(?:-[0-9]+)?(?:,[0-9]+(?:-[0-9]+)?)*)\]")
_IPV6: Final = re.compile(r"\[([0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%\w+)?)\]")
_MAX_DIGITS: Final = 9


@attrs.frozen
class Static:
    """An inventory that never changes."""

    _hosts: tuple[Host, ...]

    async def hosts(self) -> Sequence[Host]:
        """Return the hosts in the order they are listed."""
        return self._hosts


def expand(pattern: str) -> list[str]:
    """
    Return the names that *pattern* stands for, in its order.

    ``web[001-300]`` counts with leading zeros, ``db[1,3,5-7]`` lists, and several
    ranges vary the last one fastest. An IPv6 address is one name, in brackets or not.

    Raises:
        PlanError: A range is broken, or stands for more than MAX_HOSTS names.
    """
    address = _IPV6.fullmatch(pattern)
    if address is not None:
        return [address[1]]
    # Every second part is what stood inside a pair of brackets.
    parts = _RANGE.split(pattern)
    if any(char in text for text in parts[::2] for char in "[]"):
        raise PlanError(
            f'"{pattern}" has a broken range; allowed: [1-9], [001-300], [1,3,5-7]'
        )
    ranges = [[_bounds(pattern, item) for item in p.split(",")] for p in parts[1::2]]
    many = prod(sum(last - first + 1 for first, last, _ in r) for r in ranges)
    if many > MAX_HOSTS:
        raise PlanError(f'"{pattern}" stands for {many} hosts; allowed: {MAX_HOSTS}')
    texts = parts[::2]
    return [
        "".join(
            piece for pair in zip(texts, (*numbers, ""), strict=True) for piece in pair
        )
        for numbers in product(*(list(_numbers(r)) for r in ranges))
    ]


def _bounds(pattern: str, item: str) -> tuple[int, int, int]:
    """Return first and last number of ``7`` or ``001-300``, and the width."""
    start, _, end = item.partition("-")
    end = end or start
    if max(len(start), len(end)) > _MAX_DIGITS or int(end) < int(start):
        raise PlanError(f'"{pattern}": the range {item} does not count upwards')
    return int(start), int(end), len(start) if start.startswith("0") else 0


def _numbers(ranges: Sequence[tuple[int, int, int]]) -> Iterator[str]:
    for first, last, width in ranges:
        for number in range(first, last + 1):
            yield str(number).zfill(width)
