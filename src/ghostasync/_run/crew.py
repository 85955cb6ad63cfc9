"""The hosts of a run, each with its session, in waves, and what they all share."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from .._build.environment import run_variables
from .._engine.host import Context, Logs, RunContext
from .._engine.serving import Serving
from .._engine.waves import cut, needed
from .._local.redact import Redactor
from .._planning.spec import Assembly
from .._remote.fence import Guarded
from ..events import Event
from ..machine import HostMachine
from ..model import Host
from ..protocols import Balancer, Transport

__all__ = ["Waves", "muster"]

Waves = tuple[tuple[Context, ...], ...]


def muster(
    parts: Assembly,
    transport: Transport | None,
    balancer: Balancer | None,
    logs: Logs,
    note: Callable[[Event, HostMachine | None], None],
) -> tuple[RunContext, tuple[Context, ...], Waves]:
    """
    Return what the hosts of a run share, the hosts in plan order, and their waves.

    Args:
        parts: The run.

        transport: Who reaches its hosts; None where it has none.

        balancer: Who sends visitors to them; None where nobody is told of a deploy.

        logs: Where the output of their scripts goes.

        note: Takes note of what happens to them.
    """
    run = _shared(parts, balancer, logs, note)

    def context(host: Host) -> Context:
        if transport is None:
            raise RuntimeError("a run without a transport has no hosts")
        holder = f"{run.holder} as {host.name}"
        return Context(host, Guarded(transport.session(host), run.id, holder), run)

    contexts = {host.name: context(host) for host in parts.hosts}
    rollout = parts.plan.rollout
    waves = tuple(
        tuple(contexts[host.name] for host in wave)
        for wave in cut(parts.hosts, rollout.waves, rollout.spread_by)
    )
    run.waves = len(waves)
    for number, wave in enumerate(waves, start=1):
        for ctx in wave:
            ctx.wave = number
    return run, tuple(contexts.values()), waves


def _shared(
    parts: Assembly,
    balancer: Balancer | None,
    logs: Logs,
    note: Callable[[Event, HostMachine | None], None],
) -> RunContext:
    plan, rollout = parts.plan, parts.plan.rollout
    drained = parts.past.drained if parts.past and balancer else ()
    return RunContext(
        id=parts.id,
        action=parts.action,
        plan=plan,
        modules=tuple(job.module for job in parts.jobs),
        holder=parts.holder,
        store_url=parts.store_url,
        force=parts.force,
        stranded=parts.stranded,
        redactor=Redactor([*parts.secrets.values(), *parts.hidden]),
        logs=logs,
        work=anyio.CapacityLimiter(rollout.concurrency),
        note=note,
        protected={m.module: frozenset({m.package}) for m in parts.manifest},
        places=parts.places,
        variables=run_variables(
            plan.app, actor=parts.actor, action=parts.action, secrets=parts.secrets
        ),
        serving=Serving(
            {host.name for host in parts.fleet}.difference(drained),
            needed(rollout.min_serving, len(parts.fleet)),
        ),
        balancer=balancer,
        wait=parts.wait,
        break_lock=parts.break_lock,
        past=parts.past,
        revert=parts.revert,
    )
