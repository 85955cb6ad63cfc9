"""
The runs that a store knows of: the unfinished one, and the one that serves now.

Runs are read newest first, those of one work as one (see ``past_run``). Each question
is answered by the first run that qualifies and that no later run has made up for.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Collection
from itertools import product

from ..errors import NotInStore, PlanError
from ..model import State
from ..protocols import RunLog
from .past_run import PastRun, continued
from .replay import read_run

__all__ = ["JOURNAL", "find_run", "run_named", "serving_run", "unfinished_run"]

_RUNS = 200
"""Runs that are looked at; an older one is found by its id."""

JOURNAL = "journal.jsonl"


async def find_run(runs: RunLog, run: str) -> PastRun | None:
    """
    Return the run with the id *run*; None where its journal is lost or says nothing.

    Raises:
        StoreError: The store cannot be read.
    """
    past_run = await _read(runs, run)
    while past_run is not None and past_run.continues not in {"", *past_run.ids}:
        older = await _read(runs, past_run.continues)
        if older is None:
            break
        past_run = continued(past_run, older)
    return past_run


async def run_named(runs: RunLog, asked: str = "") -> str:
    """
    Return the id of the run that *asked* is the beginning of; the newest where empty.

    Raises:
        PlanError: No run's id begins so, or more than one does.
        StoreError: The store cannot be read.
    """
    ids = await runs.ids()
    found = [run for run in ids if run.startswith(asked)]
    if not found:
        raise PlanError(f"there is no run {asked}" if asked else "there is no run yet")
    if asked and len(found) > 1 and asked not in found:
        raise PlanError(
            f"{len(found)} runs begin with {asked}: {found[-1]} is the last"
        )
    return asked if asked in found else found[-1]


async def unfinished_run(
    runs: RunLog, run: str = "", *, modules: Collection[str] = ()
) -> PastRun | None:
    """
    Return the newest run that has not ended and that no later run has made up for.

    Where *run* is named, only that run is returned, or None.

    A later run that left a release live makes up for its modules, under ``--limit`` on
    its hosts, and so does a later run that rolled it back. A run that takes back what
    yet another did makes up for nothing else. The search ends once all *modules*
    (names; all there are by default) are made up for everywhere.
    """
    # Pairs of host and module, modules settled on all hosts, and ids of runs undone.
    settled: set[tuple[str, str]] = set()
    whole: set[str] = set()
    undone: set[str] = set()
    async for past_run in _newest_first(runs):
        if past_run.is_open:
            left = set(product(past_run.hosts, set(past_run.modules) - whole))
            settles = not undone.isdisjoint(past_run.ids) or left <= settled
            if not settles and (not run or run in past_run.ids):
                return past_run
        elif not past_run.revert:
            live = past_run.in_state(State.LIVE, State.UNCHANGED)
            settled.update(product(live, past_run.modules))
            if past_run.went_live and not past_run.limited:
                whole.update(past_run.modules)
                undone.add(past_run.undoes)
                if modules and whole.issuperset(modules):
                    return None
    return None


async def serving_run(runs: RunLog) -> PastRun | None:
    """
    Return the run that brought what serves now: the newest that has not been undone.

    Such a run has moved links, and ended. A run that only took hosts to what MANIFEST
    named did not bring that release, and makes up for a run under ``--limit`` on the
    same hosts. Neither a rollback counts nor the run that it rolled back, nor any run
    between the two.
    """
    undone_from = ""
    in_line: set[str] = set()
    async for past_run in _newest_first(runs):
        if undone_from:
            if undone_from in past_run.ids:
                undone_from = ""
            continue
        if past_run.finished is None or past_run.revert:
            continue
        if past_run.undoes and past_run.went_live:
            undone_from = past_run.undoes
            continue
        live = past_run.in_state(State.LIVE)
        if not past_run.brought:
            in_line.update(live)
        elif live and not (past_run.limited and in_line.issuperset(live)):
            return past_run
    return None


async def _newest_first(runs: RunLog) -> AsyncIterator[PastRun]:
    """Yield runs; a run that was taken up by another is one with that."""
    part_of: set[str] = set()
    for run in reversed(list(await runs.ids())[-_RUNS:]):
        past_run = None if run in part_of else await find_run(runs, run)
        if past_run is not None:
            part_of.update(past_run.ids)
            yield past_run


async def _read(runs: RunLog, run: str) -> PastRun | None:
    try:
        data = await runs.load(run, JOURNAL)
    except NotInStore:
        return None
    return read_run(io.BytesIO(data))
