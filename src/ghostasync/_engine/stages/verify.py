"""VERIFYING: ask each module's health check until it says yes or time is up."""

from __future__ import annotations

import anyio

from ... import events as e
from ..._remote.call import query
from ...errors import ConnectionDied, DeadlinePassed, HostError, LockHeld, RemoteError
from ...model import Module
from ..host import Context
from ..scripts import Job, run_script

__all__ = ["healthy", "verify"]


async def verify(ctx: Context) -> e.Verified:
    """
    Have every module of the run prove its health.

    Raises:
        RemoteError: A check still failed at ``deadlines.verify``; its last words.
        ConnectionDied: The connection was lost.
    """
    for release in ctx.work:
        meta = ctx.paths.meta(release.module.name, release.id)
        await healthy(ctx, release.module, meta)
    return e.Verified(ctx.name)


async def healthy(ctx: Context, module: Module, meta: str) -> None:
    """Return once the health check of *module* passes, with *meta*'s environment."""
    if not module.verify:
        return None
    seconds = ctx.run.deadlines.verify
    last: HostError | None = None
    with anyio.move_on_after(seconds):
        while True:
            try:
                return await _attempt(ctx, module, meta)
            except (ConnectionDied, LockHeld):
                raise
            except HostError as exc:
                last = exc
            await anyio.sleep(module.verify.interval)
    status, tail = None, "no attempt ended"
    if isinstance(last, RemoteError):
        status, tail = last.status, last.tail
    elif isinstance(last, DeadlinePassed):
        tail = f"{last.tail.rstrip()}\n{last}".lstrip()
    elif last:
        tail = str(last)
    what = f"verify of {module.name} did not pass within {seconds:g} s; it last"
    raise RemoteError(ctx.name, what, status, tail)


async def _attempt(ctx: Context, module: Module, meta: str) -> None:
    check = module.verify
    if check.command:
        job = Job(
            module=module.name,
            script="verify",
            cwd=ctx.target(module),
            meta=meta,
            key="verify",
            seconds=check.attempt_timeout,
            text=check.command,
            run_as=check.run_as,
        )
        await run_script(ctx, job)
    if check.url:
        timeout = f"{check.attempt_timeout:g}"
        with anyio.move_on_after(check.attempt_timeout + 1) as scope:
            await query(ctx.session, "fetch", check.url, timeout)
        if scope.cancelled_caught:
            raise RemoteError(ctx.name, "fetch", None, "no answer")
