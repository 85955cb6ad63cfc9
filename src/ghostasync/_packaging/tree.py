"""
Read a built tree: what is in it, in a fixed order, every file once.

Symlinks are data and never followed. What cannot be carried to another machine, and
what changes under our hands, is an error that names it.
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

Found = os.DirEntry[bytes]

CHUNK: Final = 1 << 20
"""Bytes read at once: all but a few files of a tree need one read."""

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
    """Return whether a path in the tree, whose last part is a name, stays out."""
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

    *exclude* holds shell patterns. One without a slash is held against every name, at
    any depth; one with a slash against the whole path in the tree, where ``*`` matches
    slashes too. With a folder goes all that is in it.
    """

    def __init__(self, tree: bytes, prefix: bytes, exclude: Sequence[str]) -> None:
        self._tree, self._prefix = tree, prefix
        self._excluded = _excluded(exclude)

    def read(self, archive: TarWriter) -> Iterator[Entry]:
        """
        Add all there is to *archive* and yield it, every folder before its content.

        Names come in the order of their bytes. Modes and times are the tree's own, in
        the archive those that ``_host`` wants.

        Raises:
            PackageError: Something cannot be packaged, or changed meanwhile.
            OSError: Something cannot be read.
        """
        yield self._root(archive)
        skip = len(self._tree) + 1
        pending = self._inside(self._tree)
        while pending:
            found = pending.pop()
            path = found.path[skip:]
            if self._excluded(path, found.name):
                continue
            if found.is_file(follow_symlinks=False):
                yield self._file(archive, path, found.path)
            elif found.is_dir(follow_symlinks=False):
                yield self._folder(archive, path, found)
                pending += self._inside(found.path)
            elif found.is_symlink():
                yield self._link(archive, path, found)
            else:
                kind = stat.S_IFMT(found.stat(follow_symlinks=False).st_mode)
                what = _FOREIGN.get(kind, "special file")
                raise PackageError(f"{shown(path)}: a {what} cannot be packaged")

    def _inside(self, folder: bytes) -> list[Found]:
        with os.scandir(folder) as found:
            return sorted(found, key=attrgetter("name"), reverse=True)

    def _root(self, archive: TarWriter) -> Entry:
        # A release is 0755 whatever the build folder is.
        mtime = _seconds(os.stat(self._tree))  # noqa: PTH116  # a Path holds no bytes
        archive.member(self._prefix + b"/", Kind.FOLDER, mode=FOLDER_MODE, mtime=mtime)
        return Entry(b".", Kind.FOLDER, FOLDER_MODE, mtime)

    def _folder(self, archive: TarWriter, path: bytes, found: Found) -> Entry:
        status = found.stat(follow_symlinks=False)
        name, mtime = b"%b/%b/" % (self._prefix, path), _seconds(status)
        archive.member(name, Kind.FOLDER, mode=FOLDER_MODE, mtime=mtime)
        return Entry(path, Kind.FOLDER, stat.S_IMODE(status.st_mode), mtime)

    def _link(self, archive: TarWriter, path: bytes, found: Found) -> Entry:
        mtime = _seconds(found.stat(follow_symlinks=False))
        name = b"%b/%b" % (self._prefix, path)
        target = os.readlink(found.path)  # noqa: PTH115  # a Path holds no bytes
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
        same = (now.st_size, now.st_mtime_ns) == (size, was.st_mtime_ns)
        if left or not same or not stat.S_ISREG(was.st_mode):
            raise PackageError(f"{shown(path)}: changed while it was packaged")
        return Entry(path, Kind.FILE, mode, mtime, size, digest.hexdigest())


def _seconds(status: os.stat_result) -> int:
    return status.st_mtime_ns // 1_000_000_000
