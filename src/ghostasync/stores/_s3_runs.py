"""
The runs of a bucket: journals in parts, reports and logs whole, numbers by objects.

See ``s3.py`` for their keys. A number is taken by the object of its own name; the
marker beside it says which run has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Final

import anyio
import attrs

from .._local.together import at_once
from .._s3.client import Bucket, Entry
from ..errors import NotInStore, StoreError
from . import _texts
from ._s3_writes import Writer

__all__ = ["S3RunLog"]

AT_ONCE: Final = 16
"""Parts of one file that are read at once."""

_MARKERS: Final = "by-generation"


@attrs.frozen(eq=False)
class S3RunLog:
    """The runs of a bucket; see :class:`protocols.RunLog`."""

    _bucket: Bucket
    _writer: Writer
    _ends: dict[str, int] = attrs.field(factory=dict)
    _turn: anyio.Lock = attrs.field(factory=anyio.Lock)

    def folder(self, run: str) -> None:
        """Return nothing: no folder of this machine is this store's."""

    async def append(self, run: str, name: str, at: int, data: bytes) -> None:
        """Add a part of a file; the same one again changes nothing."""
        # A file has one writer, so a look before the write is enough.
        folder = _run_key(run, name) + "/"
        key = f"{folder}{at:016d}"
        if self._ends.get(folder) != at:
            there = await self._bucket.get(key)
            if there is not None and there.data == data:
                self._ends[folder] = at + len(data)
                return
            parts = await self._bucket.listed(folder)
            end = max((_at(each) + each.nbytes for each in parts), default=0)
            if there is not None or at < end:
                text = f"{run}/{name} has another part at {at}, which stays"
                raise StoreError(text)
            if at > end:
                raise StoreError(f"{run}/{name}: a part is missing before {at}")
        await self._bucket.put(key, data)
        self._ends[folder] = at + len(data)

    async def save(self, run: str, name: str, data: bytes) -> None:
        """Keep a file of a run."""
        await self._bucket.put(_run_key(run, name), data)

    async def load(self, run: str, name: str) -> bytes:
        """Return a file of a run."""
        key = _run_key(run, name)
        saved = await self._bucket.get(key)
        if saved is not None:
            return saved.data
        entries = await self._bucket.listed(f"{key}/")
        found = await at_once(AT_ONCE, self._part, entries)
        if not found:
            raise NotInStore(f"{self._bucket.address(key)}: there is no such file")
        data = bytearray()
        for entry, part in zip(entries, found, strict=True):
            if _at(entry) != len(data):
                text = f"{self._bucket.address(key)}: a part is missing at {len(data)}"
                raise StoreError(text)
            data += part
        return bytes(data)

    async def _part(self, entry: Entry) -> bytes:
        found = await self._bucket.get(entry.key)
        return found.data if found else b""

    async def ids(self) -> Sequence[str]:
        """Return the ids of known runs, in alphabetical order."""
        found = await self._bucket.folders("runs/")
        return sorted(name for name in found if name != _MARKERS)

    async def reserve(self, run: str, lowest: int) -> int:
        """Return a generation that no run of this store has, and keep it for *run*."""
        async with self._turn:
            number = 0
            while not number:
                async with self._writer.alone() as write:
                    found = await self._bucket.listed("generations/")
                    taken = {_at(each) for each in found}
                    free = next(n for n in count(max(1, lowest)) if n not in taken)
                    key = f"generations/{free:015d}"
                    if await write.create(key, f"{run}\n".encode()):
                        number = free
        marker = _texts.marker_of(run, number)
        await self._bucket.put(f"runs/{_MARKERS}/{marker}", b"")
        return number

    async def generations(self) -> Mapping[str, int]:
        """Return the generation of each run that has reserved one; its last."""
        found = await self._bucket.listed(f"runs/{_MARKERS}/")
        pairs = (_texts.number_of(each.key.rpartition("/")[2]) for each in found)
        return dict(sorted(pairs, key=lambda pair: pair[1]))

    async def remove(self, run: str) -> None:
        """Remove the files of a run; the object of its number stays."""
        files = await self._bucket.listed(f"runs/{_texts.file_name(run)}/")
        markers = await self._bucket.listed(f"runs/{_MARKERS}/")
        # The journal first: without it a run is none, and the marker tells who it was.
        keys = [each.key for each in files]
        keys += [each.key for each in markers if _run_of(each) == run]
        await self._bucket.delete(keys)


def _run_key(run: str, name: str) -> str:
    segments = map(_texts.file_name, (run, *name.split("/")))
    return f"runs/{'/'.join(segments)}"


def _run_of(marker: Entry) -> str:
    return _texts.number_of(marker.key.rpartition("/")[2])[0]


def _at(part: Entry) -> int:
    return int(part.key.rpartition("/")[2])
