"""ACTIVATING: run every post-deploy through the new links."""

from __future__ import annotations

from ... import events as e
from ..host import Context
from ..scripts import job_of, run_script

__all__ = ["activate"]


async def activate(ctx: Context) -> e.Activated:
    """
    Run the post-deploys in app order, each in its target.

    Raises:
        RemoteError: One exited non-zero.
        DeadlinePassed: One took too long.
    """
    for release in ctx.work:
        if "post_deploy" in release.package.scripts:
            await run_script(ctx, job_of(ctx, release, "post_deploy", serves=True))
    return e.Activated(ctx.name)
