"""The hosts of a run, each with its session, in waves, and what they all share."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from .._build.environment import run_variables
from .._engine.host import Context, Logs, RunContext
from .._engine.serving import Serving
from .._engine.spec import RunSpec
from .._engine.waves import cut, needed
from .._local.redact import Redactor
from .._remote.fence import Guarded
from ..events import Event
from ..machine import HostMachine
from ..model import Host
from ..protocols import Transport

__all__ = ["Waves", "muster"]

Waves = tuple[tuple[Context, ...], ...]


def muster(
    spec: RunSpec,
    transport: Transport | None,
    logs: Logs,
    note: Callable[[Event, HostMachine | None], None],
) -> tuple[RunContext, tuple[Context, ...], Waves]:
    """
    Return what the hosts of a run share, the hosts in plan order, and their waves.

    Args:
        spec: The run.

        transport: Who reaches its hosts; None where it has none.

        logs: Where the output of their scripts goes.

        note: Takes note of what happens to them.
    """
    run = _shared(spec, logs, note)

    def context(host: Host) -> Context:
        if transport is None:
            raise RuntimeError("a run without a transport has no hosts")
        holder = f"{spec.holder} as {host.name}"
        return Context(host, Guarded(transport.session(host), run.id, holder), run)

    contexts = {host.name: context(host) for host in spec.hosts}
    rollout = spec.plan.rollout
    waves = tuple(
        tuple(contexts[host.name] for host in wave)
        for wave in cut(spec.hosts, rollout.waves, rollout.spread_by)
    )
    run.waves = len(waves)
    for number, wave in enumerate(waves, start=1):
        for ctx in wave:
            ctx.wave = number
    return run, tuple(contexts.values()), waves


def _shared(
    spec: RunSpec, logs: Logs, note: Callable[[Event, HostMachine | None], None]
) -> RunContext:
    plan, rollout = spec.plan, spec.plan.rollout
    drained = spec.killed.drained if spec.killed and spec.balancer else ()
    return RunContext(
        spec=spec,
        redactor=Redactor([*spec.secrets.values(), *spec.old_secrets]),
        logs=logs,
        work=anyio.CapacityLimiter(rollout.concurrency),
        note=note,
        protected={m.module: frozenset({m.package}) for m in spec.manifest},
        variables=run_variables(
            plan.app, actor=spec.actor, action=spec.goal.action, secrets=spec.secrets
        ),
        serving=Serving(
            {host.name for host in spec.fleet}.difference(drained),
            needed(rollout.min_serving, len(spec.fleet)),
        ),
    )
