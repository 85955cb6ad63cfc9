"""The balancer of a plan, which sends a host no visitors while its release changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import anyio
import attrs

from .. import adapters
from ..balancers.commands import Commands
from ..errors import PlanError
from ..model import Plan
from ..protocols import Balancer, TimedBalancer
from .inventory import ASK_SECONDS

__all__ = ["balancer_of", "seconds_of", "with_deadlines"]

_DEFAULT: Final = 60.0
"""Seconds to drain or undrain a host, where neither plan nor balancer says any."""


def balancer_of(plan: Plan) -> Balancer | None:
    """
    Return the balancer that *plan* names; None without one.

    Raises:
        PlanError: There is no such plug-in, or it cannot be made.
    """
    # The plan's check refuses a balancer by name beside commands of one's own.
    rollout = plan.rollout
    if rollout.balancer.kind:
        return adapters.balancer(rollout.balancer.kind, rollout.balancer.options, plan)
    if rollout.drain or rollout.undrain:
        return Commands(rollout.drain, rollout.undrain)
    return None


async def seconds_of(balancer: Balancer | None) -> Mapping[str, float]:
    """
    Return how long *balancer* itself takes for a drain and an undrain, at most.

    Empty where it does not say.

    Raises:
        PlanError: Its settings cannot be read, or not in time.
    """
    if not isinstance(balancer, TimedBalancer):
        return {}
    try:
        with anyio.fail_after(ASK_SECONDS):
            drain, undrain = await balancer.seconds()
    except PlanError:
        raise
    except TimeoutError:
        text = f"rollout.balancer: did not answer within {ASK_SECONDS:g} s"
        raise PlanError(text) from None
    except Exception as exc:  # somebody else's code may raise anything
        raise PlanError(f"rollout.balancer: failed: {exc!r}") from exc
    return {"drain": drain, "undrain": undrain}


def with_deadlines(plan: Plan, needed: Mapping[str, float]) -> Plan:
    """
    Return *plan* with its deadlines of drain and undrain filled in.

    Args:
        plan: The plan.

        needed: What the balancer takes, as of :func:`seconds_of`.

    Raises:
        PlanError: The plan has a deadline at which a balancer is not done yet.
    """
    given = attrs.asdict(plan.rollout.deadlines)
    for key, seconds in needed.items():
        if 0 < given[key] < seconds:
            raise PlanError(
                f"rollout.deadlines.{key}: is {given[key]:g}; allowed: 0, or at least"
                f" {seconds:g}, which the balancer may take by its own settings"
            )
    deadlines = attrs.evolve(
        plan.rollout.deadlines,
        **{
            key: given[key] or needed.get(key, _DEFAULT) for key in ("drain", "undrain")
        },
    )
    return attrs.evolve(plan, rollout=attrs.evolve(plan.rollout, deadlines=deadlines))
