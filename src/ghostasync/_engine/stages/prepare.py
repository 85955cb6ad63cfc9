"""
PREPARING: run every pre-deploy while the old code serves, then record the moves.

The record is on the host's disk before any link moves: a way back works from it alone,
should journal and store be lost.
"""

from __future__ import annotations

import attrs

from ... import events as e
from ..host import HostRun
from ..records import record_moves
from ..scripts import run_script, script_call
from ..takeover import move_of

__all__ = ["prepare"]


async def prepare(ctx: HostRun) -> e.Prepared:
    """
    Run the pre-deploys in app order and put on disk what a rollback will need.

    Raises:
        Refused: The number of the last run there cannot be right.
        RemoteError: A pre-deploy exited non-zero.
        DeadlinePassed: A pre-deploy took too long.
    """
    moves = tuple(move_of(ctx, release) for release in ctx.attempt.to_deploy)
    ctx.undo = attrs.evolve(ctx.undo, moves=moves)
    async with ctx.working():
        for release, move in zip(ctx.attempt.to_deploy, moves, strict=True):
            # A pre-deploy expects the old code to serve. Where the new one does
            # already, the killed run has moved the link, and has run the pre-deploy
            # before that.
            target = ctx.known.targets[move.module]
            serves = target.link == move.new != move.previous
            # A release that comes back has run its own when it came at first.
            again = ctx.run.goal.recalls and ctx.has_served(release)
            if "pre_deploy" in release.package.scripts and not (serves or again):
                await run_script(ctx, script_call(ctx, release, "pre_deploy"))
    # Without a slot: the run's number may wait for a host that is slow to connect.
    return await record_moves(ctx)
