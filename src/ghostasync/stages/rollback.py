"""ROLLING_BACK: put the links back as they were, and have the old code prove itself."""

from __future__ import annotations

import anyio

from .. import events as e
from ..errors import DeadlinePassed
from ..model import Action
from ..remote import query
from ._context import Context, Move
from ._script import Job, run_script
from .check import take_lock
from .verify import healthy

__all__ = ["rollback"]


async def rollback(ctx: Context) -> e.RolledBack:
    """
    Restore each link that this run moved, modules reversed; activate; verify.

    A connection that died is opened again first. Links that did not move are left alone
    and nothing is run for them.

    Raises:
        HostError: Any failure here leaves the host stranded: a person must look.
    """
    seconds = ctx.run.deadlines.rollback
    with anyio.move_on_after(seconds) as scope:
        restored = await _restore(ctx)
    if scope.cancelled_caught:
        raise DeadlinePassed(ctx.name, "rollback", seconds)
    for move, scripts in restored:
        await _reactivate(ctx, move, scripts)
    served = {move.module: move.previous.rpartition("/")[2] for move in ctx.moves}
    return e.RolledBack(ctx.name, to=served)


async def _restore(ctx: Context) -> list[tuple[Move, frozenset[str]]]:
    """Return the moves that were undone, and what scripts their old release has."""
    await ctx.session.open()
    if ctx.lock is None:
        await take_lock(ctx)
    moves = {move.target: move for move in reversed(ctx.moves)}
    args = [word for move in moves.values() for word in move.args]
    said = await query(ctx.session, "restore", ctx.known.rename, *args, sudo=ctx.sudo)
    restored = []
    for line in said.splitlines():
        scripts, _, target = line.partition(" ")
        restored.append((moves[target], frozenset(scripts.split(","))))
    return restored


async def _reactivate(ctx: Context, move: Move, scripts: frozenset[str]) -> None:
    """Run the old release's own post-deploy with its own environment, and verify."""
    old = move.previous.rpartition("/")[2]
    meta = ctx.paths.meta(move.module, old)
    module = next(m for m in ctx.run.modules if m.name == move.module)
    if "post_deploy" in scripts:
        overrides = {
            "GHOST_ACTION": Action.ROLLBACK.value,
            "GHOST_FAILED_RELEASE_ID": move.new.rpartition("/")[2],
            "GHOST_WAVE": str(ctx.wave or ""),
        }
        job = Job(
            module=move.module,
            script="post_deploy",
            cwd=move.target,
            meta=meta,
            key="post_deploy",
            seconds=ctx.run.deadlines.post_deploy,
            overrides=overrides,
        )
        await run_script(ctx, job)
    if "environment" in scripts:
        await healthy(ctx, module, meta)
