r"""
The files of ``ghost/`` that hosts run: ``seal`` and ``settle``, and ``boot``.

A host lists the files that tar left and compares the list with what was packaged. Both
files here are sh, and ``receive.sh`` sources them. ``ghost/seal`` gives it

- ``listing``: the digest of what should be listed, quick to compare;
- ``contents``: the digest of all lines ``SHA256 PATH``, but for files whose names some
  digest tool would write in its own way; ``odd`` is not empty where there are such;
- ``edit`` and ``digests``: what makes the manifest, by ``sed``, lines like those that
  the host finds, to tell what is wrong where a digest differs.

``ghost/settle`` digs the holes of files again, which travel as zeros, where a host has
a tool for that; calls ``check SHA256 PATH`` for odd names; gives links their time,
which not every tar does; has tar read ``ghost/folders``, an archive of all folders with
their times; and gives files and folders that travel with another mode their own. Where
a tree has attributes to keep, it sets those first.

A release does not travel with its own modes because tar on a host may be busybox's and
its user no root: such a tar cannot write into a folder of mode 0555. Folders come again
because filling one changes its time.

Rule: what every file or folder adds to lies on disk, where sort(1) puts it in order;
only what is said of a few, links and unusual modes, is kept in memory.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shlex
import subprocess
from collections.abc import Callable, Iterable, Iterator
from importlib import resources
from itertools import groupby
from operator import itemgetter
from tarfile import BLOCKSIZE
from typing import IO, Final

import attrs

from ..errors import PackageError
from ..model import Module
from .manifest import Entry, Kind, escape
from .tar import BATCH, Headers

__all__ = ["FOLDER_MODE", "Seal", "Settling", "boot", "file_mode"]

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


_FOLDERS: Final = b"""\
said=$(tar "$how" ../ghost/folders 2>&1) || die "not settled: $said"
rm ../ghost/folders
"""
"""A part of ``ghost/settle``; $how are the options of extract.sh."""

_HOLES: Final = b"""\
for file in %b; do
	touch -r "$file" ../ghost/time && {
		fallocate -d "$file"
		touch -r ../ghost/time "$file"
	}
done 2>/dev/null || :
rm -f ../ghost/time
"""
"""A part of ``ghost/settle``: digging a hole changes a file's time."""

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


class Seal:
    """
    The text of ``ghost/seal``, of the entries that are added.

    *spool* opens another empty file on disk.
    """

    def __init__(self, spool: Callable[[], IO[bytes]]) -> None:
        self._listing, self._contents = _Lines(spool), _Lines(spool)
        self._odd = b""

    def add(self, entry: Entry) -> None:
        path = _path(entry)
        if entry.kind is Kind.FILE:
            mode = file_mode(entry.mode)
            self._listing.add(
                b"%d f %04o %d %b" % (entry.mtime, mode, entry.size, path)
            )
            # Digest tools disagree on how to write a name with a newline or backslash;
            # busybox fails on what GNU escapes. Such files are checked one by one.
            if escape(path) is path:
                self._contents.add(b"%b %b" % (entry.sha256.encode(), path))
            else:
                self._odd = b"1"
        elif entry.kind is Kind.FOLDER:
            self._listing.add(b"d %o %b" % (FOLDER_MODE, path))
        else:
            self._listing.add(b"l %b\t%b" % (path, entry.target))

    def text(self) -> bytes:
        listing, contents = self._listing.digest(), self._contents.digest()
        values = listing, contents, self._odd, _EDIT, _DIGESTS
        return b"listing=%b\ncontents=%b\nodd=%b\nedit='%b'\ndigests='%b'\n" % values


class _Lines:
    """Lines on disk, and the digest of all of them in the order of their bytes."""

    def __init__(self, spool: Callable[[], IO[bytes]]) -> None:
        self._lines, self._ordered = spool(), spool()

    def add(self, line: bytes) -> None:
        self._lines.write(line + b"\n")

    def digest(self) -> bytes:
        # As the host does it: by sort(1), to which a name with a newline is two lines.
        self._lines.seek(0)
        done = subprocess.run(
            ["sort", "-S", "16M"],
            env={**os.environ, "LC_ALL": "C"},
            stdin=self._lines,
            stdout=self._ordered,
            stderr=subprocess.PIPE,
            check=False,
        )
        if done.returncode:
            said = os.fsdecode(done.stderr).partition("\n")[0]
            raise PackageError(f"the manifest cannot be put in order: {said}")
        digest = hashlib.sha256()
        self._ordered.seek(0)
        while chunk := self._ordered.read(BATCH):
            digest.update(chunk)
        return digest.hexdigest().encode()


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


class Settling:
    """
    The files ``ghost/settle`` and ``ghost/folders`` of the entries that are added.

    *folders* is a file for the latter; members in it belong to *owner*.
    """

    def __init__(self, folders: IO[bytes], owner: Headers) -> None:
        self._folders, self._owner = folders, owner
        self._checks: list[bytes] = []
        self._links: dict[int, list[bytes]] = {}
        self._modes: list[tuple[float, int, bytes]] = []

    def add(self, entry: Entry) -> None:
        """Note an entry, in any order."""
        path = _quoted(entry)
        own = FOLDER_MODE if entry.kind is Kind.FOLDER else file_mode(entry.mode)
        if entry.kind is Kind.LINK:
            self._links.setdefault(entry.mtime, []).append(path)
        elif entry.mode != own:
            # A folder that is closed to its owner comes after all that is in it.
            closed = entry.kind is Kind.FOLDER and not entry.mode & 0o100
            rank = -entry.path.count(b"/") if closed else -math.inf
            self._modes.append((rank, entry.mode, path))
        if entry.kind is Kind.FILE and escape(entry.path) is not entry.path:
            self._checks.append(b"check %b %b\n" % (entry.sha256.encode(), path))

    def leave(self, entry: Entry) -> None:
        """Note a folder, after all that is in it."""
        head = self._owner.member(
            _path(entry) + b"/", Kind.FOLDER, mode=FOLDER_MODE, mtime=entry.mtime
        )
        self._folders.write(head)

    def text(self, *, attributes: bool, sparse: Iterable[Entry]) -> bytes:
        """Return the text of ``ghost/settle``, and end the archive of folders."""
        self._folders.write(bytes(2 * BLOCKSIZE))
        holes = b" ".join(map(_quoted, sparse))
        # Who digs takes capabilities away. Modes may close a folder to its owner.
        parts = [_HOLES % holes if holes else b""]
        parts += [_ATTRIBUTES.read_bytes() if attributes else b"", *self._checks]
        for mtime, paths in sorted(self._links.items()):
            parts += _calls(b"touch -h -d @%d" % mtime, paths)
        parts.append(_FOLDERS)
        for (_, mode), rows in groupby(sorted(self._modes), key=itemgetter(0, 1)):
            parts += _calls(b"chmod %04o" % mode, map(itemgetter(2), rows))
        return b"".join(parts)


def _calls(call: bytes, paths: Iterable[bytes]) -> Iterator[bytes]:
    words, nbytes = [call], 0
    for path in paths:
        if nbytes + len(path) > MAX_CALL:
            yield b" ".join(words) + b"\n"
            words, nbytes = [call], 0
        words.append(path)
        nbytes += len(path) + 1
    yield b" ".join(words) + b"\n"


def _path(entry: Entry) -> bytes:
    """Return the path from the release's folder, as ``find .`` prints it."""
    return b"." if entry.path == b"." else b"./" + entry.path


def _quoted(entry: Entry) -> bytes:
    return b"'" + _path(entry).replace(b"'", b"'\\''") + b"'"
