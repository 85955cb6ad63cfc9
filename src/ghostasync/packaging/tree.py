"""
The reader of a built tree: its entries in a fixed order, every file once.

Symlinks are data and never followed. An entry that cannot be carried to another
machine, or that changes while it is read, is an error that names it.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Final

from ..errors import PackageError
from ._host import FOLDER_MODE, file_mode
from .manifest import Entry, Kind, escape
from .tar import TarWriter

__all__ = ["TreeReader", "shown"]

DirEntry = os.DirEntry[bytes]

CHUNK: Final = 1 << 20
"""Bytes read at once: all but a few files of a tree need one read."""

# A file may be swapped for a link or a fifo between its listing and its opening: the
# one is not followed, the other does not block.
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOREIGN: Final = {
    stat.S_IFSOCK: "socket",
    stat.S_IFIFO: "fifo",
    stat.S_IFBLK: "block device",
    stat.S_IFCHR: "character device",
}


def shown(path: bytes) -> str:
    """Return *path* as one line for people, whatever bytes are in it."""
    return escape(path).decode(errors="backslashreplace")


def _excluded(patterns: Sequence[str]) -> Callable[[bytes, bytes], bool]:
    """Return a function that tells whether a path in the tree, by *name*, stays out."""
    plain = [pattern.rstrip("/") for pattern in patterns]
    names = _any_of([each for each in plain if "/" not in each])
    paths = _any_of([each.lstrip("/") for each in plain if "/" in each])

    def excluded(path: bytes, name: bytes) -> bool:
        if names is not None and names.match(os.fsdecode(name)):
            return True
        return paths is not None and bool(paths.match(os.fsdecode(path)))

    return excluded


def _any_of(patterns: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(fnmatch.translate, patterns))) if patterns else None


class TreeReader:
    """
    Everything below *tree* on its way into an archive, under the name *prefix*.

    *exclude* holds shell patterns. A pattern without a slash is compared with every
    name, at any depth; a pattern with a slash with the whole path in the tree, where
    ``*`` matches slashes too. With a folder goes all that is in it.
    """

    def __init__(self, tree: bytes, prefix: bytes, exclude: Sequence[str]) -> None:
        self._tree, self._prefix = tree, prefix
        self._excluded = _excluded(exclude)

    def read(self, archive: TarWriter) -> Iterator[Entry]:
        """
        Add all entries to *archive* and yield them, every folder before its content.

        Names come in the order of their bytes. An entry has the tree's own mode; its
        member in the archive has the mode that ``_host`` gives it.

        Raises:
            PackageError: Something cannot be packaged, or changed meanwhile.
            OSError: Something cannot be read.
        """
        yield self._root(archive)
        skip = len(self._tree) + 1
        # A stack, sorted backwards, in place of calls: a deep tree needs no deep stack
        # of Python's.
        pending = self._inside(self._tree)
        while pending:
            entry = pending.pop()
            path = entry.path[skip:]
            if self._excluded(path, entry.name):
                continue
            if entry.is_file(follow_symlinks=False):
                yield self._file(archive, path, entry.path)
            elif entry.is_dir(follow_symlinks=False):
                yield self._folder(archive, path, entry)
                pending += self._inside(entry.path)
            elif entry.is_symlink():
                yield self._link(archive, path, entry)
            else:
                kind = stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode)
                what = _FOREIGN.get(kind, "special file")
                raise PackageError(f"{shown(path)}: a {what} cannot be packaged")

    def _inside(self, folder: bytes) -> list[DirEntry]:
        with os.scandir(folder) as entries:
            return sorted(entries, key=attrgetter("name"), reverse=True)

    def _root(self, archive: TarWriter) -> Entry:
        # A release is 0755 whatever the build folder is.
        mtime = _seconds(os.stat(self._tree))  # noqa: PTH116  # a Path holds no bytes
        archive.member(self._prefix + b"/", Kind.FOLDER, mode=FOLDER_MODE, mtime=mtime)
        return Entry(b".", Kind.FOLDER, FOLDER_MODE, mtime)

    def _folder(self, archive: TarWriter, path: bytes, entry: DirEntry) -> Entry:
        status = entry.stat(follow_symlinks=False)
        name, mtime = b"%b/%b/" % (self._prefix, path), _seconds(status)
        archive.member(name, Kind.FOLDER, mode=FOLDER_MODE, mtime=mtime)
        return Entry(path, Kind.FOLDER, stat.S_IMODE(status.st_mode), mtime)

    def _link(self, archive: TarWriter, path: bytes, entry: DirEntry) -> Entry:
        mtime = _seconds(entry.stat(follow_symlinks=False))
        name = b"%b/%b" % (self._prefix, path)
        target = os.readlink(entry.path)  # noqa: PTH115  # a Path holds no bytes
        archive.member(name, Kind.LINK, mode=0o777, mtime=mtime, target=target)
        return Entry(path, Kind.LINK, 0o777, mtime, target=target)

    def _file(self, archive: TarWriter, path: bytes, full: bytes) -> Entry:
        fd = os.open(full, _OPEN)
        try:
            was = os.fstat(fd)
            size, mtime = was.st_size, _seconds(was)
            name, mode = b"%b/%b" % (self._prefix, path), stat.S_IMODE(was.st_mode)
            sent = file_mode(mode)
            archive.member(name, Kind.FILE, mode=sent, mtime=mtime, size=size)
            digest = hashlib.sha256()
            left = size
            while left and (chunk := os.read(fd, min(left, CHUNK))):
                left -= len(chunk)
                digest.update(chunk)
                archive.write(chunk)
            now = os.fstat(fd)
        except OSError as error:
            raise PackageError(f"{shown(path)}: {error.strerror}") from error
        finally:
            os.close(fd)
        # The header promised *size* bytes before the first was read. A file that
        # shrank, grew or was written to meanwhile is neither the old one nor the new
        # one.
        same = (now.st_size, now.st_mtime_ns) == (size, was.st_mtime_ns)
        if left or not same or not stat.S_ISREG(was.st_mode):
            raise PackageError(f"{shown(path)}: changed while it was packaged")
        return Entry(path, Kind.FILE, mode, mtime, size, digest.hexdigest())


def _seconds(status: os.stat_result) -> int:
    return status.st_mtime_ns // 1_000_000_000
