"""
How a release travels, and what is left to do for a host once tar has been there.

A host compares what it got with the manifest. What the manifest cannot make it do with
``sed`` alone is said in ``ghost/settle``, calls of three functions of ``receive.sh``:

- ``check SHA256 PATH``: a file whose name not every ``sha256sum -c`` can read;
- ``at MTIME PATH...``: folders and links, whose time tar does not leave right;
- ``mode MODE PATH...``: what travels with another mode than its own. Deepest first,
  for a folder may be closed by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final

from .manifest import Entry, Kind, escape

__all__ = ["FOLDER_MODE", "OWNER_READS", "settle"]

FOLDER_MODE: Final = 0o755
"""The mode of every folder on its way, so that any user can fill it."""

OWNER_READS: Final = 0o400
"""What every file may on its way, so that any user can check it."""

MAX_CALL: Final = 1 << 16
"""Bytes of paths in one call: half of what the smallest kernel takes at once."""


def settle(entries: Sequence[Entry]) -> bytes:
    """Return the text of ``ghost/settle`` for a tree."""
    return b"".join([*_checks(entries), *_times(entries), *_modes(entries)])


def _checks(entries: Iterable[Entry]) -> Iterator[bytes]:
    for entry in entries:
        if entry.sha256 and escape(entry.path) != entry.path:
            yield b"check %b %b\n" % (entry.sha256.encode(), _quoted(entry))


def _times(entries: Iterable[Entry]) -> Iterator[bytes]:
    late = [entry for entry in entries if entry.kind is not Kind.FILE]
    late.sort(key=lambda entry: entry.mtime)
    for mtime, group in groupby(late, key=lambda entry: entry.mtime):
        yield from _calls(b"at %d" % mtime, group)


def _modes(entries: Iterable[Entry]) -> Iterator[bytes]:
    changed = [entry for entry in entries if _travels_as(entry) != entry.mode]
    changed.sort(key=lambda entry: (-entry.path.count(b"/"), entry.mode))
    for mode, group in groupby(changed, key=lambda entry: entry.mode):
        yield from _calls(b"mode %04o" % mode, group)


def _travels_as(entry: Entry) -> int:
    if entry.kind is Kind.FOLDER:
        return FOLDER_MODE
    return entry.mode | OWNER_READS


def _calls(call: bytes, entries: Iterable[Entry]) -> Iterator[bytes]:
    words, nbytes = [call], 0
    for entry in entries:
        word = _quoted(entry)
        if nbytes + len(word) > MAX_CALL:
            yield b" ".join(words) + b"\n"
            words, nbytes = [call], 0
        words.append(word)
        nbytes += len(word) + 1
    yield b" ".join(words) + b"\n"


def _quoted(entry: Entry) -> bytes:
    """Return the path, from the release's folder, as one word of sh."""
    return b"'./" + entry.path.replace(b"'", b"'\\''") + b"'"
