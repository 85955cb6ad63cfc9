"""A look at every host of a run, many at a time; nothing is changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

import anyio

from .._local.paths import HostPaths
from .._local.redact import Redactor
from .._local.together import at_once
from .._remote.facts import Facts
from .._remote.fence import FencedSession
from ..errors import HostError
from ..events import Event
from ..fold import HostState, RunState
from ..protocols import Transport
from .host import HostRun, RunContext
from .records import implausible, why_implausible
from .spec import RunSpec
from .stages.check import inspect
from .stages.connect import connect

__all__ = ["ask_each", "facts_of", "looked_at"]

T = TypeVar("T")

RECORDS: Final = 100
"""Activation records that hosts keep, besides those of releases that are there."""


def _ignore(event: Event) -> None:
    """Drop *event*: a look is no run, and has no journal."""


class _NoLogs:
    """Logs of a look, which runs no script of a user and keeps none."""

    def write(self, host: str, data: bytes) -> None:
        """Forget *data*."""


async def looked_at(
    spec: RunSpec, transport: Transport, *, records: int = RECORDS
) -> dict[str, Facts | HostError]:
    """
    Return the facts of each host, or the error that kept it from telling them.

    Hosts tell their newest *records* activation records of each module.
    """

    async def look(ctx: HostRun) -> Facts | HostError:
        try:
            return await facts_of(ctx)
        except HostError as exc:
            return exc

    told = await ask_each(spec, transport, look, records=records)
    seen = {host.name: facts for host, facts in zip(spec.hosts, told, strict=True)}
    return seen | _not_believed(spec, seen)


def _not_believed(
    spec: RunSpec, seen: Mapping[str, Facts | HostError]
) -> dict[str, HostError]:
    """Return an error for each host whose numbers would put it above all others."""
    paths = HostPaths(spec.plan.layout.root, spec.plan.app)
    known = [line.generation for line in spec.manifest]
    facts = {name: each for name, each in seen.items() if isinstance(each, Facts)}
    return {
        name: HostError(name, why_implausible(facts[name], paths))
        for name in implausible(facts, known)
    }


async def facts_of(ctx: HostRun) -> Facts:
    """
    Connect to a host and return its facts; no lock is taken.

    Raises:
        HostError: The host cannot be reached, or does not answer within both deadlines.
    """
    deadlines = ctx.run.deadlines
    with anyio.move_on_after(deadlines.connect + deadlines.check):
        await connect(ctx)
        return await inspect(ctx)
    raise HostError(ctx.name, "no answer in time (rollout.deadlines.connect, check)")


async def ask_each(
    spec: RunSpec,
    transport: Transport,
    look: Callable[[HostRun], Awaitable[T]],
    *,
    records: int = RECORDS,
) -> list[T]:
    """
    Return what *look* returns for every host, in plan order.

    At most ``rollout.concurrency`` hosts are asked at a time. An exception of *look*
    ends the looks at all others.
    """
    run = RunContext(
        spec=spec,
        redactor=Redactor(()),
        logs=_NoLogs(),
        work_slots=anyio.CapacityLimiter(spec.plan.rollout.concurrency),
        note=_ignore,
        state=RunState(HostState.of),
        records=records,
    )
    hosts = [
        HostRun(
            host,
            FencedSession(
                transport.session(host), run.id, f"{spec.holder} as {host.name}"
            ),
            run,
        )
        for host in spec.hosts
    ]

    async def ask(ctx: HostRun) -> T:
        try:
            return await look(ctx)
        finally:
            ctx.session.abort()

    return await at_once(spec.plan.rollout.concurrency, ask, hosts)
