"""The packages of a redeploy: named one by one, or by the run that released them."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import NotInStore, PlanError
from ..history.past_run import PastRun
from ..history.runs import find_run
from ..views.text import plural
from .basis import Basis
from .modules import named_so

__all__ = ["packages_of"]


async def packages_of(basis: Basis, asked: Sequence[str]) -> tuple[str, ...]:
    """
    Return the ids of the packages that *asked* names, each itself or by its run.

    Raises:
        PlanError: A word names nothing, or several; or a run has no package to take.
        StoreError: The store cannot be read.
    """
    known, ids = await basis.store.runs.ids(), list[str]()
    for word in asked:
        runs = [run for run in known if run.startswith(word)]
        runs = [word] if word in runs else runs
        packages = await named_so(basis, word)
        if not runs and not packages:
            raise PlanError(
                f"{word}: no run has an id, and no package an id or a commit, that "
                "begins so; `ghostasync history` names them"
            )
        if len(runs) + len(packages) > 1:
            counts = [(len(runs), "run"), (len(packages), "package")]
            named = " and ".join(plural(n, what) for n, what in counts if n)
            raise PlanError(f"{word} names {named}: say more of it")
        ids += packages or await _released(basis, runs[0])
    return tuple(ids)


async def _released(basis: Basis, run: str) -> list[str]:
    """
    Return the packages of all modules of a run, however it ended.

    Raises:
        PlanError: The run has no package of a module, several, or one that is pruned.
    """
    past_run = await find_run(basis.store.runs, run)
    if past_run is None:
        # A build is no run on hosts, and its journal says so.
        raise PlanError(
            f"run {run}: a build, or its journal is lost; name packages instead"
        )
    ids = [_only(past_run, module) for module in past_run.modules]
    for package in ids:
        try:
            await basis.store.packages.package(package)
        except NotInStore:
            raise PlanError(
                f"run {run} released {package}, which was pruned from "
                f"{basis.store.url} since (store.keep); hosts that have it still can "
                f"go to it: ghostasync rollback --to {package}"
            ) from None
    return ids


def _only(past_run: PastRun, module: str) -> str:
    """Return the one package of a module that a run had, or was to bring to hosts."""
    # A run that only takes back what another one did has that one's packages on record.
    made = {} if past_run.revert else past_run.packages
    brought = {made[module]} if module in made else set()
    # A rollback may have taken hosts to several releases, or have removed a link.
    if past_run.to and not past_run.revert:
        brought = {to[module] for to in past_run.to.values() if to.get(module)}
    if len(brought) == 1:
        return brought.pop()
    several = ", ".join(sorted(brought)) or ", ".join(made.values())
    raise PlanError(
        f"run {past_run.id} released {'several packages' if brought else 'no package'} "
        f"of {module}" + f"; name what is to come: {several}" * bool(several)
    )
