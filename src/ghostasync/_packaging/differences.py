"""The differences between two manifests, in words; a deploy does not look at times."""

from __future__ import annotations

from typing import Final

import attrs

from .manifest import Entry, Kind, parse_manifest
from .tree import shown

__all__ = ["Differences", "differences"]

NAMED: Final = 20
"""Paths that are named; all are counted."""

_NAMES: Final = {Kind.FOLDER: "a folder", Kind.FILE: "a file", Kind.LINK: "a link"}


@attrs.frozen
class Differences:
    """
    By what a tree differs from an older one.

    *files* counts folders, files and links that were ``added``, ``changed`` and
    ``gone``; *paths* name the first of them, those that changed before others.
    """

    files: dict[str, int]
    paths: tuple[str, ...]


def differences(old: bytes, new: bytes) -> Differences:
    """
    Return by what the manifest *new* differs from *old*.

    Raises:
        PackageError: One of them is of another format, or damaged.
    """
    left = {entry.path: entry for entry in parse_manifest(old)}
    files = {"changed": 0, "added": 0, "gone": 0}
    named: dict[str, list[str]] = {word: [] for word in files}

    def tell(word: str, path: bytes, what: str = "") -> None:
        files[word] += 1
        if len(named[word]) < NAMED:
            named[word].append(f"{word} {shown(path)}{what}")

    for entry in parse_manifest(new):
        before = left.pop(entry.path, None)
        if before is None:
            tell("added", entry.path)
        elif what := _change(before, entry):
            tell("changed", entry.path, f": {what}")
    for path in left:
        tell("gone", path)
    paths = [text for texts in named.values() for text in texts]
    return Differences(files, tuple(paths[:NAMED]))


def _change(old: Entry, new: Entry) -> str:
    """Return what about an entry changed; empty where only its time did."""
    if old.kind is not new.kind:
        return f"{_NAMES[new.kind]}, was {_NAMES[old.kind]}"
    told = []
    if (old.size, old.sha256) != (new.size, new.sha256):
        told.append("content")
    if old.mode != new.mode:
        told.append(f"mode {new.mode:04o}, was {old.mode:04o}")
    if old.target != new.target:
        told.append(f"leads to {shown(new.target)}, did to {shown(old.target)}")
    return "; ".join(told)
