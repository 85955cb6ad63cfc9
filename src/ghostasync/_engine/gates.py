"""The gate before the switch: each module's before_switch, once for the whole fleet."""

from __future__ import annotations

from collections.abc import Iterable

from .. import events as e
from .._build.release import Release
from ..model import State
from .host import HostRun, RunContext
from .stages.before_switch import before_switch

__all__ = ["pass_before_switch"]


async def pass_before_switch(run: RunContext, hosts: Iterable[HostRun]) -> None:
    """
    Run each module's before_switch once, on the first READY host that gets it.

    *hosts* are in the order of the waves, so that is a host of the canary where one is
    fit. The first failure stops the run, and the modules after it are not migrated.
    """
    # A release that served before has passed its before_switch; a rollback to it, or a
    # converge, must not migrate anything a second time.
    if not run.goal.migrates:
        return
    ready = [ctx for ctx in hosts if ctx.state is State.READY]
    for release in run.releases:
        name = release.module.name
        # A migration is not known to bear a second time: one that passed in the killed
        # run, which this one takes up, is on record and is not repeated.
        if run.killed and name in run.killed.migrated:
            continue
        if "before_switch" not in release.package.scripts:
            continue
        # A release that no host needs is served everywhere already, migrated as well.
        first = next((c for c in ready if release in c.attempt.to_deploy), None)
        if first is not None:
            await _pass(run, release, first, ready)
        if run.state.stopped:
            return


async def _pass(
    run: RunContext, release: Release, first: HostRun, ready: Iterable[HostRun]
) -> None:
    """Run a before_switch on *first*, or look on where it has begun already."""
    name, killed = release.module.name, run.killed
    host, begun = killed.migrating.get(name, ("", "")) if killed else ("", "")
    if not begun:
        await before_switch(first, release)
    elif there := next((ctx for ctx in ready if ctx.name == host), None):
        await before_switch(there, release, begun)
    else:
        why = f"run {begun} began it there, and {host} cannot be asked how it ended"
        text = f"before_switch of {name}: {why}"
        run.note(e.BeforeSwitchFailed(name, host, text))
