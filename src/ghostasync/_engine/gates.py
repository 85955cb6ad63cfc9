"""The gate before the switch: each module's before_switch, once for the whole fleet."""

from __future__ import annotations

from collections.abc import Iterable

from .. import events as e
from .._build.release import Release
from ..errors import StoreError
from ..history.runs import unended_migration
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
    hosts = [*hosts]
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
            await _pass(run, release, first, hosts)
        if run.state.stopped:
            return


async def _pass(
    run: RunContext, release: Release, first: HostRun, hosts: Iterable[HostRun]
) -> None:
    """Run a before_switch on *first*, or look on where it has begun already."""
    name, killed = release.module.name, run.killed
    host, begun = killed.migrating.get(name, ("", "")) if killed else ("", "")
    there = next((ctx for ctx in hosts if ctx.name == host), None)
    if begun and there is not None and there.state is State.READY:
        await before_switch(there, release, begun)
        return
    if not begun:
        try:
            host, begun = await _at_work(run, name, hosts)
        except StoreError as exc:
            text = f"before_switch of {name}: whether one is at work: {exc}"
            run.note(e.BeforeSwitchFailed(name, first.name, text))
            return
    if begun:
        why = f"run {begun} began it on {host}, which cannot be asked how it ended"
        cure = "have that host in the run, or out of the inventory"
        text = f"before_switch of {name}: {why}: {cure}"
        run.note(e.BeforeSwitchFailed(name, host, text))
        return
    await before_switch(first, release)


async def _at_work(
    run: RunContext, module: str, hosts: Iterable[HostRun]
) -> tuple[str, str]:
    """
    Return a host, and the run that began a before_switch there that may be at work.

    Whoever has the lock of that host has waited for its end. A host that is gone from
    the inventory is waited for by nobody.

    Raises:
        StoreError: The store cannot be read.
    """
    host, begun = await unended_migration(run.spec.store.runs, module, besides=run.id)
    waited = {ctx.name for ctx in hosts if ctx.attempt.facts is not None}
    known = {each.name for each in run.plan.hosts}
    return (host, begun) if host in known - waited else ("", "")
