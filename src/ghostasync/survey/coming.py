"""What a deploy would bring of a module, by the word of its source and the store."""

from __future__ import annotations

from contextlib import suppress

import attrs

from .._build.environment import digest, module_variables
from .._build.release import fingerprint
from .._engine.spec import ModuleToDeploy, RunSpec
from ..errors import StoreError
from ..history.runs import unended_migration
from ..model import Package, Revision

__all__ = ["HOST_SCRIPTS", "Coming", "coming", "migrates"]

HOST_SCRIPTS = ("pre_deploy", "before_switch", "post_deploy")
"""Scripts that are in a package."""


@attrs.frozen
class Coming:
    """
    What a module would bring: *package* and its *mark* on hosts, where known.

    Without a package it is to be built. *stored* is the id of a package of that commit,
    empty where the store has none; *newest* is the store's last package of the module,
    None without one.
    """

    revision: Revision
    package: Package | None = None
    mark: str = ""
    stored: str = ""
    newest: Package | None = None


async def coming(spec: RunSpec, chosen: ModuleToDeploy) -> Coming:
    """
    Return what is known of the package that a module would get.

    Raises:
        StoreError: The store cannot be read, or lacks the package that was named.
    """
    packages, name = spec.store.packages, chosen.module.name
    if chosen.package:
        package = await packages.package(chosen.package)
        mark = fingerprint(package, _digest(spec, chosen, package.revision))
        return Coming(package.revision, package, mark, package.id, package)
    newest = None
    for last in [*await packages.ids(name)][-1:]:
        with suppress(StoreError):  # one that is damaged tells nothing
            newest = await packages.package(last)
    revision = chosen.revision
    stored = await _stored(spec, name, revision.commit)
    environment = _digest(spec, chosen, revision)
    scripts = {key for key in HOST_SCRIPTS if getattr(chosen.module, key)}
    # A build takes what MANIFEST names again, where it comes to the same.
    for line in spec.manifest:
        if line.module == name and line.package in stored and not spec.goal.force:
            package = stored[line.package]
            kept = await spec.store.manifest.environment(line.package)
            same = kept is not None and digest(kept.variables) == environment
            if same and {*package.scripts} == scripts:
                mark = fingerprint(package, environment)
                return Coming(revision, package, mark, package.id, newest)
    return Coming(revision, stored=next(reversed(stored), ""), newest=newest)


async def migrates(spec: RunSpec, chosen: ModuleToDeploy) -> str:
    """
    Say that a before_switch of a module may be at work; empty where none is.

    Raises:
        StoreError: The store cannot be read.
    """
    if not chosen.module.before_switch:
        return ""
    host, run = await unended_migration(spec.store.runs, chosen.module.name)
    return run and (
        f"run {run} began a before_switch on {host}, and no end of it is on record: a "
        "deploy waits for it"
    )


def _digest(spec: RunSpec, chosen: ModuleToDeploy, revision: Revision) -> str:
    """Return the digest of the environment that scripts of a module would see."""
    return digest(
        module_variables(
            spec.plan.app,
            chosen.module,
            revision,
            actor=spec.actor,
            action=spec.goal.action,
            secrets=spec.secrets,
        )
    )


async def _stored(spec: RunSpec, module: str, commit: str) -> dict[str, Package]:
    """Return the packages of a commit that are in the store, the oldest first."""
    found = {}
    for package_id in await spec.store.packages.ids(module) if commit else ():
        # Of most, the id tells that they are of another commit.
        if package_id.endswith(commit[:7]):
            with suppress(StoreError):
                package = await spec.store.packages.package(package_id)
                if package.revision.commit == commit:
                    found[package_id] = package
    return found
