"""The modules of a run, each with a source to build from or with a stored package."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import anyio
import attrs

from .._build.release import require_as_named
from .._engine.spec import ModuleToDeploy
from .._local.paths import (
    cache_home,
    git_url,
    is_package_id,
    local_path,
    parse_package_id,
)
from ..errors import PlanError, SourceError, StoreError
from ..goal import Goal
from ..model import (
    DirectorySource,
    GitSource,
    Module,
    Package,
    Plan,
    Revision,
    S3Source,
)
from ..protocols import AudibleSource, Lineage, ManifestLine, Source
from ..sources.directory import Directory
from ..sources.git import Git
from .basis import Basis

__all__ = [
    "as_it_was",
    "at_revision",
    "in_manifest",
    "named_so",
    "served",
    "to_deploy",
    "wanted",
    "whole_ids",
]

_COMMIT: Final = re.compile(r"[0-9a-f]{4,64}")
"""A commit, or its beginning, as git takes it."""


def wanted(
    plan: Plan,
    *,
    modules: Sequence[str] = (),
    rev: str = "",
    packages: Sequence[str] = (),
) -> tuple[tuple[Module, ...], Mapping[str, str]]:
    """
    Return the modules that a deploy names, by module or by package; all, where none.

    Returns:
        The modules in app order, at the revisions asked for, and package ids by module
        name for those that are taken from the store.

    Raises:
        PlanError: A module is not in the plan, its source has no revisions, or two of
            its packages are named.
    """
    known = {module.name: module for module in plan.modules}
    revs = dict(word.partition("@")[::2] for word in modules)
    ids: dict[str, str] = {}
    for package in packages:
        name = parse_package_id(package).module
        if ids.setdefault(name, package) != package:
            raise PlanError(f"{name}: two packages are named: {ids[name]}, {package}")
    for name in (*revs, *ids):
        if name not in known:
            raise PlanError(
                f"there is no module {name!r}; modules: {', '.join(known) or 'none'}"
            )
    names = {*revs, *ids} or set(known)
    chosen = [module for module in plan.modules if module.name in names]
    if not chosen:
        raise PlanError("modules: there is nothing to deploy")
    # One revision for several repositories would be right in one of them by chance.
    if rev:
        repositories = {m.source.git for m in chosen if isinstance(m.source, GitSource)}
        objects = {m.source.s3 for m in chosen if isinstance(m.source, S3Source)}
        if len(repositories | objects) != 1:
            raise PlanError(
                "--rev needs modules of one repository; give each its own: NAME@REV"
            )
    return tuple(at_revision(m, revs.get(m.name) or rev) for m in chosen), ids


async def whole_ids(
    basis: Basis, asked: Sequence[str], held: Mapping[str, Package] | None = None
) -> tuple[str, ...]:
    """
    Return the ids of packages that are named by an id, a commit, or how one begins.

    *held* are packages that hosts have: a store that cannot be read is then no matter.

    Raises:
        PlanError: No package is named so, or several are.
        StoreError: The store cannot be read.
    """
    return tuple([await _whole_id(basis, text, held) for text in asked])


async def _whole_id(
    basis: Basis, asked: str, held: Mapping[str, Package] | None
) -> str:
    found = await named_so(basis, asked, held)
    if len(found) > 1:
        names = ", ".join(sorted(found))
        raise PlanError(f"{asked!r} names {len(found)} packages: {names}")
    if not found:
        raise PlanError(
            f"{asked}: no package has an id or a commit that begins so; `ghostasync "
            "history` names them"
        )
    return found[0]


async def named_so(
    basis: Basis, asked: str, held: Mapping[str, Package] | None = None
) -> list[str]:
    """
    Return the ids of all packages whose id or commit is *asked*, or begins so.

    A whole id is taken at its word; *held* is as for :func:`whole_ids`.

    Raises:
        StoreError: The store cannot be read.
    """
    if is_package_id(asked):
        return [asked]
    known = dict.fromkeys(held or {})
    for module in basis.plan.modules:
        with suppress(*[StoreError] * (held is not None)):
            known |= dict.fromkeys(await basis.store.packages.ids(module.name))
    found = [package for package in known if package.startswith(asked)]
    for package in known if _COMMIT.fullmatch(asked.lower()) else ():
        short = parse_package_id(package).commit
        if short.startswith(asked.lower()[: len(short)]):
            # An id has seven digits of the commit.
            commit = short
            if len(asked) > len(short):
                about = (held or {}).get(package)
                about = about or await basis.store.packages.package(package)
                commit = about.revision.commit
            found += [package] * commit.startswith(asked.lower())
    return [*dict.fromkeys(found)]


def in_manifest(
    plan: Plan, manifest: Sequence[ManifestLine]
) -> tuple[tuple[Module, ...], Mapping[str, str]]:
    """
    Return the modules that MANIFEST names, and the packages named there.

    Raises:
        PlanError: MANIFEST names no module of the plan.
    """
    ids = {line.module: line.package for line in manifest}
    modules = tuple(module for module in plan.modules if module.name in ids)
    if not modules:
        raise PlanError(
            "MANIFEST names no module of this app yet: `ghostasync deploy` first"
        )
    return modules, ids


def served(
    plan: Plan, manifest: Sequence[ManifestLine], name: str
) -> tuple[tuple[Module, ...], Mapping[str, str]]:
    """
    Return the module *name*, the only one where that is empty, and its package.

    Raises:
        PlanError: There is no such module, or MANIFEST names no package of it.
    """
    if not name and len(plan.modules) > 1:
        known = ", ".join(module.name for module in plan.modules)
        raise PlanError(f"exec: say which module, --module: {known}")
    (module, *_), _ = wanted(plan, modules=[name] if name else ())
    packages = {n.module: n.package for n in manifest if n.module == module.name}
    if not packages:
        raise PlanError(
            f"MANIFEST names no release of {module.name} yet: `ghostasync deploy` first"
        )
    return (module,), packages


def at_revision(module: Module, rev: str) -> Module:
    """
    Return *module* at the revision *rev* of its source; unchanged where that is empty.

    Raises:
        PlanError: Its source has no revisions.
    """
    if not rev:
        return module
    match module.source:
        case GitSource() as git:
            return attrs.evolve(module, source=attrs.evolve(git, rev=rev))
        case S3Source(is_prefix=False) as s3:
            return attrs.evolve(module, source=attrs.evolve(s3, version=rev))
    raise PlanError(f"{module.name}: its source has no revisions")


def as_it_was(module: Module, revision: Revision) -> Module:
    """Return *module* at just the *revision* that its source once resolved to."""
    # A branch moves, and so does an object. In a bucket without versions, or a folder,
    # nothing but what is there now can be had.
    at = revision.rev if isinstance(module.source, S3Source) else revision.commit
    return at_revision(module, at)


async def to_deploy(
    basis: Basis, goal: Goal, module: Module, package: str = ""
) -> ModuleToDeploy:
    """
    Return a module with the stored *package*, or with its source and revision.

    Raises:
        UnknownRevision: The source has no such revision.
        PlanError: The package is not in the store, or none is named and *goal* builds
            nothing; or the source is a folder that holds what runs write.
    """
    source = _source(basis, module)
    lineage = source if isinstance(source, Lineage) else None
    if package:
        # Looked up now: a package that is not there is refused before any host is met.
        try:
            known = await basis.store.packages.package(package)
            require_as_named(known, basis.manifest)
        except StoreError as exc:
            raise PlanError(f"package {package}: {exc}") from exc
        return ModuleToDeploy(module, package=package, lineage=lineage)
    if not goal.builds:
        raise PlanError(f"{module.name}: no stored package is known to take")
    if isinstance(source, Directory):
        _require_apart(basis, module, source.folder)
    try:
        revision = await _resolved(basis.plan, module, source)
        return ModuleToDeploy(module, source, revision, lineage=lineage)
    except SourceError as exc:
        # A source that cannot be reached is no mistake in the plan: the run fails with
        # it, on record and with the exit status 1 in place of 2.
        return ModuleToDeploy(module, source, error=_keyed(basis.plan, module, exc))


async def _resolved(plan: Plan, module: Module, source: Source) -> Revision:
    seconds = plan.rollout.deadlines.source
    with anyio.move_on_after(seconds):
        return await source.resolve()
    said = source.said if isinstance(source, AudibleSource) else b""
    raise SourceError(
        f"{module.name}: its source gave no revision within {seconds:g} s "
        "(rollout.deadlines.source)",
        tail=said.decode("utf-8", "replace"),
    )


def _keyed(plan: Plan, module: Module, exc: SourceError) -> SourceError:
    """Return *exc* with the key of the source; with git several may be at fault."""
    if isinstance(module.source, GitSource):
        return exc
    key = "dir" if isinstance(module.source, DirectorySource) else "s3"
    return SourceError(f"{exc} ({_place(plan, module)}.source.{key})", tail=exc.tail)


def _place(plan: Plan, module: Module) -> str:
    index = [known.name for known in plan.modules].index(module.name)
    return f"modules[{index}]"


def _require_apart(basis: Basis, module: Module, folder: Path) -> None:
    """
    Do nothing, unless *folder*, a source, holds files that runs write.

    Raises:
        PlanError: It does: secrets and other modules would be in each release.
    """
    written = {"the cache": cache_home(basis.environ), "the run's files": basis.folder}
    if Path(basis.store_url).is_absolute():
        written = {"the store": Path(basis.store_url), **written}
    for what, path in written.items():
        if path.resolve().is_relative_to(folder):
            raise PlanError(
                f"{_place(basis.plan, module)}.source.dir: {folder} holds {what}, "
                f"{path}, and would ship it: name a folder without it, or move it away"
            )


def _named_files(plan: Plan, environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the configuration, and files that it names: no release has them."""
    if plan.file is not None:
        yield plan.file
    scripts = [s for module in plan.modules for s in module.scripts.values()]
    key = plan.store.sign.key
    ssh = [plan.ssh.identity, plan.ssh.known_hosts, plan.ssh.config]
    named = [plan.store.signers, key, key.removesuffix(".pub")]
    named += [text for text in ssh if isinstance(text, str)]
    for text in (*named, *(script.file for script in scripts)):
        if text:
            yield local_path(text, plan.base, environ)


def _source(basis: Basis, module: Module) -> Source:
    base, environ = basis.plan.base, basis.environ
    match module.source:
        case GitSource() as git:
            return Git(
                module.name,
                attrs.evolve(git, git=git_url(git.git, base, environ)),
                cache=cache_home(environ),
                base=base,
                keep_git=".git" not in module.exclude,
                environ=environ,
                submodules=module.submodules,
                listen=basis.listener(module.name),
            )
        case DirectorySource(dir=folder):
            left_out = _named_files(basis.plan, environ)
            path = local_path(folder, base, environ)
            return Directory(module.name, path, left_out, module.exclude)
        case S3Source() as s3:
            from ..sources.s3 import S3

            return S3(module.name, s3, basis.plan.store)
