"""Run one of the user's scripts on a host: where, with what, and where its words go."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Literal

import anyio
import attrs

from .. import events as e
from .._build.release import Release
from .._local.redact import Redacting
from .._local.scripts import Tail, script
from .._remote.call import query, supervise
from .._remote.script import as_user
from ..errors import (
    BuildError,
    ConnectionDied,
    DeadlinePassed,
    HostError,
    LockHeld,
    RemoteError,
)
from ..model import Module
from ..protocols import OnOutput
from .host import HostRun

__all__ = ["ScriptCall", "healthy", "run_here", "run_script", "script_call"]

HostScript = Literal["pre_deploy", "before_switch", "post_deploy"]
"""The scripts of a release that run on hosts; their deadlines have the same names."""

_SHOW_EVERY = 0.5
"""Seconds between two events about the output of one script."""


@attrs.frozen
class ScriptCall:
    """
    One script on one host.

    *cwd* is its folder, *meta* the folder that holds its release's environment; the
    script is the file *script* there, or *text*. *key* names its deadline, *seconds* is
    how long it may take; *run_as* is its user, empty for whoever runs commands there.
    """

    module: str
    script: str
    cwd: str
    meta: str
    key: str
    seconds: float
    text: str = ""
    environment: str = "environment"
    overrides: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    run_as: str = ""

    @property
    def what(self) -> str:
        """How errors and logs call it."""
        return f"{self.script} of {self.module}" if self.module else self.script

    @property
    def args(self) -> tuple[str, ...]:
        """What ``run.sh`` takes."""
        file, text = "" if self.text else f"{self.meta}/{self.script}", self.text
        environment = f"{self.meta}/{self.environment}"
        if self.run_as:
            more = self.overrides
            file, text = "", as_user(self.run_as, file, text, environment, more)
        pairs = [f"{name}={value}" for name, value in self.overrides.items()]
        return (self.cwd, file, text, environment, *pairs)


def script_call(
    ctx: HostRun, release: Release, key: HostScript, *, serves: bool = False
) -> ScriptCall:
    """Return the script *key* of a release, of one that *serves* or does not yet."""
    name, script = release.module.name, getattr(release.module, key)
    at = ctx.target(release.module) if serves else ctx.paths.release(name, release.id)
    return ScriptCall(
        module=name,
        script=key,
        cwd=at,
        meta=ctx.paths.meta(name, release.id),
        key=key,
        seconds=getattr(ctx.run.deadlines, key),
        environment="environment" if serves else "environment.next",
        run_as=script.run_as,
    )


@attrs.define(eq=False)
class _Listener:
    """Pass a script's output on: all of it to the log, its end to events."""

    ctx: HostRun
    job: ScriptCall
    stream: Redacting
    tail: Tail = attrs.field(factory=Tail)
    shown_at: float = 0.0
    news: bool = False

    def feed(self, data: bytes) -> None:
        self._take(self.stream.feed(data))
        if anyio.current_time() - self.shown_at >= _SHOW_EVERY:
            self.show()

    def _take(self, clean: bytes) -> None:
        if clean:
            self.news = True
            self.tail.feed(clean)
            self.ctx.run.logs.write(self.ctx.name, clean)

    def show(self, *, final: bool = False) -> None:
        self.shown_at = anyio.current_time()
        if self.news or (final and self.tail.text()):
            self.news = False
            job, text = self.job, self.tail.text()
            said = e.Output(self.ctx.name, job.module, job.script, text, final=final)
            self.ctx.run.note(said)

    def finish(self, ended: str) -> None:
        self._take(self.stream.flush())
        self.show(final=True)
        line = f"\n--- {self.job.what} {ended}\n"
        self.ctx.run.logs.write(self.ctx.name, line.encode())


async def run_script(ctx: HostRun, job: ScriptCall) -> None:
    """
    Run *job* and wait for its end.

    Raises:
        DeadlinePassed: It took too long and was ended.
        RemoteError: It exited non-zero. The end of its output is in ``.tail`` of both.
        ConnectionDied: The connection was lost; the host ends it by itself.
    """
    if job.run_as == ctx.login:
        job = attrs.evolve(job, run_as="")

    async def there(output: OnOutput) -> int | None:
        return await supervise(
            ctx.session,
            *job.args,
            sudo=ctx.sudo,
            output=output,
            seconds=job.seconds,
        )

    await _run_with_output(ctx, job, there)


async def run_here(ctx: HostRun, job: ScriptCall) -> None:
    """
    Run *job*'s text on this machine, in a host's name, and wait for its end.

    Raises:
        DeadlinePassed: It took too long and was ended.
        HostError: It could not be started, or exited non-zero.
    """

    async def here(output: OnOutput) -> int | None:
        with anyio.move_on_after(job.seconds):
            return await script(
                os.fsencode(job.text),
                cwd=Path(job.cwd),
                env={**ctx.run.spec.environ, **job.overrides},
                output=output,
                what=job.what,
            )
        return None

    try:
        await _run_with_output(ctx, job, here)
    except BuildError as exc:
        raise HostError(ctx.name, str(exc)) from exc


async def _run_with_output(
    ctx: HostRun, job: ScriptCall, start: Callable[[OnOutput], Awaitable[int | None]]
) -> None:
    """Run a script with someone to listen to it; tell how it ended."""
    heading = f"--- {job.what} in {job.cwd}\n"
    ctx.run.logs.write(ctx.name, heading.encode(errors="surrogateescape"))
    listener = _Listener(ctx, job, ctx.run.redactor.stream())
    ended = "cut short"
    try:
        status = await start(listener.feed)
        ended = "ended at its deadline" if status is None else f"exited {status}"
    except ConnectionDied:
        ended += ": connection lost"
        raise
    finally:
        listener.finish(ended)
    tail = listener.tail.text()
    if status is None:
        raise DeadlinePassed(ctx.name, job.key, job.seconds, what=job.what, tail=tail)
    if status:
        raise RemoteError(ctx.name, job.what, status, tail)


# --- Health ----------------------------------------------------------------------


async def healthy(ctx: HostRun, module: Module, meta: str) -> None:
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


async def _attempt(ctx: HostRun, module: Module, meta: str) -> None:
    check = module.verify
    if check.command:
        job = ScriptCall(
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
