"""DRAINING and UNDRAINING: nothing stands between a host and its visitors yet."""

from __future__ import annotations

from .. import events as e
from ._context import Context

__all__ = ["drain", "undrain"]


async def drain(ctx: Context) -> e.Drained:
    """Take the host out of its balancers; without balancers it is out already."""
    return e.Drained(ctx.name)


async def undrain(ctx: Context) -> e.Undrained:
    """Put the host back into its balancers."""
    return e.Undrained(ctx.name)
