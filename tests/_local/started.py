"""Programs that tests start on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["ENV", "running", "sh", "spawn"]

ENV = {"PATH": os.environ["PATH"]}


def sh(text: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", text)


def spawn(code: str, *args: str, cwd: Path | None = None) -> subprocess.Popen[bytes]:
    argv = (sys.executable, "-c", code, *args)
    return subprocess.Popen(argv, cwd=cwd, stdout=subprocess.PIPE)


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in b"ZX"
