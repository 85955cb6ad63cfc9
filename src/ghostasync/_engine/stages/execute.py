"""The script of a person: run in a module's target, through the link, which stays."""

from __future__ import annotations

import math
import os

from ... import events as e
from ..._build.environment import exports
from ..host import HostRun
from ..scripts import ScriptCall, host_variables, run_script

__all__ = ["run_goal_script"]


async def run_goal_script(ctx: HostRun) -> e.Unchanged:
    """
    Run the goal's script as the module's post-deploy would be.

    The variables are those of MANIFEST's release, whatever serves here.

    Raises:
        RemoteError: It exited non-zero.
        DeadlinePassed: It took too long.
        ConnectionDied: The connection was lost; nobody knows how far it got.
    """
    (release,), run = ctx.releases, ctx.run
    name, live = release.module.name, ctx.known.targets[release.module.name].live
    if live != release.id:
        ctx.warn(f"serves {live}; its variables are those of {release.id}")
    meta = ctx.paths.meta(name, "exec")
    variables = {
        **release.variables,
        **host_variables(ctx, release.module, live, meta),
        "GHOST_MODULE_USER": run.spec.actor,
    }
    environment = os.fsdecode(exports(variables))
    call = ScriptCall(
        module=name,
        script="exec",
        cwd=ctx.target(release.module),
        meta=meta,
        key="post_deploy",
        seconds=run.deadlines.post_deploy or math.inf,
        run_as=release.module.post_deploy.run_as,
        brings=(run.goal.script, environment, release.package.revision.message),
    )
    await run_script(ctx, call)
    return e.Unchanged(ctx.name)
