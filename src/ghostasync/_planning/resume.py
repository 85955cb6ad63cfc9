"""How to take up a run whose controller was killed: its hosts, modules and goal."""

from __future__ import annotations

import shlex

import attrs

from .._engine.spec import ModuleToDeploy
from .._local.paths import is_run_id
from ..errors import PlanError, StoreError
from ..goal import Converge, Deploy, Redeploy, Resume, Revert, Rollback
from ..history.past_run import PastRun
from ..history.runs import find_run, unfinished_run
from ..model import Action, Host, Module, State
from .basis import Basis, Task
from .hosts import choose_hosts, place
from .modules import at_revision, to_deploy

__all__ = ["take_up"]


async def take_up(basis: Basis, asked: Resume | Revert) -> Task:
    """
    Go on where another run was killed: with its hosts, its modules, and what it made.

    A run that was on its way back is taken the rest of that way.

    Raises:
        PlanError: There is no such run, nothing is left of it, or the plan has changed
            too much since.
        StoreError: The store cannot be read.
    """
    plan = basis.plan
    past = await _killed(basis, asked)
    everyone = await choose_hosts(plan, basis.store, ())
    inventory, _ = place(everyone, plan.modules, basis.hosts_of_module)
    found = {host.name: host for host in inventory}
    hosts = tuple(found[name] for name in past.hosts if name in found) or inventory
    if past.hosts and found.keys().isdisjoint(past.hosts):
        raise PlanError(f"run {past.id}: none of its hosts is in the inventory now")
    gone = [name for name in past.hosts if name not in found]
    new = [] if past.limited or not past.hosts else _joined(basis, past, inventory)
    hosts, modules = place(hosts, _modules(basis, past), basis.hosts_of_module)
    goal: Resume | Revert
    if isinstance(asked, Revert) or past.going_back:
        goal = Revert(past.id)
        to_do = [ModuleToDeploy(module) for module in modules]
    else:
        goal = Resume(past.id, of=_goal_of(past))
        to_do = [await _as_it_was(basis, goal, module, past) for module in modules]
    # Neither a run that had moved MANIFEST nor one that goes back moves it forward.
    manifest_stands = past.committed or goal.only_back
    return Task(
        goal=goal,
        hosts=hosts,
        modules=tuple(to_do),
        # Moved by this run, MANIFEST would name what hosts that are new do not serve.
        limited=past.limited or bool(new and not manifest_stands),
        follows=past.id,
        killed=past,
        warnings=(
            *basis.warnings,
            *(f"{name} is not in the inventory any more" for name in gone),
            *(_is_new(name, manifest_stands=manifest_stands) for name in new),
        ),
    )


def _modules(basis: Basis, past: PastRun) -> tuple[Module, ...]:
    """Return the modules that the run had; one whose journal is lost had them all."""
    known = {module.name for module in basis.plan.modules}
    for name in past.modules:
        if name not in known:
            raise PlanError(
                f"run {past.id} had a module {name!r} that the configuration does not "
                "have any more: put it back"
            )
    names = past.modules or known
    return tuple(module for module in basis.plan.modules if module.name in names)


def _goal_of(past: PastRun) -> Deploy | Redeploy | Converge | Rollback:
    """Return what the run was for, as far as it matters to whoever takes it up."""
    match past.action:
        case Action.CONVERGE.value:
            return Converge()
        case Action.ROLLBACK.value:
            return Rollback(run=past.undoes)
        case Action.REDEPLOY.value:
            return Redeploy(tuple(past.packages.values()), force=past.force)
        case _:
            return Deploy(force=past.force)


def _joined(basis: Basis, past: PastRun, hosts: tuple[Host, ...]) -> list[str]:
    """Return the hosts that get modules of *past* and were not there when it began."""
    where = basis.hosts_of_module
    everywhere = not set(past.modules) <= set(where)
    names = [host.name for host in hosts if host.name not in past.hosts]
    gets = frozenset[str]().union(*(where.get(m, ()) for m in past.modules))
    return [name for name in names if everywhere or name in gets]


def _is_new(name: str, *, manifest_stands: bool) -> str:
    text = f"{name} is new and not part of this run"
    # Before MANIFEST has moved, converge would take the host to the older release.
    return f"{text}: ghostasync converge {name}" if manifest_stands else text


async def _as_it_was(
    basis: Basis, goal: Resume, module: Module, past: PastRun
) -> ModuleToDeploy:
    """
    Return a module as the killed run had it: packaged, else at its commit.

    Raises:
        PlanError: Hosts may serve the package already, and it is not in the store.
    """
    if package := past.packages.get(module.name):
        try:
            await basis.store.packages.package(package)
        except StoreError as exc:
            # What it was made of is the next best, but not as another release beside
            # this one, from which no host would find its way back.
            if past.changed:
                raise PlanError(
                    f"run {past.id} brought hosts to {package}, which cannot be taken "
                    f"from the store: {exc}; `ghostasync resume --revert {past.id}` "
                    "puts every host back, `ghostasync deploy` makes a new release"
                ) from exc
        else:
            return ModuleToDeploy(module, package=package)
    known = past.revisions.get(module.name)
    if known is None or not known.commit:
        return await to_deploy(basis, goal, module)
    found = await to_deploy(basis, goal, at_revision(module, known.commit))
    # The name under which it was asked for is what scripts see.
    return attrs.evolve(found, revision=attrs.evolve(found.revision, rev=known.rev))


async def _killed(basis: Basis, asked: Resume | Revert) -> PastRun:
    """Return the run to take up; one whose journal is lost is known by its id alone."""
    runs, modules = basis.store.runs, {module.name for module in basis.plan.modules}
    if not asked.run:
        past = await unfinished_run(runs, modules=modules)
        if past is None:
            raise PlanError("there is no unfinished run: nothing is left to resume")
        return past
    past = await find_run(runs, asked.run)
    if past is None:
        return _lost(basis, asked)
    if not past.is_open and past.finished is not None:
        raise PlanError(_has_ended(past, past.finished.outcome))
    newest = await unfinished_run(runs, past.id, modules=modules)
    if newest is None and isinstance(asked, Resume):
        raise PlanError(
            f"run {past.id} was not finished, but a later run has gone live: nothing "
            "is left to resume"
        )
    return newest or past


def _lost(basis: Basis, asked: Resume | Revert) -> PastRun:
    """Return what is known of a run without a journal: its hosts may know the rest."""
    url, run = basis.store.url, asked.run
    if not is_run_id(run):
        raise PlanError(
            f"{url} has no run {run!r}, and that is no run's id: "
            "YYYYMMDDThhmmssZ-xxxxxx; `ghostasync status` names what was killed"
        )
    if isinstance(asked, Resume):
        raise PlanError(
            f"{url} has no journal of a run {run}; what its hosts have on record can "
            f"be put back: ghostasync resume {run} --revert"
        )
    return PastRun(ids=(run,), going_back=True)


def _has_ended(past: PastRun, outcome: str) -> str:
    way = f"to go back from it: ghostasync rollback {past.id}"
    if stranded := past.in_state(State.STRANDED):
        names = shlex.join(stranded)
        way = f"to bring its stranded hosts in line: ghostasync converge {names}"
    return f"run {past.id} has ended {outcome}: nothing is left to resume; {way}"
