"""The runs that a store knows of: which one is unfinished, and which one serves now."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Collection
from itertools import product

from ..errors import NotInStore
from ..model import State
from ..protocols import RunLog
from .past_run import PastRun, continued
from .replay import read_run

__all__ = ["JOURNAL", "find_run", "serving_run", "unfinished_run"]

_RUNS = 200
"""How many runs are looked at; what is older is found by its id."""

JOURNAL = "journal.jsonl"


async def find_run(runs: RunLog, run: str) -> PastRun | None:
    """
    Return what is known of *run*; None where its journal is lost or says nothing.

    Raises:
        StoreError: The store cannot be read.
    """
    found = await _read(runs, run)
    while found is not None and found.continues not in {"", *found.ids}:
        older = await _read(runs, found.continues)
        if older is None:
            break
        found = continued(found, older)
    return found


async def unfinished_run(
    runs: RunLog, run: str = "", *, modules: Collection[str] = ()
) -> PastRun | None:
    """
    Return the newest run that has not ended and that nothing has made up for since.

    Where *run* is named, it is that one or nothing.

    A later run that left a release live makes up for its modules, under ``--limit`` on
    its hosts, and so does one that rolled it back. One that takes back what yet another
    did makes up for nothing else. No further is looked once all *modules* (names; all
    there are by default) are made up for everywhere.
    """
    settled: set[tuple[str, str]] = set()
    whole: set[str] = set()
    undone: set[str] = set()
    async for found in _newest_first(runs):
        if found.is_open:
            left = set(product(found.hosts, set(found.modules) - whole))
            settles = not undone.isdisjoint(found.ids) or left <= settled
            if not settles and (not run or run in found.ids):
                return found
        elif not found.revert:
            live = found.in_state(State.LIVE, State.UNCHANGED)
            settled.update(product(live, found.modules))
            if found.went_live and not found.limited:
                whole.update(found.modules)
                undone.add(found.undoes)
                if modules and whole.issuperset(modules):
                    return None
    return None


async def serving_run(runs: RunLog) -> PastRun | None:
    """
    Return the run that brought what serves now: the newest that has not been undone.

    It has moved links, and ended. One that only took hosts to what MANIFEST named did
    not bring that; on its hosts it made up for a run of few. Of a run that rolled back
    another one neither counts, nor what came between the two.
    """
    undone_from = ""
    in_line: set[str] = set()
    async for found in _newest_first(runs):
        if undone_from:
            if undone_from in found.ids:
                undone_from = ""
            continue
        if found.finished is None or found.revert:
            continue
        if found.undoes and found.went_live:
            undone_from = found.undoes
            continue
        live = found.in_state(State.LIVE)
        if not found.brought:
            in_line.update(live)
        elif live and not (found.limited and in_line.issuperset(live)):
            return found
    return None


async def _newest_first(runs: RunLog) -> AsyncIterator[PastRun]:
    """Yield runs; one that was taken up by another is one with that."""
    part_of: set[str] = set()
    for run in reversed(list(await runs.ids())[-_RUNS:]):
        found = None if run in part_of else await find_run(runs, run)
        if found is not None:
            part_of.update(found.ids)
            yield found


async def _read(runs: RunLog, run: str) -> PastRun | None:
    try:
        data = await runs.load(run, JOURNAL)
    except NotInStore:
        return None
    return read_run(io.BytesIO(data))
