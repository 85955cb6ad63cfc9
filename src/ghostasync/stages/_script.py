"""Run one of the user's scripts on a host: where, with what, and where its words go."""

from __future__ import annotations

from collections.abc import Mapping

import anyio
import attrs

from .. import events as e
from .._local import Tail
from .._redact import Redacting
from ..errors import DeadlinePassed, RemoteError
from ..remote import supervise
from ._context import Context

__all__ = ["Job", "run_script"]

_SHOW_EVERY = 0.5
"""Seconds between two events about the output of one script."""


@attrs.frozen
class Job:
    """
    One script on one host.

    *cwd* is its folder, *meta* the folder that holds its release's environment; the
    script is the file *script* there, or *text*. *key* names its deadline, *seconds* is
    how long it may take.
    """

    module: str
    script: str
    cwd: str
    meta: str
    key: str
    seconds: float
    text: str = ""
    environment: str = "environment"
    overrides: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def args(self) -> tuple[str, ...]:
        """What ``run.sh`` takes."""
        file = "" if self.text else f"{self.meta}/{self.script}"
        pairs = [f"{name}={value}" for name, value in self.overrides.items()]
        return (self.cwd, file, self.text, f"{self.meta}/{self.environment}", *pairs)


@attrs.define(eq=False)
class _Listener:
    """Pass a script's output on: all of it to the log, its end to events."""

    ctx: Context
    job: Job
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
            self.ctx.note(said)

    def finish(self, status: int | None) -> None:
        self._take(self.stream.flush())
        self.show(final=True)
        ended = "ended at its deadline" if status is None else f"exited {status}"
        line = f"\n--- {self.job.script} of {self.job.module} {ended}\n"
        self.ctx.run.logs.write(self.ctx.name, line.encode())


async def run_script(ctx: Context, job: Job) -> None:
    """
    Run *job* and wait for its end.

    Raises:
        DeadlinePassed: It took too long and was ended.
        RemoteError: It exited non-zero; the end of its output is in ``.tail``.
        ConnectionDied: The connection was lost; the host ends it by itself.
    """
    heading = f"--- {job.script} of {job.module} in {job.cwd}\n"
    ctx.run.logs.write(ctx.name, heading.encode(errors="surrogateescape"))
    listener = _Listener(ctx, job, ctx.run.redactor.stream())
    status: int | None = None
    try:
        status = await supervise(
            ctx.session,
            *job.args,
            sudo=ctx.sudo,
            output=listener.feed,
            seconds=job.seconds,
        )
    finally:
        listener.finish(status)
    what = f"{job.script} of {job.module}"
    if status is None:
        raise DeadlinePassed(ctx.name, job.key, job.seconds, what=what)
    if status:
        raise RemoteError(ctx.name, what, status, listener.tail.text())
