"""
What lies beneath a folder, read without a way out of it.

How it works. A folder is a descriptor: it is opened without following a link, and
scanned and searched by that descriptor. A name that becomes a link while a tree is read
leads nowhere, and whatever is not any more what it was is an error that names the path.

Rule 1: whatever is read of a tree that somebody else may have written is opened here.
Rule 2: errors are an OSError whose *filename* is the path beneath the folder.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple, Self

__all__ = ["CHANGED", "File", "Found", "enter", "find", "named_in", "read", "walk"]

CHANGED: Final = "changed while it was read"

SPARSE: Final = 1 << 20
"""Bytes of a file from which on its holes are worth a look."""

CHUNK: Final = 1 << 20
"""Bytes read at once: all but a few files of a tree need one read."""

MOST_LINKS: Final = 40
"""Links on the way to one file, as many as Linux follows."""

MOST_OPEN: Final = 64
"""Folders that are open at once: a tree may be deeper than a process may have files."""

# A fifo in a file's place would block without O_NONBLOCK.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER: Final = _FILE | os.O_DIRECTORY

# What the kernel says of a name that was a folder, file or link, and is none any more.
_GONE: Final = {
    *(errno.EINVAL, errno.ELOOP, errno.ENOENT),
    *(errno.ENOTDIR, errno.ENXIO, errno.ESTALE),
}


_KINDS: Final = {stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l"}
_STAY: Final = {b"", b"."}
_LEADS_OUT: Final = "is a link that leads out of the tree"


class Found(NamedTuple):
    """
    What a :func:`walk` has come to.

    *kind* is ``d`` (a folder, before what is in it), ``e`` (the same folder, after all
    that), ``f`` (a file), ``l`` (a link) or ``?``. *folder* is the descriptor of the
    folder that *name* is in, or of the folder itself; it is good until the next step.
    """

    kind: str
    path: bytes
    name: bytes
    folder: int

    def status(self) -> os.stat_result:
        """Return what the file system says of it, or of the link itself."""
        if self.kind in "de":
            return os.fstat(self.folder)
        try:
            return os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
        except OSError as exc:
            raise _named(exc, self.path) from exc

    def open(self) -> int:
        """Return a new descriptor of a file, to read."""
        try:
            return os.open(self.name, _FILE, dir_fd=self.folder)
        except OSError as exc:
            raise _named(exc, self.path) from exc

    def target(self) -> bytes:
        """Return the text of a link."""
        with _about(self.path):
            return os.readlink(self.name, dir_fd=self.folder)


class _Level:
    """A folder on the way down; *fd* is -1 while it is closed."""

    __slots__ = ("fd", "left", "name", "path", "status")

    def __init__(self, path: bytes, name: bytes, fd: int) -> None:
        self.path, self.name, self.fd = path, name, fd
        self.status = os.fstat(fd)
        self.left: list[tuple[bytes, str]] | None = None


def walk(
    tree: Path | bytes, leave_out: Callable[[bytes, bytes], bool] | None = None
) -> Iterator[Found]:
    """
    Yield *tree* and all that is beneath it, in the order of the bytes of names.

    Args:
        tree: The folder; its own path is ``b"."``.

        leave_out: Tells of a path and its last name whether it stays out, with all that
            is in it.

    Raises:
        OSError: Something cannot be read, or is not any more what it was.
    """
    levels = [_Level(b".", b".", os.open(tree, _FOLDER))]
    try:
        yield Found("d", b".", b".", levels[0].fd)
        while levels:
            level = levels[-1]
            if level.left is None:
                with _about(level.path):
                    level.left = _scan(level.fd)
            if not level.left:
                yield Found("e", level.path, level.name, level.fd)
                _leave(levels)
                continue
            name, kind = level.left.pop()
            path = name if level.path == b"." else b"%b/%b" % (level.path, name)
            if leave_out is not None and leave_out(path, name):
                continue
            if kind == "d":
                with _about(path):
                    fd = os.open(name, _FOLDER, dir_fd=level.fd)
                levels.append(_Level(path, name, fd))
                if len(levels) > MOST_OPEN:
                    _close(levels[-MOST_OPEN - 1])
                level = levels[-1]
            yield Found(kind, path, name, level.fd)
    finally:
        for level in levels:
            _close(level)


def _scan(fd: int) -> list[tuple[bytes, str]]:
    """Return names and kinds, the last one first."""
    with os.scandir(fd) as entries:
        found = [(os.fsencode(entry.name), _kind(entry)) for entry in entries]
    found.sort(reverse=True)
    return found


def _kind(entry: os.DirEntry[str]) -> str:
    if entry.is_file(follow_symlinks=False):
        return "f"
    if entry.is_dir(follow_symlinks=False):
        return "d"
    return "l" if entry.is_symlink() else "?"


def _leave(levels: list[_Level]) -> None:
    """Go back to the folder above, where the name of this one must still hold."""
    level = levels.pop()
    try:
        if not levels:
            return
        above = levels[-1]
        with _about(level.path):
            if above.fd < 0:
                above.fd = os.open("..", _FOLDER, dir_fd=level.fd)
                _require(os.path.samestat(os.fstat(above.fd), above.status))
            now = os.stat(level.name, dir_fd=above.fd, follow_symlinks=False)
            _require(os.path.samestat(now, level.status))
    finally:
        _close(level)


def _close(level: _Level) -> None:
    if level.fd >= 0:
        os.close(level.fd)
        level.fd = -1


# --- One file -------------------------------------------------------------------------


class File:
    """
    A file that was found, open for as long as a ``with`` lasts.

    *status* is that from before the first byte was read. What is read is all that the
    file was: one that grew, shrank, was written to, replaced or removed meanwhile is an
    error at the end. A class, for a generator would cost a tenth of packaging.
    """

    __slots__ = ("_found", "_left", "fd", "status")

    def __init__(self, found: Found) -> None:
        self._found = found

    def __enter__(self) -> Self:
        self.fd = self._found.open()
        self.status = os.fstat(self.fd)
        self._left = self.status.st_size
        if not stat.S_ISREG(self.status.st_mode):
            os.close(self.fd)
            raise OSError(errno.ESTALE, CHANGED, self._found.path)
        return self

    def chunks(self) -> Iterator[bytes]:
        """Yield its content, and never more than its size was when it was opened."""
        try:
            while self._left and (chunk := os.read(self.fd, min(self._left, CHUNK))):
                self._left -= len(chunk)
                yield chunk
        except OSError as exc:
            raise _named(exc, self._found.path) from exc
        if self._left:
            raise OSError(errno.ESTALE, CHANGED, self._found.path)

    def data(self) -> Iterator[tuple[int, bytes]]:
        """Yield its content with the places where it stands, but for holes."""
        at, size = 0, self.status.st_size
        try:
            while at < size:
                at = os.lseek(self.fd, at, os.SEEK_DATA)
                hole = min(os.lseek(self.fd, at, os.SEEK_HOLE), size)
                while chunk := os.pread(self.fd, min(hole - at, CHUNK), at):
                    yield at, chunk
                    at += len(chunk)
        except OSError as exc:
            # There is no more data.
            if exc.errno != errno.ENXIO:
                raise _named(exc, self._found.path) from exc

    def has_holes(self) -> bool:
        """Tell whether a file of some size takes less room than that."""
        size = self.status.st_size
        if size < SPARSE or self.status.st_blocks * 512 >= size:
            return False
        try:
            return os.lseek(self.fd, 0, os.SEEK_HOLE) < size
        except OSError:
            return False  # a file system that cannot tell
        finally:
            os.lseek(self.fd, 0, os.SEEK_SET)

    def first(self, nbytes: int) -> bytes:
        """Return its first bytes; :meth:`chunks` yields them as well."""
        return os.pread(self.fd, nbytes, 0)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        os.close(self.fd)
        if kind is not None:
            return
        # By its name: another file may have taken the place of this one. The time of a
        # change tells of a writer who has put back the other time.
        was, now = self.status, self._found.status()
        if (
            was.st_ctime_ns != now.st_ctime_ns
            or was.st_mtime_ns != now.st_mtime_ns
            or was.st_size != now.st_size
            or was.st_ino != now.st_ino
            or was.st_dev != now.st_dev
        ):
            raise OSError(errno.ESTALE, CHANGED, self._found.path)


def read(tree: Path, path: str, limit: int) -> bytes:
    """
    Return the content of a file beneath *tree*, which has at most *limit* bytes.

    Links are followed as far as they lead to a file beneath *tree*.

    Raises:
        OSError: There is no such file, it leads out, or it has more bytes.
    """
    with find(tree, path) as found:
        if found.kind != "f":
            raise OSError(errno.EISDIR, "is no file", path)
        if found.status().st_size > limit:
            raise OSError(errno.EFBIG, f"has more than {limit:,} bytes", path)
        with File(found) as file:
            return b"".join(file.chunks())


@contextmanager
def find(tree: Path, path: str, *, follow: bool = True) -> Iterator[Found]:
    """
    Find *path* beneath *tree*, component by component.

    A link on the way is followed where it leads on within the tree; ``..`` leads to the
    folder that was come from. Without *follow* the last link is what is found.

    Raises:
        OSError: There is nothing, or a link leads out of the tree.
    """
    where = os.fsencode(path)
    folders = [os.open(tree, _FOLDER)]
    try:
        with _about(where, gone=""):
            name = _reach(where, folders, follow=follow)
            now = os.stat(name, dir_fd=folders[-1], follow_symlinks=False)
            kind = _KINDS.get(stat.S_IFMT(now.st_mode), "?")
            if kind == "d" and name != b".":
                folders.append(os.open(name, _FOLDER, dir_fd=folders[-1]))
        yield Found(kind, where, name, folders[-1])
    finally:
        for fd in folders:
            os.close(fd)


def _reach(path: bytes, folders: list[int], *, follow: bool) -> bytes:
    """Open the folders on the way to *path*; return its name in the last of them."""
    left, name, links = path.split(b"/")[::-1], b".", 0
    while left:
        name = left.pop()
        if name in _STAY:
            name = b"."
        elif name == b"..":
            os.close(folders.pop())
            name = b"."
            if not folders:
                raise OSError(errno.EXDEV, _LEADS_OUT)
        elif (left or follow) and (target := _target(name, folders[-1])):
            links += 1
            if target.startswith(b"/") or links > MOST_LINKS:
                raise OSError(errno.EXDEV, _LEADS_OUT)
            left += target.split(b"/")[::-1]
        elif left:
            folders.append(os.open(name, _FOLDER, dir_fd=folders[-1]))
            name = b"."
            if len(folders) > MOST_OPEN:
                raise OSError(errno.EMFILE, "lies too deep")
    return name


def enter(tree: Path, path: Path) -> int:
    """
    Return a new descriptor of the folder *path*, which is *tree* or beneath it.

    Raises:
        OSError: There is none, or a link is on the way.
    """
    fd = os.open(tree, _FOLDER)
    below = path.relative_to(tree)
    with _about(os.fsencode(below)):
        for part in below.parts:
            above = fd
            try:
                fd = os.open(part, _FOLDER, dir_fd=above)
            finally:
                os.close(above)
    return fd


def _target(name: bytes, folder: int) -> bytes:
    """Return the text of a link, empty where *name* is none."""
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError as exc:
        if exc.errno != errno.EINVAL:
            raise
        return b""


def _require(same: bool) -> None:
    if not same:
        raise OSError(errno.ESTALE, CHANGED)


@contextmanager
def _about(path: bytes, gone: str = CHANGED) -> Iterator[None]:
    """Have errors of the system name *path*, and say *gone* of what is not there."""
    try:
        yield
    except OSError as exc:
        raise _named(exc, path, gone) from exc


def _named(exc: OSError, path: bytes, gone: str = CHANGED) -> OSError:
    text = gone if exc.errno in _GONE and gone else exc.strerror
    return OSError(exc.errno, text, path)


def named_in(error: OSError) -> str:
    """Return the path in *error*; empty where it has none, or the number of a file."""
    name = error.filename
    return os.fsdecode(name) if isinstance(name, str | bytes) else ""
