"""Remove releases that nobody will go back to; it can only warn."""

from __future__ import annotations

import anyio

from ... import events as e
from ..._remote.call import call
from ...errors import HostError
from ...model import State
from ..host import Context

__all__ = ["prune"]

_FAILED = 1
"""Releases that never were live and stay on a host to be looked at."""


async def prune(ctx: Context) -> None:
    """
    Prune every module of the run on the host; what fails becomes a warning.

    What serves, what MANIFEST names and what this run brings is never removed. A host
    that is live is noted as proven to be in line first.
    """
    live = ctx.machine.state is State.LIVE
    layout, seconds = ctx.run.plan.layout, ctx.run.deadlines.check
    for release in ctx.work:
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
                    *sorted({*ctx.run.protected.get(name, ()), release.id}),
                    sudo=ctx.sudo,
                )
        except (HostError, TimeoutError) as exc:
            why = str(exc) or f"not done within {seconds:g} s"
            text = f"old releases of {name} were not removed: {why}"
            ctx.note(e.HostWarned(ctx.name, text))
