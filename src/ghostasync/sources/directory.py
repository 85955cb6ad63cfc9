"""The source that is a folder on this machine; it is copied, never built in place."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from anyio import from_thread, to_thread

from .._local.attributes import read_attributes, summary
from .._local.beneath import File, Found, named_in, walk
from .._packaging.tree import excluded, shown
from ..errors import SourceError
from ..model import Revision
from ..protocols import OnOutput

__all__ = ["Directory"]


class Directory:
    """
    A :class:`~ghostasync.protocols.Source` that is a folder.

    *folder* is what it is, *left_out* are paths in it that are no part of the tree;
    *left_behind* says, after a fetch, which attributes the copy cannot have here.

    Args:
        module: Whose tree it is; errors begin with it.

        folder: Where it is.

        left_out: Files beneath it that are no part of the tree.

        exclude: Patterns of what is no part of it either, as in ``modules.exclude``.
    """

    def __init__(
        self,
        module: str,
        folder: Path,
        left_out: Iterable[Path] = (),
        exclude: Sequence[str] = (),
    ) -> None:
        self._module, self.folder = module, folder.resolve()
        # Both ways to write it: a name that is a link is one that is left out, too.
        ways = (way for path in left_out for way in (path.absolute(), path.resolve()))
        self.left_out = frozenset(
            os.fsencode(way.relative_to(self.folder))
            for way in ways
            if way.is_relative_to(self.folder)
        )
        self._excluded = excluded(exclude)
        self.left_behind = ""

    async def resolve(self) -> Revision:
        """
        Return the folder's path as its revision; a folder has no others.

        Raises:
            SourceError: There is no such folder.
        """
        if not self.folder.is_dir():
            raise SourceError(f"{self._module}: {self.folder} is not a folder")
        return Revision(repo=str(self.folder))

    async def fetch(self, revision: Revision, into: Path, output: OnOutput) -> None:
        """
        Copy the folder into the empty folder *into*, which may lie within it.

        Symbolic links, modes and times are kept; hard links become files.

        Raises:
            SourceError: Something cannot be copied: a socket, fifo or device, a file
                that changes meanwhile or cannot be read. The path is named.
        """
        # A folder has one revision, and a copy has nothing to say.
        del revision, output
        # The copy may lie in the folder; one that held itself would never end.
        within = into.resolve()
        if within.is_relative_to(self.folder):
            within = within.relative_to(self.folder)
        left_out = {*self.left_out, os.fsencode(within)}

        def stays_out(path: bytes, name: bytes) -> bool:
            return path in left_out or self._excluded(path, name)

        copying = _Copying(self.folder, into, stays_out)
        try:
            await to_thread.run_sync(copying.run)
        except SourceError as exc:
            raise SourceError(f"{self._module}: {exc}") from exc
        except OSError as exc:
            where = self.folder / named_in(exc)
            text = f"{self._module}: {shown(os.fsencode(where))}: {exc.strerror}"
            raise SourceError(text) from exc
        self.left_behind = summary(copying.lost)


class _Copying:
    """The copying of the folder *source* into the empty folder *into*."""

    def __init__(
        self, source: Path, into: Path, stays_out: Callable[[bytes, bytes], bool]
    ) -> None:
        self._source, self._into = source, into
        self._stays_out = stays_out
        self.lost: dict[str, list[str]] = {}

    def run(self) -> None:
        for found in walk(self._source, self._stays_out):
            from_thread.check_cancelled()
            target = self._into / os.fsdecode(found.path)
            match found.kind:
                case "f":
                    self._file(found, target)
                case "d" if found.path != b".":
                    target.mkdir()
                case "e":
                    # At last: filling a folder changes its time, and one that may not
                    # be written to could not be filled.
                    fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                    try:
                        self._settle(found.path, found.folder, fd, found.status())
                    finally:
                        os.close(fd)
                case "l":
                    target.symlink_to(os.fsdecode(found.target()))
                    times = _times(found.status())
                    os.utime(target, ns=times, follow_symlinks=False)
                case "?":
                    text = (
                        "is neither a file, a folder nor a link: remove it, or leave "
                        "it out (modules.exclude)"
                    )
                    raise SourceError(f"{self._named(found.path)} {text}")

    def _file(self, found: Found, target: Path) -> None:
        with File(found) as file, target.open("xb") as copy:
            for at, chunk in file.data():
                from_thread.check_cancelled()
                copy.seek(at)
                copy.write(chunk)
            copy.truncate(file.status.st_size)
            self._settle(found.path, file.fd, copy.fileno(), file.status)

    def _settle(self, path: bytes, fd: int, copy: int, was: os.stat_result) -> None:
        """Give a copy the attributes, mode and times of what it was made of."""
        attributes = read_attributes(fd)
        for name, value in attributes.items():
            try:
                os.setxattr(copy, name, value)
            except OSError:
                self.lost.setdefault(shown(path), []).append(name)
        os.fchmod(copy, stat.S_IMODE(was.st_mode))
        os.utime(copy, ns=_times(was))

    def _named(self, path: bytes) -> str:
        return f"{self._source}/{shown(path)}"


def _times(status: os.stat_result) -> tuple[int, int]:
    return status.st_atime_ns, status.st_mtime_ns
