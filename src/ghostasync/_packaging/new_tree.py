"""
A tree that comes member by member, maybe from somebody who means ill.

How it works. No name leads out: names are relative and have no ``..``. Nothing is ever
written through a link, for all links are made last: before that there is nothing but
folders and files that were made here, and a folder that somebody else makes a link
meanwhile is not followed. A member whose place is taken ends the whole, so no order of
members makes a difference.

Links are kept as they are, wherever they lead, as from git and from a folder: they are
data until a host serves them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from anyio import from_thread

from .._local.beneath import File, enter, find
from ..errors import SourceError
from .tree import shown

__all__ = ["FILE_MODE", "FOLDER_MODE", "TAKEN", "Tree", "chunks", "named"]

CHUNK: Final = 1 << 20
"""Bytes that are written at a time; between two of them a cancellation is noticed."""

FILE_MODE: Final = 0o644
FOLDER_MODE: Final = 0o755
"""The modes of what says none."""

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_THERE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

TAKEN: Final = "its place in the tree is taken already"


class Tree:
    """
    The tree in the empty folder *into*; to be filled in a worker thread.

    Names are bytes with slashes. Modes are set whatever the umask is; times are in
    seconds since 1970, *mtime* is that of folders of which nothing else is known.

    Raises:
        SourceError: A name leads out of the tree.
        FileExistsError: The place is taken.
        OSError: Something cannot be written.
    """

    def __init__(self, into: Path, mtime: int) -> None:
        self._into, self._mtime = into, mtime
        # Each folder stands behind the one that it is in.
        self._folders = {into: (FOLDER_MODE, mtime)}
        self._links: dict[Path, tuple[bytes, int]] = {}
        # Members of one folder mostly follow each other.
        self._at, self._fd = into, enter(into, into)

    def close(self) -> None:
        """Close the folder that is open."""
        os.close(self._fd)

    def folder(self, name: bytes, mode: int, mtime: int) -> None:
        """Make a folder; one that is there takes the new mode and time."""
        path = self._path(name)
        self._make(path)
        # The tree's own folder is the build folder, which scripts have to write to.
        self._folders[path] = mode if path != self._into else FOLDER_MODE, mtime

    def room(self, name: bytes) -> Path:
        """Make the folders that a file lies in, and return the path for it."""
        path = self._path(name)
        if path == self._into:
            raise FileExistsError
        self._make(path.parent)
        return path

    def file(self, name: bytes, data: Iterable[bytes], mode: int, mtime: int) -> int:
        """Write a file, and return how many bytes it has."""
        path = self.room(name)
        fd = os.open(path.name, _NEW, 0o600, dir_fd=self._enter(path.parent))
        with open(fd, "wb") as file:  # noqa: PTH123  a descriptor
            file.writelines(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.utime(file.fileno(), (mtime, mtime))
            return file.tell()

    def settle_file(self, path: Path, mode: int, mtime: int) -> None:
        """Give a file that somebody else has written its mode and time."""
        fd = os.open(path.name, _THERE, dir_fd=self._enter(path.parent))
        try:
            os.fchmod(fd, mode)
            os.utime(fd, (mtime, mtime))
        finally:
            os.close(fd)

    def copy(self, name: bytes, other: bytes, mode: int, mtime: int) -> None:
        """Make the hard link *name* to what has come before; it becomes a file."""
        path = self._path(other)
        if path in self._links:
            self.link(name, *self._links[path])
            return
        where = os.fsdecode(other)
        with (
            suppress(FileNotFoundError),
            find(self._into, where, follow=False) as found,
        ):
            if found.kind == "f":
                with File(found) as file:
                    self.file(name, file.chunks(), mode, mtime)
                return
        raise SourceError(f"a hard link to {shown(other)}, which is no file so far")

    def link(self, name: bytes, target: bytes, mtime: int) -> None:
        """Note a symbolic link, which :meth:`settle` makes."""
        path = self.room(name)
        if path in self._links:
            raise FileExistsError
        self._links[path] = target, mtime

    def settle(self) -> None:
        """Make all links, and give folders their modes and times."""
        for path, (target, mtime) in self._links.items():
            from_thread.check_cancelled()
            with named(os.fsencode(path.relative_to(self._into))):
                fd = self._enter(path.parent)
                os.symlink(os.fsdecode(target), path.name, dir_fd=fd)
                times = mtime, mtime
                os.utime(path.name, times, dir_fd=fd, follow_symlinks=False)
        # The deepest come first: filling a folder changes its time, and one that may
        # not be written to could not be filled.
        for path, (mode, mtime) in reversed(self._folders.items()):
            from_thread.check_cancelled()
            fd = self._enter(path)
            os.fchmod(fd, mode)
            os.utime(fd, (mtime, mtime))

    def _path(self, name: bytes) -> Path:
        if name.startswith(b"/"):
            raise SourceError("the name is absolute; it has to be one in the tree")
        if b".." in name.split(b"/"):
            raise SourceError('the name has ".." in it, which may lead out of the tree')
        if b"\0" in name:
            raise SourceError("the name has a NUL in it, which no file can have")
        return self._into / os.fsdecode(name)

    def _enter(self, path: Path) -> int:
        if path != self._at:
            fd = enter(self._into, path)
            os.close(self._fd)
            self._at, self._fd = path, fd
        return self._fd

    def _make(self, path: Path) -> None:
        missing: list[Path] = []
        while path not in self._folders:
            missing.append(path)
            path = path.parent
        for each in reversed(missing):
            os.mkdir(each.name, dir_fd=self._enter(each.parent))
            self._folders[each] = FOLDER_MODE, self._mtime


def chunks(file: IO[bytes]) -> Iterator[bytes]:
    """Yield what is left of *file*, unless the work is cancelled."""
    while chunk := file.read(CHUNK):
        from_thread.check_cancelled()
        yield chunk


@contextmanager
def named(name: bytes = b"") -> Iterator[None]:
    """
    Have whatever goes wrong be a line that begins with the member *name*.

    Raises:
        SourceError: Something did.
    """
    begin = f"{shown(name)}: " if name else ""
    try:
        yield
    except SourceError as exc:
        raise SourceError(f"{begin}{exc}") from exc
    except FileExistsError as exc:
        raise SourceError(f"{begin}{TAKEN}") from exc
    except Exception as exc:
        # Readers of archives raise almost anything where an archive is damaged, errors
        # of the system without a number, too.
        text = " ".join(str(exc).split()) or type(exc).__name__
        here = exc.strerror if isinstance(exc, OSError) else ""
        what = f"cannot be written here: {here}" if here else f"damaged: {text}"
        raise SourceError(f"{begin}{what}") from exc
