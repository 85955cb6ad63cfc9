"""
A store that is a bucket, or a folder of one, at Amazon or elsewhere.

::

    CONDITIONS               whether this store's conditional writes hold
    FROZEN, ID, MANIFEST     as in a directory
    TRIAL                    what a host fetches that is to fetch archives
    packages/
        <id>.reserved        the id is taken
        <id>.<sha256>.tar.zst  the archive, under its digest
        <id>.<sha256>.tar.gz   the same as gzip, and .tar.gz.sha256, its own digest
        <id>.<sha256>.manifest the list that a host compares a release with
        <id>.json            the package as a value; written last and removed first, so
                             that a package is there exactly as long as this is
    environments/<id>.sh     of packages that were deployed, as long as they are kept
    runs/<run>/<file>        what was saved whole
    runs/<run>/<file>/<at>   parts of a file that grows, by the byte where each begins
    runs/by-generation/<n>-<run>   which run has which number
    generations/<n>          the number is taken
    boot/<sha256>            a script that user data of hosts names
    signatures/<sha256>      of what is signed, by the digest of its statement
    ../ACTIVE, ../CONDITIONS which color is active, as in a directory; only with colors

No object is ever written twice with another content, but MANIFEST, FROZEN, ACTIVE, and
files that are saved again. What must have one writer goes through :class:`Writer`.

One file, though long: three parts share one bucket, and its layout above.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import anyio
import anyio.to_thread
import attrs

from .._local.paths import package_id as package_id_of
from .._s3.client import Bucket, Entry, Object
from ..errors import NotInStore, StoreError
from ..model import Package, StoreSettings
from ..protocols import ActiveColor, Environment, Freeze, ManifestLine
from . import _files, _texts
from ._s3_runs import S3RunLog
from ._s3_writes import Writer
from ._signatures import Signatures, SigningStore

if TYPE_CHECKING:
    # asyncssh is imported where something is signed, and there alone.
    from .trust import Trust

__all__ = ["S3Manifest", "S3Packages", "S3RunLog", "S3Store"]

STALE_SECONDS: Final = 86_400.0
"""Age at which objects of an unfinished build may go: longer than any build takes."""

_RESERVED, _KNOWN, _ARCHIVE, _LIST = ".reserved", ".json", ".tar.zst", ".manifest"
_GZIP, _DIGEST = ".tar.gz", ".sha256"
_SETTLE_SECONDS: Final = 5.0


class S3Store(SigningStore):
    """
    The store of one app, env, role and color below *url*, ``s3://bucket/prefix``.

    An asynchronous context manager, which gives its connections back; they are made
    when they are needed. Any number of stores may work on the same URL. Needs the extra
    ``s3``; credentials come from where the AWS command line finds them. *trust* signs
    what is put in, and says what is taken out.
    """

    def __init__(
        self,
        url: str,
        settings: StoreSettings = StoreSettings(),  # noqa: B008  frozen
        trust: Trust | None = None,
    ) -> None:
        bucket = Bucket(url, settings)
        writer = Writer(bucket)
        signatures = Signatures(trust, partial(_kept, bucket), partial(_keep, bucket))
        self.url, self._signatures = url, signatures
        self.manifest = S3Manifest(bucket, writer, signatures)
        self.packages = S3Packages(bucket, writer, signatures, self.manifest)
        self.runs = S3RunLog(bucket, writer)
        self._bucket, self._writer = bucket, writer
        self._above = bucket.above()
        self._of_colors = Signatures(
            trust, partial(_kept, self._above), partial(_keep, self._above)
        )
        self._above_writer = Writer(self._above)
        self._asking = anyio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self._bucket.aclose()
        finally:
            await self._above.aclose()

    async def identity(self, *, make: bool = False) -> str:
        """Return the word that tells this store from all others."""
        async with self._asking:
            found = await self._bucket.get("ID")
            if found is None and make:
                await self._writer.create("ID", f"{secrets.token_hex(8)}\n".encode())
                found = await self._bucket.get("ID")
        return found.data.decode("ascii", "replace").strip() if found else ""

    async def require_writable(self) -> None:
        """
        Do nothing, unless what a run writes could not be kept; nothing is left behind.

        Raises:
            StoreError: The text says what to do.
        """
        key = f"probe/{secrets.token_hex(8)}"
        await self._bucket.put(key, b"")
        await self._bucket.delete([key])

    async def keep_boot(self, script: bytes) -> str:
        """Keep a script for hosts that boot; return its sha256."""
        digest = hashlib.sha256(script).hexdigest()
        await self._bucket.put(f"boot/{digest}", script)
        return digest

    async def frozen(self) -> Freeze | None:
        """Return the freeze that was kept last; None where there is none."""
        found = await self._bucket.get("FROZEN")
        if found is None:
            return None
        cure = "ghostasync unlock takes it away"
        return _texts.load(found.data, Freeze, self._bucket.address("FROZEN"), cure)

    async def freeze(self, freeze: Freeze | None) -> None:
        """Keep a freeze in place of the one before, or forget it."""
        if freeze is None:
            await self._bucket.delete(["FROZEN"])
        else:
            await self._bucket.put("FROZEN", _texts.dump(freeze))

    async def active_color(self) -> ActiveColor | None:
        """Return the color that was moved to last; None where none ever was."""
        active = self._color(await self._above.get(_texts.ACTIVE))
        if active is not None:
            where = self._above.address(_texts.ACTIVE)
            await self._of_colors.require_color(active, where)
        return active

    async def move_active_color(
        self, moved: ActiveColor, expected: ActiveColor | None
    ) -> None:
        """
        Have another color be the active one.

        Raises:
            StoreError: What was *expected* has moved, and stays; or the store failed.
        """
        name, done = self._above.address(_texts.ACTIVE), False
        await self._of_colors.keep_color(moved)
        while not done:
            async with self._above_writer.alone() as write:
                found = await self._above.get(_texts.ACTIVE)
                _texts.require_same_color(self._color(found), expected, name)
                done = await write.swap(_texts.ACTIVE, _texts.dump(moved), found)

    def _color(self, found: Object | None) -> ActiveColor | None:
        if found is None:
            return None
        name = self._above.address(_texts.ACTIVE)
        return _texts.load(found.data, ActiveColor, name, _texts.ACTIVE_CURE)


@attrs.frozen(eq=False)
class S3Manifest:
    """MANIFEST and the environments beside it; see :class:`protocols.Manifest`."""

    _bucket: Bucket
    _writer: Writer
    _signatures: Signatures
    _turn: anyio.Lock = attrs.field(factory=anyio.Lock)

    async def read(self) -> tuple[ManifestLine, ...]:
        """
        Return MANIFEST; empty where there is none yet.

        Raises:
            StoreError: A line, named by number, is damaged; or it is not signed.
        """
        return await self._trusted(await self._bucket.get("MANIFEST"))

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
                what was *expected*; or the store failed. MANIFEST is as it was.
        """
        names = [*(line.module for line in lines), *drop]
        # Tasks of one process take turns here, and not in the store.
        async with self._turn:
            while True:
                await self._require_packages(lines)
                async with self._writer.alone() as write:
                    found = await self._bucket.get("MANIFEST")
                    before = await self._trusted(found)
                    if expected is not None:
                        _texts.require_unchanged(before, expected, names)
                    moved = _texts.merge(before, lines, order, drop)
                    text = _texts.join_manifest(moved)
                    data = text.encode("utf-8", "surrogateescape")
                    # Before MANIFEST names their packages: a host that boots at any
                    # moment finds what it needs.
                    await self._signatures.keep_manifest(
                        before, moved, environments, self.environment
                    )
                    for kept in environments:
                        key = _environment(kept.package)
                        await self._bucket.put(key, _texts.dump_environment(kept))
                    if moved == before:
                        return
                    if await write.swap("MANIFEST", data, found):
                        break
            await self._keep_packages(lines, found, data)

    async def environment(self, package_id: str) -> Environment | None:
        """Return the environment kept with a package that MANIFEST names or named."""
        key = _environment(package_id)
        found = await self._bucket.get(key)
        if found is None:
            return None
        name = self._bucket.address(key)
        kept = _texts.load_environment(found.data, package_id, name)
        await self._signatures.require_environment(kept, self._bucket.address())
        return kept

    async def _trusted(self, found: Object | None) -> tuple[ManifestLine, ...]:
        text = found.data.decode("utf-8", "surrogateescape") if found else ""
        name = self._bucket.address("MANIFEST")
        lines = _texts.parse_manifest(text, name)
        await self._signatures.require_manifest(lines, self.environment, name)
        return lines

    async def _require_packages(self, lines: Sequence[ManifestLine]) -> None:
        for each in lines:
            package = await _package(self._bucket, self._signatures, each.package)
            if package.sha256 != each.sha256:
                url = self._bucket.address()
                raise StoreError(f"{each.package} in {url} is another package")

    async def _keep_packages(
        self, lines: Sequence[ManifestLine], before: Object | None, data: bytes
    ) -> None:
        """Take a move back whose packages a prune has removed meanwhile."""
        # A prune removes a package, looks at MANIFEST, and puts it back where it is
        # named. So a package that stays away was removed before this move.
        try:
            with anyio.move_on_after(_SETTLE_SECONDS):
                while True:
                    try:
                        return await self._require_packages(lines)
                    except NotInStore:
                        await anyio.sleep(_SETTLE_SECONDS / 20)
            await self._require_packages(lines)
        except NotInStore:
            now = await self._bucket.get("MANIFEST")
            if now is not None and now.data == data:
                async with self._writer.alone() as write:
                    await write.swap("MANIFEST", before.data if before else b"", now)
            raise


@attrs.define(eq=False)
class S3Packages:
    """The packages of a bucket; see :class:`protocols.Packages`."""

    _bucket: Bucket
    _writer: Writer
    _signatures: Signatures
    _manifest: S3Manifest
    _turn: anyio.Lock = attrs.field(factory=anyio.Lock)
    _trial_is_there: bool = False

    @property
    def are_here(self) -> bool:
        """Whether archives are files of this machine."""
        return False

    async def reserve(self, module: str, commit: str) -> str:
        """
        Return a package id that nobody has, and keep others from taking it.

        Its epoch is now, or the first second after those of the module's packages.
        """
        _texts.check_id(package_id_of(0, module, commit))
        async with self._turn:
            while True:
                async with self._writer.alone() as write:
                    taken = {_id(each.key) for each in await self._of(module)}
                    epoch = _texts.next_epoch(int(time.time()), taken)
                    package_id = package_id_of(epoch, module, commit)
                    if await write.create(_key(package_id, _RESERVED), b""):
                        return package_id

    async def publish(self, package: Package, archive: Path, manifest: Path) -> None:
        """
        Add a package; its files stay where they are.

        Raises:
            StoreError: There is such a package already; it stays as it is.
        """
        for path, suffix in ((archive, _ARCHIVE), (manifest, _LIST)):
            with _files.explained(path):
                await self._bucket.upload(
                    _key(package.id, f".{package.sha256}{suffix}"), path
                )
        await self._signatures.keep_package(package)
        if not await self._writer.create(
            _key(package.id, _KNOWN), _texts.dump(package)
        ):
            raise StoreError(f"{package.id} exists already and is not replaced")

    async def publish_gzip(self, package: Package, archive: Path) -> None:
        """Keep the archive of a published package as gzip, too."""
        with _files.explained(archive):
            digest = await anyio.to_thread.run_sync(_files.sha256, archive)
            await self._signatures.keep_gzip(package, digest)
            key = _key(package.id, f".{package.sha256}{_GZIP}")
            await self._bucket.upload(key, archive)
            await self._bucket.put(f"{key}{_DIGEST}", f"{digest}\n".encode())

    async def package(self, package_id: str) -> Package:
        """Return a package as a value."""
        return await _package(self._bucket, self._signatures, package_id)

    async def ids(self, module: str) -> Sequence[str]:
        """Return the ids of a module's packages, oldest first."""
        return _known(await self._of(module))

    async def archive(self, package_id: str, into: Path) -> Path:
        """
        Put a copy of an archive into the folder *into*, unless it is there.

        Raises:
            StoreError: The archive is not what was published.
        """
        package = await self.package(package_id)
        path = into / f"{package_id}{_ARCHIVE}"
        key = _key(package_id, f".{package.sha256}{_ARCHIVE}")
        with _files.explained(path):
            if await anyio.to_thread.run_sync(_is, path, package.sha256):
                return path
            await anyio.to_thread.run_sync(_files.make_folder, into)
            part = into / f".{package_id}.{secrets.token_hex(4)}{_files.TEMPORARY}"
            try:
                digest = await self._bucket.download(key, part)
                if digest != package.sha256:
                    raise StoreError(
                        f"{self._bucket.address(key)} is damaged (its sha256 is "
                        f"{digest[:12]}…); put it back, or deploy the commit anew"
                    )
                part.replace(path)
            except FileNotFoundError:
                url = self._bucket.address()
                text = f"{url} has no package {package_id}; was it pruned?"
                raise NotInStore(text) from None
            finally:
                part.unlink(missing_ok=True)
        return path

    async def listing(self, package_id: str) -> bytes:
        """
        Return the manifest of a package.

        Raises:
            StoreError: It is not what was published.
        """
        package = await self.package(package_id)
        key = _key(package_id, f".{package.sha256}{_LIST}")
        name = self._bucket.address(key)
        if (found := await self._bucket.get(key)) is None:
            raise NotInStore(f"{name} is gone; was the package pruned?")
        return _texts.require_listing(found.data, package, name)

    async def address(self, package: Package | None, seconds: float) -> str:
        """
        Return a signed URL of an archive; without a package, of a small object.

        It dies with the session of whoever signs, also before *seconds* are over.
        """
        if package is not None:
            key = _key(package.id, f".{package.sha256}{_ARCHIVE}")
            return await self._bucket.presigned(key, seconds)
        async with self._turn:
            if not self._trial_is_there:
                await self._bucket.put("TRIAL", b"1")
                self._trial_is_there = True
        return await self._bucket.presigned("TRIAL", seconds)

    async def prune(self, module: str, keep: int, protected: frozenset[str]) -> int:
        """
        Remove all but the *keep* newest packages; return how many went.

        Packages that MANIFEST or *protected* names stay. Objects of builds that never
        ended go as well, once they are a day old, and are not counted.
        """
        # A MANIFEST that cannot be read raises before anything is removed.
        named = protected | {line.package for line in await self._manifest.read()}
        entries = await self._of(module)
        known = _known(entries)
        gone = [
            package_id
            for package_id in _texts.outdated(known, keep, named)
            if await self._forget(package_id)
        ]
        stale = {_id(e.key) for e in entries if e.age > STALE_SECONDS} - {*known}
        left = [e.key for e in entries if _id(e.key) in {*gone, *stale}]
        await self._bucket.delete([*left, *map(_environment, gone)])
        return len(gone)

    async def _forget(self, package_id: str) -> bool:
        """Have the store not know a package any more, unless MANIFEST names it now."""
        key = _key(package_id, _KNOWN)
        found = await self._bucket.get(key)
        await self._bucket.delete([key])
        if package_id not in {line.package for line in await self._manifest.read()}:
            return True
        if found is not None:
            await self._bucket.put(key, found.data)
        return False

    async def _of(self, module: str) -> list[Entry]:
        """Return the objects of a module's packages, and of its builds."""
        found = await self._bucket.listed("packages/")
        return [each for each in found if _texts.module_of(_id(each.key)) == module]


async def _kept(bucket: Bucket, name: str) -> bytes | None:
    found = await bucket.get(f"signatures/{name}")
    return found.data if found else None


async def _keep(bucket: Bucket, name: str, signature: bytes) -> None:
    await bucket.put(f"signatures/{name}", signature)


async def _package(bucket: Bucket, signatures: Signatures, package_id: str) -> Package:
    key = _key(package_id, _KNOWN)
    found = await bucket.get(key)
    if found is None:
        text = f"{bucket.address()} has no package {package_id}; was it pruned?"
        raise NotInStore(text)
    package = _texts.load_package(found.data, package_id, bucket.address(key))
    await signatures.require_package(package, bucket.address())
    return package


def _key(package_id: str, suffix: str) -> str:
    return f"packages/{_texts.check_id(package_id)}{suffix}"


def _environment(package_id: str) -> str:
    return f"environments/{_texts.check_id(package_id)}.sh"


def _id(key: str) -> str:
    """Return the id of the package that an object belongs to."""
    name = key.removeprefix("packages/")
    for suffix in (_RESERVED, _KNOWN):
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    for suffix in (_ARCHIVE, _LIST, _GZIP, f"{_GZIP}{_DIGEST}"):
        if name.endswith(suffix):
            return name.removesuffix(suffix).rpartition(".")[0]
    return ""


def _known(entries: Sequence[Entry]) -> list[str]:
    """Return the ids of the packages among *entries*, oldest first."""
    ids = [_id(each.key) for each in entries if each.key.endswith(_KNOWN)]
    return sorted(ids, key=_texts.age)


def _is(path: Path, sha256: str) -> bool:
    return path.exists() and _files.sha256(path) == sha256
