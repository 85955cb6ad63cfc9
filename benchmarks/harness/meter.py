"""
What a command costs this machine: ``python -m benchmarks.harness.meter OUT COMMAND…``.

A process of its own, so that every contestant is measured alike and nothing of the
hosts is counted. CPU is that of the command and of all that it started, also of what
it left behind as a daemon: that is ended, and counted, when the command is over.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs

__all__ = ["Cost", "measure"]

SAMPLE_SECONDS: Final = 0.05
PR_SET_CHILD_SUBREAPER: Final = 36


@attrs.frozen
class Cost:
    """
    CPU and wall time in seconds, memory in bytes.

    *peak* is the resident set of the largest process, *anonymous* what all processes
    held at once besides mapped files.
    """

    status: int
    cpu: float
    wall: float
    peak: int
    anonymous: int


def measure(command: Sequence[str], *, log: Path, folder: Path) -> Cost:
    """
    Run *command* in *folder* to its end; its stdout and stderr go to *log*.

    Raises:
        CalledProcessError: The meter itself failed.
    """
    out = log.with_suffix(".cost")
    with log.open("wb") as file:
        subprocess.run(
            [sys.executable, str(Path(__file__)), str(out), *command],
            check=True,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    return Cost(**json.loads(out.read_text()))


@attrs.define
class _Sampler:
    """Looks at the memory of a process and of all below it until *over*."""

    root: int
    peak: int = 0
    anonymous: int = 0
    over: threading.Event = attrs.field(factory=threading.Event)

    def run(self) -> None:
        while not self.over.wait(SAMPLE_SECONDS):
            held = 0
            for pid in _family(self.root):
                status = _status(pid)
                self.peak = max(self.peak, status.get("VmHWM", 0))
                held += status.get("RssAnon", 0)
            self.anonymous = max(self.anonymous, held)


def _family(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _family(int(child))


def _status(pid: int) -> dict[str, int]:
    """Return what a process holds, in bytes; nothing where it is gone."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        pairs = (line.split() for line in lines if line.endswith(" kB"))
        return {name.rstrip(":"): int(size) * 1024 for name, size, _ in pairs}
    return {}


def _watch(command: Sequence[str]) -> Cost:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    began = time.monotonic()
    child = subprocess.Popen(command)
    sampler = _Sampler(child.pid)
    thread = threading.Thread(target=sampler.run)
    thread.start()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.monotonic() - began
    sampler.over.set()
    thread.join()
    cpu = usage.ru_utime + usage.ru_stime + _end_orphans()
    code = os.waitstatus_to_exitcode(status)
    child.returncode = code
    return Cost(code, cpu, wall, sampler.peak, sampler.anonymous)


def _end_orphans() -> float:
    """End what the command left behind, and return the CPU seconds that it took."""
    cpu = 0.0
    with contextlib.suppress(ChildProcessError):
        while True:
            for pid in list(_family(os.getpid()))[1:]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            _, _, usage = os.wait4(-1, 0)
            cpu += usage.ru_utime + usage.ru_stime
    return cpu


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(attrs.asdict(_watch(sys.argv[2:]))))
