"""
The folder of packages.

::

    <id>.tar.zst     the archive
    <id>.tar.gz      the same as gzip, where hosts lack zstd, and .tar.gz.sha256
    <id>.manifest    the list that a host compares a release with
    <id>.json        the package as a value; written last and removed first, so that a
                     package is there exactly as long as this file is
    <id>.reserved    the id is taken by a build that has not ended

No lock is needed: an id belongs to the one build that reserved it. All methods block
and belong into a worker thread.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Final

from .._local.paths import package_id as package_id_of
from ..errors import NotInStore, StoreError
from ..model import Package
from . import _files, _texts

__all__ = ["PackageFolder"]

ARCHIVE: Final = ".tar.zst"
MANIFEST: Final = ".manifest"
KNOWN: Final = ".json"
RESERVED: Final = ".reserved"
GZIP: Final = ".tar.gz"
DIGEST: Final = ".tar.gz.sha256"

STALE_SECONDS: Final = 86_400.0
"""Age at which files of an unfinished build may go: longer than any build takes."""


class PackageFolder:
    """The packages in *folder*, of all modules."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._verified: dict[str, tuple[int, ...]] = {}
        self._verifying = threading.Lock()

    def reserve(self, module: str, commit: str) -> str:
        """Return an id that nobody has, of now, or of a second after the newest."""
        _files.make_folder(self._folder)
        epoch = _texts.next_epoch(int(time.time()), self._taken(module))
        while True:
            package_id = _texts.check_id(package_id_of(epoch, module, commit))
            reserved = self._file(package_id, RESERVED)
            try:
                reserved.touch(0o600, exist_ok=False)
            except FileExistsError:
                epoch += 1
                continue
            # A package that is published has given its reservation back, so its archive
            # says that the id is taken. The look comes after the reservation: before
            # it, another build could publish in between.
            if not self._file(package_id, ARCHIVE).exists():
                return package_id
            reserved.unlink()
            epoch += 1

    def publish(self, package: Package, archive: Path, manifest: Path) -> None:
        """
        Add *package*; *archive* and *manifest* are moved.

        Raises:
            StoreError: There is a package with its id already, which stays as it is.
        """
        _files.make_folder(self._folder)
        # The archive comes first, and outside of the clean-up: where it is there
        # already, the package is somebody else's and must not be removed.
        _files.move_in(archive, self._file(package.id, ARCHIVE))
        try:
            _files.move_in(manifest, self._file(package.id, MANIFEST))
            _files.write(self._file(package.id, KNOWN), _texts.dump(package))
        except BaseException:
            self._remove(package.id)
            raise
        # Given back earlier, the reservation would let another build take the id.
        self._file(package.id, RESERVED).unlink(missing_ok=True)

    def add_gzip(self, package: Package, archive: Path, digest: str) -> None:
        """Add the archive of *package* as gzip, unless it is there; it is moved."""
        if not self._file(package.id, DIGEST).exists():
            self._file(package.id, GZIP).unlink(missing_ok=True)
            _files.move_in(archive, self._file(package.id, GZIP))
            _files.write(self._file(package.id, DIGEST), f"{digest}\n".encode())

    def has(self, package_id: str) -> bool:
        """Tell whether there is such a package; no text is one that is no id."""
        try:
            return self._file(package_id, KNOWN).exists()
        except StoreError:
            return False

    def known(self, package_id: str) -> Package:
        """
        Return a package as a value.

        Raises:
            NotInStore: There is no such package.
            StoreError: The file that describes it is damaged.
        """
        path = self._file(package_id, KNOWN)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise NotInStore(
                f"{self._folder} has no package {package_id}; was it pruned?"
            ) from None
        return _texts.load_package(data, package_id, str(path))

    def listing(self, package_id: str) -> bytes:
        """
        Return the manifest of a package.

        Raises:
            StoreError: It is not what was published.
        """
        package, path = self.known(package_id), self._file(package_id, MANIFEST)
        return _texts.require_listing(path.read_bytes(), package, str(path))

    def _taken(self, module: str) -> list[str]:
        """Return the ids of a module that are published, or reserved."""
        ids = {
            name.removesuffix(RESERVED).removesuffix(KNOWN) for name in self._names()
        }
        return [each for each in ids if _texts.module_of(each) == module]

    def ids(self, module: str) -> list[str]:
        """Return the ids of a module's packages, oldest first."""
        ids = (_stem(name) for name in self._names() if name.endswith(KNOWN))
        return sorted(
            (each for each in ids if _texts.module_of(each) == module),
            key=_texts.age,
        )

    def archive(self, package_id: str) -> Path:
        """
        Return the path of an archive whose digest was checked.

        Raises:
            StoreError: The archive is not what was published.
        """
        package = self.known(package_id)
        path = self._file(package_id, ARCHIVE)
        # Modules and runs that ask for one archive at the same time read it once: the
        # second waits for the first one's digest. A file that was touched since, by
        # inode, size or time, is read again.
        with self._verifying:
            facts = path.stat()
            stamp = (facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
            if self._verified.get(package_id) == stamp:
                return path
            digest = _files.sha256(path)
            if digest != package.sha256:
                raise StoreError(
                    f"{path} is damaged (its sha256 is {digest[:12]}…, not "
                    f"{package.sha256[:12]}…); put it back from a backup, or deploy "
                    "the commit anew"
                )
            self._verified[package_id] = stamp
        return path

    def prune(self, module: str, keep: int, named: frozenset[str]) -> int:
        """Remove all but the *keep* newest and *named*; return how many went."""
        gone = _texts.outdated(self.ids(module), keep, named)
        for package_id in gone:
            self._remove(package_id)
        self._sweep(module)
        return len(gone)

    def _sweep(self, module: str) -> None:
        """Remove the files of builds that ended without a package, a day ago."""
        known = set(self.ids(module))
        for name in self._names():
            package_id = _stem(name)
            left = _texts.module_of(package_id) == module and package_id not in known
            path = self._folder / name
            # A build that goes on has files without a package as well: age tells them
            # apart.
            if (left or name.endswith(_files.TEMPORARY)) and _is_stale(path):
                path.unlink(missing_ok=True)

    def _remove(self, package_id: str) -> None:
        # A removal that is interrupted leaves files without a package, never a package
        # without its files.
        for suffix in (KNOWN, ARCHIVE, MANIFEST, DIGEST, GZIP):
            self._file(package_id, suffix).unlink(missing_ok=True)

    def _names(self) -> list[str]:
        return _files.names(self._folder)

    def _file(self, package_id: str, suffix: str) -> Path:
        return self._folder / (_texts.check_id(package_id) + suffix)


def _stem(name: str) -> str:
    for suffix in (ARCHIVE, MANIFEST, KNOWN, RESERVED, DIGEST, GZIP):
        name = name.removesuffix(suffix)
    return name


def _is_stale(path: Path) -> bool:
    # The time of the last change of the inode: a moved archive keeps its mtime.
    return time.time() - path.stat().st_ctime > STALE_SECONDS
