"""SWITCHING: move every link of the host back to back."""

from __future__ import annotations

import anyio

from ... import events as e
from ..._remote.call import call
from ...errors import LockHeld, NeverSent
from ..host import Context
from .confirm import start_timer

__all__ = ["switch"]


async def switch(ctx: Context) -> e.Switched:
    """
    Point every target at its new release, each in one rename(2).

    Links that are new already, from a try whose connection died, are left. With
    ``confirm`` the host is given a timer first, which puts them back unless it hears of
    this run.

    Raises:
        LockHeld: The lock was taken over meanwhile; no link was moved.
        RemoteError: A link is not what it was in CHECKING, or could not be replaced.
        NeverSent: The connection was lost before it began.
        ConnectionDied: The connection was lost; the links may have moved or not.
    """

    def moved(_: bytes) -> None:
        ctx.switched_at = ctx.switched_at or anyio.current_time()

    await start_timer(ctx)
    before, ctx.switching = ctx.switching, True
    args = [word for move in ctx.moves for word in move.args]
    try:
        await call(
            ctx.session,
            "switch",
            ctx.known.rename,
            ctx.busy_file,
            *args,
            sudo=ctx.sudo,
            output=moved,
        )
    except (LockHeld, NeverSent):
        ctx.switching = before  # this one did not begin
        raise
    return e.Switched(ctx.name)
