"""
The reader of a built tree: its entries in a fixed order, every file once.

Symlinks are data and never followed (``_local/beneath.py``). An entry that cannot be
carried to another machine, or that changes while it is read, is an error that names it.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from .._local.attributes import ACL, Attributes, narrowed, read_attributes
from .._local.beneath import CHANGED, File, Found, walk
from ._host import FOLDER_MODE, file_mode
from .manifest import Entry, Kind, escape
from .tar import TarWriter

__all__ = ["TreeReader", "excluded", "shown"]

_FOREIGN: Final = {
    stat.S_IFSOCK: "socket",
    stat.S_IFIFO: "fifo",
    stat.S_IFBLK: "block device",
    stat.S_IFCHR: "character device",
}


STAND_INS: Final = (b"version https://git-lfs.github.com/spec/", b"\0GITCRYPT\0")
"""What files begin with that git's filters would turn into others."""


def shown(path: bytes) -> str:
    """Return *path* as one line for people, whatever bytes are in it."""
    return escape(path).decode(errors="backslashreplace")


def excluded(patterns: Sequence[str]) -> Callable[[bytes, bytes], bool]:
    """Return a function that tells whether a path in the tree, by *name*, stays out."""
    plain = [pattern.rstrip("/") for pattern in patterns]
    names = _any_of([each for each in plain if "/" not in each])
    paths = _any_of([each.lstrip("/") for each in plain if "/" in each])

    def stays_out(path: bytes, name: bytes) -> bool:
        if names is not None and names.match(os.fsdecode(name)):
            return True
        return paths is not None and bool(paths.match(os.fsdecode(path)))

    return stays_out


def _any_of(patterns: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(fnmatch.translate, patterns))) if patterns else None


class TreeReader:
    """
    Everything below *tree* on its way into an archive, under the name *prefix*.

    *exclude* holds shell patterns. A pattern without a slash is compared with every
    name, at any depth; a pattern with a slash with the whole path in the tree, where
    ``*`` matches slashes too. With a folder goes all that is in it.

    *attributes* are those of paths that have any, once the tree was read. With *keep*
    they go along; without, an ACL's file has a mode that gives nobody more. *left* is
    called with each folder after all that is in it. *bound* are paths that hold the
    path of *tree*, which no host has, where it would be used: links, "#!" lines, and
    scripts that activate an environment of Python. *stand_ins* are paths of files that
    are there in place of others, *sparse* are files with holes.
    """

    def __init__(
        self,
        tree: bytes,
        prefix: bytes,
        exclude: Sequence[str],
        *,
        keep: bool = False,
        left: Callable[[Entry], object],
    ) -> None:
        self.attributes: dict[bytes, Attributes] = {}
        self.bound: list[bytes] = []
        self.stand_ins: list[bytes] = []
        self.sparse: list[Entry] = []
        self._built_in = os.path.realpath(tree)
        self._tree, self._prefix, self._keep = tree, prefix, keep
        self._excluded = excluded(exclude)
        self._left = left

    def read(self, archive: TarWriter) -> Iterator[Entry]:
        """
        Add all entries to *archive* and yield them, every folder before its content.

        Names come in the order of their bytes. An entry has the tree's own mode; its
        member in the archive has the mode that ``_host`` gives it.

        Raises:
            OSError: Something cannot be packaged or read, or changed meanwhile.
        """
        # A folder that something was added to, or taken from, has another time.
        folders: list[tuple[int, Entry]] = []
        for found in walk(self._tree, self._excluded):
            match found.kind:
                case "f":
                    yield self._file(archive, found)
                case "d":
                    status = found.status()
                    folder = self._folder(archive, found, status)
                    folders.append((status.st_mtime_ns, folder))
                    yield folder
                case "e":
                    mtime, folder = folders.pop()
                    if found.status().st_mtime_ns != mtime:
                        raise OSError(errno.ESTALE, CHANGED, found.path)
                    self._left(folder)
                case "l":
                    yield self._link(archive, found)
                case _:
                    kind = stat.S_IFMT(found.status().st_mode)
                    what = _FOREIGN.get(kind, "special file")
                    text = (
                        f"a {what} cannot be packaged: remove it, or leave it out "
                        "(modules.exclude)"
                    )
                    raise OSError(errno.EINVAL, text, found.path)

    def _folder(
        self, archive: TarWriter, found: Found, status: os.stat_result
    ) -> Entry:
        path, mtime = found.path, _seconds(status)
        mode = self._mode(path, found.folder, status)
        name = b"%b/%b/" % (self._prefix, path)
        if path == b".":
            # A release is 0755 whatever the build folder is.
            name, mode = self._prefix + b"/", FOLDER_MODE
        archive.member(name, Kind.FOLDER, mode=FOLDER_MODE, mtime=mtime)
        return Entry(path, Kind.FOLDER, mode, mtime)

    def _link(self, archive: TarWriter, found: Found) -> Entry:
        mtime, target = _seconds(found.status()), found.target()
        name = b"%b/%b" % (self._prefix, found.path)
        archive.member(name, Kind.LINK, mode=0o777, mtime=mtime, target=target)
        if target.startswith(self._built_in + b"/"):
            self.bound.append(found.path)
        return Entry(found.path, Kind.LINK, 0o777, mtime, target=target)

    def _file(self, archive: TarWriter, found: Found) -> Entry:
        with File(found) as file:
            size, mtime = file.status.st_size, _seconds(file.status)
            mode = self._mode(found.path, file.fd, file.status)
            # The header promises *size* bytes before the first is read.
            name = b"%b/%b" % (self._prefix, found.path)
            sent = file_mode(mode)
            archive.member(name, Kind.FILE, mode=sent, mtime=mtime, size=size)
            digest = hashlib.sha256()
            for chunk in file.chunks():
                digest.update(chunk)
                archive.write(chunk)
                if chunk.startswith(b"#!") or found.name.startswith(b"activate"):
                    self._look_at(found, chunk)
                elif chunk.startswith(STAND_INS):
                    self.stand_ins.append(found.path)
            holes = file.has_holes()
        entry = Entry(found.path, Kind.FILE, mode, mtime, size, digest.hexdigest())
        if holes:
            self.sparse.append(entry)
        return entry

    def _look_at(self, found: Found, chunk: bytes) -> None:
        line = chunk
        if chunk.startswith(b"#!"):
            line, _, rest = chunk.partition(b"\n")
            # The path to Python is in the second line where the first would be too long
            # with it, and a path as long as that of a build folder often is.
            line += rest.partition(b"\n")[0] if rest.startswith(b"'''exec' ") else b""
        if self._built_in in line:
            self.bound.append(found.path)

    def _mode(self, path: bytes, fd: int, status: os.stat_result) -> int:
        """Return the mode for a release; note the attributes."""
        mode = stat.S_IMODE(status.st_mode)
        attributes = read_attributes(fd)
        if path == b".":
            attributes.pop(ACL, None)
        if not attributes:
            return mode
        self.attributes[path] = attributes
        return mode if self._keep else narrowed(mode, attributes)


def _seconds(status: os.stat_result) -> int:
    return status.st_mtime_ns // 1_000_000_000
