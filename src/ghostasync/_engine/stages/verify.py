"""VERIFYING: repeat each module's health check until it passes or time is up."""

from __future__ import annotations

from ... import events as e
from ..host import HostRun
from ..scripts import healthy

__all__ = ["verify"]


async def verify(ctx: HostRun) -> e.Verified:
    """
    Have every module of the run prove its health.

    Raises:
        RemoteError: A check still failed at ``deadlines.verify``; the text ends with
            its last output.
        ConnectionDied: The connection was lost.
    """
    for release in ctx.attempt.to_deploy:
        meta = ctx.paths.meta(release.module.name, release.id)
        await healthy(ctx, release.module, meta)
    return e.Verified(ctx.name)
