"""PREPARING: run every pre-deploy while the old code serves, then arm the switch."""

from __future__ import annotations

from .. import events as e
from ..remote import call
from ._context import Context, Move, Release
from ._script import Job, run_script

__all__ = ["prepare"]


async def prepare(ctx: Context) -> e.Prepared:
    """
    Run the pre-deploys in app order and put on disk what a rollback will need.

    Raises:
        RemoteError: A pre-deploy exited non-zero.
        DeadlinePassed: One took too long.
    """
    for release in ctx.work:
        if "pre_deploy" in release.package.scripts:
            await run_script(ctx, _pre_deploy(ctx, release))
    ctx.moves = tuple(_move(ctx, release) for release in ctx.work)
    args = [
        word
        for move in ctx.moves
        for word in (move.folder, move.previous, move.new, move.aside)
    ]
    run = ctx.run
    await call(ctx.session, "arm", run.id, run.store_url, *args, sudo=ctx.sudo)
    previous = {move.module: move.previous or move.aside for move in ctx.moves}
    return e.Prepared(ctx.name, previous=previous)


def _pre_deploy(ctx: Context, release: Release) -> Job:
    name = release.module.name
    return Job(
        module=name,
        script="pre_deploy",
        cwd=ctx.paths.release(name, release.id),
        meta=ctx.paths.meta(name, release.id),
        key="pre_deploy",
        environment="environment.next",
        seconds=ctx.run.deadlines.pre_deploy,
        run_as=release.module.pre_deploy.run_as,
    )


def _move(ctx: Context, release: Release) -> Move:
    """Return the move of one link; CHECKING made sure that it is ours to make."""
    name, target = release.module.name, ctx.known.targets[release.module.name]
    path = ctx.target(release.module)
    folder, _, base = path.rpartition("/")
    adopted = target.kind in {"directory", "file"}
    return Move(
        module=name,
        folder=ctx.paths.module(name),
        target=path,
        previous=target.link,
        new=ctx.paths.release(name, release.id),
        aside=f"{folder}/.{base}.before-{release.id}" if adopted else "",
    )
