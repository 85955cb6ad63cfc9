"""UNDRAINING: the host is healthy, so its timer ends and its balancer has it back."""

from __future__ import annotations

from ... import events as e
from ..host import HostRun
from .confirm import disarm
from .drain import put_back

__all__ = ["undrain"]


async def undrain(ctx: HostRun) -> e.Undrained:
    """
    End the host's timer, then put the host back into its balancer.

    Raises:
        HostError: The balancer failed or took too long, or the host has put its links
            back by itself.
    """
    # The timer first: it may have put the links back by now, and then the host must go
    # back before it gets visitors.
    await disarm(ctx)
    return e.Undrained(ctx.name, seconds=await put_back(ctx))
