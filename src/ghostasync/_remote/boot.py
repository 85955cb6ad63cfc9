"""
The script by which a host that boots sets itself up, without a controller.

It is ``boot.sh`` with the scripts of a deploy behind it, and with the facts of one app in
front; nothing in it is secret. What a module needs beyond its tree, such as who runs its
scripts, comes with its package, in ``ghost/boot``.
"""

from __future__ import annotations

import base64
import gzip
import os
from collections.abc import Iterator, Mapping
from typing import Final

from .script import body, quote

__all__ = ["boot_text", "unit", "user_data"]

_CALLED: Final = (
    *("lock", "pull", "share", "environment", "run", "record_moves", "switch"),
    *("fetch", "prune", "restore", "change_user", "run_as", "run_as_inner"),
)
"""The scripts that ``boot.sh`` calls."""

_LARGEST: Final = 16_384
"""Bytes that a cloud takes as user data."""


def boot_text(facts: Mapping[str, str]) -> str:
    """Return the script for an app; *facts* are the variables that stand in front."""
    return os.fsdecode(b"\n".join(_lines(facts)))


def _lines(facts: Mapping[str, str]) -> Iterator[bytes]:
    yield b"#!/bin/sh"
    yield b"# Made by `ghostasync boot-script`: see docs/boot.md of ghostasync."
    for name, value in facts.items():
        yield name.encode() + b"=" + quote(value)
    yield b"text() {\ncase $1 in"
    for name in _CALLED:
        yield name.encode() + b") cat <<'GHOSTASYNC'\n" + body(name) + b"\nGHOSTASYNC\n;;"
    yield b"bytes) cat <<'GHOSTASYNC'\n" + body("parts/bytes") + b"\nGHOSTASYNC\n;;"
    yield b"esac\n}"
    yield body("boot")
    yield b""


def user_data(text: str) -> str:
    """
    Return a script of at most 16 KiB that unpacks and runs *text*.

    Raises:
        ValueError: It cannot be made as short.
    """
    packed = base64.b64encode(gzip.compress(os.fsencode(text), 9, mtime=0)).decode()
    short = (
        "#!/bin/sh\n"
        "# Made by `ghostasync boot-script --user-data`.\n"
        "set -eu\n"
        "umask 077\n"
        "to=${GHOSTASYNC_BOOT:-/var/lib/ghostasync/boot}\n"
        'mkdir -p "${to%/*}"\n'
        "chmod 755 \"${to%/*}\"\n"
        'base64 -d <<\'GHOSTASYNC\' | gzip -d >"$to.new"\n'
        f"{packed}\n"
        "GHOSTASYNC\n"
        'chmod 755 "$to.new"\n'
        'mv "$to.new" "$to"\n'
        'exec /bin/sh "$to" "$@"\n'
    )
    if len(short) > _LARGEST:
        raise ValueError(f"{len(short)} bytes, and user data has {_LARGEST} at most")
    return short


def unit(path: str) -> str:
    """Return a unit of systemd that runs the script at *path* at every boot."""
    return (
        "[Unit]\n"
        "Description=ghostasync: serve what was deployed\n"
        "Wants=network-online.target\n"
        "After=network-online.target\n"
        "\n"
        "[Service]\n"
        "Type=oneshot\n"
        "RemainAfterExit=yes\n"
        "TimeoutStartSec=infinity\n"
        f"ExecStart=/bin/sh {path}\n"
        "KillMode=process\n"
        "\n"
        "[Install]\n"
        "WantedBy=multi-user.target\n"
    )
