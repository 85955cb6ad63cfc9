"""
The chain of runs: each numbered run has on record what the one before it had.

So nobody can change or take away what a run did without a trace: the next run says what
it saw. A run that goes on meanwhile, on other hosts, was seen as far as it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import attrs

from .. import events as e
from ..errors import NotInStore, StoreError
from ..journal import records
from ..protocols import RunLog
from .runs import JOURNAL

__all__ = ["Seen", "broken", "last_before"]


@attrs.frozen
class Seen:
    """What a run saw of the one before it: its first *count* records, as SHA-256."""

    run: str = ""
    count: int = 0
    digest: str = ""


async def last_before(runs: RunLog, run: str, numbers: Mapping[str, int]) -> Seen:
    """
    Return what there is of the run with the highest of *numbers*, *run* left out.

    Raises:
        StoreError: The store cannot be read.
    """
    others = [other for other in numbers if other != run]
    if not others:
        return Seen()
    last = max(others, key=lambda other: numbers[other])
    try:
        data = await runs.load(last, JOURNAL)
    except NotInStore:
        # Lost, or not handed in yet: that it was there is on record all the same.
        return Seen(last)
    count = data.count(b"\n")
    return Seen(last, count, _digest(data, count))


async def broken(runs: RunLog) -> tuple[int, list[str]]:
    """
    Return how many runs have a number, and what is wrong with their records.

    Raises:
        StoreError: The store cannot be read.
    """
    numbers = await runs.generations()
    wrong: list[str] = []
    for run in sorted(numbers, key=lambda run: numbers[run]):
        seen = await _told(runs, run, wrong)
        if seen is not None and (why := await _differs(runs, seen)):
            wrong.append(f"the journal of {seen.run} {why} since {run} began")
    return len(numbers), wrong


async def _told(runs: RunLog, run: str, wrong: list[str]) -> Seen | None:
    """Return what a run saw of the one before; None where its journal does not say."""
    try:
        data = await runs.load(run, JOURNAL)
        told = [r.event for r in records(data.splitlines(keepends=True), run)]
    except NotInStore:
        wrong.append(f"the journal of {run} is not here")
    except StoreError as exc:
        wrong.append(str(exc))
    else:
        numbered = [event for event in told if isinstance(event, e.Numbered)]
        if numbered:
            return Seen(numbered[-1].after, numbered[-1].records, numbered[-1].digest)
    return None


async def _differs(runs: RunLog, seen: Seen) -> str:
    """Return how a run's journal differs from what was *seen*; empty: it does not."""
    if not seen.run:
        return ""
    try:
        data = await runs.load(seen.run, JOURNAL)
    except NotInStore:
        return "is gone"
    if data.count(b"\n") < seen.count:
        return "was cut off"
    # Without records it had not been handed in yet.
    same = not seen.count or _digest(data, seen.count) == seen.digest
    return "" if same else "was changed"


def _digest(data: bytes, count: int) -> str:
    lines = data.split(b"\n", count)[:count]
    return hashlib.sha256(b"".join(line + b"\n" for line in lines)).hexdigest()
