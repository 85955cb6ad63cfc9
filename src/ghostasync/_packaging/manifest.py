r"""
The manifest of a package: its entries, as a text that ``sed`` can read too.

The first line names the format. Then, a line an entry, in archive order::

    mtime kind mode size sha256 path[TAB target]

*mtime* is in whole seconds since the epoch; *kind* is ``d`` (folder), ``f`` (file) or
``l`` (symlink), *mode* four octal digits, *size* in bytes; *sha256* is ``-`` but for
files, and only links have a target. *path* is as ``find .`` prints it in the tree:
``.``, ``./a``, ``./a/b``. In both names a control byte or backslash is ``\0ooo``, as
``%b`` of ``printf`` has it; every other byte is itself, UTF-8 or not.

The time comes first because all that makes one release differ from another is then the
rest of the line.
"""

from __future__ import annotations

import enum
import re
from typing import Final

import attrs

from ..errors import PackageError

__all__ = ["HEADER", "Entry", "Kind", "escape", "format_entry", "parse_manifest"]

HEADER: Final = b"ghostasync manifest 1"
"""The first line, without its end."""

_LINE: Final = re.compile(
    rb"(-?\d+) ([dfl]) ([0-7]{4}) (\d+) ([0-9a-f]{64}|-) "
    rb"(\.|\./[^\t]+)(?:\t([^\t]+))?"
)
_SPECIAL: Final = re.compile(rb"[\x00-\x1f\x7f\\]")
_ESCAPED: Final = re.compile(rb"\\0([0-7]{3})")


class Kind(enum.Enum):
    """The kind of an entry; the value is its letter, here and in ``find -type``."""

    FOLDER = "d"
    FILE = "f"
    LINK = "l"


@attrs.frozen
class Entry:
    """
    One folder, file or symlink of a tree.

    *path* is relative to the tree (``b"."`` is the tree itself), *mode* its permission
    bits, *mtime* in seconds since the epoch, *size* in bytes; *sha256*, in hex, and
    *size* are those of a file's content, *target* is a link's text.
    """

    path: bytes
    kind: Kind
    mode: int
    mtime: int
    size: int = 0
    sha256: str = ""
    target: bytes = b""


def escape(name: bytes) -> bytes:
    """Return *name* as it stands in a manifest; itself where nothing is to escape."""
    if _SPECIAL.search(name) is None:
        return name
    return _SPECIAL.sub(lambda match: b"\\0%03o" % match[0][0], name)


def _unescape(name: bytes) -> bytes:
    return _ESCAPED.sub(lambda match: bytes([int(match[1], 8)]), name)


def format_entry(entry: Entry) -> bytes:
    """Return the line of *entry*, without its end."""
    line = b"%d %b %04o %d %b %b" % (
        entry.mtime,
        entry.kind.value.encode(),
        entry.mode,
        entry.size,
        entry.sha256.encode() or b"-",
        b"." if entry.path == b"." else b"./" + escape(entry.path),
    )
    return line + b"\t" + escape(entry.target) if entry.target else line


def parse_manifest(data: bytes) -> tuple[Entry, ...]:
    """
    Return the entries of a manifest, in its order.

    Raises:
        PackageError: The manifest is of another format, damaged or cut short.
    """
    # The last newline is all that tells a whole manifest from one that was cut between
    # two lines; with it, splitting leaves an empty last part.
    header, *lines, last = data.split(b"\n") if b"\n" in data else (data, b"?")
    if header != HEADER or last:
        raise PackageError(f"not a whole manifest ({HEADER.decode()!r} on top)")
    return tuple(_parse_entry(at, line) for at, line in enumerate(lines, start=2))


def _parse_entry(number: int, line: bytes) -> Entry:
    match = _LINE.fullmatch(line)
    if match is None:
        raise PackageError(f"manifest, line {number}: not an entry: {line!r}")
    mtime, kind, mode, size, sha256, path, target = match.groups(default=b"")
    return Entry(
        path=_unescape(path.removeprefix(b"./")),
        kind=Kind(kind.decode()),
        mode=int(mode, 8),
        mtime=int(mtime),
        size=int(size),
        sha256="" if sha256 == b"-" else sha256.decode(),
        target=_unescape(target),
    )
