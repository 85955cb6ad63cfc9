"""PREPARING: run every pre-deploy while the old code serves, then arm the switch."""

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
        DeadlinePassed: One took too long.
    """
    moves = tuple(move_of(ctx, release) for release in ctx.attempt.to_deploy)
    ctx.undo = attrs.evolve(ctx.undo, moves=moves)
    args: list[str] = []
    for release, move in zip(ctx.attempt.to_deploy, moves, strict=True):
        # Where the old code does not serve any more, a run that was killed ran it.
        serves = ctx.known.targets[move.module].link == move.new != move.previous
        if "pre_deploy" in release.package.scripts and not serves:
            await run_script(ctx, script_call(ctx, release, "pre_deploy"))
        record = moved_by_killed_run(ctx, release.module)
        moved = "moved" if record is not None and record.new == move.new else ""
        args += [move.folder, move.previous, move.new, move.aside]
        args += [release.fingerprint, moved]
    run = ctx.run
    words = (run.id, run.spec.store_url, *args)
    await call(ctx.session, "record_moves", *words, sudo=ctx.sudo)
    previous = {move.module: move.previous or move.aside for move in moves}
    return e.Prepared(ctx.name, previous=previous)
