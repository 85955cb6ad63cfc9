"""LIVE: remove releases that no run will go back to; a failure only warns."""

from __future__ import annotations

import anyio

from ..._remote.call import call
from ...errors import HostError
from ...model import State
from ..host import HostRun

__all__ = ["prune"]

_FAILED = 1
"""Releases that never were live and stay on a host to be looked at."""


async def prune(ctx: HostRun) -> None:
    """
    Prune every module of the run on the host; failures become warnings.

    A release that serves, that MANIFEST names or that this run brings is never removed.
    A host that is LIVE first notes on its own disk that the release is proven there.
    """
    # UPLOADING prunes as well, to make room: nothing is proven then, and releases that
    # failed are the first to go.
    live = ctx.state is State.LIVE
    layout, seconds = ctx.run.plan.layout, ctx.run.deadlines.check
    numbers = {move.module: move.generation for move in ctx.undo.moves}
    for release in ctx.attempt.to_deploy:
        name = release.module.name
        try:
            with anyio.fail_after(seconds):
                await call(
                    ctx.session,
                    "prune",
                    ctx.paths.module(name),
                    ctx.target(release.module),
                    str(layout.keep),
                    str(_FAILED if live else 0),
                    release.fingerprint if live else "",
                    str(numbers.get(name, 0)),
                    *sorted({*ctx.run.protected.get(name, ()), release.id}),
                    sudo=ctx.sudo,
                )
        except (HostError, TimeoutError) as exc:
            why = str(exc) or f"not done within {seconds:g} s"
            text = f"old releases of {name} were not removed: {why}"
            ctx.warn(text)
