"""ACTIVATING: run every post-deploy through the new links."""

from __future__ import annotations

from .. import events as e
from ._context import Context
from ._script import Job, run_script

__all__ = ["activate"]


async def activate(ctx: Context) -> e.Activated:
    """
    Run the post-deploys in app order, each in its target.

    Raises:
        RemoteError: One exited non-zero.
        DeadlinePassed: One took too long.
    """
    for release in ctx.work:
        if "post_deploy" not in release.package.scripts:
            continue
        name = release.module.name
        job = Job(
            module=name,
            script="post_deploy",
            cwd=ctx.target(release.module),
            meta=ctx.paths.meta(name, release.id),
            key="post_deploy",
            seconds=ctx.run.deadlines.post_deploy,
            run_as=release.module.post_deploy.run_as,
        )
        await run_script(ctx, job)
    return e.Activated(ctx.name)
