"""Copies of archives that are kept on this machine, where the store is elsewhere."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

import attrs

from .._packaging.build import Packed

__all__ = ["COPIES", "drop_old_copies", "drop_unpublished", "keep"]

COPIES: Final = 3
"""Archives of a module that are kept: this release, the one before, and one that another
run may be sending."""


def keep(packed: Packed, folder: Path) -> Packed:
    """Move a new archive to the copies that are kept here."""
    folder.mkdir(mode=0o700, exist_ok=True)
    archive = packed.archive.replace(folder / packed.archive.name)
    drop_old_copies(folder, archive)
    return attrs.evolve(packed, archive=archive)


def drop_old_copies(folder: Path, used: Path) -> None:
    """Remove all copies of archives but the ``COPIES`` that were used last."""
    # Best effort: another run may remove the same ones, and a copy that stays costs room
    # only.
    with contextlib.suppress(OSError):
        if used.parent == folder:
            os.utime(used)
        else:
            (folder / used.name).unlink(missing_ok=True)
        copies = sorted(folder.glob("*.tar.zst"), key=lambda path: path.stat().st_mtime)
        for copy in copies[:-COPIES]:
            copy.unlink()


def drop_unpublished(folder: Path) -> None:
    """
    Remove archives and manifests in a build folder that no store has taken.

    A run leaves them where it is killed while it packs, or the store refuses them. None
    of them is in use: the caller has the folder's lock.
    """
    for pattern in ("*.tar.zst", "*.manifest"):
        for path in folder.glob(pattern):
            with contextlib.suppress(OSError):
                path.unlink()
