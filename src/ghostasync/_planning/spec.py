"""
The planning of a run: from a plan and a goal to the one value that describes it.

How it works. ``begin`` checks the plan, asks the inventory and opens the store: the
basis. A goal is then made into a task: its hosts, and its modules, each with a source
or a package. Both together are the spec. All that can be refused is refused on this
way, before any host is changed; a rollback and a resumption ask hosts what they serve,
and what they served before.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from .._build.environment import secret_values
from .._engine.spec import RunSpec
from .._lint.form import flaw
from .._local.paths import ssh_files
from .._local.redact import SHORTEST
from ..config import check_secrets
from ..errors import ConfigError, Frozen, PlanError, credentials_in
from ..goal import (
    Converge,
    Deploy,
    Execute,
    Goal,
    Redeploy,
    Resume,
    Revert,
    Rollback,
    Swap,
)
from ..history.reports import still_stranded
from ..model import GitSource, Module, Plan
from ..protocols import (
    AddressedPackages,
    Balancer,
    Inventory,
    Observer,
    Store,
    Transport,
)
from .balancer import balancer_of, seconds_of, with_deadlines
from .basis import (
    Basis,
    Task,
    begin,
    require_signing,
    require_writable,
    spec_of_look,
    this_user,
)
from .hosts import leave_enough, leaves_out, place
from .look import Reach, choose_hosts
from .modules import in_manifest, served, to_deploy, wanted, whole_ids
from .redeploy import packages_of
from .resume import plan_resume
from .rollback import plan_rollback
from .shrunk import require_no_shrunk
from .swap import paired

__all__ = ["Reach", "open_transport", "plan_look", "plan_run"]


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
    inventory_shrank: bool = False,
    carried_out: bool = True,
    store: Store | None = None,
    inventory: Inventory | None = None,
    balancer: Balancer | None = None,
    partner_store: Store | None = None,
    observe: Observer | None = None,
) -> RunSpec:
    """
    Check the plan, choose hosts and modules, and resolve every revision.

    *store*, *inventory* and *balancer* take the place of those that the plan names, and
    *partner_store* that of the other color's plan in a swap; *observe* is shown what
    sources say; *wait* is how long locks are waited for, in seconds; *inventory_shrank*
    allows an inventory that names far fewer hosts than it did. A run that is not
    *carried_out* is no concern of those who have frozen the app.

    Raises:
        ConfigError: The plan is wrong or asks for something that this version lacks.
        UnknownRevision: A source has no such revision.
        PlanError: The goal cannot be reached on this plan, or no host is chosen.
        StoreError: The store cannot be read, or takes no package that is to be built.
    """
    plan_one = partial(
        _plan_one,
        goal=goal,
        reach=reach,
        limit=limit,
        wait=wait,
        break_lock=break_lock,
        actor=actor,
        reason=reason,
        inventory_shrank=inventory_shrank,
        carried_out=carried_out,
        observe=observe,
    )
    spec = await plan_one(plan, store=store, inventory=inventory, balancer=balancer)
    if not isinstance(goal, Swap):
        return spec
    return paired(goal, spec, await plan_one(goal.other, store=partner_store))


async def _plan_one(
    plan: Plan,
    *,
    goal: Goal,
    reach: Reach,
    limit: Sequence[str],
    wait: float,
    break_lock: bool,
    actor: str,
    reason: str,
    inventory_shrank: bool,
    carried_out: bool,
    observe: Observer | None,
    store: Store | None = None,
    inventory: Inventory | None = None,
    balancer: Balancer | None = None,
) -> RunSpec:
    """Return the spec of a run on one plan; as :func:`plan_run`."""
    basis = await begin(plan, inventory, store, observe)
    plan = basis.plan
    if carried_out and not (goal.recalls or goal.only_back):
        await _require_thawed(basis)
    exempt = limit or goal.recalls or goal.only_back or inventory_shrank
    if not exempt:
        await require_no_shrunk(basis)
    task = await _task(basis, goal, limit, reach)
    if carried_out and goal.builds:
        await require_writable(basis.store)
    # Nobody is kept from going back: then MANIFEST stays, and the run says so.
    signs = goal.moves_manifest or isinstance(goal, Swap)
    if carried_out and signs and not (goal.recalls or goal.only_back):
        await require_signing(basis.store)
    # Asked here and not with the plan: looks need no secrets, and nor does a rollback,
    # for hosts have them.
    if not task.goal.recalls and (problems := check_secrets(plan, basis.environ)):
        raise ConfigError(problems)
    _require_addresses(basis)
    actor = actor or this_user(basis.environ)
    balancer = balancer or balancer_of(plan)
    needed, told = await _balancer_seconds(plan, task.goal, balancer)
    spec = RunSpec(
        id=basis.id,
        goal=task.goal,
        plan=with_deadlines(plan, needed),
        environ=basis.environ,
        store=basis.store,
        store_url=basis.store_url,
        store_id=basis.store_id,
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
        secrets={
            name: basis.environ[name]
            for name in plan.app.secrets
            if name in basis.environ
        },
        old_secrets=await _old_secrets(basis, task),
        follows=task.follows,
        killed=task.killed,
        warnings=(*task.warnings, *told, *_plain_secrets(basis)),
        stranded=await still_stranded(basis.store.runs),
        inventory=basis.inventory,
        active=basis.active,
        joined=task.joined,
        balancer=balancer,
        balancer_seconds=needed,
        way_back=task.way_back,
        partner=None,
    )
    if not goal.stays:
        leave_enough(plan, spec.fleet)
    return spec


def _require_addresses(basis: Basis) -> None:
    """
    Do nothing, unless hosts are to fetch from a store that they cannot reach.

    Raises:
        PlanError: They are.
    """
    word = basis.plan.rollout.transfer
    if word != "push" and not isinstance(basis.store.packages, AddressedPackages):
        url = basis.store.url
        raise PlanError(
            f'rollout.transfer: "{word}", but hosts reach no store at {url}'
        )


async def plan_look(
    plan: Plan,
    *,
    reach: Reach,
    limit: Sequence[str] = (),
    store: Store | None = None,
    inventory: Inventory | None = None,
) -> RunSpec:
    """
    Return the spec of a look at the fleet of *plan*: no source is asked.

    Raises:
        ConfigError: The plan is wrong or asks for something that this version lacks.
        PlanError: No host is chosen.
        StoreError: The store cannot be read.
    """
    basis = await begin(plan, inventory, store)
    plan = basis.plan
    chosen, _ = wanted(plan)
    hosts, _ = await choose_hosts(basis, limit, reach)
    hosts, modules = place(hosts, chosen, basis.hosts_of_module)
    limited = leaves_out(basis.plan, basis.hosts_of_module, hosts, modules)
    return spec_of_look(basis, hosts, modules, limited=limited)


def open_transport(plan: Plan, environ: Mapping[str, str]) -> Transport:
    """Return the transport to the plan's hosts; no host is contacted yet."""
    # Importing asyncssh and parsing keys take a quarter of a second, which a command
    # that meets no host should not pay.
    from ..transports.ssh import SshTransport

    settings = ssh_files(plan.ssh, plan.base, environ)
    seconds = plan.rollout.deadlines.connect
    return SshTransport(settings, login_seconds=seconds, environ=environ)


async def _require_thawed(basis: Basis) -> None:
    """
    Do nothing, unless a person has frozen the app.

    Raises:
        Frozen: The text says who, from where, since when and why.
    """
    freeze = await basis.store.frozen()
    if freeze is not None and not 0 < freeze.until < time.time():
        raise Frozen(f"{freeze.text}; ghostasync unlock ends it")


async def _task(basis: Basis, goal: Goal, limit: Sequence[str], reach: Reach) -> Task:
    """Return the task that *goal* amounts to on this plan."""
    match goal:
        case Deploy() | Redeploy() | Converge() | Execute():
            chosen = await _chosen(basis, goal)
            return await _forward(basis, goal, chosen, limit, reach)
        case Swap():
            return await _swap(basis, goal, limit, reach)
        case Rollback():
            return await plan_rollback(basis, goal, limit, reach)
        case Resume() | Revert():
            # Hosts outside of a limit would stay half deployed, with the run called
            # over.
            if limit:
                raise PlanError("limit: a killed run is taken up on the hosts it had")
            return await plan_resume(basis, goal, reach)


async def _chosen(
    basis: Basis, goal: Deploy | Redeploy | Converge | Execute
) -> tuple[Sequence[Module], Mapping[str, str]]:
    """Return the modules of a run, and the packages of those that are stored."""
    match goal:
        case Deploy(modules=modules, rev=rev, packages=packages):
            ids = await whole_ids(basis, packages)
            return wanted(basis.plan, modules=modules, rev=rev, packages=ids)
        case Redeploy(packages=packages):
            return wanted(basis.plan, packages=await packages_of(basis, packages))
        case Converge():
            return in_manifest(basis.plan, basis.manifest)
        case Execute(script=text, module=name):
            if why := flaw(text.encode("utf-8", "surrogateescape"), ""):
                raise PlanError(f"exec: the script: {why}")
            return served(basis.plan, basis.manifest, name)


async def _swap(basis: Basis, goal: Swap, limit: Sequence[str], reach: Reach) -> Task:
    """Return one color's part of a swap: the hosts that have something deployed."""
    if limit:
        raise PlanError("limit: a swap is of all hosts of both colors")
    # A color without anything deployed gets no visitors, and has none to lose.
    if not basis.manifest:
        return Task(goal=goal, hosts=(), modules=(), limited=False)
    chosen = in_manifest(basis.plan, basis.manifest)
    return await _forward(basis, goal, chosen, limit, reach)


async def _forward(
    basis: Basis,
    goal: Goal,
    chosen: tuple[Sequence[Module], Mapping[str, str]],
    limit: Sequence[str],
    reach: Reach,
) -> Task:
    """Return a task that brings *chosen* modules, as packages where named, to hosts."""
    modules, packages = chosen
    hosts, warnings = await choose_hosts(basis, limit, reach)
    hosts, modules = place(hosts, modules, basis.hosts_of_module)
    to_do = [await to_deploy(basis, goal, m, packages.get(m.name, "")) for m in modules]
    return Task(
        goal=goal,
        hosts=hosts,
        modules=tuple(to_do),
        limited=leaves_out(basis.plan, basis.hosts_of_module, hosts, modules),
        warnings=(*basis.warnings, *warnings),
    )


async def _balancer_seconds(
    plan: Plan, goal: Goal, balancer: Balancer | None
) -> tuple[Mapping[str, float], tuple[str, ...]]:
    """
    Return how long a balancer takes by its own settings, and what is wrong with that.

    Raises:
        PlanError: It cannot be asked, or the plan gives it less, on a way forward.
    """
    try:
        needed = await seconds_of(balancer)
        with_deadlines(plan, needed)
    except PlanError as exc:
        # A balancer that is away must not keep hosts on a release that is condemned.
        if not (goal.recalls or goal.only_back):
            raise
        return {}, (str(exc),)
    return needed, ()


def _plain_secrets(basis: Basis) -> Iterator[str]:
    """Yield a warning of secrets that stay in what is shown and logged."""
    values = {name: basis.environ.get(name, "") for name in basis.plan.app.secrets}
    plain = [n for n, value in values.items() if 0 < len(value.strip()) < SHORTEST]
    if plain:
        yield (
            f"app.secrets: {', '.join(plain)}: not blotted out of what is shown and "
            f"logged: under {SHORTEST} characters"
        )


async def _old_secrets(basis: Basis, task: Task) -> tuple[str, ...]:
    """Return the secrets of the releases whose scripts this run may have to run."""
    # On a way back the old post-deploy runs with the environment of its own release: a
    # secret that has been changed since may be printed, and must be redacted as well.
    ids = {line.package for line in basis.manifest}
    ids.update(module.package for module in task.modules if module.package)
    if task.killed:
        ids.update(filter(None, task.killed.manifest.values()))
    secrets: list[str] = []
    for package in sorted(ids):
        kept = await basis.store.manifest.environment(package)
        if kept is not None:
            known, app = kept.variables, basis.plan.app
            secrets += secret_values(known.items(), kept.secrets, app.env_vars)
            secrets += [known.get(name, "") for name in app.secrets]
    urls = (*_values(basis.plan, basis.environ), *secrets)
    words = [word for text in urls for word in credentials_in(text)]
    # A short word of a URL, such as "git", would blot out too much.
    return (*secrets, *(word for word in words if len(word) >= SHORTEST))


def _values(plan: Plan, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the texts of a plan that scripts see, or fetch by, and print perhaps."""
    yield from plan.app.env_vars.values()
    yield from (environ.get(name, "") for name in plan.app.secrets)
    for module in plan.modules:
        yield module.verify.url
        if isinstance(module.source, GitSource):
            yield module.source.git
