"""
PREPARING: run every pre-deploy while the old code serves, then record the moves.

The record is on the host's disk before any link moves: a way back works from it alone,
should journal and store be lost.
"""

from __future__ import annotations

import attrs

from ... import events as e
from ..._remote.call import call
from ..host import HostRun
from ..scripts import run_script, script_call
from ..takeover import move_of, moved_by_killed_run

__all__ = ["prepare"]


async def prepare(ctx: HostRun) -> e.Prepared:
    """
    Run the pre-deploys in app order and put on disk what a rollback will need.

    Raises:
        RemoteError: A pre-deploy exited non-zero.
        DeadlinePassed: A pre-deploy took too long.
    """
    moves = tuple(move_of(ctx, release) for release in ctx.attempt.to_deploy)
    ctx.undo = attrs.evolve(ctx.undo, moves=moves)
    args = [ctx.run.id, ctx.run.spec.store_url]
    for release, move in zip(ctx.attempt.to_deploy, moves, strict=True):
        # A pre-deploy expects the old code to serve. Where the new one does already,
        # the killed run has moved the link, and has run the pre-deploy before that.
        serves = ctx.known.targets[move.module].link == move.new != move.previous
        if "pre_deploy" in release.package.scripts and not serves:
            await run_script(ctx, script_call(ctx, release, "pre_deploy"))
        record = moved_by_killed_run(ctx, release.module)
        moved = "moved" if record is not None and record.new == move.new else ""
        args += [move.folder, move.previous, move.new, move.aside]
        args += [release.fingerprint, moved]
    await call(ctx.session, "record_moves", *args, sudo=ctx.sudo)
    # An adopted folder has no link to name: the path that it is moved to stands for it.
    previous = {move.module: move.previous or move.aside for move in moves}
    return e.Prepared(ctx.name, previous=previous)
