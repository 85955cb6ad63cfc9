"""Confirm or revert: a timer on the host that puts its links back when all are gone."""

from __future__ import annotations

import secrets

import attrs

from ..._remote.call import call
from ..._remote.script import timer
from ...errors import ConnectionDied, HostError, LockHeld, RemoteError
from ...protocols import Channel
from ..host import HostRun

__all__ = ["disarm", "disarm_to_go_back", "start_timer"]

_PATIENCE = 20
"""Seconds that a timer which is putting its links back is waited for."""


async def start_timer(ctx: HostRun) -> None:
    """
    Have the host put its links back, unless it hears of this run again and again.

    Raises:
        RemoteError: No timer could be started there.
    """
    seconds = ctx.run.plan.rollout.confirm
    if not seconds:
        return
    name = f"{ctx.run.id}-{secrets.token_hex(2)}"
    app_dir = ctx.session.app_dir
    patience = f"{max(1, round(ctx.run.deadlines.post_deploy))}"
    args = (
        *(name, app_dir, ctx.session.holder, str(max(1, round(seconds)))),
        *(patience, ctx.session.app),
    )
    moves = tuple(word for move in reversed(ctx.undo.moves) for word in move.args)
    text = timer(args, (ctx.known.rename, ctx.busy_file, *moves))

    async def send(channel: Channel) -> None:
        await channel.write(text)
        channel.write_eof()

    await call(
        *(ctx.session, "timer_start", app_dir, name, str(len(text))),
        sudo=ctx.sudo,
        feed=send,
    )
    ctx.undo = attrs.evolve(ctx.undo, timer=True)


async def disarm(ctx: HostRun) -> None:
    """
    End the host's timer: the host is live for good, or goes back by our hand.

    Raises:
        HostError: It has put the links back by itself.
    """
    if not ctx.undo.timer:
        return
    app_dir = ctx.session.app_dir
    try:
        await call(ctx.session, "timer_stop", app_dir, str(_PATIENCE), sudo=ctx.sudo)
    except RemoteError as exc:
        ctx.undo = attrs.evolve(ctx.undo, timer=False)
        raise HostError(ctx.name, exc.tail.strip() or str(exc)) from exc
    ctx.undo = attrs.evolve(ctx.undo, timer=False)


async def disarm_to_go_back(ctx: HostRun) -> None:
    """End the timer of a host that goes back anyway; it may have done so itself."""
    try:
        await disarm(ctx)
    except (ConnectionDied, LockHeld):
        raise
    except HostError as exc:
        # Have the old code prove itself to us, too.
        ctx.attempt.links_put_back |= {move.target for move in ctx.undo.moves}
        ctx.warn(str(exc))
