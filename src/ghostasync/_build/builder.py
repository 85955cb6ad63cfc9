"""
The builder: it turns sources into packages on this machine, once for the whole fleet.

How it works. A module is always built in the same folder: a path that changed would be
baked into virtual environments and compiled files, and every release would differ from
the last. The folder is locked and emptied; the lock is held for as long as the builder
is open, for ``after_all_deploy`` runs there too. A tree that comes out as the package
that MANIFEST names already, with the same environment, is not packaged again: that
package is taken.

One file, though long: the steps of one build, in order.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Self

import anyio
import attrs
from anyio import to_thread
from anyio.abc import TaskGroup

from .. import events as e
from .at_target import at_target
from .copies import drop_old_copies, drop_unpublished, keep
from .environment import FALLBACK_EPOCH, digest, module_variables
from .._local.attributes import drop_acls
from .._local.beneath import find
from .._local.emptying import remove
from .._local.output import Listener
from .._local.processes import end_left_behind
from .._local.scripts import locked, script, text_of
from .._lint import form
from .._lint.offline import warning
from .._local.redact import Redactor
from ..errors import BuildError, PackageError, SourceError, StoreError
from ..goal import Goal
from ..model import Module, Package, Plan, Revision, Script
from .._packaging.build import MESSAGE_FILE, Packed, pack
from .._packaging.spool import Spool, write_gzip
from .._packaging.unpack import unpack
from ..protocols import AudibleSource, GzipPackages, PartialSource, Source, Store
from .release import RECALLED, Release, fingerprint, require_as_named

__all__ = ["Builder"]

@attrs.define(eq=False)
class Builder:
    """
    The builder of one run; an asynchronous context manager.

    *folder* maps a module's name to its build folder, *log* to the file for its full
    output; *environ* is the environment that scripts on this machine start from.
    """

    plan: Plan
    store: Store
    goal: Goal
    actor: str
    folder: Callable[[str], Path]
    log: Callable[[str], Path]
    environ: Mapping[str, str]
    secrets: Mapping[str, str]
    redactor: Redactor
    note: Callable[[e.Event], None]
    _stack: contextlib.AsyncExitStack = attrs.field(
        factory=contextlib.AsyncExitStack, init=False
    )
    _trees: dict[str, Path] = attrs.field(factory=dict, init=False)
    _publishing: TaskGroup = attrs.field(init=False)
    _on_their_way: dict[str, anyio.Event] = attrs.field(factory=dict, init=False)
    _gzipping: list[anyio.Event] = attrs.field(factory=list, init=False)
    _unpublished: dict[str, StoreError | OSError] = attrs.field(
        factory=dict, init=False
    )

    async def __aenter__(self) -> Self:
        group = anyio.create_task_group()
        self._publishing = await self._stack.enter_async_context(group)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._publishing.cancel_scope.cancel()
        await self._stack.aclose()

    async def fetch(
        self,
        module: Module,
        source: Source,
        revision: Revision,
        busy: Callable[[], object],
    ) -> None:
        """
        Put the tree of *revision* into the build folder, and look at its scripts.

        Args:
            module: The module.

            source: The source of its tree.

            revision: The revision that *source* resolved to.

            busy: Called where another run has the folder, before that is waited for.

        Raises:
            SourceError: The tree could not be fetched.
            BuildError: The build folder is not to be had, or a script in the tree
                cannot work.
        """
        tree = await self._empty_tree(module, revision, busy)
        await self._fetch(module, source, revision, tree)
        for key, wanted in module.scripts.items():
            # Others are read when the buildpack has run, which may write them.
            if wanted.path and (key == "buildpack" or not module.buildpack):
                self._script_text(module, key, wanted, tree)

    async def build(
        self, module: Module, revision: Revision, *, reuse: bool = True
    ) -> Release:
        """
        Build, package and store one module whose tree was fetched.

        Args:
            module: The module to build.

            revision: The revision that was fetched.

            reuse: Whether the package that MANIFEST names is taken in place of a new
                one with the same content and environment.

        Raises:
            BuildError: The buildpack failed, or a script is missing or cannot work.
            PackageError: The tree is empty or cannot be packaged.
            StoreError: The package could not be stored.
        """
        started = anyio.current_time()
        tree = self._trees[module.name]
        self.note(e.BuildStarted(module.name))
        variables = self._variables(module, revision)
        if module.buildpack:
            text = self._checked_script(module, "buildpack", module.buildpack, tree)
            extra = {"SOURCE_DATE_EPOCH": str(revision.epoch or FALLBACK_EPOCH)}
            await self._run_script(
                module,
                "buildpack",
                text,
                tree,
                {**variables, **extra},
                seconds=self.plan.rollout.deadlines.build,
                within=at_target(module),
            )
        if module.after_all_deploy:
            # A script that is missing must be known before a link moves.
            self._script_text(module, "after_all_deploy", module.after_all_deploy, tree)
        package, archive = await self._package(module, revision, tree, variables, reuse)
        release = await self._release(module, package, variables, archive)
        self._packaged(release, started, reused=archive is None)
        return release

    def log_source(self, module: Module, source: Source | None) -> None:
        """Put on record what *source* said while there was no log yet."""
        with self._listening(module, "source") as listener:
            if isinstance(source, AudibleSource):
                listener.output(source.said)

    def require_scripts(self, module: Module) -> None:
        """Raise BuildError where a script that is not in the tree cannot work."""
        for key, wanted in module.scripts.items():
            if wanted and not wanted.path:
                self._script_text(module, key, wanted, None)

    async def gzipped(self, releases: Iterable[Release] = ()) -> None:
        """
        Wait until the store has what was built as gzip as well, if it keeps that.

        *releases* are made into gzip where the store has none of them. What fails is
        warned of: hosts that lack zstd could not boot.
        """
        for release in releases:
            await self._publish_gzip(release.package)
        for each in self._gzipping:
            await each.wait()

    async def published(self) -> None:
        """
        Wait until the store has all that was built: it goes there while hosts get it.

        Raises:
            OSError, StoreError: A package could not be stored.
        """
        for each in self._on_their_way.values():
            await each.wait()
        for exc in self._unpublished.values():
            raise exc

    async def load(
        self, module: Module, package_id: str, held: Package | None = None
    ) -> Release:
        """
        Take a stored package instead of building one.

        Args:
            module: The module.

            package_id: The package.

            held: What hosts that have the release know of it, in place of the store.

        Raises:
            StoreError: The package is not in the store, or it is damaged.
        """
        started = anyio.current_time()
        try:
            package = await self.store.packages.package(package_id)
            require_as_named(package, await self.store.manifest.read())
            variables = await self.environment(module, package)
            release = await self._release(module, package, variables)
        except StoreError:
            # A store that is down, or has lost the package, keeps nobody on a release
            # that has to go.
            if held is None:
                raise
            release = Release(module, held, None, {}, fingerprint=RECALLED)
        self._packaged(release, started, reused=True)
        return release

    async def environment(self, module: Module, package: Package) -> dict[str, str]:
        """
        Return the environment for the scripts of a stored package.

        Raises:
            StoreError: The store cannot be read.
        """
        variables = self._variables(module, package.revision)
        if self.goal.callers_environment:
            return variables
        # A rollback, a converge or a resumption takes the environment that the package
        # was last deployed with, where the store still has it: variables that have
        # changed since belong to a newer release.
        kept = await self.store.manifest.environment(package.id)
        return {
            **(kept.variables if kept else variables),
            **(await self._secrets_of_today(module) if self.goal.recalls else {}),
            "GHOST_ACTION": self.goal.action.value,
        }

    async def _secrets_of_today(self, module: Module) -> dict[str, str]:
        """Return the caller's secrets, and else those that MANIFEST's package has."""
        # A secret that was changed since the release was live would lock it out.
        if self.goal.recorded_secrets:
            return {}
        newest: Mapping[str, str] = {}
        for line in await self.store.manifest.read():
            kept = await self.store.manifest.environment(line.package)
            if line.module == module.name and kept is not None:
                newest = kept.variables
        names = self.plan.app.secrets
        return {name: newest[name] for name in names if name in newest} | {**self.secrets}

    async def after_all(self, release: Release) -> None:
        """
        Run a module's after_all_deploy in its build folder, once.

        Raises:
            BuildError: The script is missing, could not be started, or failed.
        """
        module = release.module
        if not module.after_all_deploy:
            return
        tree = self._trees.get(module.name) or await self._unpacked(release)
        text = self._script_text(module, "after_all_deploy", module.after_all_deploy, tree)
        seconds = self.plan.rollout.deadlines.after_all_deploy
        await self._run_script(
            module, "after_all_deploy", text, tree, release.variables, seconds=seconds
        )

    # --- Steps -----------------------------------------------------------------

    async def _empty_tree(
        self,
        module: Module,
        revision: Revision,
        busy: Callable[[], object] = lambda: None,
    ) -> Path:
        """
        Lock and empty a module's build folder for this run, for a tree of *revision*.

        Raises:
            BuildError: Another run has it, for longer than ``deadlines.build``; or
                something in it cannot be removed.
        """
        folder = self.folder(module.name)
        seconds = self.plan.rollout.deadlines.build
        with anyio.move_on_after(seconds) as scope:
            await self._stack.enter_async_context(locked(folder / "lock", busy))
        if scope.cancelled_caught:
            raise BuildError(f"{module.name}: another run builds in {folder}")
        await to_thread.run_sync(drop_unpublished, folder)
        tree = folder / "tree"
        if why := await to_thread.run_sync(remove, tree):
            raise BuildError(f"{module.name}: the last build cannot be removed: {why}")
        tree.mkdir()
        # Each file of the tree would inherit the ACL of a folder above.
        drop_acls(tree)
        self._message(module).write_bytes(os.fsencode(revision.message))
        self._trees[module.name] = tree
        return tree

    async def _fetch(
        self, module: Module, source: Source, revision: Revision, tree: Path
    ) -> None:
        seconds = self.plan.rollout.deadlines.source
        self.log_source(module, source)
        with self._listening(module, "source") as listener:
            with anyio.move_on_after(seconds) as scope:
                await source.fetch(revision, tree, listener.output)
        if scope.cancelled_caught:
            raise SourceError(
                f"{module.name}: not fetched within {seconds:g} s "
                "(rollout.deadlines.source)",
                tail=listener.tail.text(),
            )
        if isinstance(source, PartialSource):
            self._tell_left_behind(module, source.left_behind)

    def _tell_left_behind(self, module: Module, paths: str) -> None:
        """
        Warn of attributes that no release will have.

        Raises:
            SourceError: The module asks for them, or for none.
        """
        if not paths:
            return
        if module.attributes != "warn":
            raise SourceError(f"{module.name}: {paths}: cannot be kept in a copy here")
        text = f"{module.name}: not in the release: {paths}"
        self.note(e.Warned(f'{text}; modules.attributes = "keep" sets them on hosts'))

    async def _unpacked(self, release: Release) -> Path:
        tree = await self._empty_tree(release.module, release.package.revision)
        archive = await self._archive(release.id, release.module.name)
        await to_thread.run_sync(unpack, archive, tree)
        return tree

    async def _package(
        self,
        module: Module,
        revision: Revision,
        tree: Path,
        variables: Mapping[str, str],
        reuse: bool,
    ) -> tuple[Package, Path | None]:
        """Return the package of *tree*, and its archive where it is a new one."""
        scripts = {
            name: self._checked_script(module, name, wanted, tree)
            for name in ("pre_deploy", "before_switch", "post_deploy")
            if (wanted := getattr(module, name))
        }
        _require_kinds(module, tree)
        into = self.folder(module.name)
        # The id first, for the archive holds it: no other run can take it meanwhile.
        package_id = await self.store.packages.reserve(module.name, revision.commit)
        packed = await pack(
            tree,
            package_id=package_id,
            module=module,
            revision=revision,
            scripts=scripts,
            into=into,
        )
        self._tell_left_behind(module, packed.left_behind)
        for text in packed.warnings:
            self.note(e.Warned(f"{module.name}: {text}"))
        equal = await self._equal_package(packed, digest(variables)) if reuse else None
        if equal is not None:
            packed.archive.unlink()
            packed.manifest.unlink()
            return equal, None
        if self.store.packages.are_here:
            await self._publish(packed)
            return packed.package, await self._archive(package_id, module.name)
        # The copy is sent from here: to have it back from the store, only for that,
        # would cost its transfer twice.
        packed = await to_thread.run_sync(keep, packed, self._copies(module.name))
        done = anyio.Event()
        self._on_their_way[package_id] = done
        self._publishing.start_soon(self._publish_meanwhile, packed, done)
        return packed.package, packed.archive

    async def _stored(self, package_id: str) -> None:
        if package_id in self._on_their_way:
            await self._on_their_way[package_id].wait()
        if package_id in self._unpublished:
            exc = self._unpublished[package_id]
            raise exc if isinstance(exc, StoreError) else StoreError(str(exc)) from exc

    async def _publish(self, packed: Packed) -> None:
        package, archive, manifest = packed.package, packed.archive, packed.manifest
        await self.store.packages.publish(package, archive, manifest)
        await to_thread.run_sync(partial(manifest.unlink, missing_ok=True))

    async def _publish_meanwhile(self, packed: Packed, done: anyio.Event) -> None:
        try:
            await self._publish(packed)
        except (StoreError, OSError) as exc:
            self._unpublished[packed.package.id] = exc
            done.set()
            return
        made = anyio.Event()
        self._gzipping.append(made)
        done.set()
        await self._publish_gzip(packed.package)
        made.set()

    async def _publish_gzip(self, package: Package) -> None:
        packages = self.store.packages
        if not isinstance(packages, GzipPackages):
            return
        folder = self._copies(package.module)
        into = folder / f"{package.id}.tar.gz"
        try:
            archive = await packages.archive(package.id, folder)
            folder.mkdir(mode=0o700, exist_ok=True)
            into.unlink(missing_ok=True)
            await to_thread.run_sync(write_gzip, archive, into)
            await packages.publish_gzip(package, into)
        except (StoreError, PackageError, OSError) as exc:
            text = f"hosts that lack zstd cannot boot into {package.id}: {exc}"
            self.note(e.Warned(text))
        finally:
            into.unlink(missing_ok=True)

    async def _equal_package(self, packed: Packed, environment: str) -> Package | None:
        """Return the package that MANIFEST names, if *packed* is no different from it."""
        for line in await self.store.manifest.read():
            if line.module == packed.package.module:
                try:
                    known = await self.store.packages.package(line.package)
                    require_as_named(known, [line])
                    kept = await self.store.manifest.environment(line.package)
                    if known.content == packed.package.content and (
                        kept is not None and digest(kept.variables) == environment
                    ):
                        await self._archive(known.id, packed.package.module)
                        return known
                except StoreError:
                    return None  # lost or damaged: the new package takes its place
        return None

    async def _release(
        self,
        module: Module,
        package: Package,
        variables: Mapping[str, str],
        archive: Path | None = None,
    ) -> Release:
        archive = archive or await self._archive(package.id, module.name)
        spool = self._stack.enter_context(
            contextlib.closing(Spool(archive, package.nbytes))
        )
        return Release(
            module=module,
            package=package,
            spool=spool,
            variables=variables,
            fingerprint=fingerprint(package, digest(variables)),
            stored=partial(self._stored, package.id),
        )

    def _packaged(self, release: Release, started: float, *, reused: bool) -> None:
        package = release.package
        self.note(
            e.Packaged(
                package.module,
                package.id,
                nbytes=package.nbytes,
                unpacked=package.unpacked,
                entries=package.entries,
                seconds=anyio.current_time() - started,
                reused=reused,
            )
        )

    def _copies(self, module: str) -> Path:
        """Return the folder for archives of a store that is no folder here."""
        return self.folder(module) / "packages"

    async def _archive(self, package_id: str, module: str) -> Path:
        """Return an archive as a file on this machine."""
        folder = self._copies(module)
        archive = await self.store.packages.archive(package_id, folder)
        await to_thread.run_sync(drop_old_copies, folder, archive)
        return archive

    # --- Scripts ---------------------------------------------------------------

    def _listening(self, module: Module, key: str) -> Listener:
        return Listener(
            module.name, key, self.log(module.name), self.redactor.stream(), self.note
        )

    def _message(self, module: Module) -> Path:
        """Return the file for the whole message of the commit that is built."""
        return self.folder(module.name) / MESSAGE_FILE

    def _variables(self, module: Module, revision: Revision) -> dict[str, str]:
        return module_variables(
            self.plan.app,
            module,
            revision,
            actor=self.actor,
            action=self.goal.action,
            secrets=self.secrets,
        )

    def _checked_script(self, module: Module, key: str, wanted: Script, tree: Path) -> bytes:
        """Return a script's text; warn where it does what is not its to do."""
        text = self._script_text(module, key, wanted, tree)
        for advice in filter(None, (warning(key, text), form.advice(key, text))):
            self.note(e.Warned(f"{module.name}: {advice}"))
        return text

    def _script_text(
        self, module: Module, key: str, wanted: Script, tree: Path | None
    ) -> bytes:
        """Return a script's text; raises BuildError where there is none that works."""
        file = wanted.path or wanted.file
        try:
            text = text_of(wanted, tree or Path(), self.plan.base)
        except OSError as exc:
            where = "in the tree" if wanted.path else "beside the configuration"
            why = f"{module.name}: {key}: {file} ({where}): {exc.strerror}"
            raise BuildError(why) from exc
        if why := form.flaw(text, file, tree):
            raise BuildError(": ".join(filter(None, (module.name, key, file, why))))
        return text

    async def _run_script(
        self,
        module: Module,
        key: str,
        text: bytes,
        tree: Path,
        variables: Mapping[str, str],
        *,
        seconds: float,
        within: Sequence[str] = (),
    ) -> None:
        name, value = "GHOST_MODULE_COMMIT_MESSAGE_FILE", str(self._message(module))
        with self._listening(module, key) as listener:
            status = await script(
                text,
                cwd=tree,
                env={**self.environ, **variables, name: value},
                output=listener.output,
                deadline=seconds,
                what=f"{key} of {module.name}",
                within=within,
            )
        # It would go on writing to what is packaged, and to the next build.
        folders = tree.resolve(), Path(module.path)
        if left := await end_left_behind(folders, f"{name}={value}"):
            what = f"{key} of {module.name} left processes behind, which were ended"
            self.note(e.Warned(f"{what}: {', '.join(left)}"))
        if status:
            raise BuildError(
                f"{key} of {module.name} exited {status}",
                exit_status=status,
                tail=listener.tail.text(),
            )


def _require_kinds(module: Module, tree: Path) -> None:
    """
    Do nothing, unless the tree has a shared path as something else than it is said to be.

    Raises:
        BuildError: It does; no host was changed.
    """
    for key, paths in (
        ("shared_dirs", module.shared_dirs),
        ("shared_files", module.shared_files),
    ):
        for path in paths:
            try:
                with find(tree, path, follow=False) as found:
                    is_folder, is_link = found.kind == "d", found.kind == "l"
            except OSError:
                continue
            if not is_link and is_folder != (key == "shared_dirs"):
                kind, other = (
                    ("folder", "shared_dirs")
                    if is_folder
                    else ("file", "shared_files")
                )
                raise BuildError(
                    f"{module.name}: {key}: {path} is a {kind} in the tree: say {other}"
                )
