"""
A store that is a folder on this machine, or on a filesystem it shares.

::

    MANIFEST               module:package:path:sha256, a line a module, in app order
    packages/              see ``_packages``
    environments/<id>.json of the packages that MANIFEST names, and named before
    runs/<run>/…           journal, report, logs

What blocks runs in worker threads. MANIFEST has a lock, which holds across processes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar, TypeVarTuple

import anyio
import anyio.to_thread

from .._local.scripts import locked
from ..errors import StoreError
from ..model import Package
from ..protocols import Environment, ManifestLine
from . import _files, _texts
from ._packages import Packages

__all__ = ["DirectoryStore"]

LOCK_SECONDS: Final = 30.0
"""How long to wait for MANIFEST; others hold its lock for some milliseconds."""

_Result = TypeVar("_Result")
_Arguments = TypeVarTuple("_Arguments")


class DirectoryStore:
    """
    The store of one app, env, role and color in the folder *root*.

    Folders are made when something is put in, 0700; files are 0600. Any number of
    stores, in any number of processes, may work on the same folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._packages = Packages(root / "packages")

    @property
    def url(self) -> str:
        """The folder's path."""
        return str(self._root)

    async def reserve(self, module: str, commit: str) -> str:
        """
        Return a package id that nobody has, and keep others from taking it.

        Its epoch is now, or the first second after that which is free.
        """
        return await self._call(self._packages.reserve, module, commit)

    async def publish(self, package: Package, archive: Path, manifest: Path) -> None:
        """
        Add a package; *archive* and *manifest* are moved, or copied where they must.

        Raises:
            StoreError: There is such a package already; it stays as it is.
        """
        await self._call(self._packages.publish, package, archive, manifest)

    async def package(self, package_id: str) -> Package:
        """Return what is known of a package."""
        return await self._call(self._packages.known, package_id)

    async def packages(self, module: str) -> Sequence[str]:
        """Return the ids of a module's packages, oldest first."""
        return await self._call(self._packages.ids, module)

    async def archive(self, package_id: str) -> Path:
        """
        Return the path of a package's archive, whose digest was checked.

        It is read once per store object, and again only after the file has changed.

        Raises:
            StoreError: The archive is not what was published.
        """
        return await self._call(self._packages.archive, package_id)

    async def prune(self, module: str, keep: int, protected: frozenset[str]) -> int:
        """
        Remove all but the *keep* newest packages; return how many went.

        What MANIFEST or *protected* names stays. What builds that never ended have
        left behind goes, too, once it is a day old, and is not counted.
        """
        async with self._locked():
            named = protected | {each.package for each in await self.manifest()}
            return await self._call(self._packages.prune, module, keep, named)

    async def manifest(self) -> tuple[ManifestLine, ...]:
        """
        Return MANIFEST; empty where there is none yet.

        Raises:
            StoreError: A line, named by number, is damaged.
        """
        return await self._call(self._read_manifest)

    async def move_manifest(
        self,
        lines: Sequence[ManifestLine],
        environments: Sequence[Environment],
        order: Sequence[str],
    ) -> None:
        """
        Replace or add the given modules' lines, and their environments, at once.

        Lines are kept in *order* (module names in app order); other modules keep
        theirs. Environments stay of what MANIFEST names, and of what it named before
        the modules' packages changed: whoever goes back runs scripts that see them.

        Raises:
            StoreError: A package is not in the store, or is another one; or the lock
                was not to be had. MANIFEST is as it was.
        """
        async with self._locked():
            await self._call(self._move_manifest, lines, environments, order)

    async def environment(self, package_id: str) -> Environment | None:
        """Return the environment kept with a package that MANIFEST names or named."""
        return await self._call(self._read_environment, package_id)

    async def save(self, run: str, name: str, data: bytes) -> None:
        """Keep a file of a run; ``/`` in *name* makes folders, within the run's."""
        await self._call(_save, self._run_file(run, name), data)

    async def load(self, run: str, name: str) -> bytes:
        """Return a file of a run."""
        return await self._call(self._run_file(run, name).read_bytes)

    async def runs(self) -> Sequence[str]:
        """Return the ids of known runs, oldest first."""
        return sorted(await self._call(_files.names, self._root / "runs"))

    async def _call(
        self, act: Callable[[*_Arguments], _Result], *arguments: *_Arguments
    ) -> _Result:
        with _files.explained(self._root):
            return await anyio.to_thread.run_sync(act, *arguments)

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        path = self._root / ".lock"
        await self._call(_files.make_folder, self._root)
        async with AsyncExitStack() as stack:
            with _files.explained(path), anyio.move_on_after(LOCK_SECONDS) as waiting:
                await stack.enter_async_context(locked(path))
            if waiting.cancelled_caught:
                raise StoreError(
                    f"{path} has been locked by another process for "
                    f"{LOCK_SECONDS:g} s; `fuser` names it"
                )
            yield

    def _read_manifest(self) -> tuple[ManifestLine, ...]:
        path = self._root / "MANIFEST"
        try:
            text = path.read_bytes().decode("utf-8", "surrogateescape")
        except FileNotFoundError:
            return ()
        return _texts.parse_manifest(text, str(path))

    def _move_manifest(
        self,
        lines: Sequence[ManifestLine],
        environments: Sequence[Environment],
        order: Sequence[str],
    ) -> None:
        for each in lines:
            if self._packages.known(each.package).sha256 != each.sha256:
                raise StoreError(f"{each.package} in {self._root} is another package")
        before = {each.module: each.package for each in self._read_manifest()}
        moved = _texts.merge(self._read_manifest(), lines, order)
        text = _texts.join_manifest(moved)
        _files.make_folder(self._root / "environments")
        for kept in environments:
            _files.write(self._environment_file(kept.package), _texts.dump(kept))
        _files.write(self._root / "MANIFEST", text.encode("utf-8", "surrogateescape"))
        now = {each.module: each.package for each in moved}
        for path in (self._root / "environments").iterdir():
            module = _texts.module_of(path.stem)
            same = module in now and before.get(module) == now[module]
            if not (same or path.stem in {now.get(module), before.get(module)}):
                path.unlink()

    def _read_environment(self, package_id: str) -> Environment | None:
        path = self._environment_file(package_id)
        try:
            return _texts.load(path.read_bytes(), Environment, str(path))
        except FileNotFoundError:
            return None

    def _environment_file(self, package_id: str) -> Path:
        return self._root / "environments" / f"{_texts.check_id(package_id)}.json"

    def _run_file(self, run: str, name: str) -> Path:
        segments = (_texts.file_name(each) for each in name.split("/"))
        return self._root.joinpath("runs", _texts.file_name(run), *segments)


def _save(path: Path, data: bytes) -> None:
    _files.make_folder(path.parent)
    _files.write(path, data)
