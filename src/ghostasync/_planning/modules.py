"""What a run makes or takes: its modules, each with a source or with a package."""

from __future__ import annotations

import os
from collections.abc import Sequence

import attrs

from .._engine.spec import Job
from .._local.paths import cache_home, git_url, local_path, parse_package_id
from ..errors import PlanError, SourceError, StoreError
from ..history.replay import Past
from ..model import DirectorySource, GitSource, Module, Plan
from ..protocols import ManifestLine, Source, Store
from ..sources.directory import Directory
from ..sources.git import Git

__all__ = ["Job", "Selection", "job_for", "manifest_jobs", "past_job", "wanted"]


@attrs.frozen
class Selection:
    """
    What of the plan a run is about; the default is all of it.

    *modules* are names, or ``name@rev``; *rev* applies where the run has one repository
    only; *packages* are ids of stored packages to take instead of building; *limit* are
    expressions over hosts; *force* deploys what is live already. *run* is an earlier
    run to resume or to go back from; to *revert* it is to put every host back instead.
    *wait* is how many seconds a lock of another run is waited for; *break_lock* takes
    it over at once, and ends what that run has running.
    """

    modules: tuple[str, ...] = ()
    rev: str = ""
    packages: tuple[str, ...] = ()
    limit: tuple[str, ...] = ()
    force: bool = False
    run: str = ""
    revert: bool = False
    wait: float = 0.0
    break_lock: bool = False


def wanted(plan: Plan, selection: Selection) -> list[tuple[Module, str]]:
    """Return the chosen modules in app order, each with a package id or none."""
    known = {module.name: module for module in plan.modules}
    revs = dict(word.partition("@")[::2] for word in selection.modules)
    packages = {parse_package_id(p).module: p for p in selection.packages}
    for name in (*revs, *packages):
        if name not in known:
            raise PlanError(
                f"there is no module {name!r}; modules: {', '.join(known) or 'none'}"
            )
    names = {*revs, *packages} or set(known)
    chosen = [module for module in plan.modules if module.name in names]
    if not chosen:
        raise PlanError("modules: there is nothing to deploy")
    if selection.rev:
        repositories = {m.source for m in chosen if isinstance(m.source, GitSource)}
        if len({source.git for source in repositories}) != 1:
            raise PlanError(
                "--rev needs modules of one repository; give each its own: NAME@REV"
            )
    return [
        (_at(m, revs.get(m.name) or selection.rev), packages.get(m.name, ""))
        for m in chosen
    ]


def _at(module: Module, rev: str) -> Module:
    if not rev:
        return module
    if not isinstance(module.source, GitSource):
        raise PlanError(f"{module.name}: its source has no revisions")
    return attrs.evolve(module, source=attrs.evolve(module.source, rev=rev))


async def job_for(plan: Plan, store: Store, module: Module, package: str) -> Job:
    """Return a module at its revision now, or as the stored *package*."""
    if package:
        try:
            await store.package(package)
        except StoreError as exc:
            raise PlanError(f"package {package}: {exc}") from exc
        return Job(module, package=package)
    source = _source(plan, module)
    try:
        return Job(module, source, await source.resolve())
    except SourceError as exc:
        # The run tells it, with its log and its exit status.
        return Job(module, source, error=_keyed(plan, module, exc))


def _keyed(plan: Plan, module: Module, exc: SourceError) -> SourceError:
    """Name the key of a folder; with git there is more to blame than one."""
    if not isinstance(module.source, DirectorySource):
        return exc
    index = [known.name for known in plan.modules].index(module.name)
    return SourceError(f"{exc} (modules[{index}].source.dir)")


def manifest_jobs(plan: Plan, manifest: Sequence[ManifestLine]) -> tuple[Job, ...]:
    """Return the modules that MANIFEST names, each as the package named there."""
    lines = {line.module: line.package for line in manifest}
    jobs = [Job(m, package=lines[m.name]) for m in plan.modules if m.name in lines]
    if not jobs:
        raise PlanError(
            "MANIFEST names no module of this app yet: `ghostasync deploy` first"
        )
    return tuple(jobs)


async def past_job(plan: Plan, store: Store, module: Module, past: Past) -> Job:
    """
    Return a module as the killed run had it: packaged, else at its commit.

    Raises:
        PlanError: Hosts may serve the package already, and it is not in the store.
    """
    if package := past.packages.get(module.name):
        try:
            await store.package(package)
        except StoreError as exc:
            # What it was made of is the next best, but not as another release beside
            # this one, from which no host would find its way back.
            if past.changed:
                raise PlanError(
                    f"run {past.id} brought hosts to {package}, which cannot be taken "
                    f"from the store: {exc}; `ghostasync resume --revert {past.id}` "
                    "puts every host back, `ghostasync deploy` makes a new release"
                ) from exc
        else:
            return Job(module, package=package)
    known = past.revisions.get(module.name)
    if known is None or not known.commit:
        return await job_for(plan, store, module, "")
    found = await job_for(plan, store, _at(module, known.commit), "")
    # The name under which it was asked for is what scripts see.
    return attrs.evolve(found, revision=attrs.evolve(found.revision, rev=known.rev))


def _source(plan: Plan, module: Module) -> Source:
    match module.source:
        case GitSource() as git:
            return Git(
                module.name,
                attrs.evolve(git, git=git_url(git.git, plan.base, os.environ)),
                cache=cache_home(os.environ),
                base=plan.base,
                keep_git=".git" not in module.exclude,
            )
        case DirectorySource(dir=folder):
            return Directory(module.name, local_path(folder, plan.base, os.environ))
        case _:
            raise PlanError(f"{module.name}: this version fetches from git and dir")
