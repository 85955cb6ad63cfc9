"""ROLLING_BACK: put the links back as they were, and have the old code prove itself."""

from __future__ import annotations

import json

import anyio
import attrs

from ... import events as e
from ..._remote.call import query
from ...errors import ConnectionDied, DeadlinePassed, StillRunning, Unreachable
from ...model import Action, Verify
from ..host import HostRun, Move
from ..scripts import ScriptCall, healthy, run_script
from .check import take_lock
from .confirm import disarm, disarm_to_go_back
from .drain import drain_to_go_back, put_back

__all__ = ["rollback"]

_PAUSE = 1.0
"""Seconds between two tries to reach a host whose connection died."""


@attrs.frozen
class _Restored:
    """What is true of one link after its way back: moved, and what serves again."""

    move: Move
    moved: bool
    post_deploy: bool
    health: Verify
    run_as: str = ""


async def rollback(ctx: HostRun) -> e.RolledBack:
    """
    Restore each link that this run moved, modules reversed; activate; verify.

    A connection that died is opened again, until the deadline. Links that did not move
    are left alone and nothing is run for them; a host whose switch never began is not
    even asked. A host is drained meanwhile, and put back when the old code has proven
    itself.

    Raises:
        HostError: Any failure here leaves the host stranded: a person must look.
    """
    served = {move.module: move.previous.rpartition("/")[2] for move in ctx.undo.moves}
    # Its own switch, or that of the killed run which this one takes up.
    if ctx.undo.link_may_have_moved:
        await drain_to_go_back(ctx)
        await _undo(ctx)
    if ctx.undo.drained:
        await disarm(ctx)
        await put_back(ctx)
    return e.RolledBack(ctx.name, to=served)


async def _undo(ctx: HostRun) -> None:
    """Move the links back, and have what they lead to prove itself."""
    seconds = ctx.run.deadlines.rollback
    with anyio.move_on_after(seconds) as scope:
        restored = await _persist(ctx)
    if scope.cancelled_caught:
        raise DeadlinePassed(ctx.name, "rollback", seconds)
    for item in restored:
        if item.move.target in ctx.attempt.links_put_back:
            await _reactivate(ctx, item)


async def _persist(ctx: HostRun) -> list[_Restored]:
    """Restore, again and again where the connection dies."""
    again = False
    while True:
        try:
            restored = await _restore(ctx)
        except Unreachable as exc:
            if not exc.retriable:
                raise
        except ConnectionDied:
            again = True
        except StillRunning:
            pass  # the host's own timer, perhaps; the deadline bounds it
        else:
            # What an attempt that died has moved back, the next finds back already.
            back = {r.move.target for r in restored if r.moved or again}
            ctx.attempt.links_put_back |= back
            return restored
        ctx.disconnect()
        if ctx.book.connected:
            # The waves that are to follow do not wait for a host out of reach.
            ctx.run.note(e.Disconnected(ctx.name, "lost on its way back"))
        await anyio.sleep(_PAUSE)


async def _restore(ctx: HostRun) -> list[_Restored]:
    await ctx.session.open()
    if ctx.attempt.lock is None:
        await take_lock(ctx)
    await disarm_to_go_back(ctx)
    moves = {move.target: move for move in reversed(ctx.undo.moves)}
    args = [word for move in moves.values() for word in move.args]
    said = await query(
        ctx.session, "restore", ctx.known.rename, ctx.busy_file, *args, sudo=ctx.sudo
    )
    restored: list[_Restored] = []
    for line in said.split("\n"):
        word, _, rest = line.partition(" ")
        if word == "verify":
            told = json.loads(rest)
            run_as = told.pop("post_deploy_as", "")
            restored[-1] = attrs.evolve(
                restored[-1], health=Verify(**told), run_as=run_as
            )
        elif word:
            has = word.split(",")
            restored.append(
                _Restored(
                    moves[rest],
                    moved="restored" in has,
                    post_deploy="post_deploy" in has,
                    health=Verify(),
                )
            )
    return restored


async def _reactivate(ctx: HostRun, item: _Restored) -> None:
    """Run the old release's own post-deploy with its own environment, and verify."""
    move = item.move
    old = move.previous.rpartition("/")[2]
    meta = ctx.paths.meta(move.module, old)
    module = next(m for m in ctx.run.modules if m.name == move.module)
    if item.post_deploy:
        overrides = {
            "GHOST_ACTION": Action.ROLLBACK.value,
            "GHOST_FAILED_RELEASE_ID": move.new.rpartition("/")[2],
            "GHOST_WAVE": str(ctx.wave or ""),
        }
        job = ScriptCall(
            module=move.module,
            script="post_deploy",
            cwd=move.target,
            meta=meta,
            key="post_deploy",
            seconds=ctx.run.deadlines.post_deploy,
            overrides=overrides,
            run_as=item.run_as,
        )
        await run_script(ctx, job)
    # By its own measure: what a new release must show an old one may not know.
    await healthy(ctx, attrs.evolve(module, verify=item.health), meta)
