"""
Rows that describe hosts: those of ``inventory.hosts``, of commands and of plug-ins.

A row is a name, perhaps with ranges that stand for many, or a table with a name. Rows
of a command or a plug-in are read as strictly as those of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from math import prod
from typing import Final

import attrs

from ..errors import ConfigError, PlanError
from ..model import Host
from ._rules import allowed, check_hosts
from ._structure import Findings, Reader, at, show

__all__ = ["MAX_HOSTS", "expand", "expanded", "hosts_of", "read_rows", "require_hosts"]

MAX_HOSTS: Final = 100_000
"""Names that one pattern may stand for; more are a typing mistake, not a fleet."""

_RANGE: Final = re.compile(r"\[([0-9]+(?:-[0-9]+)?(?:,[0-9]+(?:-[0-9]+)?)*)\]")
_IPV6: Final = re.compile(r"\[([0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%\w+)?)\]")
_MAX_DIGITS: Final = 9
_ALLOWED: Final = 'a string like "web[001-300]", or a table with name'
_MOST: Final = 10
"""Findings of one inventory that are told; programs repeat a mistake in every row."""


def hosts_of(rows: Sequence[object], where: str) -> tuple[Host, ...]:
    """
    Return the hosts that *rows* describe; *where* is the key that findings name.

    Raises:
        ConfigError: A row is wrong, or two have one name.
    """
    findings = Findings()
    located = list(read_rows(_reader(findings), rows, where))
    return _sound(located, findings, where)


def require_hosts(hosts: Iterable[Host], where: str) -> tuple[Host, ...]:
    """
    Return *hosts*, made by code that is not ours, if rows could describe them.

    Raises:
        ConfigError: A value is of the wrong type or breaks its rule, or two hosts have
            one name.
    """
    findings = Findings()
    reader = _reader(findings)
    located = []
    for index, host in enumerate(hosts):
        place, raw = f"{where}[{index}]", attrs.asdict(host)
        raw |= {"labels": dict(host.labels), "host_keys": list(host.host_keys)}
        sound = reader.table(Host, raw, place)
        # A host without a usable name would be told of a second time, as a twin.
        if not findings.spoiled(at(place, "name")):
            located.append((place, sound))
    return _sound(located, findings, where)


def read_rows(
    reader: Reader, rows: Sequence[object], where: str
) -> Iterator[tuple[str, Host]]:
    """Yield the hosts of *rows*, each with its place; note what is wrong."""
    for index, row in enumerate(rows):
        place = f"{where}[{index}]"
        if isinstance(row, str):
            pattern = Host(row)
        elif isinstance(row, dict):
            pattern = reader.table(Host, row, place)
        else:
            reader.findings.wrong(place, row, _ALLOWED)
            continue
        if not reader.findings.spoiled(at(place, "name")):
            yield from ((place, host) for host in expanded(reader, pattern, place))


def expanded(reader: Reader, pattern: Host, where: str) -> Iterator[Host]:
    """Yield a host for each name that the name of *pattern* stands for."""
    try:
        names = expand(pattern.name)
    except PlanError as error:
        reader.findings.add(where, str(error))
        return
    if len(names) > 1 and pattern.address:
        name = show(pattern.name)
        reader.findings.add(
            where, f"gives one address to all of {name}; allowed: one each"
        )
    for name in names:
        yield attrs.evolve(pattern, name=name)


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
            f"{show(pattern)} has a broken range; allowed: [1-9], [001-300], [1,3,5-7]"
        )
    ranges = [[_bounds(pattern, item) for item in p.split(",")] for p in parts[1::2]]
    # Counted before a name is made: a slip like [1-999999999] must not fill the memory.
    many = prod(sum(last - first + 1 for first, last, _ in r) for r in ranges)
    if many > MAX_HOSTS:
        text = f"{show(pattern)} stands for {many} hosts; allowed: {MAX_HOSTS}"
        raise PlanError(text)
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
        raise PlanError(f"{show(pattern)}: the range {item} does not count upwards")
    return int(start), int(end), len(start) if start.startswith("0") else 0


def _numbers(ranges: Sequence[tuple[int, int, int]]) -> Iterator[str]:
    for first, last, width in ranges:
        for number in range(first, last + 1):
            yield str(number).zfill(width)


def _reader(findings: Findings) -> Reader:
    return Reader(findings, {}, {}, {str: ""}, allowed)


def _sound(
    located: Sequence[tuple[str, Host]], findings: Findings, where: str
) -> tuple[Host, ...]:
    check_hosts(located, findings)
    findings.twice([(place, host.name) for place, host in located])
    if lines := findings.lines():
        more = len(lines) - _MOST
        rest = [f"{where}: {more} findings more"] if more > 0 else []
        raise ConfigError([*lines[:_MOST], *rest])
    return tuple(host for _, host in located)
