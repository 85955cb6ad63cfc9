"""The unpacker: a package's tree, back in a folder on this machine."""

from __future__ import annotations

import os
import sys
import tarfile
from contextlib import closing
from pathlib import Path

from ..errors import PackageError, SourceError
from .new_tree import FOLDER_MODE, Tree, chunks, named

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdError, ZstdFile
else:
    from backports.zstd import ZstdError, ZstdFile

__all__ = ["unpack"]


def unpack(archive: Path, into: Path) -> None:
    """
    Extract the release of *archive* into the empty folder *into*, in a worker thread.

    Scripts that run on the controller after a deploy from a stored package need its
    tree; a host's release is made and proven by ``receive.sh``.

    Raises:
        PackageError: The archive is damaged, or there is no room.
    """
    try:
        with (
            closing(Tree(into, 0)) as tree,
            ZstdFile(archive) as raw,
            tarfile.open(fileobj=raw, mode="r|") as tar,
        ):
            for member in tar:
                _add(tree, tar, member)
            tree.settle()
    except (OSError, EOFError, ZstdError, tarfile.TarError, SourceError) as exc:
        raise PackageError(f"{archive}: {exc}") from exc


def _add(tree: Tree, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    head, _, rest = member.name.partition("/")
    name, mtime = os.fsencode(rest), int(member.mtime)
    if head != "release" or not name:
        return
    with named(name):
        if member.isdir():
            tree.folder(name, member.mode & 0o777 or FOLDER_MODE, mtime)
        elif member.issym():
            tree.link(name, os.fsencode(member.linkname), mtime)
        elif (data := tar.extractfile(member)) is not None and member.isfile():
            tree.file(name, chunks(data), member.mode & 0o777, mtime)
