"""
READY: run a module's before_switch, once for the fleet, before the first switch.

How it works. A migration that is ended half-way is worse than one that takes long. So
the script outlives its session: a deadline, a lost connection, Ctrl-C and the end of
the controller end only the looking on. Its process carries the app's word in its
command line, by which the next run finds it, and waits; a run that takes this one up
finds out how it ended.
"""

from __future__ import annotations

import anyio
import attrs

from ... import events as e
from ..._build.release import Release
from ...errors import ConnectionDied, DeadlinePassed, HostError, RemoteError
from ..host import HostRun
from ..scripts import ScriptCall, run_script, script_call
from .reconnect import RECONNECTIONS, reconnect

__all__ = ["before_switch"]


async def before_switch(ctx: HostRun, release: Release, run: str = "") -> None:
    """
    Run a module's before_switch on the host; how it ended is an event.

    The script sees what pre-deploy saw: the new release, in a folder that is not served
    yet. Its failure leaves the host READY; the policy stops the whole run for it. Where
    the killed *run* has started it there, this one only looks on.
    """
    name, started = release.module.name, anyio.current_time()
    call = script_call(ctx, release, "before_switch")
    call = attrs.evolve(call, outlives=run or ctx.run.id)
    ctx.run.note(e.BeforeSwitchStarted(name, ctx.name, run))
    try:
        async with ctx.run.work_slots:
            await _look_on(ctx, call)
    except HostError as exc:
        ctx.run.note(_failed(ctx, name, exc))
        return
    except anyio.get_cancelled_exc_class():
        ctx.warn(_goes_on(call))
        raise
    seconds = anyio.current_time() - started
    ctx.run.note(e.BeforeSwitchPassed(name, ctx.name, seconds))


async def _look_on(ctx: HostRun, call: ScriptCall) -> None:
    """Run the script to its end, over new connections where one dies."""
    while True:
        try:
            return await run_script(ctx, call)
        except ConnectionDied as exc:
            ctx.disconnect()
            ctx.attempt.reconnections += 1
            if ctx.attempt.reconnections > RECONNECTIONS:
                raise
            await reconnect(ctx, exc)


def _failed(ctx: HostRun, module: str, exc: HostError) -> e.BeforeSwitchFailed:
    reason = ctx.redactor.text(str(exc))
    # A script that has not told its end goes on.
    if not isinstance(exc, RemoteError):
        reason += "; it goes on there, and the next run waits for it"
    return e.BeforeSwitchFailed(
        module,
        ctx.name,
        reason,
        exit_status=exc.status if isinstance(exc, RemoteError) else None,
        tail=ctx.redactor.text(
            exc.tail if isinstance(exc, RemoteError | DeadlinePassed) else ""
        ),
    )


def _goes_on(call: ScriptCall) -> str:
    return f"{call.what} goes on without this run; the next one waits for it"
