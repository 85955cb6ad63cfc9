"""The source that is a folder on this machine; it is copied, never built in place."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from anyio import from_thread, to_thread

from ..errors import SourceError
from ..model import Revision
from ..protocols import OnOutput

__all__ = ["Directory"]


class Directory:
    """
    A :class:`~ghostasync.protocols.Source` that is a folder.

    Args:
        module: Whose tree it is; errors begin with it.

        folder: Where it is.
    """

    def __init__(self, module: str, folder: Path) -> None:
        self._module, self._folder = module, folder.resolve()

    async def resolve(self) -> Revision:
        """
        Return the folder's path as its revision; a folder has no others.

        Raises:
            SourceError: There is no such folder.
        """
        if not self._folder.is_dir():
            raise SourceError(f"{self._module}: {self._folder} is not a folder")
        return Revision(repo=str(self._folder))

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
        try:
            await to_thread.run_sync(_copy_tree, self._folder, into)
        except (OSError, SourceError) as error:
            raise SourceError(f"{self._module}: {error}") from error


def _copy_tree(source: Path, into: Path) -> None:
    # The build folder may lie in the folder that is copied, as with a cache in a home
    # folder: a copy that held itself would never end.
    skipped = into.stat()
    copied = [(source, into)]
    # The list grows while the loop goes through it.
    for folder, copy in copied:
        with os.scandir(folder) as entries:
            for entry in entries:
                from_thread.check_cancelled()
                path, target = Path(entry.path), copy / entry.name
                if not entry.is_dir(follow_symlinks=False):
                    _copy(path, target)
                elif not os.path.samestat(path.stat(), skipped):
                    target.mkdir()
                    copied.append((path, target))
    # Folders come last, the deepest first: filling a folder changes its time, and a
    # folder that may not be written to could not be filled.
    for folder, copy in reversed(copied):
        shutil.copystat(folder, copy)


def _copy(path: Path, target: Path) -> None:
    before = path.lstat()
    if stat.S_ISLNK(before.st_mode):
        target.symlink_to(path.readlink())
    elif stat.S_ISREG(before.st_mode):
        shutil.copyfile(path, target)
    else:
        raise SourceError(f"{path} is neither a file, a folder nor a link")
    shutil.copystat(path, target, follow_symlinks=False)
    # A file that was written to meanwhile may be half of the old and half of the new.
    after = path.lstat()
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise SourceError(f"{path} changed while it was copied")
