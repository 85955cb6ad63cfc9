"""
The source that is in S3: one object, unpacked where it is an archive, or a prefix.

How it works. A revision is a digest of what S3 says of the objects: keys, sizes, ETags,
and the version of a single one. Fetching asks once more, so that a tree is exactly what
was resolved: a version that has been replaced is had by its id; where the bucket keeps
none there is an error.

Objects have neither modes nor links: files are 0644 and folders 0755, and the time of a
file is that at which its object was written.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from anyio import to_thread

from .._local.together import at_once
from .._packaging.new_tree import FILE_MODE, FOLDER_MODE, TAKEN, Tree, named
from .._s3.client import Bucket, Entry
from .._s3.errors import Conflict
from ..errors import SourceError, StoreError, UnknownRevision
from ..model import Revision, S3Source, StoreSettings
from ..protocols import OnOutput
from ..views.text import plural, size
from ._archive import extract, is_archive

__all__ = ["S3"]

OBJECTS_AT_ONCE: Final = 16
"""Objects of a prefix that are fetched at once, each with a file and a connection: they
are among the files that a run may open besides its connections to hosts."""

_CHANGED: Final = "it has changed since it was looked at; deploy again"

T = TypeVar("T")


class S3:
    """
    A :class:`~ghostasync.protocols.Source` that is in S3; it needs the extra ``s3``.

    Args:
        module: Whose tree it is; errors begin with it.

        source: The object, or the prefix.

        settings: The server, and how it is spoken to.
    """

    def __init__(self, module: str, source: S3Source, settings: StoreSettings) -> None:
        name, _, self._key = source.s3.removeprefix("s3://").partition("/")
        self._module, self._source = module, source
        self._bucket, self._settings = f"s3://{name}", settings

    async def resolve(self) -> Revision:
        """
        Find out what is there now.

        The commit is a digest of it; the revision is the version of a single object, in
        a bucket that has versions; the epoch is the time of the newest object.

        Raises:
            UnknownRevision: There is no such object, or no such version of it.
            SourceError: S3 could not be asked.
        """
        async with self._reached() as bucket:
            found = await self._find(bucket, self._source.version)
        single = self._single(found)
        what = Path(single.key).name if single else plural(len(found), "object")
        version = single.version if single else ""
        # History shows a message; so the version can be read there, and taken again.
        which = f", version {version}" if version else ""
        return Revision(
            repo=self._source.s3,
            rev=version,
            commit=await to_thread.run_sync(_digest, found),
            message=f"{what}, {size(_nbytes(found))}{which}",
            epoch=int(max(entry.modified for entry in found.values())),
        )

    async def fetch(self, revision: Revision, into: Path, output: OnOutput) -> None:
        """
        Put the objects, or what is in the archive, into the empty folder *into*.

        Raises:
            UnknownRevision: The object is gone, or its version.
            SourceError: It has changed since it was resolved, is damaged, is no tree,
                or could not be had. The object, or the member, is named.
        """
        async with self._reached() as bucket:
            found = await self._find(bucket, revision.rev)
            if await to_thread.run_sync(_digest, found) != revision.commit:
                raise SourceError(f"{self._source.s3}: {_CHANGED}")
            fetching = _Fetching(bucket, _nbytes(found), output)
            single = self._single(found)
            if single and is_archive(single.key):
                await self._unpack(fetching, single, into, revision.epoch)
                return
            with closing(Tree(into, revision.epoch)) as tree:
                paths = await self._in_thread(partial(_make_room, tree, found))
                await at_once(OBJECTS_AT_ONCE, fetching.fetch, paths.items())
                await self._in_thread(partial(_settle, tree, paths))

    async def _unpack(
        self, fetching: _Fetching, archive: Entry, into: Path, epoch: int
    ) -> None:
        # It comes into the tree, where what a killed run leaves goes with the next one,
        # and has no name any more when the first member is unpacked.
        path = into / f".{secrets.token_hex(8)}"
        await fetching.fetch((path, archive))
        with path.open("rb") as file:
            path.unlink()
            await self._in_thread(partial(extract, file, archive.key, into, epoch))

    async def _find(self, bucket: Bucket, version: str) -> dict[str, Entry]:
        """
        Return the objects, by the name that each has in the tree.

        Raises:
            UnknownRevision: There are none.
        """
        prefix = self._key
        if not self._source.is_prefix:
            found = await bucket.look(self._key, version)
            if found is not None:
                return {self._key.rpartition("/")[2]: found}
            if version:
                raise self._unknown(self._source.s3, "version", version)
            prefix += "/"
        # What stands for the prefix itself, as consoles make it, is in no tree.
        listed = [e for e in await bucket.listed(prefix) if e.key != prefix]
        if not listed:
            raise self._unknown(self._bucket, "object at or below", self._key)
        return {entry.key[len(prefix) :]: entry for entry in listed}

    def _single(self, found: Mapping[str, Entry]) -> Entry | None:
        """Return the object that is named; None where that is a prefix."""
        (first, *_) = found.values()
        return first if first.key == self._key else None

    def _unknown(self, where: str, kind: str, name: str) -> UnknownRevision:
        return UnknownRevision(self._module, where, name, kind)

    async def _in_thread(self, act: Callable[[], T]) -> T:
        try:
            return await to_thread.run_sync(act)
        except SourceError as exc:
            raise SourceError(f"{self._source.s3}: {exc}") from exc

    @asynccontextmanager
    async def _reached(self) -> AsyncIterator[Bucket]:
        bucket = Bucket(self._bucket, self._settings)
        try:
            yield bucket
        except (StoreError, SourceError, OSError) as exc:
            raise SourceError(f"{self._module}: {exc}") from exc
        finally:
            await bucket.aclose()


class _Fetching:
    """The way of *nbytes* bytes to this machine, which tells how far they are."""

    def __init__(self, bucket: Bucket, nbytes: int, output: OnOutput) -> None:
        self._bucket, self._output = bucket, output
        self._nbytes, self._done = max(1, nbytes), 0

    async def fetch(self, place: tuple[Path, Entry]) -> None:
        """
        Write an object to a path.

        Raises:
            SourceError: It has changed, its place is taken, or it cannot be written.
            StoreError: It cannot be had.
        """
        path, wanted = place
        what = self._bucket.address(wanted.key)
        how: dict[str, Any] = {"wanted": wanted, "heard": self._heard}
        try:
            await self._bucket.download(wanted.key, path, **how)
        except (Conflict, FileNotFoundError) as exc:
            raise SourceError(f"{what}: {_CHANGED}") from exc
        except FileExistsError as exc:
            raise SourceError(f"{what}: {TAKEN}") from exc
        except OSError as exc:
            text = f"{what}: cannot be written here: {exc.strerror}"
            raise SourceError(text) from exc

    def _heard(self, nbytes: int) -> None:
        before, self._done = self._done, self._done + nbytes
        # A log of a line for each percent can still be read.
        if 100 * before // self._nbytes != 100 * self._done // self._nbytes:
            self._output(f"{size(self._done)} of {size(self._nbytes)}\n".encode())


def _nbytes(found: Mapping[str, Entry]) -> int:
    return sum(entry.nbytes for entry in found.values())


def _digest(found: Mapping[str, Entry]) -> str:
    digest = hashlib.sha1(usedforsecurity=False)
    for name, entry in sorted(found.items()):
        about = name, entry.version, entry.etag, entry.nbytes
        digest.update(json.dumps(about).encode())
    return digest.hexdigest()


def _make_room(tree: Tree, found: Mapping[str, Entry]) -> dict[Path, Entry]:
    """Make all folders, and return the paths that objects go to."""
    paths: dict[Path, Entry] = {}
    for key, entry in found.items():
        name = key.encode("utf-8", "surrogateescape")
        with named(name):
            if key.endswith("/"):
                if entry.nbytes:
                    raise SourceError("a folder with data in it cannot be unpacked")
                tree.folder(name, FOLDER_MODE, int(entry.modified))
            elif (path := tree.room(name)) in paths:
                raise FileExistsError
            else:
                paths[path] = entry
    return paths


def _settle(tree: Tree, paths: Mapping[Path, Entry]) -> None:
    for path, entry in paths.items():
        tree.settle_file(path, FILE_MODE, int(entry.modified))
    tree.settle()
