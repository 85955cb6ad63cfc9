"""Run the commands around a host's switch: here, or on the host."""

from __future__ import annotations

from typing import Literal

from ..._remote.call import query
from ...model import Action
from ...model import State as S  # noqa: N817  as in the table
from ..host import HostRun
from ..scripts import Job, run_here, run_script

__all__ = ["require_lock", "run_hook"]


async def require_lock(ctx: HostRun) -> None:
    """
    Make sure that the host is this run's still, before something is done in its name.

    Raises:
        LockHeld: Another run has taken it over; it may be in good health by now.
        ConnectionDied: Nobody knows.
    """
    await query(ctx.session, "assert_lock", sudo=ctx.sudo)


async def run_hook(ctx: HostRun, key: Literal["drain", "undrain"]) -> None:
    """
    Run the hook *key* of the rollout for one host.

    Raises:
        DeadlinePassed: It took too long and was ended.
        HostError: It failed, or could not be run.
    """
    rollout = ctx.run.plan.rollout
    hook = rollout.drain if key == "drain" else rollout.undrain
    on_host = hook.on == "host"
    job = Job(
        module="",
        script=key,
        cwd="/" if on_host else str(ctx.run.plan.base),
        # It belongs to no release: all that it sees goes with the call.
        meta="/dev",
        environment="null",
        key=key,
        seconds=getattr(ctx.run.deadlines, key),
        text=hook.run,
        overrides=_variables(ctx),
    )
    async with ctx.run.work_slots:
        await (run_script if on_host else run_here)(ctx, job)


def _variables(ctx: HostRun) -> dict[str, str]:
    host, variables = ctx.host, dict(ctx.run.variables)
    if ctx.state is S.ROLLING_BACK:
        variables["GHOST_ACTION"] = Action.ROLLBACK.value
    return {
        **variables,
        "GHOST_HOST": host.name,
        "GHOST_HOST_ADDRESS": host.address or host.name,
        "GHOST_HOST_LABELS": "\n".join(f"{k}={v}" for k, v in host.labels.items()),
        "GHOST_WAVE": str(ctx.wave or ""),
        "GHOST_WAVES": str(ctx.run.waves or ""),
    }
