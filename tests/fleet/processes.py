"""Processes of a host, seen from outside its namespace."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

__all__ = ["command_line", "descendants", "send"]


def descendants(pid: int) -> list[int]:
    """Return *pid* and all processes below it, parents first."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):  # it ended meanwhile
            for file in Path("/proc", str(parent), "task").glob("*/children"):
                found += map(int, file.read_text().split())
    return found


def send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def command_line(pid: int) -> str:
    """Return what a process was started as; empty once it has ended."""
    try:
        words = Path("/proc", str(pid), "cmdline").read_bytes()
    except OSError:
        return ""
    return words.replace(b"\0", b" ").decode(errors="replace").strip()
