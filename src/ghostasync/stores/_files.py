"""
Files that are there whole or not at all, and survive a power failure once they are.

How it works: a file is written under a temporary name beside its place, flushed, moved
into place in one step, and then the folder is flushed, since a name is the folder's
content. Only :func:`append` writes to a file in place: after a power failure the part
that was cut is offered again, compared and completed.

All functions block and belong into a worker thread. An OSError becomes a
:class:`~ghostasync.errors.StoreError` that names the file.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from .._local.owners import make_private
from ..errors import StoreError

__all__ = [
    "TEMPORARY",
    "append",
    "explained",
    "flush",
    "make_folder",
    "move_in",
    "names",
    "require_writable",
    "sha256",
    "write",
]

TEMPORARY: Final = ".tmp"
"""The end of the names of files that are not whole yet; they begin with a dot."""

_BLOCK: Final = 4096
"""Bytes of a file that a disk without room does not take."""

_ADVICE: Final = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some space there or have the quota raised",
    errno.EROFS: "remount it writable or choose another store.url",
    errno.EACCES: "it must belong to the user who deploys",
    errno.EPERM: "it must belong to the user who deploys",
    errno.ENOENT: "was it removed?",
    errno.ENAMETOOLONG: "choose a shorter name",
}


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """
    Turn an OSError into one line: which file, what is wrong, what to do.

    Args:
        path: Named where the error itself names no file.

    Raises:
        StoreError: In place of the OSError.
    """
    try:
        yield
    except OSError as error:
        name = error.filename or path
        advice = _ADVICE.get(error.errno or 0, "check the disk the store is on")
        raise StoreError(f"{name}: {error.strerror or error}; {advice}") from error


def make_folder(path: Path) -> None:
    """Make *path* and the folders above it, each 0700; those that exist stay alone."""
    # A name that is not flushed in its folder would be lost with the power.
    for made in make_private(path):
        flush(made.parent)


def names(folder: Path) -> list[str]:
    """Return the names in *folder*, in no order; none where there is no folder."""
    try:
        return [each.name for each in folder.iterdir()]
    except FileNotFoundError:
        return []


def flush(path: Path) -> None:
    """Return when the file, or the names in the folder, would survive power loss."""
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def write(path: Path, data: bytes) -> None:
    """Replace or create *path*, 0600, in one step that survives power loss."""
    with explained(path), _temporary(path.parent) as temporary:
        temporary.write_bytes(data)
        flush(temporary)
        temporary.replace(path)
        flush(path.parent)


def append(path: Path, at: int, data: bytes) -> None:
    """
    Add *data* to *path*, 0600, at byte *at*, so that it survives power loss.

    The same part may be added again, and is there once. A rest of it that a power
    failure left is made whole.

    Raises:
        StoreError: *at* lies behind the file's end, or other data is there; or the
            disk failed.
    """
    with explained(path):
        nbytes = path.stat().st_size if path.exists() else 0
        if at > nbytes:
            raise StoreError(f"{path} ends at {nbytes}: a part is missing before {at}")
        # O_APPEND writes at the file's end whatever the position is, so a part can
        # never overwrite another; the position is for the reading alone.
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with io.FileIO(opened, "r+") as file:
            file.seek(at)
            present = file.read(len(data))
            if not data.startswith(present):
                raise StoreError(f"{path} has another part at {at}, which stays")
            rest = data[len(present) :]
            try:
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError:
                # On a full disk the file ends as it did. Where it cannot even be cut,
                # the next try completes the part, and the first error is the cause.
                with suppress(OSError):
                    file.truncate(at + len(present))
                raise
            os.fsync(file.fileno())
        flush(path.parent)


def move_in(source: Path, path: Path) -> None:
    """
    Move *source* to *path*, 0600; copy it where it lies on another filesystem.

    Raises:
        StoreError: *path* is there already, and stays as it is; or the disk failed.
    """
    with explained(path), _temporary(path.parent) as temporary:
        try:
            source.replace(temporary)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            shutil.copyfile(source, temporary)
        temporary.chmod(0o600)
        flush(temporary)
        try:
            # Of two builds that publish one id the second must fail. A rename would
            # replace the first one's file; a link never does.
            path.hardlink_to(temporary)
        except FileExistsError:
            raise StoreError(f"{path} exists already and is not replaced") from None
        flush(path.parent)


def require_writable(folder: Path) -> None:
    """
    Do nothing, unless no file can be kept in *folder*, or where it will be made.

    Raises:
        StoreError: The text names the folder.
    """
    there = next(each for each in (folder, *folder.parents) if each.exists())
    with explained(there):
        try:
            with _temporary(there) as temporary:
                temporary.write_bytes(bytes(_BLOCK))
        except OSError as error:
            # The file that was tried has a name by chance.
            raise OSError(error.errno, error.strerror, str(there)) from error


def sha256(path: Path) -> str:
    """Return the digest of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """Make an empty file, 0600, that is gone afterwards unless it was renamed."""
    opened, name = tempfile.mkstemp(dir=folder, prefix=".", suffix=TEMPORARY)
    os.close(opened)
    path = Path(name)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
