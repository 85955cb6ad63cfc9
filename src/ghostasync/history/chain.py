"""
The chain of runs: each numbered run has on record what the one before it had.

So nobody can change or take away what a run did without a trace: the next run says what
it saw. A run that goes on meanwhile, on other hosts, was seen as far as it was.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from typing import Final

import attrs

from .. import events as e
from .._local.paths import run_time
from ..errors import NotInStore, StoreError
from ..journal import records
from ..protocols import RunLog
from .outdated import seconds_of
from .runs import JOURNAL

__all__ = ["Seen", "broken", "last_before"]

_GONE: Final = "is gone"


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


async def broken(runs: RunLog, keep: str = "") -> tuple[int, list[str]]:
    """
    Return how many runs have a number, and what is wrong with their records.

    Only what is older than *keep*, a ``store.keep_runs``, may be missing: where another
    run says that it removed it, or before one that is older than *keep* itself.

    Raises:
        StoreError: The store cannot be read.
    """
    numbers = await runs.generations()
    removed: set[str] = set()
    wrong: list[tuple[str, str]] = []
    for run in sorted(numbers, key=lambda run: numbers[run]):
        said, seen = await _told(runs, run, removed)
        if said:
            wrong.append((run, said))
        why = await _differs(runs, seen) if seen is not None else ""
        old = seen is not None and _is_old(seen.run, keep) and _is_old(run, keep)
        if seen is not None and why and not (why == _GONE and old):
            text = f"the journal of {seen.run} {why} since {run} began"
            wrong.append((seen.run, text))
    gone = {run for run in removed if _is_old(run, keep)} - {*await runs.ids()}
    return len(numbers), [text for run, text in wrong if run not in gone]


def _is_old(run: str, keep: str) -> bool:
    return bool(keep) and run_time(run) < time.time() - seconds_of(keep)


async def _told(runs: RunLog, run: str, removed: set[str]) -> tuple[str, Seen | None]:
    """
    Return what is wrong with a run's journal, and what it saw of the one before.

    It says nothing of the latter: None. Runs that it removed are added to *removed*.
    """
    try:
        data = await runs.load(run, JOURNAL)
        told = [r.event for r in records(data.splitlines(keepends=True), run)]
    except NotInStore:
        return f"the journal of {run} is not here", None
    except StoreError as exc:
        return str(exc), None
    for event in told:
        if isinstance(event, e.RunsRemoved):
            removed.update(event.runs)
    numbered = [event for event in told if isinstance(event, e.Numbered)]
    if not numbered:
        return "", None
    return "", Seen(numbered[-1].after, numbered[-1].nbytes, numbered[-1].digest)


async def _differs(runs: RunLog, seen: Seen) -> str:
    """Return how a run's journal differs from what was *seen*; empty: it does not."""
    if not seen.run:
        return ""
    try:
        data = await runs.load(seen.run, JOURNAL)
    except NotInStore:
        return _GONE
    if len(data) < seen.nbytes:
        return "was cut off"
    # Without a byte it had not been handed in yet.
    digest = hashlib.sha256(memoryview(data)[: seen.nbytes]).hexdigest()
    return "" if digest == seen.digest or not seen.nbytes else "was changed"
