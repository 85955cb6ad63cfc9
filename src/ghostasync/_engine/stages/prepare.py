"""PREPARING: run every pre-deploy while the old code serves, then arm the switch."""

from __future__ import annotations

from ... import events as e
from ..._remote.call import call
from ..host import Context
from ..scripts import job_of, run_script
from ..takeover import move_of, moved_by_past

__all__ = ["prepare"]


async def prepare(ctx: Context) -> e.Prepared:
    """
    Run the pre-deploys in app order and put on disk what a rollback will need.

    Raises:
        RemoteError: A pre-deploy exited non-zero.
        DeadlinePassed: One took too long.
    """
    ctx.moves = tuple(move_of(ctx, release) for release in ctx.work)
    args: list[str] = []
    for release, move in zip(ctx.work, ctx.moves, strict=True):
        # Where the old code does not serve any more, a run that was killed ran it.
        serves = ctx.known.targets[move.module].link == move.new != move.previous
        if "pre_deploy" in release.package.scripts and not serves:
            await run_script(ctx, job_of(ctx, release, "pre_deploy"))
        record = moved_by_past(ctx, release.module)
        moved = "moved" if record is not None and record.new == move.new else ""
        args += [move.folder, move.previous, move.new, move.aside]
        args += [release.fingerprint, moved]
    run = ctx.run
    await call(ctx.session, "arm", run.id, run.spec.store_url, *args, sudo=ctx.sudo)
    previous = {move.module: move.previous or move.aside for move in ctx.moves}
    return e.Prepared(ctx.name, previous=previous)
