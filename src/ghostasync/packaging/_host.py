"""
How a release travels, and what a host needs to tell that it is there and settle it.

A host lists what tar left and compares. ``ghost/seal`` is one digest of that listing,
quick to compare; where it differs, the manifest tells what is wrong. ``ghost/settle``
is sh, calls of three functions of ``receive.sh``:

- ``check SHA256 PATH``: a file whose name some digest tool would write in its own way,
  and which the seal leaves out;
- ``at MTIME PATH...``: folders and links, whose time tar does not leave right;
- ``mode MODE PATH...``: what travels with another mode than its own. Deepest first,
  for a folder may be closed by it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final

from .manifest import Entry, Kind, escape

__all__ = ["FOLDER_MODE", "file_mode", "seal", "settle"]

FOLDER_MODE: Final = 0o755
"""The mode of every folder on its way, so that any user can fill it."""

MAX_CALL: Final = 1 << 16
"""Bytes of paths in one call: half of what the smallest kernel takes at once."""


def file_mode(mode: int) -> int:
    """
    Return the mode of a file on its way.

    Its owner may read it, to check it. What writing takes from a file of anyone but
    root, setuid and the like, comes last.
    """
    return mode & 0o777 | 0o400


def seal(entries: Iterable[Entry]) -> bytes:
    """Return the text of ``ghost/seal`` for a tree."""
    lines: list[bytes] = []
    for entry in entries:
        path = _path(entry)
        if entry.kind is Kind.FILE:
            mode = file_mode(entry.mode)
            lines.append(b"%d f %04o %d %b" % (entry.mtime, mode, entry.size, path))
            if escape(path) is path:
                lines.append(b"%b %b" % (entry.sha256.encode(), path))
        elif entry.kind is Kind.FOLDER:
            lines.append(b"d %o %b" % (FOLDER_MODE, path))
        else:
            lines.append(b"l %b\t%b" % (path, entry.target))
    # A name may hold newlines; sort(1) sees lines.
    lines = sorted(b"\n".join(lines).split(b"\n"))
    digest = hashlib.sha256(b"\n".join([*lines, b""]))
    return digest.hexdigest().encode() + b"\n"


def settle(entries: Sequence[Entry]) -> bytes:
    """Return the text of ``ghost/settle`` for a tree."""
    return b"".join([*_checks(entries), *_times(entries), *_modes(entries)])


def _checks(entries: Iterable[Entry]) -> Iterator[bytes]:
    for entry in entries:
        if entry.sha256 and escape(entry.path) is not entry.path:
            yield b"check %b %b\n" % (entry.sha256.encode(), _quoted(entry))


def _times(entries: Iterable[Entry]) -> Iterator[bytes]:
    late = [entry for entry in entries if entry.kind is not Kind.FILE]
    late.sort(key=lambda entry: entry.mtime)
    for mtime, group in groupby(late, key=lambda entry: entry.mtime):
        yield from _calls(b"at %d" % mtime, group)


def _modes(entries: Iterable[Entry]) -> Iterator[bytes]:
    changed = [
        entry
        for entry in entries
        if (entry.kind is Kind.FOLDER and entry.mode != FOLDER_MODE)
        or (entry.kind is Kind.FILE and entry.mode != file_mode(entry.mode))
    ]
    changed.sort(key=lambda entry: (-entry.path.count(b"/"), entry.mode))
    for mode, group in groupby(changed, key=lambda entry: entry.mode):
        yield from _calls(b"mode %04o" % mode, group)


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


def _path(entry: Entry) -> bytes:
    """Return the path from the release's folder, as ``find .`` says it."""
    return b"." if entry.path == b"." else b"./" + entry.path


def _quoted(entry: Entry) -> bytes:
    return b"'" + _path(entry).replace(b"'", b"'\\''") + b"'"
