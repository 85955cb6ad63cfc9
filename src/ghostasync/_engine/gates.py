"""The gate that a rollout has to pass once, before its first link moves."""

from __future__ import annotations

from collections.abc import Iterable

from ..model import State
from .host import HostRun, RunContext
from .stages.before_switch import before_switch

__all__ = ["pass_before_switch"]


async def pass_before_switch(run: RunContext, hosts: Iterable[HostRun]) -> None:
    """Run each module's before_switch once, on the first of *hosts* that gets it."""
    # A release that served before has passed its before_switch; to go back to it, or
    # on with it, must not migrate anything a second time.
    if not run.goal.migrates:
        return
    ready = [ctx for ctx in hosts if ctx.state is State.READY]
    for release in run.releases:
        name = release.module.name
        # The killed run, which this one takes up, may have got that far.
        if run.killed and name in run.killed.migrated:
            continue
        if "before_switch" not in release.package.scripts:
            continue
        first = next((c for c in ready if release in c.attempt.to_deploy), None)
        if first is not None:
            await before_switch(first, release)
        if run.state.stopped:
            return
