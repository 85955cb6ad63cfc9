"""
From a plan and a goal to the one value that describes a run.

Everything that can be refused is refused here, before any host is contacted; only a
rollback whose journal is lost has to ask the hosts what was before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from .._engine.spec import RunSpec
from .._local.paths import ssh_files
from ..config import check_secrets
from ..errors import ConfigError, PlanError
from ..goal import Converge, Deploy, Goal, Redeploy, Resume, Revert, Rollback
from ..history.reports import still_stranded
from ..model import Module, Plan
from ..protocols import Balancer, Inventory, Store, Transport
from .balancer import balancer_of
from .basis import Basis, Task, begin, spec_of_look, this_user
from .earlier_release import releases_before
from .hosts import choose_hosts, leave_enough, place
from .modules import in_manifest, to_deploy, wanted
from .resume import take_up

__all__ = ["Reach", "open_transport", "plan_look", "plan_run"]

Reach = Callable[[RunSpec], AbstractAsyncContextManager[Transport]]
"""Opens a transport for a look at hosts."""


async def plan_run(
    plan: Plan,
    goal: Goal,
    *,
    reach: Reach,
    limit: Sequence[str] = (),
    wait: float = 0.0,
    break_lock: bool = False,
    actor: str = "",
    reason: str = "",
    store: Store | None = None,
    inventory: Inventory | None = None,
    balancer: Balancer | None = None,
) -> RunSpec:
    """
    Check the plan, choose hosts and modules, and resolve every revision.

    *store*, *inventory* and *balancer* take the place of those that the plan names.

    Raises:
        ConfigError: The plan is wrong or asks for what this version cannot do.
        UnknownRevision: A source has no such revision.
        PlanError: The goal cannot be reached on this plan, or no host is chosen.
        StoreError: The store cannot be read.
    """
    basis = await begin(plan, inventory, store)
    plan = basis.plan
    if problems := check_secrets(plan, basis.environ):
        raise ConfigError(problems)
    task = await _task(basis, goal, limit, reach)
    actor = actor or this_user()
    spec = RunSpec(
        id=basis.id,
        goal=task.goal,
        plan=plan,
        environ=basis.environ,
        store=basis.store,
        store_url=basis.store_url,
        manifest=basis.manifest,
        folder=basis.folder,
        modules=task.modules,
        hosts=task.hosts,
        hosts_of_module=basis.hosts_of_module,
        limited=task.limited,
        wait=wait,
        break_lock=break_lock,
        actor=actor,
        reason=reason,
        holder=basis.holder(actor),
        secrets={name: basis.environ[name] for name in plan.app.secrets},
        old_secrets=await _old_secrets(basis, task),
        follows=task.follows,
        killed=task.killed,
        warnings=task.warnings,
        stranded=await still_stranded(basis.store.runs),
        inventory=basis.inventory,
        balancer=balancer or balancer_of(plan),
    )
    leave_enough(plan, spec.fleet)
    return spec


async def plan_look(
    plan: Plan,
    *,
    limit: Sequence[str] = (),
    store: Store | None = None,
    inventory: Inventory | None = None,
) -> RunSpec:
    """
    Put together what it takes to look at a fleet: no source is asked.

    Raises:
        ConfigError: The plan is wrong or asks for what this version cannot do.
        PlanError: No host is chosen.
        StoreError: The store cannot be read.
    """
    basis = await begin(plan, inventory, store)
    plan = basis.plan
    chosen, _ = wanted(plan)
    hosts = await choose_hosts(plan, basis.store, limit)
    hosts, modules = place(hosts, chosen, basis.hosts_of_module)
    return spec_of_look(basis, hosts, modules, limited=bool(limit))


def open_transport(plan: Plan, environ: Mapping[str, str]) -> Transport:
    """Return what reaches the plan's hosts."""
    # Parsing keys and importing asyncssh take a quarter of a second: only when needed.
    from ..transports.ssh import SshTransport

    settings = ssh_files(plan.ssh, plan.base, environ)
    seconds = plan.rollout.deadlines.connect
    return SshTransport(settings, login_seconds=seconds, environ=environ)


async def _task(basis: Basis, goal: Goal, limit: Sequence[str], reach: Reach) -> Task:
    """Find out what *goal* comes to on this plan."""
    match goal:
        case Deploy(modules=modules, rev=rev, packages=packages):
            chosen = wanted(basis.plan, modules=modules, rev=rev, packages=packages)
            return await _forward(basis, goal, *chosen, limit)
        case Redeploy(packages=packages):
            chosen = wanted(basis.plan, packages=packages)
            return await _forward(basis, goal, *chosen, limit)
        case Converge():
            chosen = in_manifest(basis.plan, basis.manifest)
            return await _forward(basis, goal, *chosen, limit)
        case Rollback():
            packages, run = await releases_before(basis, goal, reach)
            chosen = wanted(basis.plan, packages=packages)
            return await _forward(basis, goal, *chosen, limit, follows=run)
        case Resume() | Revert():
            if limit:
                raise PlanError("limit: a killed run is taken up on the hosts it had")
            return await take_up(basis, goal)


async def _forward(
    basis: Basis,
    goal: Goal,
    modules: Sequence[Module],
    packages: Mapping[str, str],
    limit: Sequence[str],
    *,
    follows: str = "",
) -> Task:
    """Return a task that brings *modules*, as *packages* where named, to hosts."""
    hosts = await choose_hosts(basis.plan, basis.store, limit)
    hosts, modules = place(hosts, modules, basis.hosts_of_module)
    made = [await to_deploy(basis, goal, m, packages.get(m.name, "")) for m in modules]
    return Task(
        goal=goal,
        hosts=hosts,
        modules=tuple(made),
        limited=bool(limit),
        follows=follows,
        warnings=basis.warnings,
    )


async def _old_secrets(basis: Basis, task: Task) -> tuple[str, ...]:
    """Return the secrets of releases whose scripts may run again: what may serve."""
    ids = {line.package for line in basis.manifest}
    ids.update(module.package for module in task.modules if module.package)
    if task.killed:
        ids.update(filter(None, task.killed.manifest.values()))
    found: list[str] = []
    for package in sorted(ids):
        kept = await basis.store.manifest.environment(package)
        if kept is not None:
            found += [kept.variables.get(name, "") for name in basis.plan.app.secrets]
    return tuple(found)
