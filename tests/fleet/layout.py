"""The files that a host of the fleet starts with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import asyncssh

__all__ = ["POOR_TOOLS", "USER", "USER_ID", "lay_out_etc", "lay_out_tools", "write_key"]

USER: Final = "ghostuser"
USER_ID: Final = 2222

SUDOERS: Final = """\
Defaults env_reset
Defaults use_pty
Defaults secure_path="{path}"
root ALL=(ALL:ALL) ALL
{user} ALL=(ALL:ALL) NOPASSWD: ALL
"""
"""Debian's, with its use_pty, and one line more."""

USUAL_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

POOR_TOOLS: Final = (
    *("awk", "basename", "cat", "chgrp", "chmod", "chown", "cksum", "cp", "cut"),
    *("date", "dd", "df", "dirname", "du", "env", "expr", "false", "find", "grep"),
    *("gzip", "head", "hostname", "id", "ln", "ls", "mkdir", "mkfifo", "mktemp"),
    *("mv", "nohup", "od", "printf", "ps", "readlink", "rm", "rmdir", "sed", "sh"),
    *("sleep", "sort", "stat", "sudo", "sync", "tail", "tee", "touch", "tr", "true"),
    *("uname", "uniq", "wc", "xargs"),
)
"""What a poor host has, besides busybox's tar: no zstd, flock, setsid, sha256sum."""


def lay_out_etc(etc: Path, name: str, *, poor: bool) -> None:
    """Copy the users of this machine, and add one; give the host a name."""
    lines = {
        "passwd": f"{USER}:x:{USER_ID}:{USER_ID}::/home/{USER}:/bin/sh\n",
        "group": f"{USER}:x:{USER_ID}:\n",
        "shadow": f"{USER}:*:20000::::::\n",
        "hosts": f"127.0.1.1 {name}\n",
    }
    for file, line in lines.items():
        own = Path("/etc", file)
        text = own.read_text() if os.access(own, os.R_OK) else ""
        (etc / file).write_text(text.rstrip("\n") + "\n" + line)
    (etc / "shadow").chmod(0o600)
    (etc / "sudoers").write_text(
        SUDOERS.format(user=USER, path="/mnt" if poor else USUAL_PATH)
    )
    (etc / "sudoers").chmod(0o440)


def lay_out_tools(folder: Path, tools: Iterable[str] = POOR_TOOLS) -> None:
    for tool in tools:
        if found := shutil.which(tool, path="/usr/bin:/bin:/usr/sbin:/sbin"):
            (folder / tool).symlink_to(found)
    if busybox := shutil.which("busybox"):
        (folder / "tar").symlink_to(busybox)


def write_key(path: Path) -> str:
    """Make a key pair; return the public one as one line without comment."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    path.touch(mode=0o600)
    path.write_bytes(key.export_private_key())
    return " ".join(key.export_public_key().decode().split()[:2])
