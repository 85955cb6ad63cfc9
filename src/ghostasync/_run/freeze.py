"""A freeze, on hosts: no run but those that go back gets a lock there."""

from __future__ import annotations

import anyio

from .._engine.host import HostRun
from .._engine.look import ask_each
from .._engine.spec import RunSpec
from .._engine.stages.connect import connect
from .._remote.call import call
from ..errors import HostError
from ..protocols import Freeze, Transport

__all__ = ["freeze_hosts"]


async def freeze_hosts(
    spec: RunSpec, transport: Transport, freeze: Freeze | None
) -> dict[str, str]:
    """Freeze every host, or end that; return why it failed, by the names of hosts."""
    text, ends = (freeze.text, round(freeze.until)) if freeze else ("", 0)
    deadlines = spec.plan.rollout.deadlines

    async def each(ctx: HostRun) -> str:
        try:
            with anyio.move_on_after(deadlines.connect + deadlines.check):
                await connect(ctx)
                args = (ctx.paths.app_dir, ctx.trusted, str(ends), text)
                await call(ctx.session, "freeze", *args, sudo=ctx.sudo)
                return ""
        except HostError as exc:
            return str(exc)
        return "no answer in time (rollout.deadlines.connect, check)"

    answers = await ask_each(spec, transport, each)
    pairs = zip(spec.hosts, answers, strict=True)
    return {host.name: answer for host, answer in pairs if answer}
