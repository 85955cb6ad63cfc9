"""Find a host again whose connection died, and see whether the run can go on there."""

from __future__ import annotations

import anyio

from ... import events as e
from ...errors import ConnectionDied, HostError, Unreachable
from ...model import State as S  # noqa: N817  as in the table
from ..host import Context
from .check import inspect, take_lock

__all__ = ["reconnect"]

_PAUSE = 1.0
"""Seconds between two tries to reach a host."""

_SWITCHED = frozenset({S.ACTIVATING, S.VERIFYING, S.UNDRAINING, S.LIVE})
"""States in which every link of the host has to be the new one."""


async def reconnect(ctx: Context, lost: ConnectionDied) -> None:
    """
    Connect again, take the lock again, and look at what is there now.

    Scripts that the dead connection left behind are ended before this returns, so that
    the state's work can begin anew.

    Raises:
        ConnectionDied: *lost*, with what came after: the host was not reached within
            ``deadlines.connect``.
        HostError: It was, and is not ours to go on with: another run has it, or a link
            has been put back.
    """
    started, seconds = anyio.current_time(), ctx.run.deadlines.connect
    with anyio.move_on_after(seconds):
        await _reach(ctx)
        took = anyio.current_time() - started
        ctx.note(e.HostWarned(ctx.name, f"{lost}; connected again after {took:.1f} s"))
        return
    raise ConnectionDied(
        ctx.name, f"{lost}; not connected again within {seconds:g} s"
    ) from lost


async def _reach(ctx: Context) -> None:
    while True:
        ctx.disconnect()
        try:
            await ctx.session.open()
            if ctx.machine.state is S.CHECKING:
                return  # which takes the lock, and looks
            await take_lock(ctx)
            if ctx.machine.state is not S.ROLLING_BACK:
                await _look(ctx)
        except Unreachable as exc:
            if not exc.retriable:
                raise
        except ConnectionDied:
            pass
        else:
            return
        await anyio.sleep(_PAUSE)


async def _look(ctx: Context) -> None:
    ctx.facts = await inspect(ctx)
    if ctx.machine.state not in _SWITCHED:
        return
    for move in ctx.moves:
        now = ctx.facts.targets[move.module].link
        if now != move.new:
            text = f"{move.target} is {now or 'absent'}, not {move.new} any more"
            raise HostError(ctx.name, text)
