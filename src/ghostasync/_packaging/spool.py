"""One archive on its way to many hosts: read once, in whatever they understand."""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

import anyio
from anyio import from_thread, to_thread
from isal import isal_zlib

from ..errors import PackageError

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdError, ZstdFile
else:
    from backports.zstd import ZstdError, ZstdFile

__all__ = ["Encoded", "Spool"]

CHUNK: Final = 256 << 10
"""Bytes handed out at once."""

STEP: Final = 1 << 20
"""Bytes recoded between two looks for a cancellation."""

GZIP_LEVEL: Final = 2
GZIP_FORMAT: Final = 31


class Encoded:
    """The whole archive in one encoding, *nbytes* long, mapped and never copied."""

    def __init__(self, file: IO[bytes]) -> None:
        self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.nbytes: Final = len(self._map)

    def chunks(self, offset: int = 0) -> Iterator[memoryview]:
        """Yield views of the bytes from *offset* on, 256 KiB each but for the last."""
        for start in range(offset, self.nbytes, CHUNK):
            yield memoryview(self._map)[start : start + CHUNK]

    def close(self) -> None:
        """Unmap it; where a chunk is still in use, when the last one is dropped."""
        with contextlib.suppress(BufferError):
            self._map.close()


class Spool:
    """
    The *archive* of a package, *nbytes* long, for any number of readers.

    Each reads at its own pace; the page cache is the only copy. Close it when all have
    done.
    """

    def __init__(self, archive: Path, nbytes: int) -> None:
        self._archive, self._nbytes = archive, nbytes
        self._lock = anyio.Lock()
        self._encodings: dict[str, Encoded] = {}

    async def encoded(self, encoding: str) -> Encoded:
        """
        Return the archive as ``zstd``, which it is, or ``gzip``, made once.

        Raises:
            PackageError: It is not the archive it was, or there is no room for another.
        """
        make = {"zstd": _as_it_is, "gzip": _gzipped}[encoding]
        async with self._lock:
            if encoding not in self._encodings:
                made = await to_thread.run_sync(make, self._archive, self._nbytes)
                self._encodings[encoding] = made
        return self._encodings[encoding]

    def close(self) -> None:
        """Give back what the encodings take."""
        for encoded in self._encodings.values():
            encoded.close()
        self._encodings.clear()


def _as_it_is(archive: Path, nbytes: int) -> Encoded:
    try:
        with archive.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != nbytes:
                raise PackageError(f"{archive}: {size} bytes instead of {nbytes}")
            return Encoded(file)
    except OSError as error:
        raise PackageError(f"{archive}: {error.strerror}") from error


def _gzipped(archive: Path, _: int) -> Encoded:
    """Recode *archive* into a file without a name beside it."""
    compressor = isal_zlib.compressobj(GZIP_LEVEL, isal_zlib.DEFLATED, GZIP_FORMAT)
    try:
        with (
            ZstdFile(archive) as tar,
            tempfile.TemporaryFile(dir=archive.parent) as file,
        ):
            while block := tar.read(STEP):
                from_thread.check_cancelled()
                file.write(compressor.compress(block))
            file.write(compressor.flush())
            file.flush()
            return Encoded(file)
    except (ZstdError, EOFError) as error:
        raise PackageError(f"{archive}: {error}") from error
    except OSError as error:
        raise PackageError(f"{archive}, as gzip: {error.strerror}") from error
