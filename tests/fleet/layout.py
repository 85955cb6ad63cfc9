"""The files that a host of the fleet starts with."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import asyncssh

__all__ = [
    "BUSYBOX",
    "POOR_TOOLS",
    "USER",
    "USER_ID",
    "USUAL_PATH",
    "busybox_tools",
    "lay_out_etc",
    "poor_tools",
    "tools",
    "tools_but",
    "write_key",
]

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


RICH_TOOLS: Final = (
    *("tar", "zstd", "flock", "setsid", "sha256sum", "openssl", "shasum", "curl"),
    *("wget", "python3", "perl", "timeout", "seq", "comm", "paste", "test"),
)
"""What a usual host has besides, as far as it matters here."""

BUSYBOX: Final = "/usr/bin/busybox"


def lay_out_etc(etc: Path, name: str, *, path: str, shell: str = "") -> None:
    """Copy the users of this machine, and add one; give the host a name."""
    lines = {
        "passwd": f"{USER}:x:{USER_ID}:{USER_ID}::/home/{USER}:{shell or '/bin/sh'}\n",
        "group": f"{USER}:x:{USER_ID}:\n",
        "shadow": f"{USER}:*:20000::::::\n",
        "hosts": f"127.0.1.1 {name}\n",
    }
    for file, line in lines.items():
        own = Path("/etc", file)
        text = own.read_text() if os.access(own, os.R_OK) else ""
        if shell and file == "passwd":
            text = re.sub("(?m)^(root:.*:).*$", rf"\1{shell}", text)
        (etc / file).write_text(text.rstrip("\n") + "\n" + line)
    (etc / "shadow").chmod(0o600)
    (etc / "sudoers").write_text(SUDOERS.format(user=USER, path=path))
    (etc / "sudoers").chmod(0o440)


def tools(names: Iterable[str]) -> dict[str, str]:
    """Return where this machine has those of *names* that it has."""
    path = "/usr/bin:/bin:/usr/sbin:/sbin"
    found = {name: shutil.which(name, path=path) for name in names}
    return {name: where for name, where in found.items() if where}


def tools_but(*missing: str) -> dict[str, str]:
    """Return the tools of a usual host that lacks a few."""
    return tools({*POOR_TOOLS, *RICH_TOOLS} - {*missing})


def poor_tools() -> dict[str, str]:
    """Return the tools of a host that has few, and busybox's tar."""
    return {**tools(POOR_TOOLS), "tar": BUSYBOX}


def busybox_tools() -> dict[str, str]:
    """Return the tools of a host that has nothing but busybox, sudo aside."""
    done = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True)
    return dict.fromkeys(done.stdout.decode().split(), BUSYBOX) | tools(["sudo"])


def write_key(path: Path) -> str:
    """Make a key pair; return the public one as one line without comment."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    path.touch(mode=0o600)
    path.write_bytes(key.export_private_key())
    return " ".join(key.export_public_key().decode().split()[:2])
