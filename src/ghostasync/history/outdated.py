"""The runs whose records may go: ``store.keep_runs``."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Final

from .._local.paths import run_time
from ..protocols import RunLog
from .runs import find_run

__all__ = ["outdated", "seconds_of"]

NEWEST: Final = 20
"""Runs that stay, however old they are."""

AT_ONCE: Final = 100
"""Runs that one run may have go: a store in S3 takes some calls for each."""

_UNITS: Final[dict[str, float]] = {"d": 86_400, "w": 7 * 86_400, "y": 365.25 * 86_400}


def seconds_of(keep: str) -> float:
    """Return how long runs stay by ``store.keep_runs``; 0: for ever."""
    return int(keep[:-1]) * _UNITS[keep[-1]] if keep else 0.0


async def outdated(runs: RunLog, keep: str, named: Collection[int]) -> list[str]:
    """
    Return the oldest runs that are older than *keep*, a ``store.keep_runs``.

    One stays whose generation is *named*, and one that has not ended.

    Raises:
        StoreError: The store cannot be read.
    """
    ids = await runs.ids()
    if not keep or len(ids) <= NEWEST:
        return []
    # The clock of this machine may be ahead: the run before the last has another one.
    now = min(time.time(), run_time(ids[-2]))
    old = [run for run in ids[:-NEWEST] if 0 < run_time(run) < now - seconds_of(keep)]
    numbers = await runs.generations() if old else {}
    gone: list[str] = []
    for run in old:
        if len(gone) == AT_ONCE:
            break
        if numbers.get(run) not in named:
            past_run = await find_run(runs, run)
            if past_run is None or not (past_run.is_open and run in numbers):
                gone.append(run)
    return gone
