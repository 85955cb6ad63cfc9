"""
The script by which a host that boots sets itself up, without a controller.

It is ``boot.sh`` with the scripts of a deploy and the facts of one app in front.
Nothing in it is secret. What a module needs beyond its tree, such as who runs its
scripts, comes with its package, in ``ghost/boot``.
"""

from __future__ import annotations

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

_OF_STORE: Final = (
    *("bucket", "origin", "folder", "region", "wait", "after", "group", "hook"),
)
"""The facts by which the store is read."""


def boot_text(facts: Mapping[str, str]) -> str:
    """Return the script for an app; *facts* are the variables that stand in front."""
    return os.fsdecode(b"\n".join(_lines(facts)))


def _head(facts: Mapping[str, str]) -> Iterator[bytes]:
    yield b"#!/bin/sh"
    yield b"# Made by `ghostasync boot-script`: see docs/boot.md of ghostasync."
    for name, value in facts.items():
        yield name.encode() + b"=" + quote(value)


def _lines(facts: Mapping[str, str]) -> Iterator[bytes]:
    yield from _head(facts)
    yield b"text() {\ncase $1 in"
    for name in _CALLED:
        yield (
            name.encode() + b") cat <<'GHOSTASYNC'\n" + body(name) + b"\nGHOSTASYNC\n;;"
        )
    for name in ("bytes", "enrol"):
        part = body(f"parts/{name}")
        yield name.encode() + b") cat <<'GHOSTASYNC'\n" + part + b"\nGHOSTASYNC\n;;"
    yield b"esac\n}"
    yield body("boot")
    yield b""


def user_data(facts: Mapping[str, str], script: str) -> str:
    """
    Return a short script that gets the long one from the store, and runs it.

    *script* is the sha256 of that one, in hex.
    """
    own = {name: facts[name] for name in _OF_STORE} | {"script": script}
    return os.fsdecode(b"\n".join([*_head(own), body("user_data"), b""]))


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
