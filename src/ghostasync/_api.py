"""
The functions that people call: here the parts are put together and defaults picked.

Each function makes a goal, has planning turn plan and goal into the spec of a run, and
hands that to a :class:`Run`. The caller's process belongs to the caller, so signals,
limits, logging and the executor are left alone; only the command line touches them.

One file, though long: two thirds are docstrings, and users find every function here.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Literal, ParamSpec, TypedDict, TypeVar, Unpack, cast

import anyio
import attrs

from ._engine.spec import PastRelease, RunSpec
from ._planning.basis import open_store, this_user
from ._planning.boot import boot_facts
from ._planning.open_files import require
from ._planning.spec import open_transport, plan_look, plan_run
from ._remote.boot import boot_text, unit, user_data
from ._run.freeze import freeze_hosts
from ._run.notify import notifiers_of
from ._run.run import Run
from .errors import DeployFailed, PlanError
from .goal import (
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
from .history.chain import broken
from .model import Host, Package, Plan, Report
from .protocols import (
    Balancer,
    BootStore,
    Freeze,
    Inventory,
    Notifier,
    Observer,
    Session,
    Store,
    Transport,
)
from .survey.check import Finding, Overview, survey
from .survey.history import HistoryEntry, of_hosts, of_store
from .survey.logs import Log, read_logs
from .survey.preview import Preview, foresee
from .survey.status import FleetStatus, compare

__all__ = [
    "BackPreview",
    "OnCancel",
    "PastRelease",
    "RunOptions",
    "boot_script",
    "boot_unit",
    "boot_user_data",
    "build",
    "check",
    "converge",
    "deploy",
    "dry_run",
    "execute",
    "freeze",
    "logs",
    "overview",
    "past_runs",
    "preview_rollback",
    "redeploy",
    "resume",
    "revert",
    "rollback",
    "start",
    "status",
    "swap",
    "unfreeze",
    "verify_history",
]


_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")

OnCancel = Literal["rollback", "detach"]
"""
The end of a run whose caller fails or is cancelled: the run puts every link back, or
goes on to its own end.
"""


@attrs.frozen
class BackPreview:
    """
    A rollback as it would go.

    *run* is undone, empty where releases were named. *to* and *serves* map hosts to
    modules to release ids: where each goes, empty where its link is removed, and what
    it serves now, where it has said so. *manifest* are the modules whose lines in
    MANIFEST go back as well. *releases* are those that hosts have on record, by module,
    the newest first.
    """

    run: str
    to: Mapping[str, Mapping[str, str]]
    serves: Mapping[str, Mapping[str, str]]
    manifest: tuple[str, ...]
    warnings: tuple[str, ...]
    releases: Mapping[str, tuple[PastRelease, ...]] = attrs.field(factory=dict)


@contextlib.asynccontextmanager
async def _store_of(plan: Plan, store: Store | None) -> AsyncGenerator[Store | None]:
    """Hand out *store*, else the plan's where that has connections to give back."""
    own = None if store else open_store(plan, os.environ)[0]
    if isinstance(own, AbstractAsyncContextManager):
        async with own:
            yield own
    else:
        yield store


@contextlib.asynccontextmanager
async def _stores_of(
    plan: Plan, goal: Goal, store: Store | None
) -> AsyncGenerator[tuple[Store | None, Store | None]]:
    """Hand out the store of a run, and in a swap that of the other color."""
    async with _store_of(plan, store) as own:
        if isinstance(goal, Swap):
            async with _store_of(goal.other, None) as others:
                yield own, others
        else:
            yield own, None


def _closing_store(
    function: Callable[_Parameters, Coroutine[None, None, _Result]],
) -> Callable[_Parameters, Coroutine[None, None, _Result]]:
    """Give a function whose first argument is a plan a store, closed at its end."""

    @functools.wraps(function)
    async def closing(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        words = cast("dict[str, Any]", kwargs)
        plan = cast("Plan", args[0] if args else words["plan"])
        async with _store_of(plan, words.get("store")) as words["store"]:
            return await function(*args, **kwargs)

    return closing


class RunOptions(TypedDict, total=False):
    """
    Options of every run: keywords of :func:`start`, and of all functions that call it.

    Keys:
        limit: Expressions that choose hosts, as for ``--limit``: the terms of one must
            all hold, several add up. All hosts by default; a killed run is taken up on
            the hosts that it had.

        wait: Seconds to wait for another run that holds a host; 0 ends the run at once,
            with outcome ``locked``.

        break_lock: Take hosts that another run holds, and end what it runs there.

        actor: The person or job that deploys; scripts see it as ``GHOST_MODULE_USER``.
            By default the login; in a CI job who started it, and where it is.

        reason: A sentence for the journal.

        inventory_shrank: Take an inventory as it is that names fewer than 80 % of the
            hosts of the last whole run.

        observe: Called with every record, in order, on the event loop. Must not block;
            an observer that raises is dropped and logged.

        transport: The way to the hosts; SSH by default.

        store: The home of packages, MANIFEST and runs; the plan's by default.

        inventory: The source of the hosts; by default the plan or the inventory that it
            names.

        balancer: The plug-in that takes hosts out of balancers; the plan's by default.

        notifiers: Plug-ins, or their names, that are given the report at the end.

        on_cancel: ``"rollback"``: an exception in the body of :func:`start`, or its
            cancellation, puts every link back first. ``"detach"``: the run goes on to
            its own end first.
    """

    limit: Sequence[str]
    wait: float
    break_lock: bool
    actor: str
    reason: str
    inventory_shrank: bool
    observe: Observer | None
    transport: Transport | None
    store: Store | None
    inventory: Inventory | None
    balancer: Balancer | None
    notifiers: Sequence[Notifier | str]
    on_cancel: OnCancel


_CLOSING = 5.0
"""Seconds that shared connections get to close."""


# --- Runs ------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def start(
    plan: Plan,
    goal: Goal = Deploy(),
    *,
    limit: Sequence[str] = (),
    wait: float = 0.0,
    break_lock: bool = False,
    actor: str = "",
    reason: str = "",
    inventory_shrank: bool = False,
    observe: Observer | None = None,
    transport: Transport | None = None,
    store: Store | None = None,
    inventory: Inventory | None = None,
    balancer: Balancer | None = None,
    notifiers: Sequence[Notifier | str] = (),
    on_cancel: OnCancel = "rollback",
) -> AsyncGenerator[Run]:
    """
    Start a run and let it go on beside the body; leaving the body waits for its end.

    The keywords are told at :class:`RunOptions`.

    Args:
        plan: What goes where.

        goal: What the run is for.

        limit: See there, and so are the others.

        wait: In seconds.

        break_lock: See there.

        actor: See there.

        reason: See there.

        inventory_shrank: See there.

        observe: See there.

        transport: See there.

        store: See there.

        inventory: See there.

        balancer: See there.

        notifiers: See there.

        on_cancel: See there.

    Raises:
        PlanError: The goal cannot be reached on this plan. No host was changed.
        StoreError: The store cannot be used.
    """
    # A notifier that does not exist is told of before anything else is done.
    told = notifiers_of(notifiers, plan)
    failure: BaseException | None = None
    async with _stores_of(plan, goal, store) as (store, partner_store):  # noqa: PLR1704
        spec = await plan_run(
            plan,
            goal,
            reach=partial(_look_through, transport),
            limit=limit,
            wait=wait,
            break_lock=break_lock,
            actor=actor,
            reason=reason,
            inventory_shrank=inventory_shrank,
            store=store,
            inventory=inventory,
            balancer=balancer,
            partner_store=partner_store,
            observe=observe,
        )
        async with _carrier_of_run(spec, transport) as carrier:
            run = Run(spec, carrier, observe, told)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_carry, run, on_cancel)
                try:
                    yield run
                    await run.wait()
                except BaseException as exc:  # noqa: BLE001  raised again below
                    # The run takes its way back, or goes on to its end, inside the
                    # group: only then may the caller have the exception, and without
                    # the group's wrapping.
                    failure = exc
                    tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def deploy(
    plan: Plan,
    *,
    modules: Sequence[str] = (),
    rev: str = "",
    packages: Sequence[str] = (),
    force: bool = False,
    back: bool = False,
    why: bool = False,
    **options: Unpack[RunOptions],
) -> Report:
    """
    Put one release on every host of *plan*, wave by wave.

    Cancelling puts every link back first.

    Args:
        plan: What goes where.

        modules: Names, or ``name@rev``; all by default.

        rev: A branch, tag or commit instead of the configured one; for one repository.

        packages: Stored packages to take instead of building, each by its id, its
            commit, or how one begins.

        force: Build and deploy again what is unchanged.

        back: Deploy a commit all the same that is older than what serves.

        why: Say by what each release differs from the one that hosts serve; the event
            is ``Differs``.

        **options: See :class:`RunOptions`.

    Returns:
        One row per host, in plan order; sizes in bytes, durations in seconds.

    Raises:
        PlanError: The plan cannot be carried out. No host was contacted.
        DeployFailed: More hosts failed than allowed; ``.report`` says which and why.

    Source: Ghost's pipeline; rename(2) for the switch.
    """
    goal = Deploy(modules, rev, packages, force, back, why)
    return await _to_its_end(start(plan, goal, **options))


async def redeploy(
    plan: Plan,
    packages: Sequence[str],
    *,
    force: bool = False,
    **options: Unpack[RunOptions],
) -> Report:
    """
    Bring packages from the store to every host of *plan*, wave by wave.

    Nothing is built; all else goes as in :func:`deploy`, after_all_deploy included. An
    older commit is no reason to refuse: who names a package knows which one it is.

    Args:
        plan: What goes where.

        packages: Packages, one for each module, each by its id, its commit, or how one
            begins. A run, by its id or how that begins, stands for all packages that it
            had released, however it ended.

        force: Deploy again what is unchanged.

        **options: See :class:`RunOptions`.

    Returns:
        As :func:`deploy`.

    Raises:
        PlanError: A word names nothing, or several; or a package was pruned.
        DeployFailed: More hosts failed than allowed.
    """
    return await _to_its_end(start(plan, Redeploy(packages, force), **options))


async def converge(plan: Plan, **options: Unpack[RunOptions]) -> Report:
    """
    Bring hosts to what MANIFEST says, from stored packages; those in line are left.

    Pre- and post-deploy only, never the buildpack, never after_all_deploy: what a host
    that autoscaling added needs.

    Args:
        plan: What goes where.

        **options: See :class:`RunOptions`.

    Returns:
        As :func:`deploy`.

    Raises:
        PlanError: MANIFEST is empty, or no host is chosen.
        DeployFailed: More hosts failed than allowed.
    """
    return await _to_its_end(start(plan, Converge(), **options))


async def execute(
    plan: Plan, script: str, *, module: str = "", **options: Unpack[RunOptions]
) -> Report:
    """
    Run *script* on hosts, wave by wave, each in the release that it serves.

    It gets the variables of the release that MANIFEST names, and the user and the
    deadline of post_deploy. Nothing is moved or taken back, and a script whose
    connection is lost is not repeated. What was printed is in events, and whole in
    :func:`logs`; hosts where all went well end UNCHANGED.

    Args:
        plan: What is where.

        script: Its text; without a first line ``#!`` it is for /bin/sh.

        module: The module; may be left out where the plan has one.

        **options: See :class:`RunOptions`.

    Returns:
        As :func:`deploy`.

    Raises:
        PlanError: There is no such module, MANIFEST does not name it, or no host is
            chosen.
        DeployFailed: More hosts failed than allowed.
    """
    return await _to_its_end(start(plan, Execute(script, module), **options))


async def swap(
    plan: Plan, other: Plan, *, to: str = "", **options: Unpack[RunOptions]
) -> Report:
    """
    Have the other color be the active one; by the same way it goes back again.

    The hosts of that color must serve what MANIFEST says and be healthy. They are put
    into their balancers, the store's record of the active color moves, and the hosts of
    the other one are taken out. Whatever fails before the record has moved is taken
    back.

    Args:
        plan: One color; the run is on record in its store.

        other: The other color.

        to: The color that is to be active; by default the one that is not. Where it is
            active, what an earlier swap has left is done.

        **options: See :class:`RunOptions`; without *limit*. *store*, *inventory* and
            *balancer* are those of *plan*.

    Returns:
        As :func:`deploy`, with the hosts of both colors; they end UNCHANGED.

    Raises:
        PlanError: The two are no colors of one app, or one of them has no MANIFEST.
        DeployFailed: The color is not active, or hosts may get visitors still.
    """
    return await _to_its_end(start(plan, Swap(other, to), **options))


async def resume(plan: Plan, *, run: str = "", **options: Unpack[RunOptions]) -> Report:
    """
    Finish a run whose controller was killed.

    Hosts that it brought live are left alone, those that are ready are sent nothing
    again. A run that was on its way back is taken the rest of that way.

    Args:
        plan: What goes where.

        run: The run, by how its id begins; the newest that is unfinished by default.

        **options: See :class:`RunOptions`; without *limit*.

    Returns:
        As :func:`deploy`.

    Raises:
        NothingToResume: Nothing of it is left to do.
        PlanError: There is no such run.
        DeployFailed: More hosts failed than allowed.
    """
    return await _to_its_end(start(plan, Resume(run), **options))


async def revert(plan: Plan, *, run: str = "", **options: Unpack[RunOptions]) -> Report:
    """
    Put every host back to what it served before a run whose controller was killed.

    Args:
        plan: What goes where.

        run: The run, by how its id begins; the newest that is unfinished by default. A
            run whose journal is lost is named by its whole id, and taken back by the
            records that hosts keep.

        **options: See :class:`RunOptions`; without *limit*.

    Returns:
        As :func:`deploy`.

    Raises:
        PlanError: There is no such run, or it has ended.
        DeployFailed: A host could not be put back.
    """
    return await _to_its_end(start(plan, Revert(run), **options))


async def rollback(
    plan: Plan,
    *,
    run: str = "",
    to: Sequence[str] = (),
    remove: bool = False,
    recorded_secrets: bool = False,
    force: bool = False,
    **options: Unpack[RunOptions],
) -> Report:
    """
    Undo a run: take the hosts that it moved to what they served before.

    Hosts know themselves what that was, so no store is needed for a release that they
    have; a host that lacks it is sent it. Where MANIFEST names what is left, it moves
    before the first host does. A host that is out of reach stops no other.

    Args:
        plan: What goes where.

        run: The run to undo, or how its id begins; the newest that stands by default.

        to: Go to these releases instead, one for each module, by their ids, commits, or
            how these begin; not with *run*.

        remove: Remove the links of modules that the run had brought.

        recorded_secrets: Have scripts see the secrets that the release had; else those
            of the caller, and where these are not set, the newest that the host has.

        force: Go back past a before_switch that has no way back, ``no_return``.

        **options: See :class:`RunOptions`.

    Returns:
        As :func:`deploy`.

    Raises:
        PlanError: There is nothing to go back to, or both *run* and *to* are given.
        DeployFailed: A host could not go back, or was out of reach.
    """
    goal = Rollback(run, to, remove, recorded_secrets, force)
    return await _to_its_end(start(plan, goal, **options))


@_closing_store
async def preview_rollback(
    plan: Plan,
    *,
    run: str = "",
    to: Sequence[str] = (),
    remove: bool = False,
    force: bool = False,
    limit: Sequence[str] = (),
    transport: Transport | None = None,
    store: Store | None = None,
    inventory: Inventory | None = None,
) -> BackPreview:
    """
    Say what a rollback would do; hosts are looked at, and nothing is changed.

    Args:
        plan: What goes where.

        run: As for :func:`rollback`.

        to: As for :func:`rollback`.

        remove: As for :func:`rollback`.

        force: As for :func:`rollback`.

        limit: As in :class:`RunOptions`.

        transport: As in :class:`RunOptions`.

        store: As in :class:`RunOptions`.

        inventory: As in :class:`RunOptions`.

    Raises:
        PlanError: As :func:`rollback` does.
    """
    spec = await plan_run(
        plan,
        Rollback(run, to, remove, past_migrations=force),
        reach=partial(_look_through, transport),
        limit=limit,
        store=store,
        inventory=inventory,
    )
    if (back := spec.way_back) is None:
        raise RuntimeError("a rollback without a way back")
    return BackPreview(
        run=spec.follows,
        to=back.to,
        serves=back.serves,
        manifest=tuple(sorted(back.manifest)),
        warnings=spec.warnings,
        releases=back.releases,
    )


# --- A freeze ----------------------------------------------------------------------


@_closing_store
async def freeze(
    plan: Plan,
    reason: str,
    *,
    until: float = 0.0,
    actor: str = "",
    transport: Transport | None = None,
    store: Store | None = None,
    inventory: Inventory | None = None,
) -> Mapping[str, str]:
    """
    Have nothing deployed until :func:`unfreeze`: in the store, and on every host.

    A rollback and :func:`revert` are carried out all the same.

    Args:
        plan: The app.

        reason: Why, for those who are stopped by it.

        until: The end, as a POSIX time in seconds; 0: it has none.

        actor: As in :class:`RunOptions`.

        transport: As in :class:`RunOptions`.

        store: As in :class:`RunOptions`.

        inventory: As in :class:`RunOptions`.

    Returns:
        Why hosts could not be frozen, by their names; the store stops a run on them.

    Raises:
        PlanError: There is no reason, or the plan is wrong.
        StoreError: The store cannot be written.
    """
    if not reason.strip():
        raise PlanError("lock: say why, --reason TEXT: others will read it")
    who, where = actor or this_user(os.environ), socket.gethostname()
    try:
        wanted = Freeze(who, where, reason, time.time(), until)
    except ValueError as error:
        raise PlanError(f"lock: {error}") from None
    return await _freeze(plan, wanted, transport, store, inventory)


@_closing_store
async def unfreeze(
    plan: Plan,
    *,
    transport: Transport | None = None,
    store: Store | None = None,
    inventory: Inventory | None = None,
) -> Mapping[str, str]:
    """
    End a freeze, whoever has asked for it.

    Args:
        plan: The app.

        transport: As in :class:`RunOptions`.

        store: As in :class:`RunOptions`.

        inventory: As in :class:`RunOptions`.

    Returns:
        Why hosts are frozen still, by their names.

    Raises:
        StoreError: The store cannot be written.
    """
    return await _freeze(plan, None, transport, store, inventory)


async def _freeze(
    plan: Plan,
    wanted: Freeze | None,
    transport: Transport | None,
    store: Store | None,
    inventory: Inventory | None,
) -> Mapping[str, str]:
    reach = partial(_look_through, transport)
    spec = await plan_look(plan, reach=reach, store=store, inventory=inventory)
    await spec.store.freeze(wanted)
    async with reach(spec) as carrier:
        return await freeze_hosts(spec, carrier, wanted)


# --- Without hosts, or without a change ------------------------------------------


@_closing_store
async def build(
    plan: Plan,
    *,
    modules: Sequence[str] = (),
    rev: str = "",
    force: bool = False,
    actor: str = "",
    observe: Observer | None = None,
    store: Store | None = None,
) -> dict[str, Package]:
    """
    Fetch, build, package and store, and stop there; no host is contacted.

    Args:
        plan: What goes where.

        modules: As for :func:`deploy`.

        rev: As for :func:`deploy`.

        force: Build again what is unchanged.

        actor: As in :class:`RunOptions`.

        observe: As in :class:`RunOptions`.

        store: As in :class:`RunOptions`.

    Returns:
        Module names to packages, in app order.

    Raises:
        PlanError: The plan cannot be carried out.
        SourceError, BuildError, PackageError, StoreError: It could not be built.
    """
    goal = Deploy(modules, rev, force=force)
    spec = await _plan_forward(plan, goal, actor=actor, store=store, observe=observe)
    return await Run(attrs.evolve(spec, hosts=()), None, observe).build_only()


@_closing_store
async def dry_run(
    plan: Plan,
    *,
    modules: Sequence[str] = (),
    rev: str = "",
    packages: Sequence[str] = (),
    force: bool = False,
    back: bool = False,
    redeploy: Sequence[str] = (),
    limit: Sequence[str] = (),
    inventory_shrank: bool = False,
    transport: Transport | None = None,
    store: Store | None = None,
    inventory: Inventory | None = None,
) -> Preview:
    """
    Say what a deploy would do: sources and hosts are asked, and nothing is changed.

    With *redeploy*, say what a redeploy would.

    Args:
        plan: What goes where.

        modules: As for :func:`deploy`.

        rev: As for :func:`deploy`.

        packages: As for :func:`deploy`.

        force: As for :func:`deploy`.

        back: As for :func:`deploy`.

        redeploy: The packages, as for :func:`redeploy`; with *force* alone.

        limit: As in :class:`RunOptions`.

        inventory_shrank: As in :class:`RunOptions`.

        transport: As in :class:`RunOptions`.

        store: As in :class:`RunOptions`.

        inventory: As in :class:`RunOptions`.

    Raises:
        PlanError: The plan cannot be carried out.
        SourceError: A source could not be asked.
        StoreError: The store cannot be read.
    """
    goal = Deploy(modules, rev, packages, force, back)
    spec = await _plan_forward(
        plan,
        Redeploy(redeploy, force) if redeploy else goal,
        limit=limit,
        inventory_shrank=inventory_shrank,
        transport=transport,
        store=store,
        inventory=inventory,
    )
    async with _look_through(transport, spec) as carrier:
        return await foresee(spec, carrier)


async def check(
    plan: Plan,
    *,
    limit: Sequence[str] = (),
    transport: Transport | None = None,
    store: Store | None = None,
    inventory: Inventory | None = None,
) -> tuple[Finding, ...]:
    """
    Look at every host with the deploy's own eyes; nothing that lasts is changed.

    Args:
        plan: What goes where.

        limit: As in :class:`RunOptions`.

        transport: As in :class:`RunOptions`.

        store: As in :class:`RunOptions`.

        inventory: As in :class:`RunOptions`.

    Returns:
        Findings that would keep a host from taking the plan, in plan order.

    Raises:
        PlanError: The plan cannot be carried out.
    """
    seen = await overview(
        plan, limit=limit, transport=transport, store=store, inventory=inventory
    )
    return seen.findings


@_closing_store
async def overview(
    plan: Plan,
    *,
    limit: Sequence[str] = (),
    transport: Transport | None = None,
    store: Store | None = None,
    inventory: Inventory | None = None,
) -> Overview:
    """
    Look as :func:`check` does, and say as well what is live and would be deployed.

    Args:
        plan: What goes where.

        limit: As in :class:`RunOptions`.

        transport: As in :class:`RunOptions`.

        store: As in :class:`RunOptions`.

        inventory: As in :class:`RunOptions`.

    Raises:
        PlanError: The plan cannot be carried out.
    """
    spec = await _plan_forward(
        plan,
        Deploy(),
        limit=limit,
        transport=transport,
        store=store,
        inventory=inventory,
    )
    async with _look_through(transport, spec) as carrier:
        return await survey(spec, carrier)


@_closing_store
async def status(
    plan: Plan,
    *,
    limit: Sequence[str] = (),
    transport: Transport | None = None,
    store: Store | None = None,
    inventory: Inventory | None = None,
) -> FleetStatus:
    """
    Compare what hosts serve with what MANIFEST says; takes no lock.

    Args:
        plan: What goes where.

        limit: As in :class:`RunOptions`.

        transport: As in :class:`RunOptions`.

        store: As in :class:`RunOptions`.

        inventory: As in :class:`RunOptions`.

    Raises:
        PlanError: The plan cannot be carried out.
        StoreError: The store cannot be read.
    """
    spec = await plan_look(
        plan,
        reach=partial(_look_through, transport),
        limit=limit,
        store=store,
        inventory=inventory,
    )
    async with _look_through(transport, spec) as carrier:
        return await compare(spec, carrier)


def boot_script(
    plan: Plan,
    *,
    base_url: str = "",
    group: str = "",
    hook: str = "",
    wait: int = 900,
) -> str:
    """
    Return a script for ``/bin/sh`` by which a new host gets what MANIFEST names.

    It needs no controller, and nothing in it is secret: hosts read a store in S3 with
    the role of their instance.

    Args:
        plan: What goes where; its hosts do not matter.

        base_url: Where hosts reach a store that is a folder, served by HTTP.

        group: The Auto Scaling group whose lifecycle action is completed.

        hook: The lifecycle hook of that group.

        wait: Seconds to wait for the network, the store and another run.

    Raises:
        ConfigError: The plan is wrong.
        PlanError: Hosts could not reach the store.
    """
    how = {"base_url": base_url, "group": group, "hook": hook}
    return boot_text(boot_facts(plan, os.environ, **how, wait=wait))


@_closing_store
async def boot_user_data(
    plan: Plan,
    *,
    base_url: str = "",
    group: str = "",
    hook: str = "",
    wait: int = 900,
    store: Store | None = None,
) -> str:
    """
    Return a short script, for user data, that runs the one of :func:`boot_script`.

    It fetches that one from the store, where it is kept under its digest, and takes no
    other. The arguments are those of :func:`boot_script`.

    Raises:
        ConfigError: The plan is wrong.
        PlanError: Hosts could not reach the store.
        StoreError: The store does not keep the script.
    """
    how = {"base_url": base_url, "group": group, "hook": hook}
    facts = boot_facts(plan, os.environ, **how, wait=wait)
    kept, _ = open_store(plan, os.environ, store)
    if not isinstance(kept, BootStore):
        raise PlanError(f"boot-script: the store {kept.url} keeps no scripts for hosts")
    return user_data(facts, await kept.keep_boot(os.fsencode(boot_text(facts))))


def boot_unit() -> str:
    """Return a unit of systemd for a script of :func:`boot_script`, at every boot."""
    return unit("/var/lib/ghostasync/boot")


@_closing_store
async def past_runs(
    plan: Plan,
    *,
    count: int = 20,
    transport: Transport | None = None,
    store: Store | None = None,
    inventory: Inventory | None = None,
) -> tuple[HistoryEntry, ...]:
    """
    Return the last runs, the newest first, those that failed too.

    A store that knows of no run has hosts asked for theirs.

    Args:
        plan: What goes where.

        count: How many runs.

        transport: As in :class:`RunOptions`.

        store: As in :class:`RunOptions`.

        inventory: As in :class:`RunOptions`.

    Raises:
        PlanError: The plan cannot be carried out.
        StoreError: The store cannot be read.
    """
    reach = partial(_look_through, transport)
    kept, _ = open_store(plan, os.environ, store)
    if entries := await of_store(kept, count):
        return entries
    spec = await plan_look(plan, reach=reach, store=store, inventory=inventory)
    async with reach(spec) as carrier:
        return await of_hosts(spec, carrier, count)


@_closing_store
async def verify_history(
    plan: Plan, *, store: Store | None = None
) -> tuple[int, Sequence[str]]:
    """
    Compare what each run did, by its journal, with what the next run saw of it.

    Returns:
        How many runs were compared, and what is wrong: journals that were changed, cut
        off or taken away, and runs that are missing in between.

    Raises:
        PlanError: The plan is wrong.
        StoreError: The store cannot be read.
    """
    kept, _ = open_store(plan, os.environ, store)
    return await broken(kept.runs, plan.store.keep_runs)


@_closing_store
async def logs(
    plan: Plan,
    run: str = "",
    *,
    host: str = "",
    script: str = "",
    store: Store | None = None,
) -> tuple[Log, ...]:
    """
    Return what the scripts of a run printed; no host is contacted.

    Args:
        plan: What goes where.

        run: The beginning of the run's id; the newest run by default.

        host: The output on this host alone.

        script: The output of this script alone, such as ``post_deploy``.

        store: As in :class:`RunOptions`.

    Raises:
        PlanError: There is no such run, or the host was not part of it.
        StoreError: The store cannot be read.
    """
    runs = open_store(plan, os.environ, store)[0].runs
    return await read_logs(runs, run, host=host, script=script)


# --- The parts, put together -----------------------------------------------------


async def _plan_forward(
    plan: Plan,
    goal: Deploy | Redeploy,
    *,
    limit: Sequence[str] = (),
    actor: str = "",
    inventory_shrank: bool = True,
    transport: Transport | None = None,
    store: Store | None = None,
    inventory: Inventory | None = None,
    observe: Observer | None = None,
) -> RunSpec:
    """Return the spec of a run that is not carried out on hosts."""
    return await plan_run(
        plan,
        goal,
        reach=partial(_look_through, transport),
        limit=limit,
        actor=actor,
        inventory_shrank=inventory_shrank,
        carried_out=False,
        store=store,
        inventory=inventory,
        observe=observe,
    )


def _look_through(
    transport: Transport | None, spec: RunSpec
) -> AbstractAsyncContextManager[Transport]:
    """Hand out a transport that looks at the hosts of *spec*."""
    # A look closes each connection at its end, so no more are open than work at once.
    # A run keeps one to every host and needs files for all.
    together = min(len(spec.hosts), spec.plan.rollout.concurrency)
    return _carrier(spec, transport, together)


@contextlib.asynccontextmanager
async def _carrier(
    spec: RunSpec, transport: Transport | None, connections: int
) -> AsyncGenerator[Transport]:
    """Hand out *transport*, or one of our own that is closed again."""
    if transport is not None:
        yield transport
        return
    require(spec.plan.ssh, connections)
    own = open_transport(spec.plan, spec.environ)
    try:
        yield own
    finally:
        # A cancelled run closes its connections too; a bastion that is gone may not
        # hold up the end.
        with anyio.move_on_after(_CLOSING, shield=True):
            await own.aclose()


@attrs.frozen
class _Carriers:
    """The ways to the hosts of two plans; *names* are those of the second one's."""

    first: Transport
    second: Transport
    names: frozenset[str]

    def session(self, host: Host) -> Session:
        """Return a handle on *host*; nothing is contacted yet."""
        return (self.second if host.name in self.names else self.first).session(host)

    async def aclose(self) -> None:
        """Do nothing: each is closed where it was opened."""


@contextlib.asynccontextmanager
async def _carrier_of_run(
    spec: RunSpec, transport: Transport | None
) -> AsyncGenerator[Transport]:
    """Hand out *transport*, or one for each plan of the run."""
    partner = spec.partner
    connections = len(spec.hosts) + (len(partner.hosts) if partner else 0)
    async with _carrier(spec, transport, connections) as first:
        if partner is None:
            yield first
            return
        async with _carrier(partner, transport, len(partner.hosts)) as second:
            names = frozenset(host.name for host in partner.hosts)
            yield _Carriers(first, second, names)


async def _carry(run: Run, on_cancel: OnCancel) -> None:
    # The shield has no deadline: a detached run has deadlines of its own, and its end
    # is what the caller asked for.
    with anyio.CancelScope(shield=on_cancel == "detach"):
        await run.main()


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
