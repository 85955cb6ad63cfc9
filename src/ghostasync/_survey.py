"""Look at a fleet without changing it: is it fit, and does it serve what it should?"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import anyio
import attrs

from ._assembly import Assembly, last_states
from ._machine import HostMachine
from ._redact import Redactor
from .errors import HostError
from .events import Event
from .model import State
from .protocols import Transport
from .remote import Facts, Guarded
from .stages import Context, RunContext, connect, findings, inspect

T = TypeVar("T")

__all__ = ["Finding", "FleetStatus", "HostStatus", "compare", "find"]


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
    ``in-line``, ``drift``, ``unreachable`` or ``stranded``, *text* says why.
    """

    live: Mapping[str, str]
    state: str
    text: str = ""


@attrs.frozen
class FleetStatus:
    """What MANIFEST expects of each module, and what each host serves."""

    expected: Mapping[str, str]
    hosts: Mapping[str, HostStatus]


def _unheard(event: Event, machine: HostMachine | None) -> None:
    """Looking makes no events."""


class _NoLogs:
    """Looking leaves no log."""

    def write(self, host: str, data: bytes) -> None:
        """Forget *data*."""


async def find(parts: Assembly, transport: Transport) -> tuple[Finding, ...]:
    """Return what would keep sources and hosts from a deploy, in plan order."""
    found = [
        Finding("", str(job.error), job.module.name)
        for job in parts.jobs
        if job.error is not None
    ]

    async def look(ctx: Context) -> list[Finding]:
        try:
            facts = await _facts(ctx)
        except HostError as exc:
            return [Finding(ctx.name, str(exc))]
        return [Finding(ctx.name, text) for text in findings(ctx, facts)]

    for per_host in await _each(parts, transport, look):
        found += per_host
    return tuple(found)


async def compare(parts: Assembly, transport: Transport) -> FleetStatus:
    """Return what each host serves beside what MANIFEST says."""
    names = {job.module.name for job in parts.jobs}
    expected = {
        line.module: line.package for line in parts.manifest if line.module in names
    }
    last = await last_states(parts.store)

    async def look(ctx: Context) -> HostStatus:
        try:
            facts = await _facts(ctx)
        except HostError as exc:
            return HostStatus({}, "unreachable", str(exc))
        live = {name: target.live for name, target in facts.targets.items()}
        texts = [_difference(name, expected.get(name, ""), facts) for name in live]
        text = "; ".join(filter(None, texts))
        if text and last.get(ctx.name) == State.STRANDED.value:
            return HostStatus(live, "stranded", text)
        return HostStatus(live, "drift" if text else "in-line", text)

    states = await _each(parts, transport, look)
    hosts = {host.name: state for host, state in zip(parts.hosts, states, strict=True)}
    return FleetStatus(expected, hosts)


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
    )
    contexts = [
        Context(host, Guarded(transport.session(host), run.id, run.holder), run)
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
