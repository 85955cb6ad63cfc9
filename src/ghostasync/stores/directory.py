"""
A store that is a folder on this machine, or on a filesystem it shares.

::

    FROZEN                 who wants nothing deployed, and why; for as long as they do
    ID                     a random word, by which hosts tell stores apart
    MANIFEST               module:package:path:sha256:generation, a line a module
    packages/              see ``_packages``
    environments/<id>.sh   of packages that were deployed, for as long as they are kept
    runs/<run>/…           journal, report, logs: a run here writes into it directly
    runs/by-generation/    <number>-<run>, an empty file for each that was reserved
    boot/<sha256>          a script that user data of hosts names
    generations/<number>   the run that has it
    signatures/<sha256>    of what is signed, by the digest of its statement
    ../ACTIVE              which color is active, and who said so; both colors have it,
                           and its signatures in ../signatures

All work on files happens in worker threads. MANIFEST has a lock, which holds across
processes. Prune holds it too: a package that a move is about to name must not vanish
between the look and the move.

One file, though long: three parts share one folder and its lock.
"""

from __future__ import annotations

import errno
import hashlib
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar, TypeVarTuple

import anyio
import anyio.to_thread
import attrs

from .._local.scripts import locked
from ..errors import NotInStore, StoreError
from ..model import Package
from ..protocols import ActiveColor, Environment, Freeze, ManifestLine, RunLog
from . import _files, _texts
from ._packages import PackageFolder
from ._signatures import Signatures, SigningStore

if TYPE_CHECKING:
    # asyncssh is imported where something is signed, and there alone.
    from .trust import Trust

__all__ = [
    "DirectoryManifest",
    "DirectoryPackages",
    "DirectoryRunLog",
    "DirectoryStore",
]

_MARKERS: Final = "by-generation"
"""The folder, beside those of the runs, that says which run has which generation."""

LOCK_SECONDS: Final = 30.0
"""Seconds to wait for MANIFEST; its lock is held for some milliseconds at a time."""

_NOT_THERE: Final = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}

_Result = TypeVar("_Result")
_Said = TypeVar("_Said", ActiveColor, Freeze)
_Arguments = TypeVarTuple("_Arguments")


class DirectoryStore(SigningStore):
    """
    The store of one app, env, role and color in the folder *root*.

    Folders are made when something is put in, 0700; files are 0600. Any number of
    stores, in any number of processes, may work on the same folder. Its *runs* may be
    replaced by another run log: packages and MANIFEST do not need them. *trust* signs
    what is put in, and says what is taken out.
    """

    def __init__(self, root: Path, trust: Trust | None = None) -> None:
        folder, packages = _Folder(root), PackageFolder(root / "packages")
        signatures = Signatures(trust, folder.signature, folder.keep_signature)
        self._above = above = _Folder(root.parent)
        self._of_colors = Signatures(trust, above.signature, above.keep_signature)
        self.url, self._signatures = str(root), signatures
        self.manifest = DirectoryManifest(folder, packages, signatures)
        self.packages = DirectoryPackages(folder, packages, signatures, self.manifest)
        self.runs: RunLog = DirectoryRunLog(folder)
        self._folder = folder

    async def identity(self, *, make: bool = False) -> str:
        """Return the word that tells this store from all others."""
        if make and not await self._folder.call(_identity, self._folder.root):
            async with self._folder.locked():
                await self._folder.call(_make_identity, self._folder.root)
        return await self._folder.call(_identity, self._folder.root)

    async def require_writable(self) -> None:
        """
        Do nothing, unless what a run writes could not be kept; nothing is left behind.

        Raises:
            StoreError: The text names the folder, and what to do.
        """
        for name in ("runs", "packages", "environments"):
            path = self._folder.root / name
            await self._folder.call(_files.require_writable, path)

    async def keep_boot(self, script: bytes) -> str:
        """Keep a script for hosts that boot; return its sha256."""
        digest = hashlib.sha256(script).hexdigest()
        await self._folder.call(_save, self._folder.root / "boot" / digest, script)
        return digest

    async def frozen(self) -> Freeze | None:
        """Return the freeze that was kept last; None where there is none."""
        cure = "ghostasync unlock takes it away"
        path = self._folder.root / "FROZEN"
        return await self._folder.call(_said, path, Freeze, cure)

    async def freeze(self, freeze: Freeze | None) -> None:
        """Keep a freeze in place of the one before, or forget it."""
        await self._folder.call(_freeze, self._folder.root / "FROZEN", freeze)

    async def active_color(self) -> ActiveColor | None:
        """Return the color that was moved to last; None where none ever was."""
        path, cure = self._above.root / _texts.ACTIVE, _texts.ACTIVE_CURE
        active = await self._folder.call(_said, path, ActiveColor, cure)
        if active is not None:
            await self._of_colors.require_color(active, str(path))
        return active

    async def move_active_color(
        self, moved: ActiveColor, expected: ActiveColor | None
    ) -> None:
        """
        Have another color be the active one.

        Raises:
            StoreError: What was *expected* has moved, and stays; or the lock was not to
                be had.
        """
        above = self._above
        path = above.root / _texts.ACTIVE
        async with above.locked():
            now = await self.active_color()
            _texts.require_same_color(now, expected, str(path))
            await self._of_colors.keep_color(moved)
            await above.call(_files.write, path, _texts.dump(moved))


@attrs.frozen(eq=False)
class _Folder:
    """The folder of a store, as its three parts work on it."""

    root: Path
    _turn: anyio.Lock = attrs.field(factory=anyio.Lock)

    async def call(
        self, act: Callable[[*_Arguments], _Result], *arguments: *_Arguments
    ) -> _Result:
        """Have *act* done in a worker thread; an OSError becomes a StoreError."""
        with _files.explained(self.root):
            return await anyio.to_thread.run_sync(act, *arguments)

    async def signature(self, name: str) -> bytes | None:
        """Return the signature that lies under *name*; None where there is none."""
        try:
            return await self.call((self.root / "signatures" / name).read_bytes)
        except StoreError as exc:
            if isinstance(exc.__cause__, FileNotFoundError):
                return None
            raise

    async def keep_signature(self, name: str, signature: bytes) -> None:
        """Keep a signature under *name*."""
        await self.call(_save, self.root / "signatures" / name, signature)

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """
        Be the only writer of MANIFEST, in all processes.

        Raises:
            StoreError: Another process has held the lock for ``LOCK_SECONDS``.
        """
        path = self.root / ".lock"
        await self.call(_files.make_folder, self.root)
        async with AsyncExitStack() as stack:
            # The deadline is for getting the lock alone: the stack keeps the lock while
            # the scope of the deadline has ended.
            with _files.explained(path), anyio.move_on_after(LOCK_SECONDS) as waiting:
                # Tasks of one process wait in line here: for the file's lock they would
                # have to ask again and again.
                await stack.enter_async_context(self._turn)
                await stack.enter_async_context(locked(path))
            if waiting.cancelled_caught:
                raise StoreError(
                    f"{path} has been locked by another process for "
                    f"{LOCK_SECONDS:g} s; `fuser` names it"
                )
            yield


@attrs.frozen(eq=False)
class DirectoryManifest:
    """MANIFEST and the environments beside it; see :class:`protocols.Manifest`."""

    _folder: _Folder
    _packages: PackageFolder
    _signatures: Signatures

    async def read(self) -> tuple[ManifestLine, ...]:
        """
        Return MANIFEST; empty where there is none yet.

        Raises:
            StoreError: A line, named by number, is damaged; or it is not signed.
        """
        lines = await self._folder.call(self._read)
        where = str(self._folder.root / "MANIFEST")
        await self._signatures.require_manifest(lines, self.environment, where)
        return lines

    async def move(
        self,
        lines: Sequence[ManifestLine],
        environments: Sequence[Environment],
        order: Sequence[str],
        expected: Sequence[ManifestLine] | None = None,
        drop: Sequence[str] = (),
    ) -> None:
        """
        Replace or add the given modules' lines, and their environments, at once.

        Raises:
            StoreError: A package is not in the store, or is another one; a line is not
                what was *expected*; or the lock was not to be had. MANIFEST is as it
                was.
        """
        async with self._folder.locked():
            before = await self.read()
            moved = await self._folder.call(
                self._moved, before, lines, order, expected, drop
            )
            await self._signatures.keep_manifest(
                before, moved, environments, self.environment
            )
            await self._folder.call(self._write, moved, environments, moved != before)

    async def environment(self, package_id: str) -> Environment | None:
        """Return the environment kept with a package that MANIFEST names or named."""
        kept = await self._folder.call(self._environment, package_id)
        if kept is not None:
            await self._signatures.require_environment(kept, str(self._folder.root))
        return kept

    def _read(self) -> tuple[ManifestLine, ...]:
        path = self._folder.root / "MANIFEST"
        try:
            text = path.read_bytes().decode("utf-8", "surrogateescape")
        except FileNotFoundError:
            return ()
        return _texts.parse_manifest(text, str(path))

    def _moved(
        self,
        before: Sequence[ManifestLine],
        lines: Sequence[ManifestLine],
        order: Sequence[str],
        expected: Sequence[ManifestLine] | None,
        drop: Sequence[str],
    ) -> tuple[ManifestLine, ...]:
        root = self._folder.root
        for each in lines:
            if self._packages.known(each.package).sha256 != each.sha256:
                raise StoreError(f"{each.package} in {root} is another package")
        if expected is not None:
            names = [*(line.module for line in lines), *drop]
            _texts.require_unchanged(before, expected, names)
        return _texts.merge(before, lines, order, drop)

    def _write(
        self,
        moved: Sequence[ManifestLine],
        environments: Sequence[Environment],
        moves: bool,
    ) -> None:
        root, text = self._folder.root, _texts.join_manifest(moved)
        # Environments are written before MANIFEST names their packages, and removed
        # after it names others: a host that boots at any moment finds what it needs.
        _files.make_folder(root / "environments")
        for kept in environments:
            file = self._environment_file(kept.package)
            _files.write(file, _texts.dump_environment(kept))
        if moves:
            _files.write(root / "MANIFEST", text.encode("utf-8", "surrogateescape"))
        # MANIFEST has moved: what goes wrong with old files must not say otherwise.
        with suppress(OSError):
            files = {path.stem: path for path in (root / "environments").glob("*_*.sh")}
            for package_id, path in files.items():
                # A rollback needs what a release ran with for as long as it is there.
                if not self._packages.has(package_id):
                    path.unlink()

    def _environment(self, package_id: str) -> Environment | None:
        path = self._environment_file(package_id)
        try:
            return _texts.load_environment(path.read_bytes(), package_id, str(path))
        except FileNotFoundError:
            return None

    def _environment_file(self, package_id: str) -> Path:
        name = f"{_texts.check_id(package_id)}.sh"
        return self._folder.root / "environments" / name


@attrs.frozen(eq=False)
class DirectoryPackages:
    """The folder of packages; see :class:`protocols.Packages`."""

    _folder: _Folder
    _packages: PackageFolder
    _signatures: Signatures
    _manifest: DirectoryManifest

    @property
    def are_here(self) -> bool:
        """Whether archives are files of this machine."""
        return True

    async def reserve(self, module: str, commit: str) -> str:
        """
        Return a package id that nobody has, and keep others from taking it.

        Its epoch is now, or the first second after those of the module's packages.
        """
        return await self._folder.call(self._packages.reserve, module, commit)

    async def publish(self, package: Package, archive: Path, manifest: Path) -> None:
        """
        Add a package; *archive* and *manifest* are moved, or copied where they must.

        Raises:
            StoreError: There is such a package already; it stays as it is.
        """
        await self._signatures.keep_package(package)
        await self._folder.call(self._packages.publish, package, archive, manifest)

    async def publish_gzip(self, package: Package, archive: Path) -> None:
        """Keep the archive of a published package as gzip, too; it is moved."""
        digest = await self._folder.call(_files.sha256, archive)
        await self._signatures.keep_gzip(package, digest)
        await self._folder.call(self._packages.add_gzip, package, archive, digest)

    async def package(self, package_id: str) -> Package:
        """Return a package as a value."""
        package = await self._folder.call(self._packages.known, package_id)
        await self._signatures.require_package(package, str(self._folder.root))
        return package

    async def ids(self, module: str) -> Sequence[str]:
        """Return the ids of a module's packages, oldest first."""
        return await self._folder.call(self._packages.ids, module)

    async def archive(self, package_id: str, into: Path) -> Path:
        """
        Return the path of a package's archive, whose digest was checked.

        The path is the store's own file, which is read once per store object, and again
        only after it has changed. Where signatures are asked for, others may write
        there: then a copy is put *into* another folder, as a bucket does it.

        Raises:
            StoreError: The archive is not what was published.
        """
        package = await self.package(package_id)
        archive = await self._folder.call(self._packages.archive, package_id)
        if not self._signatures.asks:
            return archive
        return await self._folder.call(_copy, archive, into, package.sha256)

    async def listing(self, package_id: str) -> bytes:
        """
        Return the manifest of a package.

        Raises:
            StoreError: It is not what was published.
        """
        await self.package(package_id)
        return await self._folder.call(self._packages.listing, package_id)

    async def prune(self, module: str, keep: int, protected: frozenset[str]) -> int:
        """
        Remove all but the *keep* newest packages; return how many went.

        Packages that MANIFEST or *protected* names stay. Files of builds that never
        ended go as well, once they are a day old, and are not counted.
        """
        async with self._folder.locked():
            # A MANIFEST that cannot be read raises before anything is removed.
            lines = await self._manifest.read()
            named = protected | {line.package for line in lines}
            return await self._folder.call(self._packages.prune, module, keep, named)


@attrs.frozen(eq=False)
class DirectoryRunLog:
    """
    The folder of runs; see :class:`protocols.RunLog`.

    A run on this machine writes its files where they are kept, so that nothing is
    written twice and nothing is left to hand in.
    """

    _folder: _Folder

    def folder(self, run: str) -> Path:
        """Return the folder of a run; it need not be there."""
        return self._folder.root.joinpath("runs", _texts.file_name(run))

    async def append(self, run: str, name: str, at: int, data: bytes) -> None:
        """Add a part of a file; a part that is there already is left alone."""
        await self._folder.call(_append, self._file(run, name), at, data)

    async def save(self, run: str, name: str, data: bytes) -> None:
        """Keep a file of a run; ``/`` in *name* makes folders, within the run's."""
        await self._folder.call(_save, self._file(run, name), data)

    async def load(self, run: str, name: str) -> bytes:
        """Return a file of a run."""
        return await self._folder.call(_load, self._file(run, name))

    async def ids(self) -> Sequence[str]:
        """Return the ids of known runs, in alphabetical order."""
        runs = self._folder.root / "runs"
        names = await self._folder.call(_files.names, runs)
        return sorted(name for name in names if name != _MARKERS)

    async def reserve(self, run: str, lowest: int) -> int:
        """Return a generation that no run of this store has, and keep it for *run*."""
        async with self._folder.locked():
            return await self._folder.call(self._reserve, run, lowest)

    async def generations(self) -> Mapping[str, int]:
        """Return the generation of each run that has reserved one; its last."""
        names = await self._folder.call(_files.names, self._markers)
        return dict(sorted(map(_texts.number_of, names), key=lambda pair: pair[1]))

    async def remove(self, run: str) -> None:
        """Remove the files of a run; the file of its number stays."""
        await self._folder.call(self._remove, run)

    def _remove(self, run: str) -> None:
        with suppress(FileNotFoundError):
            shutil.rmtree(self.folder(run))
        for name in _files.names(self._markers):
            if _texts.number_of(name)[0] == run:
                (self._markers / name).unlink(missing_ok=True)

    @property
    def _markers(self) -> Path:
        return self._folder.root / "runs" / _MARKERS

    def _reserve(self, run: str, lowest: int) -> int:
        _files.make_folder(self._markers)
        taken = {_texts.number_of(name)[1] for name in _files.names(self._markers)}
        # Those of runs that were removed, too.
        numbers = self._folder.root / "generations"
        taken |= {int(name) for name in _files.names(numbers) if name.isdecimal()}
        generation = next(n for n in count(max(1, lowest)) if n not in taken)
        marker = self._markers / _texts.marker_of(run, generation)
        marker.touch(0o600, exist_ok=False)
        # Where a host that boots reads whose number it is.
        _files.make_folder(numbers)
        _files.write(numbers / f"{generation:015d}", f"{run}\n".encode())
        _files.flush(self._markers)
        return generation

    def _file(self, run: str, name: str) -> Path:
        segments = (_texts.file_name(each) for each in name.split("/"))
        return self.folder(run).joinpath(*segments)


def _identity(root: Path) -> str:
    try:
        return (root / "ID").read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return ""


def _make_identity(root: Path) -> None:
    if not _identity(root):
        _files.write(root / "ID", f"{secrets.token_hex(8)}\n".encode())


def _said(path: Path, kind: type[_Said], cure: str) -> _Said | None:
    try:
        return _texts.load(path.read_bytes(), kind, str(path), cure)
    except FileNotFoundError:
        return None


def _freeze(path: Path, freeze: Freeze | None) -> None:
    if freeze is None:
        path.unlink(missing_ok=True)
        return
    _files.make_folder(path.parent)
    _files.write(path, _texts.dump(freeze))


def _copy(archive: Path, into: Path, sha256: str) -> Path:
    """Return a copy of *archive* in the folder *into*, once its digest is right."""
    path = into / archive.name
    if path.exists() and _files.sha256(path) == sha256:
        return path
    _files.make_folder(into)
    part = into / f".{archive.name}.{secrets.token_hex(4)}{_files.TEMPORARY}"
    try:
        shutil.copyfile(archive, part)
        if _files.sha256(part) != sha256:
            raise StoreError(f"{archive} was changed while it was read")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _append(path: Path, at: int, data: bytes) -> None:
    _files.make_folder(path.parent)
    _files.append(path, at, data)


def _save(path: Path, data: bytes) -> None:
    _files.make_folder(path.parent)
    _files.write(path, data)


def _load(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        # A run's id may be any text: one that no file can be called names no run. All
        # other errors mean that the store could not be read.
        if error.errno in _NOT_THERE:
            raise NotInStore(f"{path}: {error.strerror}; was it removed?") from None
        raise
