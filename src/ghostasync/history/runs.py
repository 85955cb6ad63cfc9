"""
The runs that a store knows of: by name, and those that have not ended.

Runs of one work are read as one (see ``past_run``). Whether later runs have made up for
one that has not ended is hosts' to say, see ``_planning/unfinished.py``.
"""

from __future__ import annotations

import io

import attrs

from ..errors import NotInStore, PlanError
from ..protocols import RunLog
from .past_run import PastRun, continued
from .replay import read_run

__all__ = ["JOURNAL", "find_run", "open_runs", "run_named", "unended_migration"]

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
        text = f"there is no run {asked}; `ghostasync history` names them"
        raise PlanError(text if asked else "there is no run yet")
    if asked and len(found) > 1 and asked not in found:
        raise PlanError(
            f"{len(found)} runs begin with {asked}: {found[-1]} is the last"
        )
    return asked if asked in found else found[-1]


async def open_runs(runs: RunLog, lowest: int = 0) -> list[PastRun]:
    """
    Return the runs that have a number, no lower than *lowest*, and something to do.

    The newest by number is first. A run that was taken up by another is one with it. A
    run that was killed before it had a number has moved nothing, and is history.

    Raises:
        StoreError: The store cannot be read.
    """
    numbers = await runs.generations()
    part_of: set[str] = set()
    found: list[PastRun] = []
    # Ids of one store are in the order in which its runs began. A resumption may have
    # ended before it had a number of its own.
    for run in reversed(list(await runs.ids())):
        # One that waited for a lock has a higher number than some that began after it.
        if 0 < numbers.get(run, 0) < lowest:
            continue
        past_run = None if run in part_of else await find_run(runs, run)
        if past_run is None:
            continue
        part_of.update(past_run.ids)
        # The number was reserved before the journal told of it.
        of_work = (numbers.get(each, 0) for each in past_run.ids)
        number = max(past_run.generation, *of_work)
        if past_run.is_open and number >= max(lowest, 1):
            origin = past_run.origin or number
            found.append(attrs.evolve(past_run, generation=number, origin=origin))
    return sorted(found, key=lambda each: -each.generation)


async def unended_migration(
    runs: RunLog, module: str, *, besides: str = ""
) -> tuple[str, str]:
    """
    Return where a module's last before_switch began, a host and a run, if no end of it
    is on record; both are empty otherwise.

    *besides* is the run that asks. Runs are read from the newest back to one that
    tells: it has begun a before_switch, or went live with the module, and so had none
    to wait for.

    Raises:
        StoreError: The store cannot be read.
    """
    numbers = await runs.generations()
    for run in sorted(numbers, key=lambda each: -numbers[each]):
        known = await find_run(runs, run) if run != besides else None
        if known is None:
            continue
        if module in known.migrating:
            return known.migrating[module]
        if known.committed and not known.undoes and module in known.packages:
            break
    return "", ""


async def _read(runs: RunLog, run: str) -> PastRun | None:
    try:
        data = await runs.load(run, JOURNAL)
    except NotInStore:
        return None
    return read_run(io.BytesIO(data))
