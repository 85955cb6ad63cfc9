"""UNDRAINING: the host is healthy, so its timer ends and its balancer has it back."""

from __future__ import annotations

from ... import events as e
from ..host import HostRun
from .confirm import disarm
from .drain import put_back

__all__ = ["undrain"]


async def undrain(ctx: HostRun) -> e.Undrained:
    """
    Put the host back into its balancer; it needs no timer any more.

    Raises:
        HostError: It failed or took too long, or the host has put its links back by
            itself.
    """
    await disarm(ctx)
    return e.Undrained(ctx.name, seconds=await put_back(ctx))
