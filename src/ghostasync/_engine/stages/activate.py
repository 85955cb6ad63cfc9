"""ACTIVATING: run every post-deploy through the new links."""

from __future__ import annotations

from ... import events as e
from ..host import HostRun
from ..scripts import run_script, script_call

__all__ = ["activate"]


async def activate(ctx: HostRun) -> e.Activated:
    """
    Run the post-deploys in app order, each in its target.

    Raises:
        RemoteError: A post-deploy exited non-zero.
        DeadlinePassed: A post-deploy took too long.
    """
    for release in ctx.attempt.to_deploy:
        if "post_deploy" in release.package.scripts:
            await run_script(ctx, script_call(ctx, release, "post_deploy", serves=True))
    return e.Activated(ctx.name)
