r"""
How a release travels, and what a host needs to tell that it is there and settle it.

A host lists what tar left and compares that with what was packaged. Both files here are
sh, and ``receive.sh`` sources them. ``ghost/seal`` gives it

- ``listing``: the digest of what should be listed, quick to compare;
- ``contents``: the digest of all lines ``SHA256 PATH``, but for files whose names some
  digest tool would write in its own way; ``odd`` is not empty where there are such;
- ``edit`` and ``digests``: what makes the manifest, by ``sed``, lines like those that
  the host finds, to tell what is wrong where a digest differs.

``ghost/settle`` calls ``check SHA256 PATH`` for odd names; gives folders and links
their time, which tar does not leave right; and gives what travels with another mode its
own. Deepest first, for a folder may be closed by it.
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

_EDIT: Final = rb"""1d
s/^[^ ]* d [^ ]* [^ ]* - /d 755 /
s/^[^ ]* l [^ ]* [^ ]* - /l /
s/^\([^ ]* f [^ ]* [^ ]*\) [^ ]* /\1 /
s/^\([^ ]* f\) ./\1 0/
s/^\([^ ]* f .\)0/\14/
s/^\([^ ]* f .\)1/\15/
s/^\([^ ]* f .\)2/\16/
s/^\([^ ]* f .\)3/\17/"""
"""A line of the manifest becomes one of the listing; the modes are those below."""

_DIGESTS: Final = rb"""1d
/\\/d
s/^[^ ]* f [^ ]* [^ ]* \([^ ]*\) /\1 /p"""
"""A line of the manifest becomes ``SHA256 PATH``, where no name is odd."""


def file_mode(mode: int) -> int:
    """
    Return the mode of a file on its way.

    Its owner may read it, to check it. What writing takes from a file of anyone but
    root, setuid and the like, comes last.
    """
    return mode & 0o777 | 0o400


def seal(entries: Iterable[Entry]) -> bytes:
    """Return the text of ``ghost/seal`` for a tree."""
    listing: list[bytes] = []
    contents: list[bytes] = []
    odd = b""
    for entry in entries:
        path = _path(entry)
        if entry.kind is Kind.FILE:
            mode = file_mode(entry.mode)
            line = b"%d f %04o %d %b" % (entry.mtime, mode, entry.size, path)
            listing.append(line)
            if escape(path) is path:
                contents.append(b"%b %b" % (entry.sha256.encode(), path))
            else:
                odd = b"1"
        elif entry.kind is Kind.FOLDER:
            listing.append(b"d %o %b" % (FOLDER_MODE, path))
        else:
            listing.append(b"l %b\t%b" % (path, entry.target))
    values = _digest(listing), _digest(contents), odd, _EDIT, _DIGESTS
    return b"listing=%b\ncontents=%b\nodd=%b\nedit='%b'\ndigests='%b'\n" % values


def _digest(lines: list[bytes]) -> bytes:
    # A name may hold newlines; sort(1) sees lines.
    lines = sorted(b"\n".join(lines).split(b"\n")) if lines else []
    return hashlib.sha256(b"".join(line + b"\n" for line in lines)).hexdigest().encode()


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
        yield from _calls(b"touch -h -d @%d" % mtime, group)


def _modes(entries: Iterable[Entry]) -> Iterator[bytes]:
    changed = [
        entry
        for entry in entries
        if (entry.kind is Kind.FOLDER and entry.mode != FOLDER_MODE)
        or (entry.kind is Kind.FILE and entry.mode != file_mode(entry.mode))
    ]
    changed.sort(key=lambda entry: (-entry.path.count(b"/"), entry.mode))
    for mode, group in groupby(changed, key=lambda entry: entry.mode):
        yield from _calls(b"chmod %04o" % mode, group)


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
