"""Who is told to send no visitors to a host while its release changes."""

from __future__ import annotations

from .. import adapters
from ..balancers.commands import Commands
from ..model import Plan
from ..protocols import Balancer

__all__ = ["balancer_of"]


def balancer_of(plan: Plan) -> Balancer | None:
    """
    Return the balancer that *plan* names; None where nobody is told of a deploy.

    Raises:
        PlanError: There is no such plug-in, or it cannot be made.
    """
    rollout = plan.rollout
    if rollout.balancer.kind:
        return adapters.balancer(rollout.balancer.kind, rollout.balancer.options, plan)
    if rollout.drain or rollout.undrain:
        return Commands(rollout.drain, rollout.undrain)
    return None
