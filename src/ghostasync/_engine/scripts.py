"""
Scripts of the user, run on a host or on this machine, and health checks made of them.

How it works. A :class:`ScriptCall` says all that one script needs. All of its output
goes to the host's log, redacted line by line, and its end to events, at most two a
second. A script that has passed its deadline, or whose run is cancelled, is ended with
its process group and waited for, so that it cannot overlap the next one.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Literal

import anyio
import attrs

from .. import events as e
from .._build.environment import recorded_secrets
from .._build.release import Release
from .._local.redact import Redacting
from .._local.scripts import Tail, script
from .._packaging.build import MESSAGE_FILE
from .._remote.call import call as call_script
from .._remote.call import supervise
from .._remote.script import as_user, outliving
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

__all__ = [
    "ScriptCall",
    "healthy",
    "host_variables",
    "learn_secrets",
    "run_here",
    "run_script",
    "script_call",
]

HostScript = Literal["pre_deploy", "before_switch", "post_deploy"]
"""The scripts of a release that run on hosts; their deadlines have the same names."""

_SHOW_EVERY = 0.5
"""Seconds between two events about the output of one script; the log has all of it."""


_MOST_RECORDED = 3_000_000
"""Bytes of a host's records that are read for secrets: some times what may be there."""

_MOST_SECRETS = 2_000
"""Secrets that one host may tell of."""


@attrs.frozen
class ScriptCall:
    """
    One script on one host.

    *cwd* is the folder it runs in, *meta* the folder with its release's *environment*;
    the script is the file *script* in *meta*, or *text*. *overrides* are variables on
    top of that environment. *key* names its deadline, *seconds* is how long it may
    take. *run_as* is its user, empty for the one that runs all commands on the host.
    A script that *outlives* its session was started for the run of that id. One that is
    in no release *brings* three texts, which *meta* holds for as long as it runs: the
    script, its environment, and the message of the commit.
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
    outlives: str = ""
    brings: tuple[str, ...] = attrs.field(default=(), repr=False)

    @property
    def what(self) -> str:
        """The script's name in errors and logs."""
        return f"{self.script} of {self.module}" if self.module else self.script

    @property
    def args(self) -> tuple[str, ...]:
        """The arguments of ``run.sh``."""
        file, text = "" if self.text else f"{self.meta}/{self.script}", self.text
        environment = f"{self.meta}/{self.environment}"
        if self.run_as:
            # Another user can read neither the script nor its environment, which are
            # 0600: the text that run.sh runs then is run_as.sh, which hands them over.
            more = self.overrides
            file, text = "", as_user(self.run_as, file, text, environment, more)
        pairs = [f"{name}={value}" for name, value in self.overrides.items()]
        return (self.cwd, file, text, environment, *pairs)


def script_call(
    ctx: HostRun, release: Release, key: HostScript, *, serves: bool = False
) -> ScriptCall:
    """
    Return the call of a release's script *key*.

    A release that *serves* runs it in its target, through the link, with the
    environment that the switch has put in place; else in the release's own folder,
    with the environment that is to come.
    """
    name, script = release.module.name, getattr(release.module, key)
    at = ctx.target(release.module) if serves else ctx.paths.release(name, release.id)
    return ScriptCall(
        module=name,
        script=key,
        cwd=at,
        meta=ctx.paths.meta(name, release.id),
        key=key,
        seconds=getattr(ctx.run.deadlines, key) or math.inf,
        environment="environment" if serves else "environment.next",
        run_as=script.run_as,
    )


def host_variables(
    ctx: HostRun, module: Module, release: str, meta: str, previous: str = ""
) -> dict[str, str]:
    """
    Return the variables that a module's scripts see on one host alone.

    *meta* is the folder with the message of the commit, *previous* where the link of
    the module led before.
    """
    return {
        "GHOST_MODULE_PATH": ctx.target(module),
        "GHOST_MODULE_COMMIT_MESSAGE_FILE": f"{meta}/{MESSAGE_FILE}",
        "GHOST_RELEASE_ID": release,
        "GHOST_RELEASE_PATH": ctx.paths.release(module.name, release),
        "GHOST_PREVIOUS_RELEASE_PATH": previous,
        "GHOST_FAILED_RELEASE_ID": "",
        "GHOST_HOST": ctx.name,
        "GHOST_WAVE": str(ctx.wave or ""),
    }


async def learn_secrets(ctx: HostRun, *metas: str) -> None:
    """
    Have what is secret in the records *metas* of releases taken out of what comes.

    A secret that was renamed since, or changed for some hosts alone, is known there
    and nowhere else, and the scripts of these releases may print it.

    Raises:
        HostError: The host cannot be asked.
    """
    said = bytearray()

    def keep(data: bytes) -> None:
        if len(said) < _MOST_RECORDED:
            said.extend(data)

    await call_script(ctx.session, "recorded", *metas, sudo=ctx.sudo, output=keep)
    found = recorded_secrets(bytes(said), ctx.run.plan.app.env_vars)
    # A host that tells of more than anybody has would have every output cost the more.
    ctx.hide(itertools.islice(found, _MOST_SECRETS))


@attrs.define(eq=False)
class _Listener:
    """Pass a script's output on: all of it to the log, its end to events."""

    ctx: HostRun
    call: ScriptCall
    stream: Redacting
    tail: Tail = attrs.field(factory=Tail)
    shown_at: float = 0.0
    news: bool = False

    def feed(self, data: bytes) -> None:
        self._keep(self.stream.feed(data))
        if anyio.current_time() - self.shown_at >= _SHOW_EVERY:
            self.show()

    def _keep(self, clean: bytes) -> None:
        if clean:
            self.news = True
            self.tail.feed(clean)
            self.ctx.run.logs.write(self.ctx.name, clean)

    def show(self, *, final: bool = False) -> None:
        self.shown_at = anyio.current_time()
        if self.news or (final and self.tail.text()):
            self.news = False
            call, text = self.call, self.tail.text()
            output = e.Output(
                self.ctx.name, call.module, call.script, text, final=final
            )
            self.ctx.run.note(output)

    def finish(self, ended: str) -> None:
        self._keep(self.stream.flush())
        self.show(final=True)
        line = f"\n--- {self.call.what} {ended}\n"
        self.ctx.run.logs.write(self.ctx.name, line.encode())


async def run_script(ctx: HostRun, call: ScriptCall) -> None:
    """
    Run *call* on the host and wait for its end.

    Raises:
        DeadlinePassed: The script took too long and was ended.
        RemoteError: It exited non-zero. The end of its output is in ``.tail`` of both.
        ConnectionDied: The connection was lost; the host ends the script by itself.
    """
    # No change of user to the one that runs commands anyway: the host may not allow it.
    if call.run_as == ctx.login:
        call = attrs.evolve(call, run_as="")

    name, args = "run", call.args
    if call.outlives:
        name, text = "outlive", outliving(args)
        args = (call.meta, call.script, ctx.session.app, call.outlives, text)
    elif call.brings:
        name, args = "execute", (call.meta, call.script, *call.brings, *args)

    async def there(output: OnOutput) -> int | None:
        return await supervise(
            ctx.session,
            *args,
            sudo=ctx.sudo,
            output=output,
            seconds=call.seconds,
            name=name,
        )

    await _run_with_output(ctx, call, there)


async def run_here(ctx: HostRun, call: ScriptCall) -> None:
    """
    Run the text of *call* on this machine, for a host, and wait for its end.

    Raises:
        DeadlinePassed: The script took too long and was ended.
        HostError: It could not be started, or exited non-zero.
    """

    async def here(output: OnOutput) -> int | None:
        with anyio.move_on_after(call.seconds):
            return await script(
                os.fsencode(call.text),
                cwd=Path(call.cwd),
                env={**ctx.run.spec.environ, **call.overrides},
                output=output,
                what=call.what,
            )
        return None

    try:
        await _run_with_output(ctx, call, here)
    except BuildError as exc:
        raise HostError(ctx.name, str(exc)) from exc


async def _run_with_output(
    ctx: HostRun, call: ScriptCall, start: Callable[[OnOutput], Awaitable[int | None]]
) -> None:
    """
    Have *start* run a script and pass its output on; raise what became of it.

    *start* returns the exit status, or None where the script was ended at its deadline.
    """
    heading = f"--- {call.what} in {call.cwd}\n"
    ctx.run.logs.write(ctx.name, heading.encode(errors="surrogateescape"))
    listener = _Listener(ctx, call, ctx.redactor.stream())
    # The log must tell a lost connection, and a cancellation, from a deadline.
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
        raise DeadlinePassed(
            ctx.name, call.key, call.seconds, what=call.what, tail=tail
        )
    if status:
        raise RemoteError(ctx.name, call.what, status, tail)


# --- Health ----------------------------------------------------------------------


async def healthy(ctx: HostRun, module: Module, meta: str) -> None:
    """
    Return once the health check of *module* passes, with *meta*'s environment.

    Raises:
        RemoteError: The check did not pass within ``deadlines.verify``; the text says
            how its last attempt ended, ``.tail`` has its output.
        ConnectionDied, LockHeld: The host was lost meanwhile.
    """
    if not module.verify:
        return None
    seconds = ctx.run.deadlines.verify
    last: HostError | None = None
    with anyio.move_on_after(seconds):
        while True:
            try:
                return await _attempt(ctx, module, meta)
            # The pipeline connects again where a connection died; another attempt on it
            # could only fail. Any other failure may be a service that is starting.
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
    """Ask once: the command first, then the URL, where the module has them."""
    check = module.verify
    if check.command:
        call = ScriptCall(
            module=module.name,
            script="verify",
            cwd=ctx.target(module),
            meta=meta,
            key="verify",
            seconds=check.attempt_timeout,
            text=check.command,
            run_as=check.run_as,
        )
        await run_script(ctx, call)
    if check.url:
        # curl and wget give up by themselves, with a reason, a second before this does.
        timeout = f"{check.attempt_timeout:g}"
        with anyio.move_on_after(check.attempt_timeout + 1) as scope:
            await call_script(ctx.session, "fetch", check.url, timeout)
        if scope.cancelled_caught:
            raise RemoteError(ctx.name, "fetch", None, "no answer")
