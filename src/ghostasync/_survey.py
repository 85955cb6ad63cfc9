"""Look at a fleet without changing it: is it fit, and does it serve what it should?"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final, TypeVar

import anyio
import attrs

from ._assembly import Assembly
from ._history import unfinished_run
from ._lint import complaints
from ._machine import HostMachine
from ._past import Past
from ._redact import Redactor
from ._standing import last_states
from .errors import HostError
from .events import Event
from .model import State
from .protocols import Transport
from .remote import Facts, Guarded
from .stages import Context, RunContext, connect, findings, inspect, rights

T = TypeVar("T")

_HOLDER: Final = re.compile(r"run (\S+) ")
"""How a run's text about itself begins; see ``Assembly.holder``."""

__all__ = [
    "Finding",
    "FleetStatus",
    "HostStatus",
    "OpenRun",
    "compare",
    "find",
    "looked_at",
]


@attrs.frozen
class Finding:
    """Something that keeps a host, or a module where *host* is empty, from the plan."""

    host: str
    text: str
    module: str = ""
    warning: bool = False


@attrs.frozen
class HostStatus:
    """
    What one host serves.

    *live* maps modules to release ids, empty where there is none; *state* is
    ``in-line``, ``drift``, ``unreachable`` or ``stranded``, *text* says why. *runs*
    maps modules to the runs that moved their links, as the host has it on record.
    """

    live: Mapping[str, str]
    state: str
    text: str = ""
    runs: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class OpenRun:
    """
    A run that has not ended.

    *holder* is what it says of itself on hosts that it holds; empty where it was
    killed. *releases* are what it made (module to release id); *moved* is whether it
    had begun to move links, *going_back* whether it was on its way back, *committed*
    whether MANIFEST had moved.
    """

    id: str
    action: str = ""
    actor: str = ""
    holder: str = ""
    releases: Mapping[str, str] = attrs.field(factory=dict)
    moved: bool = False
    going_back: bool = False
    committed: bool = False


@attrs.frozen
class FleetStatus:
    """
    What MANIFEST expects of each module, what each host serves, and who is at it.

    *run* is the run that holds hosts, or else the newest that was killed; None where
    there is neither.
    """

    expected: Mapping[str, str]
    hosts: Mapping[str, HostStatus]
    run: OpenRun | None = None


def _unheard(event: Event, machine: HostMachine | None) -> None:
    """Looking makes no events."""


class _NoLogs:
    """Looking leaves no log."""

    def write(self, host: str, data: bytes) -> None:
        """Forget *data*."""


async def find(parts: Assembly, transport: Transport) -> tuple[Finding, ...]:
    """Return what would keep sources and hosts from a deploy, in plan order."""
    found = [
        Finding(
            "", str(job.error).removeprefix(f"{job.module.name}: "), job.module.name
        )
        for job in parts.jobs
        if job.error is not None
    ]
    for job in parts.jobs:
        texts = await complaints(
            job, parts.plan.base, parts.plan.rollout.deadlines.build
        )
        found += [Finding("", text, job.module.name) for text in texts]

    async def look(ctx: Context) -> list[Finding]:
        try:
            facts = ctx.facts = await _facts(ctx)
            wrong = [*findings(ctx, facts), *await rights(ctx)]
        except HostError as exc:
            return [Finding(ctx.name, str(exc))]
        minor = [Finding(ctx.name, text, warning=True) for text in _warnings(ctx)]
        return [*(Finding(ctx.name, text) for text in wrong), *minor]

    for per_host in await _each(parts, transport, look):
        found += per_host
    return tuple(found)


def _warnings(ctx: Context) -> Iterator[str]:
    """Yield what keeps no host from the plan, and is good to know."""
    timed = ctx.run.plan.rollout.confirm and ctx.known.uid != 0
    if timed and ctx.known.ends_logins:
        yield (
            "logind ends what a login leaves behind (KillUserProcesses), so the timer "
            "of rollout.confirm would not outlive the connection: log in as root, or "
            "set ssh.sudo"
        )


async def compare(parts: Assembly, transport: Transport) -> FleetStatus:
    """Return what each host serves beside what MANIFEST says."""
    names = {job.module.name for job in parts.jobs}
    expected = {
        line.module: line.package for line in parts.manifest if line.module in names
    }
    last = await last_states(parts.store)
    seen = await looked_at(parts, transport)
    hosts = {
        name: _status(facts, expected, last.get(name, ""))
        for name, facts in seen.items()
    }
    holders = [facts.holder for facts in seen.values() if isinstance(facts, Facts)]
    modules = {module.name for module in parts.plan.modules}
    killed = await unfinished_run(parts.store, modules=modules)
    run = _open_run(killed, next(filter(None, holders), ""))
    return FleetStatus(expected, hosts, run)


async def looked_at(
    parts: Assembly, transport: Transport
) -> dict[str, Facts | HostError]:
    """Return what each host is and has, or why it did not say, in plan order."""

    async def look(ctx: Context) -> Facts | HostError:
        try:
            return await _facts(ctx)
        except HostError as exc:
            return exc

    seen = await _each(parts, transport, look)
    return {host.name: facts for host, facts in zip(parts.hosts, seen, strict=True)}


def _status(
    facts: Facts | HostError, expected: Mapping[str, str], last: str
) -> HostStatus:
    stranded = last == State.STRANDED.value
    if isinstance(facts, HostError):
        return HostStatus({}, "stranded" if stranded else "unreachable", str(facts))
    live = {name: target.live for name, target in facts.targets.items()}
    runs = {n: t.record.run for n, t in facts.targets.items() if t.record}
    texts = [_difference(name, expected.get(name, ""), facts) for name in live]
    text = "; ".join(filter(None, texts))
    if stranded:
        # A link that is right again proves nothing: the post-deploy may have failed.
        return HostStatus(live, "stranded", text, runs)
    return HostStatus(live, "drift" if text else "in-line", text, runs)


def _open_run(past: Past | None, holder: str) -> OpenRun | None:
    """Return the run that goes on, else the one that was killed."""
    if found := _HOLDER.match(holder):
        run = OpenRun(found[1], holder=holder)
        if past is None or run.id not in past.ids:
            return run
    elif past is None:
        return None
    return OpenRun(
        id=past.id,
        action=past.action,
        actor=past.actor,
        holder=holder,
        releases=past.packages,
        moved=past.switching,
        going_back=past.going_back,
        committed=past.committed,
    )


def _difference(module: str, expected: str, facts: Facts) -> str:
    target = facts.targets[module]
    if target.dangling:
        return f"{module}: the link leads nowhere"
    if target.live == expected:
        return ""
    if target.live:
        return f"{module}: serves {target.live}"
    what = "nothing" if target.kind == "absent" else f"a {target.kind} that is not ours"
    return f"{module}: serves {what}"


async def _facts(ctx: Context) -> Facts:
    deadlines = ctx.run.deadlines
    with anyio.move_on_after(deadlines.connect + deadlines.check):
        await connect(ctx)
        return await inspect(ctx)
    raise HostError(ctx.name, "no answer in time (rollout.deadlines.connect, check)")


async def _each(
    parts: Assembly, transport: Transport, look: Callable[[Context], Awaitable[T]]
) -> list[T]:
    """Return what *look* says of every host, in plan order, many at a time."""
    run = RunContext(
        id=parts.id,
        action=parts.action,
        plan=parts.plan,
        modules=tuple(job.module for job in parts.jobs),
        holder=parts.holder,
        store_url=parts.store_url,
        force=False,
        redactor=Redactor(()),
        logs=_NoLogs(),
        work=anyio.CapacityLimiter(parts.plan.rollout.concurrency),
        note=_unheard,
        protected={},
        places=parts.places,
    )
    contexts = [
        Context(
            host,
            Guarded(transport.session(host), run.id, f"{run.holder} as {host.name}"),
            run,
        )
        for host in parts.hosts
    ]
    answers: dict[str, T] = {}

    async def ask(ctx: Context) -> None:
        async with run.work:
            try:
                answers[ctx.name] = await look(ctx)
            finally:
                ctx.session.abort()

    async with anyio.create_task_group() as tasks:
        for ctx in contexts:
            tasks.start_soon(ask, ctx)
    return [answers[ctx.name] for ctx in contexts]
