"""
The owners of files here: whose word a run takes, and who could change it.

Configuration, scripts, stores and state say what runs as root on a fleet, so nobody but
the user who runs ghostasync, and root, may own them or write to them or to a folder on
the way to them. Under sudo the user who called it counts as well. A group without other
members is nobody else. A sticky folder, such as ``/tmp``, may stand above.

How it works: a path is walked down from ``/``, links included, and the first component
that is somebody else's is told, with the command that mends it.
"""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["make_private", "readable", "trespass"]

_MOST_LINKS: Final = 40  # as for the kernel
_ACL: Final = "system.posix_acl_access"
_SHOWN: Final = 3
_KINDS: Final = {stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK}


def trespass(path: Path, *, shared: bool = False) -> str:
    """
    Return why somebody else could change what is at *path*, and the cure; else "".

    What a team has *shared* may be written to by the group that its owner, we or root,
    gave it. What is missing, or no file and no folder, is nobody's.
    """
    *above, last = _components(Path(os.path.abspath(path)))  # noqa: PTH100  no links
    for at in (*above, last):
        # What is missing will be made, and be ours, also below a sticky folder.
        if why := _wrong(at, shared=shared, sticky=at is not last):
            return why
    return ""


def readable(path: Path) -> str:
    """Return why others than its owner, who is us, can read *path*; else ""."""
    # ssh asks the same of a private key, and uses none of which this is true.
    found = _found(Path(os.path.realpath(path)))
    if found is None or found.st_uid != os.geteuid() or not found.st_mode & 0o077:
        return ""
    return f"{path} can be read by others, so ssh would not use it: chmod 600 {path}"


def _found(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except (OSError, ValueError):
        return None


def _components(path: Path) -> Iterator[Path]:
    """Yield each component of the way to *path*, those behind links as well."""
    at, rest, links = Path("/"), list(path.parts[1:]), 0
    yield at
    while rest:
        name = rest.pop(0)
        at = at.parent if name == ".." else at / name
        yield at
        if at.is_symlink() and (links := links + 1) <= _MOST_LINKS:
            target = at.readlink()
            at = Path("/") if target.is_absolute() else at.parent
            rest = [part for part in target.parts if part != "/"] + rest


def _wrong(path: Path, *, shared: bool, sticky: bool) -> str:
    """Return who could change *path*, and the cure; *sticky* is what else it may be."""
    found, name = _found(path), shlex.quote(str(path))
    if found is None or stat.S_IFMT(found.st_mode) not in _KINDS:
        return ""
    if found.st_uid not in _us():
        owner, me = _user(found.st_uid), _user(os.geteuid())
        # The link's own owner, and not that of what the link was made to lead to.
        chown = "chown -h" if stat.S_ISLNK(found.st_mode) else "chown"
        return f"{path} belongs to {owner}, who can change it: {chown} {me} {name}"
    who = ""
    if not (stat.S_ISLNK(found.st_mode) or (sticky and found.st_mode & stat.S_ISVTX)):
        who = _writers(path, found, shared=shared)
    return who and f"{path} can be changed by {who} {name}"


def _writers(path: Path, found: os.stat_result, *, shared: bool) -> str:
    """Return who may write to *path* besides its owner, and how to end that."""
    if found.st_mode & stat.S_IWOTH:
        return "everybody here: chmod o-w"
    if shared or not found.st_mode & stat.S_IWGRP:
        return ""
    # With a list of access, these bits are the most that anybody on it may do.
    if _has_acl(path):
        return "those on its list: setfacl -b"
    others = _members(found.st_gid)
    shown = ", ".join(others[:_SHOWN]) + ", …" * (len(others) > _SHOWN)
    return f"{shown}: chmod g-w" if others else ""


def _us() -> set[int]:
    uid = os.geteuid()
    # Only root may run what another user wrote: that user has called sudo.
    caller = os.environ.get("SUDO_UID", "") if uid == 0 else ""
    return {0, uid, *map(int, filter(str.isdecimal, [caller]))}


def _members(gid: int) -> list[str]:
    """Return the names of a group's members, but for us and root."""
    own = {_user(uid) for uid in _us()}
    first = {user.pw_name for user in pwd.getpwall() if user.pw_gid == gid}
    try:
        return sorted((first | {*grp.getgrgid(gid).gr_mem}) - own)
    except KeyError:
        return sorted(first - own)


def _has_acl(path: Path) -> bool:
    try:
        return bool(os.getxattr(path, _ACL, follow_symlinks=False))
    except OSError:
        return False


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def make_private(folder: Path) -> list[Path]:
    """
    Make *folder* and those above it that are not there, each 0700; return these.

    Raises:
        OSError: One cannot be made.
    """
    # mkdir(parents=True) gives those above the modes that the umask allows.
    missing = [each for each in (folder, *folder.parents) if not each.exists()][::-1]
    for each in missing:
        each.mkdir(0o700, exist_ok=True)
    return missing
