"""
The spool: one archive on its way to many hosts, in an encoding that they understand.

How it works: the archive is mapped into memory, and each host is sent views of the
mapping from an offset of its own. Nothing is copied and nobody waits for the slowest
host; a thousand hosts share the pages that the kernel caches.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
import tempfile
from collections.abc import Generator, Iterator
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

__all__ = ["Encoded", "Spool", "write_gzip"]

CHUNK: Final = 256 << 10
"""Bytes handed out at once: eight full packets of SSH."""

STEP: Final = 1 << 20
"""Bytes recoded between two looks for a cancellation."""

GZIP_LEVEL: Final = 2
"""isal's levels end at 3; the encoding is for hosts that lack zstd."""

GZIP_FORMAT: Final = 31
"""zlib's number for a window of 32 KiB (15) with a gzip header and checksum (16)."""


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
        """Unmap the archive, or leave that to the last chunk that is still in use."""
        # A host that was cancelled may hold a chunk; a map with views refuses to close,
        # and goes with them.
        with contextlib.suppress(BufferError):
            self._map.close()


class Spool:
    """
    The *archive* of a package, *nbytes* long, for any number of readers.

    Each reads at its own pace. The owner closes the spool when all have done.
    """

    def __init__(self, archive: Path, nbytes: int) -> None:
        self._archive, self._nbytes = archive, nbytes
        self._lock = anyio.Lock()
        self._encodings: dict[str, Encoded] = {}

    async def encoded(self, encoding: str) -> Encoded:
        """
        Return the archive as ``zstd``, which it is, or as ``gzip``, made once.

        Raises:
            PackageError: The archive has changed, or there is no room for another.
        """
        make = {"zstd": _as_it_is, "gzip": _gzipped}[encoding]
        # All hosts without zstd ask at once: the first makes the encoding, the others
        # wait for it. Where the first is cancelled, the next in line makes it.
        async with self._lock:
            if encoding not in self._encodings:
                made = await to_thread.run_sync(make, self._archive, self._nbytes)
                self._encodings[encoding] = made
        return self._encodings[encoding]

    def close(self) -> None:
        """Unmap all encodings."""
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


def write_gzip(archive: Path, into: Path) -> None:
    """
    Recode *archive* into the new file *into*, in a worker thread.

    Raises:
        PackageError: The archive has changed, or there is no room.
    """
    with _recoding(archive), into.open("xb") as file:
        _recode(archive, file)


def _gzipped(archive: Path, _: int) -> Encoded:
    """Recode *archive* into a file without a name beside it."""
    # A file without a name is gone with this process, however that ends.
    with _recoding(archive), tempfile.TemporaryFile(dir=archive.parent) as file:
        _recode(archive, file)
        return Encoded(file)


def _recode(archive: Path, file: IO[bytes]) -> None:
    compressor = isal_zlib.compressobj(GZIP_LEVEL, isal_zlib.DEFLATED, GZIP_FORMAT)
    with ZstdFile(archive) as tar:
        while block := tar.read(STEP):
            from_thread.check_cancelled()
            file.write(compressor.compress(block))
    file.write(compressor.flush())
    file.flush()


@contextlib.contextmanager
def _recoding(archive: Path) -> Generator[None]:
    """Turn what goes wrong into a PackageError."""
    try:
        yield
    except (ZstdError, EOFError) as error:
        raise PackageError(f"{archive}: {error}") from error
    except OSError as error:
        raise PackageError(f"{archive}, as gzip: {error.strerror}") from error
