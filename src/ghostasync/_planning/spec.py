"""
Put a run together: from a plan and a selection to the parts that carry it out.

Everything that can be refused is refused here, before any host is contacted.
"""

from __future__ import annotations

import getpass
import os
import secrets
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import attrs

from .._engine.spec import Assembly, Job
from .._engine.waves import needed
from .._local.paths import (
    app_path,
    is_run_id,
    run_id,
    ssh_files,
    store_url,
)
from ..config import check_plan, check_secrets, unsupported
from ..config.selection import named, select
from ..errors import ConfigError, PlanError
from ..history.replay import Past
from ..history.reports import last_states, still_stranded
from ..history.runs import find_run, unfinished_run
from ..model import Action, Host, Plan, State
from ..protocols import Store, Transport
from ..stores.directory import DirectoryStore
from .modules import Selection, job_for, manifest_jobs, past_job, wanted

__all__ = [
    "Assembly",
    "Job",
    "Selection",
    "assemble",
    "open_transport",
    "survey",
]


async def assemble(
    plan: Plan,
    selection: Selection,
    *,
    action: Action,
    actor: str = "",
    reason: str = "",
    hosts: Sequence[str] = (),
) -> Assembly:
    """
    Check the plan, choose hosts and modules, and resolve every revision.

    Raises:
        ConfigError: The plan is wrong or asks for what this version cannot do.
        UnknownRevision: A source has no such revision.
        PlanError: The selection is empty or names what is not there.
        StoreError: The store cannot be read.
    """
    if problems := check_secrets(plan, os.environ):
        raise ConfigError(problems)
    limit = (*selection.limit, *hosts)
    parts = await survey(plan, attrs.evolve(selection, limit=limit))
    if action is Action.CONVERGE:
        parts = attrs.evolve(parts, jobs=manifest_jobs(plan, parts.manifest))
    elif action is Action.RESUME:
        parts = await _take_up(parts, selection)
    else:
        mine = {job.module.name for job in parts.jobs}
        chosen = [(m, p) for m, p in wanted(plan, selection) if m.name in mine]
        jobs = [await job_for(plan, parts.store, module, p) for module, p in chosen]
        parts = attrs.evolve(parts, jobs=tuple(jobs), of=selection.run)
    parts = _placed(parts)
    _leave_enough(parts)
    return attrs.evolve(
        parts,
        action=Action.ROLLBACK if parts.revert else action,
        actor=actor or _user(),
        reason=reason,
        secrets={name: os.environ[name] for name in plan.app.secrets},
        hidden=await _kept_secrets(plan, parts),
        stranded=await still_stranded(parts.store),
    )


async def _take_up(parts: Assembly, selection: Selection) -> Assembly:
    """
    Go on where another run was killed: its hosts, its modules, and what it made.

    A run that was on its way back is taken the rest of that way.
    """
    past = await _past(parts, selection)
    inventory = {host.name: host for host in parts.hosts}
    hosts = tuple(inventory[name] for name in past.hosts if name in inventory)
    gone = [name for name in past.hosts if name not in inventory]
    if past.hosts and not hosts:
        raise PlanError(f"run {past.id}: none of its hosts is in the inventory now")
    modules = {module.name: module for module in parts.plan.modules}
    for name in past.modules:
        if name not in modules:
            raise PlanError(
                f"run {past.id} had a module {name!r} that the configuration does not "
                "have any more: put it back"
            )
    chosen = [m for m in parts.plan.modules if m.name in (past.modules or modules)]
    new = [] if past.limited or not past.hosts else _joined(parts, past)
    revert = selection.revert or past.going_back
    if revert:
        jobs = [Job(module) for module in chosen]
    else:
        jobs = [await past_job(parts.plan, parts.store, m, past) for m in chosen]
    return attrs.evolve(
        parts,
        jobs=tuple(jobs),
        hosts=hosts or parts.hosts,
        force=past.force,
        # Where it would move MANIFEST only now, it is not on the whole inventory.
        limited=past.limited or bool(new and not (revert or past.committed)),
        of=past.id,
        past=past,
        revert=revert,
        warnings=(
            *(f"{name} is not in the inventory any more" for name in gone),
            *(_is_new(name, past, revert=revert) for name in new),
        ),
    )


def _joined(parts: Assembly, past: Past) -> list[str]:
    """Return the hosts that get modules of *past* and were not there when it began."""
    everywhere = not set(past.modules) <= set(parts.places)
    names = [host.name for host in parts.hosts if host.name not in past.hosts]
    gets = frozenset[str]().union(*(parts.places.get(m, ()) for m in past.modules))
    return [name for name in names if everywhere or name in gets]


def _is_new(name: str, past: Past, *, revert: bool) -> str:
    text = f"{name} is new and not part of this run"
    # Before MANIFEST has moved, converge would take the host to the older release.
    return f"{text}: ghostasync converge {name}" if revert or past.committed else text


async def _past(parts: Assembly, selection: Selection) -> Past:
    """Return the run to take up; one whose journal is lost is known by its id alone."""
    store, modules = parts.store, {module.name for module in parts.plan.modules}
    if not selection.run:
        past = await unfinished_run(store, modules=modules)
        if past is None:
            raise PlanError("there is no unfinished run: nothing is left to resume")
        return past
    past = await find_run(store, selection.run)
    if past is None and not is_run_id(selection.run):
        raise PlanError(
            f"{store.url} has no run {selection.run!r}, and that is no run's id: "
            "YYYYMMDDThhmmssZ-xxxxxx; `ghostasync status` names what was killed"
        )
    if past is None and selection.revert:
        return Past(ids=(selection.run,), going_back=True)
    if past is None:
        raise PlanError(
            f"{store.url} has no journal of a run {selection.run}; what its hosts have "
            f"on record can be put back: ghostasync resume {selection.run} --revert"
        )
    if not past.is_open and past.finished is not None:
        way = f"to go back from it: ghostasync rollback {past.id}"
        if stranded := past.in_state(State.STRANDED):
            names = shlex.join(stranded)
            way = f"to bring its stranded hosts in line: ghostasync converge {names}"
        raise PlanError(
            f"run {past.id} has ended {past.finished.outcome}: nothing is left to "
            f"resume; {way}"
        )
    newest = await unfinished_run(store, past.id, modules=modules)
    if newest is None and not selection.revert:
        raise PlanError(
            f"run {past.id} was not finished, but a later run has gone live: nothing "
            "is left to resume"
        )
    return newest or past


async def survey(plan: Plan, selection: Selection) -> Assembly:
    """
    Put together what it takes to look at a fleet: no source is asked.

    Raises:
        ConfigError: The plan is wrong or asks for what this version cannot do.
        PlanError: The selection is empty or names what is not there.
        StoreError: The store cannot be read.
    """
    if problems := check_plan(plan) + unsupported(plan):
        raise ConfigError(problems)
    url = store_url(plan.store, os.environ, plan.base)
    store = DirectoryStore(Path(url) / app_path(plan.app))
    now = datetime.now(UTC)
    # Runs of the same second sort by time, too.
    token = f"{now.microsecond // 1000:03x}{secrets.token_hex(2)[:3]}"
    run = run_id(now, token)
    parts = Assembly(
        id=run,
        plan=plan,
        jobs=tuple(Job(module) for module, _ in wanted(plan, selection)),
        hosts=await _hosts(plan, store, selection.limit),
        store=store,
        store_url=url,
        manifest=await store.manifest(),
        folder=Path(url) / app_path(plan.app) / "runs" / run,
        force=selection.force,
        limited=bool(selection.limit),
        places={
            module.name: named(plan.hosts, module.selectors)
            for module in plan.modules
            if module.selectors
        },
        wait=selection.wait,
        break_lock=selection.break_lock,
    )
    return _placed(parts)


def _placed(parts: Assembly) -> Assembly:
    """Leave out hosts that get no module of the run, and modules that no host gets."""

    def gets(host: Host, job: Job) -> bool:
        name = job.module.name
        return name not in parts.places or host.name in parts.places[name]

    hosts = [h for h in parts.hosts if any(gets(h, job) for job in parts.jobs)]
    jobs = [job for job in parts.jobs if any(gets(h, job) for h in hosts)]
    if not hosts:
        names = ", ".join(job.module.name for job in parts.jobs)
        raise PlanError(f"modules: no selected host gets any of them: {names}")
    return attrs.evolve(parts, hosts=tuple(hosts), jobs=tuple(jobs))


def _user() -> str:
    """Return who runs this; a container's uid need not have a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _leave_enough(parts: Assembly) -> None:
    """Refuse what could never drain a host."""
    asked, total = parts.plan.rollout.min_serving, len(parts.fleet)
    least = needed(asked, total)
    if least and least >= total:
        hosts = "1 host" if total == 1 else f"{total} hosts"
        raise PlanError(
            f"rollout.min_serving: {asked} of {hosts} leaves none to switch; "
            f"allowed: less than {total}"
        )


async def _kept_secrets(plan: Plan, parts: Assembly) -> tuple[str, ...]:
    """Return the secrets of releases whose scripts may run again: what may serve."""
    named = {line.package for line in parts.manifest}
    named.update(job.package for job in parts.jobs if job.package)
    if parts.past:
        named.update(filter(None, parts.past.manifest.values()))
    hidden: list[str] = []
    for package in sorted(named):
        kept = await parts.store.environment(package)
        if kept is not None:
            hidden += [kept.variables.get(name, "") for name in plan.app.secrets]
    return tuple(hidden)


def open_transport(plan: Plan) -> Transport:
    """Return what reaches the plan's hosts."""
    # Parsing keys and importing asyncssh take a quarter of a second: only when needed.
    from ..transports.ssh import SshTransport

    settings = ssh_files(plan.ssh, plan.base, os.environ)
    return SshTransport(settings, login_seconds=plan.rollout.deadlines.connect)


async def _hosts(plan: Plan, store: Store, limit: Sequence[str]) -> tuple[Host, ...]:
    asked = any("@failed" in expression for expression in limit)
    last = await last_states(store) if asked else {}
    fine = {State.LIVE.value, State.UNCHANGED.value}
    failed = {name for name, state in last.items() if state not in fine}
    return select(plan.hosts, limit, failed)
