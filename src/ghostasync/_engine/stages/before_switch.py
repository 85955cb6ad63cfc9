"""READY: run a module's before_switch, once for the fleet, before the first switch."""

from __future__ import annotations

import anyio

from ... import events as e
from ..._build.release import Release
from ...errors import DeadlinePassed, HostError, RemoteError
from ..host import HostRun
from ..scripts import run_script, script_call

__all__ = ["before_switch"]


async def before_switch(ctx: HostRun, release: Release) -> None:
    """
    Run a module's before_switch on the host; how it ended is an event.

    The script sees what pre-deploy saw: the new release, in a folder that is not served
    yet. Its failure leaves the host READY; the policy stops the whole run for it.
    """
    name, started = release.module.name, anyio.current_time()
    call = script_call(ctx, release, "before_switch")
    ctx.run.note(e.BeforeSwitchStarted(name, ctx.name))
    try:
        async with ctx.run.work_slots:
            await run_script(ctx, call)
    except HostError as exc:
        tail = exc.tail if isinstance(exc, RemoteError | DeadlinePassed) else ""
        reason = ctx.run.redactor.text(str(exc))
        ctx.run.note(
            e.BeforeSwitchFailed(
                name,
                ctx.name,
                reason,
                exit_status=exc.status if isinstance(exc, RemoteError) else None,
                tail=ctx.run.redactor.text(tail),
            )
        )
        return
    seconds = anyio.current_time() - started
    ctx.run.note(e.BeforeSwitchPassed(name, ctx.name, seconds))
