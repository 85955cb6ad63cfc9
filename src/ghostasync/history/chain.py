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
    """What a run saw of the one before it: *nbytes* of its journal, as SHA-256."""

    run: str = ""
    nbytes: int = 0
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
    return Seen(last, len(data), hashlib.sha256(data).hexdigest())


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
            return Seen(numbered[-1].after, numbered[-1].nbytes, numbered[-1].digest)
    return None


async def _differs(runs: RunLog, seen: Seen) -> str:
    """Return how a run's journal differs from what was *seen*; empty: it does not."""
    if not seen.run:
        return ""
    try:
        data = await runs.load(seen.run, JOURNAL)
    except NotInStore:
        return "is gone"
    if len(data) < seen.nbytes:
        return "was cut off"
    # Without a byte it had not been handed in yet.
    digest = hashlib.sha256(memoryview(data)[: seen.nbytes]).hexdigest()
    return "" if digest == seen.digest or not seen.nbytes else "was changed"
