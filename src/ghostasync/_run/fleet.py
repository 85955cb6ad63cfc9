"""The fleet of a run, put together: hosts, each with its session, and the rules."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import anyio
import attrs

from .._build.environment import run_variables
from .._engine.fleet import Fleet
from .._engine.host import HostRun, RunContext
from .._engine.policy import Policy, Rules
from .._engine.spec import RunSpec
from .._engine.waves import allowed, cut, needed
from .._remote.fence import FencedSession
from ..errors import PlanError
from ..fold import HostState, RunState
from ..inventories.static import Static
from ..model import Host
from ..protocols import Inventory, Transport
from .record import Recording

__all__ = ["fleet_of", "host_run"]

_FRESH: Final = 1.0
"""Seconds for which an inventory's answer counts: many hosts may be lost at once."""

_ASK_SECONDS: Final = 15.0
"""Seconds that an inventory may take while a host waits to know what became of it."""


@attrs.define(eq=False)
class _Named:
    """The hosts that an inventory names now, asked at most once in a while."""

    inventory: Inventory
    _at: float = -_FRESH
    _names: frozenset[str] | None = None
    _asking: anyio.Lock = attrs.field(factory=anyio.Lock)

    async def hosts(self) -> frozenset[str] | None:
        """Return the names; None where the inventory cannot say, or is the plan."""
        if isinstance(self.inventory, Static):
            return None
        async with self._asking:
            if anyio.current_time() - self._at >= _FRESH:
                self._names = None
                with anyio.move_on_after(_ASK_SECONDS), suppress(PlanError):
                    hosts = await self.inventory.hosts()
                    self._names = frozenset(host.name for host in hosts)
                self._at = anyio.current_time()
            return self._names


def fleet_of(spec: RunSpec, transport: Transport | None, record: Recording) -> Fleet:
    """
    Return the fleet of a run; nothing is contacted yet.

    Args:
        spec: The run.

        transport: The way to its hosts; None in a run without hosts.

        record: The record that its events and the output of its hosts go to.
    """
    sides = [spec, *([spec.partner] if spec.partner else [])]
    state = RunState(HostState.of)
    redactor = spec.redactor
    runs = [
        RunContext(
            spec=side,
            redactor=redactor,
            logs=record,
            work_slots=anyio.CapacityLimiter(side.plan.rollout.concurrency),
            note=lambda event: fleet.note(event),  # noqa: PLW0108  made below
            state=state,
            named=_Named(side.inventory).hosts,
            protected={m.module: frozenset({m.package}) for m in side.manifest},
            variables=run_variables(
                side.plan.app,
                actor=side.actor,
                action=side.goal.action,
                secrets=side.secrets,
            ),
        )
        for side in sides
    ]
    run = runs[0]
    rules = rules_of(spec, drains=run.balances("drain"))
    policy = Policy(_of_swap(rules, sides) if spec.partner else rules, state)
    hosts: dict[str, HostRun] = {}
    for side in runs:
        side.waves = len(policy.rules.waves)
        hosts |= {
            host.name: host_run(host, side, transport) for host in side.spec.hosts
        }
    for number, wave in enumerate(policy.rules.waves, start=1):
        for name in wave:
            hosts[name].wave = record.waves[name] = number
    fleet = Fleet(run, hosts, policy, record.note, record.before_first_switch)
    record.alarm = fleet.abandon
    return fleet


def host_run(host: Host, run: RunContext, transport: Transport | None) -> HostRun:
    """Return a host of a run, with its session; it is not contacted yet."""
    if transport is None:
        raise RuntimeError("a run without a transport has no hosts")
    holder = f"{run.spec.holder} as {host.name}"
    return HostRun(host, FencedSession(transport.session(host), run.id, holder), run)


def rules_of(spec: RunSpec, *, drains: bool) -> Rules:
    """
    Return what the policy of a run decides by: its plan, in numbers and names.

    *drains* is whether hosts are taken out of a balancer.
    """
    # Drained hosts mean nothing to a run that drains nobody: it could not put them
    # back.
    rollout, killed = spec.plan.rollout, spec.killed
    drained = killed.drained if killed and drains else ()
    total, unreachable = len(spec.hosts), rollout.max_unreachable
    stays = spec.goal.stays
    waves = cut(spec.hosts, rollout.waves, rollout.spread_by)
    # Where a fleet leaves a bad release, a dead host keeps nobody there.
    if spec.goal.recalls:
        unreachable = total
    return Rules(
        whoever_is_dead=spec.goal.recalls,
        waves=tuple(tuple(host.name for host in wave) for wave in waves),
        max_failures=allowed(rollout.max_failures, total),
        max_unreachable=None if unreachable == "" else allowed(unreachable, total),
        together=rollout.on_failure == "rollback-fleet",
        min_serving=0 if stays else needed(rollout.min_serving, len(spec.fleet)),
        serving=tuple(host.name for host in spec.fleet if host.name not in drained),
        patient=spec.wait > 0,
        only_back=spec.goal.only_back,
        only_executes=stays,
        changed=killed.changed if killed else (),
        drained=drained,
    )


def _of_swap(rules: Rules, sides: Sequence[RunSpec]) -> Rules:
    """Return the rules of a swap: first who gets visitors, then who loses them."""
    first, second = sorted(sides, key=lambda side: not side.gets_visitors)
    rollout, total = first.plan.rollout, len(first.hosts)
    unreachable = rollout.max_unreachable
    return attrs.evolve(
        rules,
        waves=tuple(tuple(h.name for h in side.hosts) for side in (first, second)),
        max_failures=allowed(rollout.max_failures, total),
        max_unreachable=None if unreachable == "" else allowed(unreachable, total),
        serving=tuple(host.name for side in sides for host in side.fleet),
    )
