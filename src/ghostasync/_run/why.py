"""
Why hosts are not left alone: by what releases differ from those that hosts serve.

It is asked for by a person who expected ``unchanged``, and is told before a link moves.
"""

from __future__ import annotations

from collections import defaultdict

import attrs
from anyio import to_thread

from .._build.environment import changed
from .._build.release import Release
from .._engine.fleet import Fleet
from .._engine.host import HostRun
from .._packaging.differences import differences
from ..errors import PackageError, StoreError
from ..events import Differs
from ..goal import Deploy
from ..protocols import Store

__all__ = ["tell_why"]


async def tell_why(fleet: Fleet) -> None:
    """Note by what each release differs from those that hosts serve, if asked to."""
    goal, store = fleet.run.goal, fleet.run.spec.store
    if not isinstance(goal, Deploy) or not goal.why:
        return
    hosts: dict[tuple[Release, str, str], list[str]] = defaultdict(list)
    for ctx in fleet.hosts.values():
        for release in ctx.attempt.to_deploy:
            live = ctx.known.targets[release.module.name].live
            hosts[release, live, _reason(ctx, release)].append(ctx.name)
    for (release, live, reason), names in hosts.items():
        name = release.module.name
        told = Differs(name, release.id, live, tuple(names), reason)
        if not reason:
            told = await _compared(store, told, release)
        if not (told.reason or told.paths or told.settings or told.variables):
            force = "the run is forced"
            why = force if goal.force else "MANIFEST names another release"
            told = attrs.evolve(told, reason=f"nothing differs, but {why}")
        fleet.note(told)


def _reason(ctx: HostRun, release: Release) -> str:
    """Return why a host gets a release; empty where a comparison has to tell."""
    target = ctx.known.targets[release.module.name]
    if not target.live:
        return "nothing to compare it with"
    if target.dangling:
        return "what serves is gone from the disk"
    if target.live == release.id:
        if ctx.name in ctx.run.spec.stranded:
            return "an earlier run left it stranded"
        if not target.fingerprint:
            return "it has not proven itself there"
    return ""


async def _compared(store: Store, told: Differs, release: Release) -> Differs:
    """Return *told* with what differs between the two packages."""
    package = release.package
    try:
        await release.stored()
        live = await store.packages.package(told.live)
        old, new = [await store.packages.listing(p.id) for p in (live, package)]
        kept = await store.manifest.environment(live.id)
        found = await to_thread.run_sync(differences, old, new)
    except (PackageError, StoreError) as exc:
        return attrs.evolve(told, reason=f"by what is not known: {exc}")
    return attrs.evolve(
        told,
        files=found.files,
        paths=found.paths,
        settings=tuple(
            name
            for name in sorted({*live.settings, *package.settings})
            if live.settings.get(name) != package.settings.get(name)
        ),
        variables=changed(kept.variables, release.variables) if kept else (),
        reason="" if kept else "the store has no variables of what serves",
    )
