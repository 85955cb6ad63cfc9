"""DRAINING and UNDRAINING: take a host out of its balancers, and put it back."""

from __future__ import annotations

import anyio

from ... import events as e
from ...errors import ConnectionDied, HostError, LockHeld
from ..host import Context
from ._hook import require_lock, run_hook
from .confirm import disarm

__all__ = ["drain", "drain_to_go_back", "undrain"]


async def drain(ctx: Context) -> e.Drained:
    """
    Take the host out of its balancers; without a command it is out already.

    Raises:
        HostError: The command failed or took too long; the host may be half drained.
    """
    if not ctx.run.plan.rollout.drain:
        return e.Drained(ctx.name)
    started = anyio.current_time()
    await require_lock(ctx)
    # Before it is: what is half drained must be put back too.
    ctx.drained = True
    await run_hook(ctx, "drain")
    return e.Drained(ctx.name, seconds=anyio.current_time() - started)


async def drain_to_go_back(ctx: Context) -> None:
    """Drain a host that serves the new release, unless it is; it goes back anyway."""
    if ctx.drained:
        return
    try:
        await drain(ctx)
    except (ConnectionDied, LockHeld):
        raise
    except HostError as exc:
        ctx.note(e.HostWarned(ctx.name, f"goes back with visitors on it: {exc}"))


async def undrain(ctx: Context) -> e.Undrained:
    """
    Put the host back into its balancers; it needs no timer any more.

    Raises:
        HostError: The command failed or took too long.
    """
    started = anyio.current_time()
    await disarm(ctx)
    if not ctx.run.plan.rollout.undrain:
        ctx.drained = False
        return e.Undrained(ctx.name)
    await require_lock(ctx)
    await run_hook(ctx, "undrain")
    ctx.drained = False
    return e.Undrained(ctx.name, seconds=anyio.current_time() - started)
