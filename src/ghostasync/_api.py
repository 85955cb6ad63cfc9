"""
What people call: the only place that puts the parts together and picks defaults.

Nothing here touches what is process-wide: signals, limits, logging, the executor.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial

import anyio
import attrs

from ._engine.waves import allowed, cut
from ._planning.balancer import balancer_of
from ._planning.earlier_release import before
from ._planning.inventory import with_hosts
from ._planning.modules import Selection
from ._planning.open_files import require
from ._planning.spec import Assembly, assemble, open_transport, survey
from ._run.notify import notifiers_of
from ._run.run import Run
from .errors import DeployFailed
from .model import Action, Package, Plan, Report, Revision
from .protocols import Balancer, Inventory, Notifier, Observer, Transport
from .survey.check import Finding, find
from .survey.status import FleetStatus, compare

__all__ = [
    "Preview",
    "build",
    "check",
    "converge",
    "deploy",
    "dry_run",
    "resume",
    "rollback",
    "start",
    "status",
]


@attrs.frozen
class Preview:
    """
    What a deploy would do, found out without contacting a host.

    *modules* map names to revisions, or to package ids; *waves* hold host names;
    *allowed* is how many hosts may fail.
    """

    modules: Mapping[str, Revision | str]
    waves: tuple[tuple[str, ...], ...]
    allowed: int


_CLOSING = 5.0
"""Seconds that shared connections get to close."""


@contextlib.asynccontextmanager
async def start(
    plan: Plan,
    *,
    selection: Selection = Selection(),
    observe: Observer | None = None,
    actor: str = "",
    reason: str = "",
    action: Action = Action.DEPLOY,
    hosts: Sequence[str] = (),
    transport: Transport | None = None,
    inventory: Inventory | None = None,
    balancer: Balancer | None = None,
    notifiers: Sequence[Notifier | str] = (),
    on_cancel: str = "rollback",
) -> AsyncGenerator[Run]:
    """
    Start a run and let it go on beside the body; leaving the body waits for its end.

    Args:
        plan: What goes where.

        selection: What of it this run is about.

        observe: Called with every record, in order, on the event loop. Must not block;
            one that raises is dropped and logged.

        actor: Who deploys; scripts see it as ``GHOST_MODULE_USER``. The login by
            default.

        reason: Why, for the journal.

        action: What the run is for; a resumption and a rollback find out from
            *selection* and earlier runs what to do.

        hosts: Further expressions that choose hosts, as in *selection*.

        transport: Who reaches the hosts; SSH by default.

        inventory: Who names the hosts; by default the plan, or whom that names.

        balancer: Who sends visitors to hosts; by default whom the plan names.

        notifiers: Told of the report at the end, or the names of such plug-ins.

        on_cancel: ``"rollback"``: an exception in the body, or its cancellation, puts
            every link back first. ``"detach"``: the run goes on to its own end first.

    Raises:
        PlanError: The plan cannot be carried out. No host was contacted.
        StoreError: The store cannot be used.
    """
    plan, asked = await with_hosts(plan, inventory)
    told, balancer = notifiers_of(notifiers, plan), balancer or balancer_of(plan)
    if action is Action.ROLLBACK:
        looks = min(len(plan.hosts), plan.rollout.concurrency)
        reach = partial(_carrier, plan, transport, looks)
        selection = await before(plan, selection, reach)
    parts = await assemble(
        plan, selection, action=action, actor=actor, reason=reason, hosts=hosts
    )
    failure: BaseException | None = None
    async with _carrier(plan, transport, len(parts.hosts)) as carrier:
        run = Run(
            parts,
            carrier,
            observe,
            inventory=asked,
            balancer=balancer,
            notifiers=told,
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_carry, run, on_cancel)
            try:
                yield run
                await run.wait()
            except BaseException as exc:  # noqa: BLE001  raised again below
                failure = exc
                tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


@contextlib.asynccontextmanager
async def _carrier(
    plan: Plan, transport: Transport | None, connections: int
) -> AsyncGenerator[Transport]:
    """Hand out *transport*, or one of our own that is closed again."""
    if transport is not None:
        yield transport
        return
    require(plan.ssh, connections)
    own = open_transport(plan)
    try:
        yield own
    finally:
        with anyio.move_on_after(_CLOSING, shield=True):
            await own.aclose()


def _looks(parts: Assembly) -> int:
    """Return how many hosts are looked at together: those connections do not stay."""
    return min(len(parts.hosts), parts.plan.rollout.concurrency)


async def _carry(run: Run, on_cancel: str) -> None:
    with anyio.CancelScope(shield=on_cancel == "detach"):
        await run.main()


async def deploy(
    plan: Plan,
    *,
    selection: Selection = Selection(),
    observe: Observer | None = None,
    actor: str = "",
    reason: str = "",
    transport: Transport | None = None,
    inventory: Inventory | None = None,
    balancer: Balancer | None = None,
    notifiers: Sequence[Notifier | str] = (),
    on_cancel: str = "rollback",
) -> Report:
    """
    Put one release on every host of *plan*, wave by wave.

    Arguments are those of :func:`start`. Cancelling puts every link back first.

    Returns:
        One row per host, in plan order; sizes in bytes, durations in seconds.

    Raises:
        PlanError: The plan cannot be carried out. No host was contacted.
        DeployFailed: More hosts failed than allowed; ``.report`` says which and why.

    Source: Ghost's pipeline; rename(2) for the switch.
    """
    begun = start(
        plan,
        selection=selection,
        observe=observe,
        actor=actor,
        reason=reason,
        transport=transport,
        inventory=inventory,
        balancer=balancer,
        notifiers=notifiers,
        on_cancel=on_cancel,
    )
    return await _to_its_end(begun)


async def converge(
    plan: Plan,
    *,
    hosts: Sequence[str] = (),
    observe: Observer | None = None,
    actor: str = "",
    transport: Transport | None = None,
) -> Report:
    """
    Bring hosts to what MANIFEST says, from stored packages; those in line are left.

    Pre- and post-deploy only, never the buildpack, never after_all_deploy: what a host
    that autoscaling added needs.

    Args:
        plan: What goes where.

        hosts: Names or expressions as for ``--limit``; all hosts by default.

        observe: As for :func:`start`.

        actor: As for :func:`start`.

        transport: As for :func:`start`.

    Raises:
        PlanError: MANIFEST is empty, or no host is chosen.
        DeployFailed: More hosts failed than allowed.
    """
    begun = start(
        plan,
        observe=observe,
        actor=actor,
        action=Action.CONVERGE,
        hosts=hosts,
        transport=transport,
    )
    return await _to_its_end(begun)


async def resume(
    plan: Plan,
    *,
    run: str = "",
    revert: bool = False,
    observe: Observer | None = None,
    actor: str = "",
    transport: Transport | None = None,
    on_cancel: str = "rollback",
) -> Report:
    """
    Finish a run whose controller was killed, or take back what it did.

    Hosts that it brought live are left alone, those that are ready are sent nothing
    again. One that was on its way back is taken the rest of that way.

    Args:
        plan: What goes where.

        run: The run's id; the newest that is unfinished by default.

        revert: Put every host back to what it served before that run.

        observe: As for :func:`start`.

        actor: As for :func:`start`.

        transport: As for :func:`start`.

        on_cancel: As for :func:`start`.

    Raises:
        PlanError: There is no such run, or nothing is left to do.
        DeployFailed: More hosts failed than allowed; with *revert*, any did.
    """
    begun = start(
        plan,
        selection=Selection(run=run, revert=revert),
        observe=observe,
        actor=actor,
        action=Action.RESUME,
        transport=transport,
        on_cancel=on_cancel,
    )
    return await _to_its_end(begun)


async def rollback(
    plan: Plan,
    *,
    run: str = "",
    to: Sequence[str] = (),
    limit: Sequence[str] = (),
    observe: Observer | None = None,
    actor: str = "",
    reason: str = "",
    transport: Transport | None = None,
    on_cancel: str = "rollback",
) -> Report:
    """
    Take the fleet back to an earlier release, on the road of a deploy.

    Hosts that lack the release are sent it. MANIFEST moves, unless hosts are chosen.

    Args:
        plan: What goes where.

        run: Go back to what served before this run; before the one that brought what
            serves now by default.

        to: Or to these releases, one for each module that goes back.

        limit: Expressions that choose hosts.

        observe: As for :func:`start`.

        actor: As for :func:`start`.

        reason: As for :func:`start`.

        transport: As for :func:`start`.

        on_cancel: As for :func:`start`.

    Raises:
        PlanError: There is no release to go back to, or hosts had different ones.
        DeployFailed: More hosts failed than allowed.
    """
    begun = start(
        plan,
        selection=Selection(packages=tuple(to), limit=tuple(limit), run=run),
        observe=observe,
        actor=actor,
        reason=reason,
        action=Action.ROLLBACK,
        transport=transport,
        on_cancel=on_cancel,
    )
    return await _to_its_end(begun)


async def _to_its_end(begun: AbstractAsyncContextManager[Run]) -> Report:
    """
    Carry out a run and return its report.

    Raises:
        DeployFailed: It did not end as it should.
    """
    async with begun as run:
        report = await run.report()
    if report.exit_status:
        raise DeployFailed(report)
    return report


async def build(
    plan: Plan,
    *,
    selection: Selection = Selection(),
    observe: Observer | None = None,
    actor: str = "",
) -> dict[str, Package]:
    """
    Fetch, build, package and store, and stop there; no host is contacted.

    Returns:
        Module names to packages, in app order.

    Raises:
        PlanError: The plan cannot be carried out.
        SourceError, BuildError, PackageError, StoreError: It could not be built.
    """
    plan, _ = await with_hosts(plan)
    parts = await assemble(plan, selection, action=Action.DEPLOY, actor=actor)
    return await Run(attrs.evolve(parts, hosts=()), None, observe).build_only()


async def dry_run(
    plan: Plan,
    *,
    selection: Selection = Selection(),
    inventory: Inventory | None = None,
) -> Preview:
    """
    Say what a deploy would do; sources are asked, hosts are not.

    Raises:
        PlanError: The plan cannot be carried out.
        SourceError: A source could not be asked.
    """
    plan, _ = await with_hosts(plan, inventory)
    parts = await assemble(plan, selection, action=Action.DEPLOY)
    for job in parts.jobs:
        if job.error is not None:
            raise job.error
    rollout = plan.rollout
    waves = cut(parts.hosts, rollout.waves, rollout.spread_by)
    return Preview(
        modules={job.module.name: job.package or job.revision for job in parts.jobs},
        waves=tuple(tuple(host.name for host in wave) for wave in waves),
        allowed=allowed(rollout.max_failures, len(parts.hosts)),
    )


async def check(
    plan: Plan,
    *,
    selection: Selection = Selection(),
    transport: Transport | None = None,
    inventory: Inventory | None = None,
) -> tuple[Finding, ...]:
    """
    Look at every host with the deploy's own eyes; nothing that lasts is changed.

    Returns:
        What would keep a host from taking the plan, in plan order.

    Raises:
        PlanError: The plan cannot be carried out.
    """
    plan, _ = await with_hosts(plan, inventory)
    parts = await assemble(plan, selection, action=Action.DEPLOY)
    async with _carrier(plan, transport, _looks(parts)) as carrier:
        return await find(parts, carrier)


async def status(
    plan: Plan,
    *,
    selection: Selection = Selection(),
    transport: Transport | None = None,
    inventory: Inventory | None = None,
) -> FleetStatus:
    """
    Compare what hosts serve with what MANIFEST says; takes no lock.

    Raises:
        PlanError: The plan cannot be carried out.
        StoreError: The store cannot be read.
    """
    plan, _ = await with_hosts(plan, inventory)
    parts = await survey(plan, selection)
    async with _carrier(plan, transport, _looks(parts)) as carrier:
        return await compare(parts, carrier)
