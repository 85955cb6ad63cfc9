"""SWITCHING: move every link of the host back to back."""

from __future__ import annotations

import anyio
import attrs

from ... import events as e
from ..._remote.call import call
from ...errors import LockHeld, NeverSent
from ..host import HostRun
from .confirm import start_timer

__all__ = ["switch"]


async def switch(ctx: HostRun) -> e.Switched:
    """
    Point every target at its new release, each in one rename(2).

    Links that are new already, from a try whose connection died, are left. With
    ``confirm`` the host is given a timer first, which puts them back unless it hears of
    this run.

    Raises:
        LockHeld: The lock was taken over meanwhile; no link was moved.
        RemoteError: A link is not what it was in CHECKING, or could not be replaced.
        NeverSent: The connection was lost before the switch began.
        ConnectionDied: The connection was lost; the links may have moved or not.
    """

    def moved(_: bytes) -> None:
        # switch.sh prints one word when the last link has moved, and keeps its books
        # after that: the skew must not count the books.
        ctx.switched_at = ctx.switched_at or anyio.current_time()

    await start_timer(ctx)
    # Noted before the call, for whatever ends it: a host that may have moved goes back.
    before = ctx.undo
    ctx.undo = attrs.evolve(before, link_may_have_moved=True)
    args = [word for move in ctx.undo.moves for word in move.args]
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
        ctx.undo = before  # the script did not begin, so no link of this run moved
        raise
    return e.Switched(ctx.name)
