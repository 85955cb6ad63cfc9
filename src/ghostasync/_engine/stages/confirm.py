"""
SWITCHING to UNDRAINING, with ``confirm``: the host goes back if its run is silent.

How it works. SWITCHING starts a timer on the host before the first link moves. The
timer waits for the run's beats; after ``rollout.confirm`` seconds without one it puts
the links back by itself and runs the old post-deploys. UNDRAINING stops it, and so does
a way back. The timer and ``timer_stop.sh`` rename the same file; the one that succeeds
has the links (``_remote/timer.sh``).
"""

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
    Start the host's timer, before its first link moves; without ``confirm`` do nothing.

    Raises:
        RemoteError: No timer could be started on the host.
    """
    seconds = ctx.run.plan.rollout.confirm
    if not seconds:
        return
    # A switch that is begun again starts another timer; the first one ends when it
    # finds a name that is not its own.
    name = f"{ctx.run.id}-{secrets.token_hex(2)}"
    app_dir = ctx.session.app_dir
    patience = f"{max(1, round(ctx.run.deadlines.post_deploy))}"
    args = (
        *(name, app_dir, ctx.session.holder, str(max(1, round(seconds)))),
        *(patience, ctx.session.app),
    )
    moves = tuple(word for move in reversed(ctx.undo.moves) for word in move.args)
    text = timer(args, (ctx.known.rename, ctx.busy_file, ctx.run.id, *moves))

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
    End the host's timer: the host is live, or goes back by this run's hand.

    Raises:
        HostError: The timer has put the links back by itself.
    """
    if not ctx.undo.timer:
        return
    app_dir = ctx.session.app_dir
    # A lost connection leaves *timer* set: nobody knows whether the timer has ended.
    try:
        await call(ctx.session, "timer_stop", app_dir, str(_PATIENCE), sudo=ctx.sudo)
    except RemoteError as exc:
        ctx.undo = attrs.evolve(ctx.undo, timer=False)
        raise HostError(ctx.name, exc.tail.strip() or str(exc)) from exc
    ctx.undo = attrs.evolve(ctx.undo, timer=False)


async def disarm_to_go_back(ctx: HostRun) -> None:
    """End the timer of a host that goes back; links that it put back count as ours."""
    try:
        await disarm(ctx)
    except (ConnectionDied, LockHeld):
        raise
    except HostError as exc:
        # The timer has put the links back. Counted as put back here, their releases are
        # activated and verified once more: nobody has seen how that went.
        ctx.attempt.links_put_back |= {move.target for move in ctx.undo.moves}
        ctx.warn(str(exc))
