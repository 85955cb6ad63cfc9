"""The balancer of a plan, which sends a host no visitors while its release changes."""

from __future__ import annotations

from .. import adapters
from ..balancers.commands import Commands
from ..model import Plan
from ..protocols import Balancer

__all__ = ["balancer_of"]


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
