"""
Check: a look at sources, scripts, store and hosts, by the functions of a deploy.

A check with rules of its own would pass hosts that a deploy then refuses. What a deploy
meets later, a check tries: while one command waits on the host, a second one asks for
its facts, as beside a lock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress

import anyio
import attrs

from .._engine.host import HostRun
from .._engine.look import ask_each, facts_of
from .._engine.spec import ModuleToDeploy, RunSpec
from .._engine.stages.check import (
    cannot_start,
    findings,
    inspect,
    no_room_at_all,
    rights,
    same_machine,
)
from .._engine.stages.connect import connect
from .._engine.stages.upload import crowded, no_room
from .._planning.basis import require_writable
from .._remote.call import query
from .._remote.facts import Facts, Trial, parse_trial
from ..errors import HostError, StoreError
from ..model import Package, Revision
from ..protocols import Channel, Transport
from ._ci import wrong_in_ci
from ._coming import HOST_SCRIPTS, coming
from ._scripts import read_scripts
from .status import who_holds

__all__ = ["Finding", "Overview", "ToDeploy"]


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
class ToDeploy:
    """
    What a deploy would bring of a module.

    *package* is one of that commit that the store has, empty where there is none; it is
    taken *again* unless the build differs, and else one is built. *newest* is the
    store's last package of the module, None without one.
    """

    revision: Revision
    package: str = ""
    again: bool = False
    newest: Package | None = None


@attrs.frozen
class Overview:
    """
    A fleet before a deploy, and all that stands in its way.

    *hosts* are the names of those chosen, in plan order; *logins* maps those that
    answer to the user who works there. *live* maps modules to hosts to the releases
    that they serve, empty where they serve none of ours; *modules* maps modules to what
    a deploy would bring. *store* is the store's address. *findings* are in plan order,
    those of no host first.
    """

    hosts: tuple[str, ...]
    logins: Mapping[str, str]
    live: Mapping[str, Mapping[str, str]]
    modules: Mapping[str, ToDeploy]
    store: str
    findings: tuple[Finding, ...]


@attrs.define
class _Look:
    """The look at one host, as far as it came."""

    ctx: HostRun
    login: str = ""
    facts: Facts | None = None
    findings: list[Finding] = attrs.field(factory=list)

    def add(self, text: str, *, warning: bool = False) -> None:
        self.findings.append(Finding(self.ctx.name, text, warning=warning))


async def overlook(spec: RunSpec, transport: Transport) -> Overview:
    """Look at all that a deploy needs; nothing that lasts is changed."""
    found = [Finding("", text) for text in await _of_this_machine(spec)]
    first_lines: dict[tuple[str, str], str] = {}
    for chosen in spec.modules:
        name = chosen.module.name
        if chosen.error is not None:
            text = str(chosen.error).removeprefix(f"{name}: ")
            found.append(Finding("", text, name))
        seconds = spec.plan.rollout.deadlines.build
        scripts = await read_scripts(chosen, spec.plan.base, seconds)
        found += [Finding("", text, name) for text in scripts.complaints]
        for key in HOST_SCRIPTS:
            # Another user has a PATH of its own, and starts no script as a file.
            if key in scripts.first_lines and not getattr(chosen.module, key).run_as:
                first_lines[name, key] = scripts.first_lines[key]
    modules = {m.module.name: await _to_deploy(spec, m) for m in spec.modules}
    names: dict[str, str] = {}

    async def look(ctx: HostRun) -> _Look:
        seen = _Look(ctx)
        deadlines = spec.plan.rollout.deadlines
        with anyio.move_on_after(deadlines.connect + deadlines.check) as patience:
            try:
                await _look_at(seen, first_lines, modules)
                for text in _twins(ctx, names):
                    seen.add(text)
            except HostError as exc:
                # A host that cannot be looked at is a finding, and no reason to stop.
                seen.add(str(exc))
        if patience.cancelled_caught:
            seen.add("no answer in time (rollout.deadlines.connect, check)")
        return seen

    looks = await ask_each(spec, transport, look)
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
        findings=(*found, *(finding for each in looks for finding in each.findings)),
    )


async def _of_this_machine(spec: RunSpec) -> list[str]:
    """Return what is wrong with the store, and for a job of CI."""
    wrong = [*wrong_in_ci(spec.plan, spec.store_url, spec.environ)]
    try:
        await require_writable(spec.store)
    except StoreError as exc:
        wrong.append(str(exc))
    return wrong


async def _to_deploy(spec: RunSpec, chosen: ModuleToDeploy) -> ToDeploy:
    """Return what a deploy would bring of a module, as far as the store can be read."""
    packages = spec.store.packages
    with suppress(StoreError):
        brings = await coming(spec, chosen)
        newest = [*await packages.ids(chosen.module.name)][-1:]
        return ToDeploy(
            chosen.revision,
            brings.stored,
            again=brings.package is not None,
            newest=await packages.package(newest[0]) if newest else None,
        )
    return ToDeploy(chosen.revision)


async def _look_at(
    seen: _Look,
    first_lines: Mapping[tuple[str, str], str],
    modules: Mapping[str, ToDeploy],
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
    trial = await _try(ctx, first_lines)
    facts = seen.facts = ctx.known
    for text in [*findings(ctx, facts), *await rights(ctx)]:
        seen.add(text)
    names = {module.name for module in ctx.modules}
    # The next release is about as large as the last one.
    missing = [
        each.newest
        for name, each in modules.items()
        if name in names
        and each.newest
        and each.package not in facts.targets[name].releases
    ]
    if full := no_room(ctx, missing) or no_room_at_all(ctx, facts):
        # A deploy makes room first, where failed releases pile up.
        seen.add(full, warning=crowded(ctx, names))
    scripts = {f"{key}/{name}": f"{key} of {name}" for name, key in first_lines}
    for name, text in cannot_start(trial, scripts).items():
        # One host runs it for all.
        seen.add(text, warning=name.startswith("before_switch/"))
    for text in _warnings(ctx, trial):
        seen.add(text, warning=True)


async def _try(ctx: HostRun, first_lines: Mapping[tuple[str, str], str]) -> Trial:
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
    text = await query(
        ctx.session,
        "try",
        ctx.paths.app_dir,
        path,
        *words,
        sudo=ctx.sudo,
        feed=ask_besides,
    )
    if failed:
        raise failed[0]
    return parse_trial(text)


async def obstacles(ctx: HostRun, names: dict[str, str]) -> list[str]:
    """
    Look at a host, note its facts, and return all that keeps it from the plan.

    *names* maps the places of hosts that were looked at to their names; it is added to.

    Raises:
        HostError: The host cannot be reached, or does not answer in time.
    """
    ctx.attempt.facts = facts = await facts_of(ctx)
    return [*findings(ctx, facts), *await rights(ctx), *_twins(ctx, names)]


def _twins(ctx: HostRun, names: dict[str, str]) -> Iterator[str]:
    """Yield that another name is that of the same machine."""
    # A deploy finds that out as it takes the lock for the second time.
    twin = names.setdefault(ctx.known.place or ctx.name, ctx.name)
    if twin != ctx.name:
        yield same_machine(twin)


def _warnings(ctx: HostRun, trial: Trial) -> Iterator[str]:
    """Yield facts that keep no host from the plan and are good to know."""
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
