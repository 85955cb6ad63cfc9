"""
Check: a look at sources, scripts, store and hosts, by the functions of a deploy.

A check with rules of its own would pass hosts that a deploy then refuses. What a deploy
meets later, a check tries: while one command waits on the host, a second one asks for
its facts, as beside a lock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress

import anyio
import attrs

from .._engine.host import HostRun
from .._engine.look import ask_each
from .._engine.records import implausible, why_implausible
from .._engine.spec import ModuleToDeploy, RunSpec
from .._engine.stages.check import (
    cannot_start,
    doubts,
    findings,
    inspect,
    no_room_at_all,
    no_way_to_store,
    rights,
    same_machine,
    strangers,
)
from .._engine.stages.connect import connect
from .._engine.stages.upload import crowded, no_room
from .._planning.basis import require_signing, require_writable
from .._remote import answers
from .._remote.call import query
from .._remote.facts import Facts, Trial
from ..errors import HostError, PlanError, StoreError
from ..protocols import Channel, Transport
from ..sources.directory import Directory
from ._ci import wrong_in_ci
from ._scripts import read_scripts
from ._shipped import look_at_folder
from .coming import HOST_SCRIPTS, Coming, coming, migrates
from .status import who_holds

__all__ = ["Finding", "Look", "Overview", "look_at_hosts", "survey"]

FirstLines = dict[tuple[str, str], str]
"""Modules and keys of scripts that name an interpreter, to the line that does."""


@attrs.frozen
class Finding:
    """
    Obstacle for a host, or for a module where *host* is empty.

    A *warning* keeps no host from a deploy.
    """

    host: str
    text: str
    module: str = ""
    warning: bool = False


@attrs.frozen
class Overview:
    """
    A fleet before a deploy, and all that stands in its way.

    *hosts* are the names of those chosen, in plan order; *logins* maps those that
    answer to the user who works there. *live* maps modules to hosts to the releases
    that they serve, empty where they serve none of ours; *modules* maps modules to what
    a deploy would bring. *store* is the store's address. *balancer_seconds* is how long
    a drain and an undrain may take by the balancer's own settings; empty where it has
    none. *findings* are in plan order, those of no host first.
    """

    hosts: tuple[str, ...]
    logins: Mapping[str, str]
    live: Mapping[str, Mapping[str, str]]
    modules: Mapping[str, Coming]
    store: str
    findings: tuple[Finding, ...]
    balancer_seconds: Mapping[str, float] = attrs.field(factory=dict)


@attrs.define
class Look:
    """The look at one host, as far as it came."""

    ctx: HostRun
    login: str = ""
    facts: Facts | None = None
    findings: list[Finding] = attrs.field(factory=list)

    def add(self, text: str, *, warning: bool = False) -> None:
        """Note a finding."""
        self.findings.append(Finding(self.ctx.name, text, warning=warning))

    @property
    def obstacle(self) -> str:
        """What keeps the host from a deploy; empty where nothing does."""
        return "; ".join(each.text for each in self.findings if not each.warning)


async def survey(spec: RunSpec, transport: Transport) -> Overview:
    """Look at all that a deploy needs; nothing that lasts is changed."""
    found = [Finding("", text) for text in await _of_this_machine(spec)]
    first_lines: FirstLines = {}
    for chosen in spec.modules:
        found += [finding async for finding in _of_module(spec, chosen, first_lines)]
    modules = {m.module.name: await _coming(spec, m) for m in spec.modules}
    looks = await look_at_hosts(spec, transport, modules, first_lines)
    answers = {each.ctx.name: each.facts for each in looks if each.facts}
    with suppress(StoreError):  # a store that cannot be read is told above
        if held := await who_holds(spec.store, answers):
            found.append(Finding("", held))
    return Overview(
        hosts=tuple(host.name for host in spec.hosts),
        logins={each.ctx.name: each.login for each in looks if each.login},
        live={
            name: {
                host: facts.targets[name].live
                for host, facts in answers.items()
                if name in facts.targets
            }
            for name in modules
        },
        modules=modules,
        store=spec.store_url,
        balancer_seconds=spec.balancer_seconds,
        findings=(*found, *(finding for each in looks for finding in each.findings)),
    )


async def _of_this_machine(spec: RunSpec) -> list[str]:
    """Return what is wrong with the store, and for a job of CI."""
    wrong = [*wrong_in_ci(spec.plan, spec.store_url, spec.environ)]
    try:
        await require_writable(spec.store)
        await require_signing(spec.store)
    except (StoreError, PlanError) as exc:
        wrong.append(str(exc))
    return wrong


async def _of_module(
    spec: RunSpec, chosen: ModuleToDeploy, first_lines: FirstLines
) -> AsyncIterator[Finding]:
    """Yield what is wrong with a module; note the first lines of its scripts."""
    name = chosen.module.name
    if chosen.error is not None:
        yield Finding("", str(chosen.error).removeprefix(f"{name}: "), name)
    seconds = spec.plan.rollout.deadlines.source
    scripts = await read_scripts(chosen, spec.plan.base, seconds)
    for text in scripts.complaints:
        yield Finding("", text, name)
    if chosen.error is None and isinstance(chosen.source, Directory):
        shipped = await look_at_folder(chosen.module, chosen.source, spec.environ)
        for text in shipped.obstacles:
            yield Finding("", text, name)
        for text in shipped.warnings:
            yield Finding("", text, name, warning=True)
    for key in HOST_SCRIPTS:
        # Another user has a PATH of its own, and starts no script as a file.
        if key in scripts.first_lines and not getattr(chosen.module, key).run_as:
            first_lines[name, key] = scripts.first_lines[key]
    with suppress(StoreError):  # a store that cannot be read is told above
        if text := await migrates(spec, chosen):
            yield Finding("", text, name, warning=True)


async def look_at_hosts(
    spec: RunSpec,
    transport: Transport,
    modules: Mapping[str, Coming],
    first_lines: FirstLines | None = None,
) -> list[Look]:
    """
    Look at each host of a plan, and note all that would keep it from a deploy.

    Args:
        spec: The deploy.

        transport: The way to hosts.

        modules: What they would get.

        first_lines: What to try to start; hosts try whether temporary files can be
            made as well. None: they are only read.
    """
    names: dict[str, str] = {}
    deadlines = spec.plan.rollout.deadlines

    async def look(ctx: HostRun) -> Look:
        seen = Look(ctx)
        with anyio.move_on_after(deadlines.connect + deadlines.check) as patience:
            try:
                await _look_at(seen, first_lines, modules)
                # A deploy finds that out as it takes the lock for the second time.
                twin = names.setdefault(ctx.known.place or ctx.name, ctx.name)
                if twin != ctx.name:
                    seen.add(same_machine(twin))
            except HostError as exc:
                # A host that cannot be looked at is a finding, and no reason to stop.
                seen.add(str(exc))
        if patience.cancelled_caught:
            seen.add("no answer in time (rollout.deadlines.connect, check)")
        return seen

    looks = await ask_each(spec, transport, look)
    answered = {each.ctx.name: each.facts for each in looks if each.facts}
    high = implausible(answered, [line.generation for line in spec.manifest])
    for each in looks:
        if each.ctx.name in high:
            each.add(why_implausible(each.ctx.known, each.ctx.paths))
    return looks


async def _coming(spec: RunSpec, chosen: ModuleToDeploy) -> Coming:
    """Return what a deploy would bring of a module, as far as the store can be read."""
    with suppress(StoreError):
        return await coming(spec, chosen)
    return Coming(chosen.revision)


async def _look_at(
    seen: Look,
    first_lines: FirstLines | None,
    modules: Mapping[str, Coming],
) -> None:
    """
    Connect to a host, and note what it is and all that is wrong with it.

    Raises:
        HostError: The host cannot be looked at, or not to the end.
    """
    ctx = seen.ctx
    await connect(ctx)
    identity = ctx.attempt.identity
    seen.login = ctx.login
    if ctx.sudo and identity is not None:
        seen.login = f"{ctx.sudo}, by sudo of {identity.user}"
    if first_lines is None:
        ctx.attempt.facts = await inspect(ctx)
    trial = Trial() if first_lines is None else await _try(ctx, first_lines)
    facts = seen.facts = ctx.known
    unfit = [*strangers(ctx, facts), *findings(ctx, facts), *await rights(ctx)]
    for text in unfit:
        seen.add(text)
    if text := await no_way_to_store(ctx):
        seen.add(text)
    elif ctx.name in ctx.run.pushed:
        seen.add("cannot fetch from the store: releases are sent to it", warning=True)
    names = {module.name for module in ctx.modules}
    # The next release is about as large as the last one.
    missing = [
        each.newest
        for name, each in modules.items()
        if name in names
        and each.newest
        and each.stored not in facts.targets[name].releases
    ]
    if full := no_room(ctx, missing) or no_room_at_all(ctx, facts):
        # A deploy makes room first, where failed releases pile up.
        seen.add(full, warning=crowded(ctx, names))
    scripts = {f"{key}/{name}": f"{key} of {name}" for name, key in first_lines or ()}
    for name, text in cannot_start(trial, scripts).items():
        # One host runs it for all.
        seen.add(text, warning=name.startswith("before_switch/"))
    for text in _warnings(ctx, trial):
        seen.add(text, warning=True)


async def _try(ctx: HostRun, first_lines: FirstLines) -> Trial:
    """
    Have a host try what a deploy needs, and tell its facts at the same time.

    Raises:
        HostError: It did not answer, or took no second command beside the first.
    """
    targets = {module.name: ctx.target(module) for module in ctx.modules}
    words = [
        word
        for (name, key), line in first_lines.items()
        if name in targets
        for word in (f"{key}/{name}", line, targets[name])
    ]
    failed: list[HostError] = []

    async def ask_besides(channel: Channel) -> None:
        try:
            ctx.attempt.facts = await inspect(ctx)
        except HostError as exc:
            failed.append(exc)
        channel.write_eof()

    path = ctx.run.plan.app.env_vars.get("PATH", "")
    trial = await query(
        ctx.session,
        "try",
        ctx.paths.app_dir,
        path,
        *words,
        read=answers.trial,
        sudo=ctx.sudo,
        feed=ask_besides,
    )
    if failed:
        raise failed[0]
    return trial


def _warnings(ctx: HostRun, trial: Trial) -> Iterator[str]:
    """Yield facts that keep no host from the plan and are good to know."""
    yield from doubts(ctx)
    if trial.tmp:
        yield (
            f"no temporary file can be made in {trial.tmp}: scripts and tools that "
            "need one would fail"
        )
    if "" in trial.noexec and len(trial.noexec) == 1:
        mount = trial.noexec[""]
        yield (
            f"{mount} is mounted noexec: no program of a release can be started there"
        )
    store = ctx.run.spec.store_id
    for chosen in ctx.modules:
        if chosen.adopt and (what := ctx.known.targets[chosen.name].foreign):
            yield f"{ctx.target(chosen)} is {what}: it is moved aside (adopt)"
    for module, target in ctx.known.targets.items():
        # A link of an earlier path; prune keeps what it leads to.
        for link in target.elsewhere:
            yield (
                f"{link} still leads to a release of {module}, which was served from "
                "there earlier: remove the link once nobody uses it"
            )
        move = target.record
        if move is not None and move.store != store:
            by = f" by {move.actor}" if move.actor else ""
            yield (
                f"what it serves of {module} came from another store than "
                f"{ctx.run.spec.store_url}, with run {move.run}{by} at {move.at}"
            )
    # logind spares the processes of root.
    timed = ctx.run.plan.rollout.confirm and ctx.known.uid != 0
    if timed and ctx.known.ends_logins:
        yield (
            "logind ends what a login leaves behind (KillUserProcesses), so the timer "
            "of rollout.confirm would not outlive the connection: log in as root, or "
            "set ssh.sudo"
        )
