r"""
The files of ``ghost/`` that hosts run: ``seal`` and ``settle``, and ``boot``.

A host lists the files that tar left and compares the list with what was packaged. Both
files here are sh, and ``receive.sh`` sources them. ``ghost/seal`` gives it

- ``listing``: the digest of what should be listed, quick to compare;
- ``contents``: the digest of all lines ``SHA256 PATH``, but for files whose names some
  digest tool would write in its own way; ``odd`` is not empty where there are such;
- ``edit`` and ``digests``: what makes the manifest, by ``sed``, lines like those that
  the host finds, to tell what is wrong where a digest differs.

``ghost/settle`` calls ``check SHA256 PATH`` for odd names; gives folders and links
their time, which tar does not leave right; and gives files and folders that travel with
another mode their own. Where a tree has attributes to keep, it sets those first.

A release does not travel with its own modes because tar on a host may be busybox's and
its user no root: such a tar cannot write into a folder of mode 0555.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from itertools import groupby
from typing import Final

import attrs

from ..model import Module
from .manifest import Entry, Kind, escape

__all__ = ["FOLDER_MODE", "boot", "file_mode", "seal", "settle"]

FOLDER_MODE: Final = 0o755
"""The mode of every folder on its way, so that any user's tar can fill it."""

MAX_CALL: Final = 1 << 16
"""Bytes of paths in one call: half of the 128 KiB that the smallest kernel takes."""

_EDIT: Final = rb"""1d
s/^[^ ]* d [^ ]* [^ ]* - /d 755 /
s/^[^ ]* l [^ ]* [^ ]* - /l /
s/^\([^ ]* f [^ ]* [^ ]*\) [^ ]* /\1 /
s/^\([^ ]* f\) ./\1 0/
s/^\([^ ]* f .\)0/\14/
s/^\([^ ]* f .\)1/\15/
s/^\([^ ]* f .\)2/\16/
s/^\([^ ]* f .\)3/\17/"""
"""
The sed script that makes a line of the listing from a line of the manifest.

Modes become those of :data:`FOLDER_MODE` and :func:`file_mode`.
"""

_DIGESTS: Final = rb"""1d
/\\/d
s/^[^ ]* f [^ ]* [^ ]* \([^ ]*\) /\1 /p"""
"""The sed script that makes ``SHA256 PATH`` from a line whose name is not odd."""


_ATTRIBUTES: Final = resources.files(__package__).joinpath("attributes.sh")


def file_mode(mode: int) -> int:
    """
    Return the mode of a file on its way.

    The owner may read it, to check it; setuid, setgid and sticky bits are left to
    ``ghost/settle``.
    """
    # The kernel takes setuid and setgid from a file that anyone but root writes to, so
    # those bits have to come after the content.
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
            # Digest tools disagree on how to write a name with a newline or backslash;
            # busybox fails on what GNU escapes. Such files are checked one by one.
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
    # The host sorts by sort(1), to which a name with a newline is two lines.
    lines = sorted(b"\n".join(lines).split(b"\n")) if lines else []
    return hashlib.sha256(b"".join(line + b"\n" for line in lines)).hexdigest().encode()


def boot(module: Module, content: str) -> bytes:
    """
    Return the text of ``ghost/boot``: what a host that boots has no plan to read from.

    *content* is the digest of the package's content.
    """
    shared = [f"d:{path}" for path in module.shared_dirs]
    shared += [f"f:{path}" for path in module.shared_files]
    verify, run_as = module.verify, module.post_deploy.run_as
    values = {
        "content": content,
        "pre_deploy_as": module.pre_deploy.run_as,
        "post_deploy_as": run_as,
        "shared": shlex.join(shared),
        "verify_command": verify.command,
        "verify_url": verify.url,
        "verify_as": verify.run_as,
        "interval": f"{math.ceil(verify.interval)}",
        "attempt_timeout": f"{math.ceil(verify.attempt_timeout)}",
        # As it stands beside a release that was sent here (stages/upload.py).
        "health": json.dumps({**attrs.asdict(verify), "post_deploy_as": run_as}),
    }
    lines = (f"{name}={shlex.quote(value)}\n" for name, value in values.items())
    return os.fsencode("".join(lines))


def settle(entries: Sequence[Entry], *, attributes: bool) -> bytes:
    """Return the text of ``ghost/settle`` for a tree; some trees have attributes."""
    # Before the modes, which may close a folder to its owner.
    first = _ATTRIBUTES.read_bytes() if attributes else b""
    return b"".join([first, *_checks(entries), *_times(entries), *_modes(entries)])


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
    # The deepest paths come first: a folder's own mode may close it to its owner.
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
    """Return the path from the release's folder, as ``find .`` prints it."""
    return b"." if entry.path == b"." else b"./" + entry.path


def _quoted(entry: Entry) -> bytes:
    return b"'" + _path(entry).replace(b"'", b"'\\''") + b"'"
