"""CONNECTING again, from any state: reach a host whose connection died, and go on."""

from __future__ import annotations

from typing import Final

import anyio

from ... import events as e
from ...errors import ConnectionDied, HostError, Unreachable
from ...machine import SWITCHED
from ...model import State as S  # noqa: N817  as in the table
from ..host import HostRun
from .check import inspect, take_lock

__all__ = ["RECONNECTIONS", "reconnect"]

RECONNECTIONS: Final = 3
"""Connections of one host that may die before the run gives it up, counted anew for the
way back; a host that goes up and down all the time is no host to switch."""

_PAUSE = 1.0
"""Seconds between two tries to reach a host."""


async def reconnect(ctx: HostRun, lost: ConnectionDied) -> None:
    """
    Connect again, take the lock again, and look at what is there now.

    Scripts that the dead connection left behind are ended before this returns, so that
    the state's work can begin anew.

    Raises:
        ConnectionDied: The host was not reached within ``deadlines.connect``; the text
            begins with that of *lost*.
        HostError: The host was reached, and the run cannot go on there: another run has
            it, or a link has been put back.
    """
    started, seconds = anyio.current_time(), ctx.run.deadlines.connect
    ctx.run.note(e.Disconnected(ctx.name, str(lost)))
    with anyio.move_on_after(seconds):
        await _reach(ctx)
        took = anyio.current_time() - started
        ctx.run.note(e.Reconnected(ctx.name, took))
        ctx.warn(f"{lost}; connected again after {took:.1f} s")
        return
    raise ConnectionDied(
        ctx.name, f"{lost}; not connected again within {seconds:g} s"
    ) from lost


async def _reach(ctx: HostRun) -> None:
    while True:
        ctx.disconnect()
        try:
            await ctx.session.open()
            if ctx.state is S.CHECKING:
                return  # the stage itself takes the lock and looks at the host
            await take_lock(ctx)
            # A way back finds out by itself where links are: restore.sh says so.
            if ctx.state is not S.ROLLING_BACK:
                await _inspect_again(ctx)
        except Unreachable as exc:
            # A refused login or a wrong host key is final; to try again would only get
            # this machine locked out.
            if not exc.retriable:
                raise
        except ConnectionDied:
            pass
        else:
            return
        await anyio.sleep(_PAUSE)


async def _inspect_again(ctx: HostRun) -> None:
    """Look at the host anew; once switched, every link must still be the new one."""
    ctx.attempt.facts = await inspect(ctx)
    if ctx.state not in SWITCHED:
        return
    # The host's own timer (rollout.confirm), or a person, may have put a link back
    # meanwhile: scripts would then run, and pass, in the old release.
    for move in ctx.undo.moves:
        now = ctx.attempt.facts.targets[move.module].link
        if now != move.new:
            text = f"{move.target} is {now or 'absent'}, not {move.new} any more"
            raise HostError(ctx.name, text)
