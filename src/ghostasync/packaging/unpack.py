"""The unpacker: a package's tree, back in a folder on this machine."""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path

from ..errors import PackageError

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdError, ZstdFile
else:
    from backports.zstd import ZstdError, ZstdFile

__all__ = ["unpack"]


def unpack(archive: Path, into: Path) -> None:
    """
    Extract the release of *archive* into the folder *into*.

    Scripts that run on the controller after a deploy from a stored package need its
    tree; a host's release is made and proven by ``receive.sh``.

    Raises:
        PackageError: The archive is damaged, or there is no room.
    """
    try:
        with ZstdFile(archive) as raw, tarfile.open(fileobj=raw, mode="r|") as tar:
            for member in tar:
                head, _, name = member.name.partition("/")
                if head == "release" and name:
                    member.name = name
                    tar.extract(member, into, filter="tar", numeric_owner=True)
    except (OSError, ZstdError, tarfile.TarError) as exc:
        raise PackageError(f"{archive}: {exc}") from exc
