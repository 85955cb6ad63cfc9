"""The two halves of a swap: a host that is to get visitors, and one that loses them."""

from __future__ import annotations

from ... import events as e
from ..host import HostRun
from ..scripts import healthy
from .drain import drain, put_back

__all__ = ["prove", "swap"]


async def prove(ctx: HostRun) -> e.Verified:
    """
    Have every module of the host prove its health, in the release that it serves.

    Raises:
        RemoteError: A check still failed at ``deadlines.verify``.
        ConnectionDied: The connection was lost.
    """
    for module in ctx.modules:
        live = ctx.known.targets[module.name].live
        await healthy(ctx, module, ctx.paths.meta(module.name, live))
    return e.Verified(ctx.name)


async def swap(ctx: HostRun) -> e.Unchanged:
    """
    Put the host into its balancer, or take it out; its releases stay.

    Raises:
        HostError: The balancer failed or took too long.
    """
    await (put_back if ctx.run.spec.gets_visitors else drain)(ctx)
    return e.Unchanged(ctx.name)
