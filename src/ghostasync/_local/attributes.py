"""
What a file has besides its bytes, mode and times: capabilities, ACLs, attributes.

Labels of a security module, and what file systems keep for themselves, belong to the
machine and not to the file; they are not seen here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

__all__ = [
    "ACL",
    "Attributes",
    "drop_acls",
    "narrowed",
    "read_attributes",
    "restorable",
    "summary",
]

Attributes = Mapping[str, bytes]
"""Values by name, as the kernel has them."""

CAPABILITY: Final = "security.capability"
ACL: Final = "system.posix_acl_access"
DEFAULT_ACL: Final = "system.posix_acl_default"
CARRIED: Final = (CAPABILITY, ACL, DEFAULT_ACL)

_CALLED: Final = dict(
    zip(CARRIED, ("capabilities", "an ACL", "a default ACL"), strict=True)
)

# An ACL is a version and entries of a tag, permissions and an id, all little-endian.
_ENTRY: Final = struct.Struct("<HHI")
_VERSION: Final = 4
_USER, _GROUP_OWNER, _GROUP, _MASK = 0x02, 0x04, 0x08, 0x10

_NAMED: Final = 3
"""Paths that a warning names; more are counted."""

_SPECIAL: Final = re.compile(rb"[\n\r\\=]")


def read_attributes(fd: int) -> dict[str, bytes]:
    """
    Return the attributes of an open file or folder, by name in order.

    Raises:
        OSError: They cannot be read.
    """
    try:
        names = os.listxattr(fd)
    except OSError as exc:
        if exc.errno in {errno.ENOTSUP, errno.ENOSYS}:
            return {}
        raise
    if not names:  # nearly always
        return {}
    wanted = [n for n in names if n in CARRIED or n.startswith("user.")]
    return {name: os.getxattr(fd, name) for name in sorted(wanted)}


def narrowed(mode: int, attributes: Attributes) -> int:
    """
    Return *mode* for a copy without the ACL, which nobody may do more with.

    With an ACL the bits of the group are the ACL's mask, and may be more than the group
    has. Whoever the ACL names falls back to the bits of the group or of others.
    """
    acl = attributes.get(ACL)
    if acl is None:
        return mode
    found = list(_ENTRY.iter_unpack(acl[_VERSION:]))
    mask = next((bits for tag, bits, _ in found if tag == _MASK), 0o7)
    group = next((bits for tag, bits, _ in found if tag == _GROUP_OWNER), 0) & mask
    other = mode & 0o7
    for tag, bits, _ in found:
        if tag == _USER:
            group &= bits & mask
        if tag in {_USER, _GROUP}:
            other &= bits & mask
    return mode & ~0o77 | group << 3 | other


def drop_acls(folder: Path) -> None:
    """Have nothing that is made in *folder* inherit an ACL; best effort."""
    for name in (ACL, DEFAULT_ACL):
        with contextlib.suppress(OSError):
            os.removexattr(folder, name)


def restorable(found: Mapping[bytes, Attributes]) -> bytes:
    """
    Return the attributes of the files at these paths as ``getfattr`` prints them.

    The text is what ``setfattr --restore`` takes; paths are those of ``find .``.
    """
    blocks: list[bytes] = []
    for path, attributes in found.items():
        where = b"." if path == b"." else b"./" + path
        lines = [b"# file: " + _quoted(where).replace(b"\\075", b"=")]
        for name, value in attributes.items():
            lines.append(
                b"%b=0x%b" % (_quoted(os.fsencode(name)), value.hex().encode())
            )
        blocks.append(b"\n".join([*lines, b"", b""]))
    return b"".join(blocks)


def _quoted(name: bytes) -> bytes:
    return _SPECIAL.sub(lambda match: b"\\%03o" % match[0][0], name)


def summary(found: Mapping[str, Sequence[str]]) -> str:
    """Return which paths have which attributes, if any; the first ones by name."""
    named = [
        f"{path} ({', '.join(_CALLED.get(name, name) for name in names)})"
        if names
        else path
        for path, names in list(found.items())[:_NAMED]
    ]
    if more := len(found) - len(named):
        named.append(f"{more} more")
    return ", ".join(named)
