"""
A store that keeps everything in memory.

It is also the proof that no part of ghostasync leans on a store's folder.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

import anyio
import anyio.lowlevel
import attrs
from anyio import to_thread

from .._local.paths import package_id as package_id_of
from ..errors import NotInStore, StoreError
from ..model import Package
from ..protocols import ActiveColor, Environment, Freeze, ManifestLine
from ..stores import _files, _texts

__all__ = ["MemoryManifest", "MemoryPackages", "MemoryRunLog", "MemoryStore"]


class MemoryStore:
    """
    The store of one app, gone with this process; any number of runs may share it.

    The store behaves as a bucket does: other tasks get their turn before each
    operation, which then happens in one step. ``copy.deepcopy`` gives the store as it
    is at that moment, under the same *url*. *other* is the store of the other color,
    with which it shares the active color.
    """

    def __init__(self, url: str = "", *, other: MemoryStore | None = None) -> None:
        self.url = url or f"memory:{secrets.token_hex(6)}"
        # Packages and MANIFEST share the lines: prune needs to know what MANIFEST
        # names.
        lines: dict[str, ManifestLine] = {}
        self.packages = MemoryPackages(self.url, lines)
        self.manifest = MemoryManifest(self.url, self.packages, lines)
        self.runs = MemoryRunLog(self.url)
        self._identity = ""
        self._frozen: Freeze | None = None
        self.active_colors: list[ActiveColor] = other.active_colors if other else []

    async def identity(self, *, make: bool = False) -> str:
        """Return the word that tells this store from all others."""
        await anyio.lowlevel.checkpoint()
        if make and not self._identity:
            self._identity = secrets.token_hex(8)
        return self._identity

    async def frozen(self) -> Freeze | None:
        """Return the freeze that was kept last; None where there is none."""
        await anyio.lowlevel.checkpoint()
        return self._frozen

    async def freeze(self, freeze: Freeze | None) -> None:
        """Keep a freeze in place of the one before, or forget it."""
        await anyio.lowlevel.checkpoint()
        self._frozen = freeze

    async def active_color(self) -> ActiveColor | None:
        """Return the color that was moved to last; None where none ever was."""
        await anyio.lowlevel.checkpoint()
        return self.active_colors[-1] if self.active_colors else None

    async def move_active_color(
        self, moved: ActiveColor, expected: ActiveColor | None
    ) -> None:
        """Have another color be the active one, where it is what was *expected*."""
        now = await self.active_color()
        _texts.require_same_color(now, expected, f"{_texts.ACTIVE} of {self.url}")
        self.active_colors.append(moved)


@attrs.frozen
class _Published:
    """A package and the content of its two files."""

    package: Package
    archive: bytes = attrs.field(repr=False)
    manifest: bytes = attrs.field(repr=False)


@attrs.define(eq=False)
class MemoryPackages:
    """See :class:`ghostasync.protocols.Packages`; *lines* are those of MANIFEST."""

    url: str
    lines: dict[str, ManifestLine]
    _reserved: set[str] = attrs.field(factory=set)
    _known: dict[str, _Published] = attrs.field(factory=dict)

    @property
    def are_here(self) -> bool:
        """Whether archives are files of this machine."""
        return False

    async def reserve(self, module: str, commit: str) -> str:
        """Return an id that nobody has, of now, or of a second after the newest."""
        await anyio.lowlevel.checkpoint()
        ids = {*self._reserved, *self._known}
        mine = [each for each in ids if _texts.module_of(each) == module]
        epoch = _texts.next_epoch(int(time.time()), mine)
        while True:
            package_id = _texts.check_id(package_id_of(epoch, module, commit))
            if package_id not in self._reserved and package_id not in self._known:
                self._reserved.add(package_id)
                return package_id
            epoch += 1

    async def publish(self, package: Package, archive: Path, manifest: Path) -> None:
        """Add a package; its files stay where they are."""
        _texts.check_id(package.id)
        kept = _Published(package, await _read(archive), await _read(manifest))
        # The look comes after all awaits: of two tasks that publish one id, one wins.
        if package.id in self._known:
            raise StoreError(f"{package.id} exists already and is not replaced")
        self._known[package.id] = kept
        self._reserved.discard(package.id)

    async def package(self, package_id: str) -> Package:
        """Return a package as a value."""
        await anyio.lowlevel.checkpoint()
        return self.published(package_id).package

    async def ids(self, module: str) -> Sequence[str]:
        """Return the ids of a module's packages, oldest first."""
        await anyio.lowlevel.checkpoint()
        mine = (each for each in self._known if _texts.module_of(each) == module)
        return sorted(mine, key=_texts.age)

    async def archive(self, package_id: str, into: Path) -> Path:
        """Put a copy of an archive into the folder *into*, unless it is there."""
        kept = self.published(package_id)
        if hashlib.sha256(kept.archive).hexdigest() != kept.package.sha256:
            raise StoreError(
                f"the archive of {package_id} in {self.url} is damaged; deploy the "
                "commit anew"
            )
        path = into / f"{package_id}.tar.zst"
        await to_thread.run_sync(_materialise, path, kept.archive)
        return path

    async def listing(self, package_id: str) -> bytes:
        """Return the manifest of a package."""
        await anyio.lowlevel.checkpoint()
        kept = self.published(package_id)
        name = f"the manifest of {package_id} in {self.url}"
        return _texts.require_listing(kept.manifest, kept.package, name)

    async def prune(self, module: str, keep: int, protected: frozenset[str]) -> int:
        """Remove all but the *keep* newest packages and those that are named."""
        named = protected | {line.package for line in self.lines.values()}
        gone = _texts.outdated(await self.ids(module), keep, named)
        for package_id in gone:
            self._known.pop(package_id, None)
        return len(gone)

    @property
    def known_ids(self) -> frozenset[str]:
        """The ids of all packages."""
        return frozenset(self._known)

    def published(self, package_id: str) -> _Published:
        """Return a package with its files; NotInStore where there is none."""
        kept = self._known.get(_texts.check_id(package_id))
        if kept is None:
            raise NotInStore(f"{self.url} has no package {package_id}; was it pruned?")
        return kept


@attrs.define(eq=False)
class MemoryManifest:
    """See :class:`ghostasync.protocols.Manifest`; *lines* map modules to theirs."""

    url: str
    packages: MemoryPackages
    lines: dict[str, ManifestLine]
    _environments: dict[str, Environment] = attrs.field(factory=dict)

    async def read(self) -> tuple[ManifestLine, ...]:
        """Return MANIFEST; empty where there is none yet."""
        await anyio.lowlevel.checkpoint()
        return tuple(self.lines.values())

    async def move(
        self,
        lines: Sequence[ManifestLine],
        environments: Sequence[Environment],
        order: Sequence[str],
        expected: Sequence[ManifestLine] | None = None,
        drop: Sequence[str] = (),
    ) -> None:
        """Replace or add the given modules' lines, and their environments, at once."""
        await anyio.lowlevel.checkpoint()
        for each in lines:
            if self.packages.published(each.package).package.sha256 != each.sha256:
                raise StoreError(f"{each.package} in {self.url} is another package")
        before = tuple(self.lines.values())
        if expected is not None:
            names = [*(line.module for line in lines), *drop]
            _texts.require_unchanged(before, expected, names)
        moved = _texts.merge(before, lines, order, drop)
        # Nothing is written, yet what a directory refuses to write is refused here too.
        _texts.join_manifest(moved)
        # The dict stays the same object, since the packages hold it as well.
        self.lines.clear()
        self.lines.update((line.module, line) for line in moved)
        self._environments.update((kept.package, kept) for kept in environments)
        for gone in self._environments.keys() - self.packages.known_ids:
            del self._environments[gone]

    async def environment(self, package_id: str) -> Environment | None:
        """Return the environment of a package that MANIFEST names or named."""
        await anyio.lowlevel.checkpoint()
        return self._environments.get(_texts.check_id(package_id))


@attrs.define(eq=False)
class MemoryRunLog:
    """See :class:`ghostasync.protocols.RunLog`."""

    url: str
    _files: dict[str, dict[str, bytes]] = attrs.field(factory=dict)
    _reserved: dict[int, str] = attrs.field(factory=dict)

    def folder(self, run: str) -> None:
        """Return nothing: no folder of this machine is this store's."""

    async def append(self, run: str, name: str, at: int, data: bytes) -> None:
        """Add a part of a file; the same one again changes nothing."""
        await anyio.lowlevel.checkpoint()
        known = self._files.get(run, {}).get(name, b"")
        if at > len(known):
            raise StoreError(f"{run}/{name}: a part is missing before {at}")
        # A part is there whole or not at all: unlike a disk, memory keeps no halves.
        present = known[at : at + len(data)]
        if present not in {b"", data}:
            raise StoreError(f"{run}/{name} has another part at {at}, which stays")
        if not present:
            self._files.setdefault(run, {})[name] = known + data

    async def save(self, run: str, name: str, data: bytes) -> None:
        """Keep a file of a run."""
        await anyio.lowlevel.checkpoint()
        self._files.setdefault(run, {})[name] = data

    async def load(self, run: str, name: str) -> bytes:
        """Return a file of a run."""
        await anyio.lowlevel.checkpoint()
        try:
            return self._files[run][name]
        except KeyError:
            raise NotInStore(f"{self.url} has no {name} of run {run}") from None

    async def ids(self) -> Sequence[str]:
        """Return the ids of known runs, in alphabetical order."""
        await anyio.lowlevel.checkpoint()
        return sorted(self._files)

    async def reserve(self, run: str, lowest: int) -> int:
        """Return a generation that no run of this store has, and keep it for *run*."""
        await anyio.lowlevel.checkpoint()
        generation = next(n for n in count(max(1, lowest)) if n not in self._reserved)
        self._reserved[generation] = run
        return generation

    async def generations(self) -> Mapping[str, int]:
        """Return the generation of each run that has reserved one; its last."""
        await anyio.lowlevel.checkpoint()
        return {run: number for number, run in sorted(self._reserved.items()) if run}

    async def remove(self, run: str) -> None:
        """Remove the files of a run; its number stays."""
        await anyio.lowlevel.checkpoint()
        self._files.pop(run, None)
        self._reserved |= {n: "" for n, of in self._reserved.items() if of == run}


async def _read(path: Path) -> bytes:
    try:
        return await anyio.Path(path).read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; was it removed?") from error


def _materialise(path: Path, data: bytes) -> None:
    """Write *data* to *path* in one step, unless it is there."""
    with _files.explained(path):
        if not path.exists() or path.read_bytes() != data:
            _files.make_folder(path.parent)
            _files.write(path, data)
