"""
ROLLING_BACK: put the links back as they were, and have the old code prove itself.

How it works. ``restore.sh`` moves each link that is at its new release back to where it
was, and tells for each whether it moved and what the release that serves again has: a
post-deploy, and how it proves its health. Both come from the old release's own
records, not from this run's plan. Links go back under one deadline, in which a host
that is out of reach is called again and again; scripts come after, with their own.
"""

from __future__ import annotations

import functools

import anyio
import attrs

from ... import events as e
from ..._remote import answers
from ..._remote.call import query
from ...errors import (
    ConnectionDied,
    DeadlinePassed,
    HostError,
    StillRunning,
    Unreachable,
)
from ...model import Action
from ..host import HostRun, Move
from ..scripts import ScriptCall, healthy, learn_secrets, run_script
from .check import take_lock
from .confirm import disarm, disarm_to_go_back
from .drain import drain_to_go_back, put_back

__all__ = ["rollback"]

_PAUSE = 1.0
"""Seconds between two tries to reach a host whose connection died."""


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
    _require_reachable(ctx)
    served = {move.module: move.previous.rpartition("/")[2] for move in ctx.undo.moves}
    # Moved by this run's own switch, or by the killed run that this one takes up.
    if ctx.undo.link_may_have_moved:
        await drain_to_go_back(ctx)
        await _undo(ctx)
    # Last: visitors come back only once the old release has proven its health.
    if ctx.undo.drained:
        await disarm(ctx)
        await put_back(ctx)
    return e.RolledBack(ctx.name, to=served)


def _require_reachable(ctx: HostRun) -> None:
    """Leave a lost host where a rollback put it: "before" is what is to be left."""
    lost = ctx.book.failure
    going_back = ctx.run.state.going_back is not None
    if ctx.run.goal.recalls and lost and lost.unreachable and not going_back:
        raise Unreachable(ctx.name, "lost; its link stays where the rollback put it")


async def _undo(ctx: HostRun) -> None:
    """Move the links back, and have the releases that they lead to prove themselves."""
    restored = await _persist(ctx)
    back = ctx.attempt.links_put_back
    old = [move for move in reversed(ctx.undo.moves) if move.target in back]
    metas = [
        ctx.paths.meta(move.module, move.previous.rpartition("/")[2])
        for move in old
        if restored[move.target] != answers.Restored(True, False)
    ]
    if metas:
        await learn_secrets(ctx, *metas)
    # Behind a link that never moved the old release has served all the time.
    for move in old:
        await _reactivate(ctx, move, restored[move.target])


async def _persist(ctx: HostRun) -> dict[str, answers.Restored]:
    """Restore, again and again where the connection dies, until the deadline."""
    seconds, lost_answer = ctx.run.deadlines.rollback, False
    passed = DeadlinePassed(ctx.name, "rollback", seconds)
    late: HostError = passed
    with anyio.move_on_after(seconds):
        while True:
            lost = True
            try:
                restored = await _restore(ctx)
            except Unreachable as exc:
                if not exc.retriable:
                    raise
                # Why it does not answer says more than which deadline has passed.
                late = exc
            except ConnectionDied:
                lost_answer = True
            except StillRunning:
                # The host's own timer, perhaps; the deadline bounds it.
                lost, late = False, passed
            else:
                # A try whose answer was lost may have moved links back, which this one
                # then finds back already: their releases need their post-deploys, too.
                ctx.attempt.links_put_back |= {
                    target
                    for target, link in restored.items()
                    if link.moved or lost_answer
                }
                return restored
            ctx.disconnect()
            if lost and ctx.book.connected:
                # The policy has the next waves go back without waiting for this host.
                ctx.run.note(e.Disconnected(ctx.name, "lost on its way back"))
            await anyio.sleep(_PAUSE)
    raise late


async def _restore(ctx: HostRun) -> dict[str, answers.Restored]:
    """Have the host put its links back, once; return all of them, moved or not."""
    await ctx.session.open()
    if ctx.attempt.lock is None:
        await take_lock(ctx)
    # The timer first: it must not move the same links meanwhile.
    await disarm_to_go_back(ctx)
    moves = {move.target: move for move in reversed(ctx.undo.moves)}
    args = [word for move in moves.values() for word in move.args]
    how = ctx.known.rename, ctx.busy_file, ctx.run.id
    return await query(
        ctx.session,
        *("restore", *how, *args),
        read=functools.partial(answers.restored, targets=moves),
        sudo=ctx.sudo,
    )


async def _reactivate(ctx: HostRun, move: Move, link: answers.Restored) -> None:
    """Run the old release's own post-deploy with its own environment, and verify."""
    old = move.previous.rpartition("/")[2]
    meta = ctx.paths.meta(move.module, old)
    module = next(m for m in ctx.run.modules if m.name == move.module)
    if link.post_deploy:
        overrides = {
            "GHOST_ACTION": Action.ROLLBACK.value,
            "GHOST_FAILED_RELEASE_ID": move.new.rpartition("/")[2],
            "GHOST_WAVE": str(ctx.wave or ""),
        }
        call = ScriptCall(
            module=move.module,
            script="post_deploy",
            cwd=move.target,
            meta=meta,
            key="post_deploy",
            seconds=ctx.run.deadlines.post_deploy,
            overrides=overrides,
            run_as=link.run_as,
        )
        await run_script(ctx, call)
    # By its own measure: a URL that the new release has the old one may not know.
    await healthy(ctx, attrs.evolve(module, verify=link.health), meta)
