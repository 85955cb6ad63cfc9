"""
The plan of a resumption: a run that takes up another one, whose controller was killed.

How it works. The journal says which hosts the killed run had, what it had packaged, and
how far it came. A resumption has the same hosts and the same packages; a module that
was not packaged yet is built at the same commit. Hosts that are gone are warned of and
left out. Those that have joined since are brought along at the end, as the killed run
would have done; a rollback cannot tell them from hosts that it left where they were.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

import attrs

from .._engine.spec import ModuleToDeploy, WayBack
from .._local.paths import is_run_id
from ..errors import NothingToResume, PlanError, StoreError
from ..goal import Converge, Deploy, Redeploy, Resume, Revert, Rollback
from ..history.past_run import PastRun
from ..history.runs import find_run, open_runs, run_named
from ..model import Action, Host, Module, Package, State
from ..protocols import RunLog
from .basis import Basis, Task
from .hosts import place
from .look import Reach, look_at
from .modules import as_it_was, to_deploy
from .rollback import held_packages
from .unfinished import Seen, left_by, strange_run, unfinished_run

__all__ = ["plan_resume"]


async def plan_resume(basis: Basis, asked: Resume | Revert, reach: Reach) -> Task:
    """
    Return the task to go on where a run was killed: its hosts, modules and packages.

    Args:
        basis: The plan, and its store.

        asked: The goal, perhaps with the run's id.

        reach: Opens a transport: hosts know what later runs have moved.

    Raises:
        NothingToResume: Nothing of it is left to do.
        PlanError: There is no such run, or its hosts or modules are not in the plan any
            more.
        StoreError: The store cannot be read.
    """
    plan = basis.plan
    killed, over, seen = await _killed(basis, asked, reach)
    held = held_packages(seen)
    inventory, _ = place(plan.hosts, plan.modules, basis.hosts_of_module)
    present = {host.name: host for host in inventory}
    back = isinstance(asked, Revert) or killed.going_back
    # Hosts that it brought along go back with the others. Forward they come at the end,
    # as before: none of them takes the fleet back.
    names = [n for n in killed.hosts if back or n not in killed.joined]
    # A run whose journal is lost may have had any host.
    hosts = tuple(present[name] for name in names if name in present)
    if names and not hosts:
        raise PlanError(f"run {killed.id}: none of its hosts is in the inventory now")
    gone = [name for name in names if name not in present]
    # A run under --limit left other hosts out on purpose: none of them is news.
    whole = bool(killed.hosts) and not killed.limited
    new = _joined(basis, killed, inventory) if whole else []
    modules = tuple(m for m in _modules(basis, killed) if m.name not in over)
    hosts, modules = place(hosts or inventory, modules, basis.hosts_of_module)
    goal: Resume | Revert
    # A run that was killed on its way back is taken the rest of that way, whatever was
    # asked: some of its hosts are back already.
    if back:
        goal = Revert(killed.id)
        to_do = [ModuleToDeploy(module) for module in modules]
    else:
        goal = Resume(killed.id, of=_goal_of(killed))
        to_do = [
            each
            for module in modules
            for each in await _as_it_was(basis, goal, module, killed, held)
        ]
    along = frozenset(killed.joined if goal.recalls else [*killed.joined, *new])
    joined = along if whole and not back else frozenset[str]()
    new = [name for name in new if name not in joined]
    # Neither a run that had moved MANIFEST nor one that goes back moves it forward.
    manifest_stands = killed.committed or goal.only_back
    return Task(
        goal=goal,
        hosts=hosts,
        modules=tuple(to_do),
        # Moved by this run, MANIFEST would name what hosts that are new do not serve.
        limited=killed.limited or bool(new and not manifest_stands),
        follows=killed.id,
        killed=killed,
        way_back=_way_back(basis, killed, hosts, modules) if goal.recalls else None,
        joined=joined,
        warnings=(
            *basis.warnings,
            *(f"{name} is not in the inventory any more" for name in gone),
            *(_is_new(name, manifest_stands=manifest_stands) for name in new),
        ),
    )


def _modules(basis: Basis, killed: PastRun) -> tuple[Module, ...]:
    """Return the modules of the killed run; all, where its journal is lost."""
    known = {module.name for module in basis.plan.modules}
    for name in killed.modules:
        if name not in known:
            raise PlanError(
                f"run {killed.id} had a module {name!r} that the configuration does "
                "not have any more: put it back"
            )
    names = killed.modules or known
    return tuple(module for module in basis.plan.modules if module.name in names)


def _goal_of(killed: PastRun) -> Deploy | Redeploy | Converge | Rollback:
    """Return the killed run's goal, as far as a resumption depends on it."""
    match killed.action:
        case Action.CONVERGE.value:
            return Converge()
        case Action.ROLLBACK.value:
            return Rollback(run=killed.undoes, recorded_secrets=killed.recorded_secrets)
        case Action.REDEPLOY.value:
            return Redeploy(tuple(killed.packages.values()), force=killed.force)
        case _:
            return Deploy(force=killed.force)


def _joined(basis: Basis, killed: PastRun, hosts: tuple[Host, ...]) -> list[str]:
    """Return the hosts that get a module of the killed run and joined since."""
    where = basis.hosts_of_module
    everywhere = not set(killed.modules) <= set(where)
    names = [host.name for host in hosts if host.name not in killed.hosts]
    gets = frozenset[str]().union(*(where.get(m, ()) for m in killed.modules))
    return [name for name in names if everywhere or name in gets]


def _is_new(name: str, *, manifest_stands: bool) -> str:
    text = f"{name} is new and not part of this run"
    # Before MANIFEST has moved, converge would take the host to the older release.
    return f"{text}: ghostasync converge {name}" if manifest_stands else text


def _way_back(
    basis: Basis,
    killed: PastRun,
    hosts: tuple[Host, ...],
    modules: tuple[Module, ...],
) -> WayBack:
    """Return where a rollback that was killed was to take each host."""
    to, names = killed.to, {module.name for module in modules}
    if not to:
        where = basis.hosts_of_module
        to = {
            host.name: {
                m: package
                for m, package in killed.packages.items()
                if m in names and (m not in where or host.name in where[m])
            }
            for host in hosts
        }
    return WayBack(to, {}, frozenset(killed.leads) & names)


async def _as_it_was(
    basis: Basis,
    goal: Resume,
    module: Module,
    killed: PastRun,
    held: Mapping[str, Package],
) -> list[ModuleToDeploy]:
    """
    Return a module as the killed run had it: packaged, else at its commit.

    A rollback may have taken hosts to several packages of a module.

    Raises:
        PlanError: Hosts may serve the package already, and it is not in the store.
    """
    if goal.recalls:
        ways = [way[module.name] for way in killed.to.values() if module.name in way]
        packages = dict.fromkeys(ways or [killed.packages.get(module.name, "")])
        return [ModuleToDeploy(module, package=p, held=held.get(p)) for p in packages]
    if package := killed.packages.get(module.name):
        try:
            await basis.store.packages.package(package)
        except StoreError as exc:
            # A package that is lost can be built again from its commit, but as another
            # release. Beside hosts that serve the lost one that is not possible: they
            # would "go back" to it.
            if killed.changed:
                raise PlanError(
                    f"run {killed.id} brought hosts to {package}, which cannot be "
                    f"taken from the store: {exc}; `ghostasync resume --revert "
                    f"{killed.id}` puts every host back, `ghostasync deploy` makes a "
                    "new release"
                ) from exc
        else:
            return [ModuleToDeploy(module, package=package)]
    # Who can write to the store can write a journal: it is not to choose what is built,
    # and signed, here.
    if basis.plan.store.signers:
        raise PlanError(
            f"run {killed.id} was killed before its package of {module.name} was "
            "signed, and a journal is nobody's word (store.signers): ghostasync deploy "
            f"builds anew, ghostasync resume --revert {killed.id} puts every host back"
        )
    known = killed.revisions.get(module.name)
    if known is None or not known.commit:
        return [await to_deploy(basis, goal, module)]
    # At the commit: a branch may have moved since, and hosts must not get two releases
    # from one run. Scripts still see the name that was asked for.
    again = await to_deploy(basis, goal, as_it_was(module, known))
    revision = attrs.evolve(again.revision, rev=known.rev)
    return [attrs.evolve(again, revision=revision)]


async def _killed(
    basis: Basis, asked: Resume | Revert, reach: Reach
) -> tuple[PastRun, frozenset[str], Seen]:
    """
    Return the killed run to take up, the modules that later runs moved, and the hosts.

    Raises:
        NothingToResume: It has ended, or later runs have gone live.
        PlanError: There is no such run.
    """
    runs = basis.store.runs
    if asked.run:
        known = any(run.startswith(asked.run) for run in await runs.ids())
        if known or not is_run_id(asked.run):
            asked = attrs.evolve(asked, run=await run_named(runs, asked.run))
        if await find_run(runs, asked.run) is None:
            return _lost(basis, asked), frozenset(), {}
    seen = await look_at(basis, basis.plan.hosts, reach)
    if not asked.run:
        killed = await unfinished_run(basis.store, basis.plan, basis.manifest, seen)
        if killed is None:
            await _require_known(basis, seen)
            raise NothingToResume(
                "there is no unfinished run: nothing is left to resume"
            )
    else:
        killed = await _named(runs, asked.run)
        if killed.action == Action.SWAP.value:
            raise PlanError(
                f"run {killed.id} is a swap: `ghostasync swap --to COLOR` finishes it, "
                "or takes it back"
            )
        if not killed.is_open and killed.finished is not None:
            # To go on with it is done. To take it back is not, nor are stranded hosts
            # well.
            stranded = killed.in_state(State.STRANDED)
            done = isinstance(asked, Resume) and not stranded
            text = _has_ended(killed, killed.finished.outcome, stranded)
            raise NothingToResume(text) if done else PlanError(text)
    left = await left_by(killed, basis.store, basis.plan, basis.manifest, seen)
    # A run that later ones have overtaken may still be taken back where its hosts kept
    # its release; to go on with it would bring an old release over a newer one.
    if isinstance(asked, Resume) and not killed.generation:
        raise NothingToResume(
            f"run {killed.id} was killed before it moved anything: nothing is left to "
            "resume; ghostasync deploy begins anew"
        )
    if isinstance(asked, Resume) and not left:
        raise NothingToResume(
            f"run {killed.id} was not finished, but a later run has gone live: nothing "
            "is left to resume"
        )
    some = {module for modules in left.values() for module in modules}
    over = frozenset(killed.modules) - some if isinstance(asked, Resume) else ()
    return killed, frozenset(over), seen


async def _named(runs: RunLog, run: str) -> PastRun:
    """
    Return the run *run*, with the one that took it up last.

    Raises:
        PlanError: Its journal is lost.
    """
    for past_run in await open_runs(runs):
        if run in past_run.ids:
            return past_run
    found = await find_run(runs, run)
    if found is None:
        raise PlanError(f"there is no run {run}")
    return found


async def _require_known(basis: Basis, seen: Seen) -> None:
    """
    Do nothing, unless hosts tell of a run of another store that has not ended.

    Raises:
        PlanError: There is one: its journal and its packages are not here.
    """
    store = basis.store
    known = await store.runs.ids()
    strange = strange_run(seen, known, await store.identity())
    if strange is None or strange.ended:
        return
    last, count = strange.last, len(strange.hosts)
    where = f"{count} host{'s' * (count > 1)}"
    raise PlanError(
        f"run {last.run} by {last.actor or 'somebody'} has moved {where} and is not "
        f"proven there; {store.url} has no journal of it, so what else it was to do "
        "cannot be known here: resume it where it was started, or take it back, "
        f"ghostasync resume {last.run} --revert"
    )


def _lost(basis: Basis, asked: Resume | Revert) -> PastRun:
    """Return a run without a journal, known by its id: hosts may know the rest."""
    url, run = basis.store.url, asked.run
    if isinstance(asked, Resume):
        raise PlanError(
            f"{url} has no journal of a run {run}; what its hosts have on record can "
            f"be put back: ghostasync resume {run} --revert"
        )
    return PastRun(ids=(run,), going_back=True)


def _has_ended(killed: PastRun, outcome: str, stranded: Sequence[str]) -> str:
    way = f"to go back from it: ghostasync rollback {killed.id}"
    if stranded:
        names = shlex.join(stranded)
        way = f"to bring its stranded hosts in line: ghostasync converge {names}"
    return f"run {killed.id} has ended {outcome}: nothing is left to resume; {way}"
