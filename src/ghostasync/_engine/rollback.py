"""
Take hosts back to what they served before a run, last wave first.

The run is this one, or one that was killed and that this one takes up: what that had
moved is found out from the host's own records, and goes back with the rest.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import anyio
from anyio.abc import TaskGroup

from .. import events as e
from ..errors import HostError
from ..model import State as S  # noqa: N817  as in the table
from .host import Context, RunContext
from .pipeline import advance, apply
from .serving import NoRoom
from .stages.check import inspect, take_lock
from .stages.connect import connect
from .takeover import drained_by_past, to_undo

__all__ = ["look_again", "take_back", "take_up"]

_LOOK_EVERY = 0.5
"""Seconds between two looks at which hosts of a wave can still be reached."""

_SERVING = frozenset({S.LIVE, S.CHECKING, S.READY, S.FAILED})
"""States in which a host serves that is to go back."""


def take_up(ctx: Context) -> bool:
    """
    Note what a killed run did to a host that has been looked at.

    Returns:
        Whether anything is to be taken back there.
    """
    ctx.moves = ctx.moves or to_undo(ctx)
    ctx.moved = ctx.switching = ctx.timed = bool(ctx.moves)
    ctx.drained = not ctx.moves and drained_by_past(ctx)
    return ctx.moved or ctx.drained


async def look_again(hosts: Iterable[Context]) -> list[Context]:
    """
    Look at hosts that failed or were halted before this run knew what they serve.

    Returns:
        Those of them on which the killed run has left something to be taken back. A
        host that cannot be looked at is not among them; it stays as it is.
    """
    found: list[Context] = []

    async def look(ctx: Context) -> None:
        ctx.facts = None  # what was known of it was too little
        deadlines = ctx.run.deadlines
        with anyio.move_on_after(deadlines.connect + deadlines.check):
            try:
                await connect(ctx)
                if ctx.lock is None:
                    await take_lock(ctx)
                ctx.facts = await inspect(ctx)
            except HostError as exc:
                ctx.note(e.HostWarned(ctx.name, f"could not be looked at: {exc}"))
                return
            if take_up(ctx):
                found.append(ctx)
            return
        ctx.note(e.HostWarned(ctx.name, "could not be looked at: it does not answer"))

    async with anyio.create_task_group() as tasks:
        for ctx in hosts:
            tasks.start_soon(look, ctx)
    return found


async def take_back(
    run: RunContext,
    waves: Sequence[Sequence[Context]],
    back: Mapping[str, Context],
    reason: str,
) -> None:
    """
    Roll back the hosts *back*, in reverse order of *waves*, whatever is cancelled.

    No wave waits for a host that failed by itself, or that cannot be reached.

    Raises:
        Exception: A bug in one host's rollback, once all others are back.
    """
    # Who does not serve comes first: others may have to wait for them.
    first = [
        ctx
        for ctx in back.values()
        if ctx.machine.state in _SERVING - {S.LIVE} and drained_by_past(ctx)
    ]
    order = [first] + [
        [ctx for ctx in wave if ctx.name in back and ctx not in first]
        for wave in reversed(waves)
    ]
    names = tuple(ctx.name for wave in order for ctx in wave)
    run.note(e.FleetRollbackStarted(reason, names), None)
    bugs: list[Exception] = []
    one = functools.partial(_one, reason=reason, bugs=bugs)
    failed = [ctx for ctx in back.values() if ctx.machine.state is S.ROLLING_BACK]
    with anyio.CancelScope(shield=True):
        async with anyio.create_task_group() as tasks:
            for ctx in failed:
                tasks.start_soon(one, ctx)
            for wave in order:
                await _wave([ctx for ctx in wave if ctx not in failed], tasks, one)
    if bugs:
        raise bugs[0]


async def _wave(
    hosts: Sequence[Context],
    tasks: TaskGroup,
    one: Callable[[Context], Awaitable[None]],
) -> None:
    """Start the way back of one wave, and wait for the hosts that can be reached."""
    left, over = set(hosts), anyio.Event()

    async def go(ctx: Context) -> None:
        await one(ctx)
        left.discard(ctx)
        if not left:
            over.set()

    for ctx in hosts:
        tasks.start_soon(go, ctx)
    # Who has no lock has lost its connection, and is being called again.
    while any(ctx.lock is not None for ctx in left):
        with anyio.move_on_after(_LOOK_EVERY):
            await over.wait()


async def _one(ctx: Context, reason: str, bugs: list[Exception]) -> None:
    """Roll back one host; what goes wrong here must not keep others from theirs."""
    try:
        if ctx.machine.state in _SERVING:
            await ctx.run.serving.leave(ctx.name)
        if ctx.machine.state is not S.ROLLING_BACK:
            apply(ctx, e.RollbackRequested(ctx.name, reason))
        await advance(ctx)
    except NoRoom as exc:
        text = f"stays on the new release: {exc}"
        ctx.note(e.HostWarned(ctx.name, text))
        if ctx.machine.state is S.CHECKING:
            apply(ctx, e.Failed(ctx.name, text, S.CHECKING))
    except Exception as exc:  # noqa: BLE001  raised once all are back
        bugs.append(exc)
