"""What a folder holds, to be compared with what another one does."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

__all__ = ["Tree", "look"]

Tree = Mapping[str, str]
"""Paths below a folder, each with what is there: kind, mode, content."""


def look(folder: Path) -> Tree:
    """Return all that is below *folder*, what git keeps for itself aside."""
    found: dict[str, str] = {}
    for parent, folders, files in os.walk(folder):
        if ".git" in folders:
            folders.remove(".git")
        for name in (*folders, *files):
            path = Path(parent, name)
            found[str(path.relative_to(folder))] = _what(path)
    return found


def _what(path: Path) -> str:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return f"link to {path.readlink()}"
    if stat.S_ISDIR(mode):
        return "folder"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"file {stat.S_IMODE(mode):o} {digest}"
