"""
The ghostasync command under another clock: ``faketime -f +3h python clock.py …``.

uvloop forks, and a fork of a process with threads may wait for ever for a lock that
libfaketime had in another thread. The loop of asyncio starts programs without a fork.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Final

__all__ = ["another_clock"]

_OURS: Final = ("-m", "ghostasync")
"""What follows the interpreter in the command that is started."""


def another_clock(hours: int) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return what starts a command whose clock is *hours* ahead, and its variables."""
    # A faketime that was killed leaves these behind: the next of its number would fail.
    for left in Path("/dev/shm").glob("*faketime_s*_[0-9]*"):
        if not Path("/proc", left.name.rpartition("_")[2]).exists():
            left.unlink(missing_ok=True)
    prefix = ("faketime", "-m", "-f", f"{hours:+}h", sys.executable, __file__)
    return prefix, {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}


if __name__ == "__main__":
    _, *words = sys.argv[1:]
    if tuple(words[:2]) != _OURS:
        sys.exit(f"not a ghostasync command: {words}")
    sys.modules["uvloop"] = None  # type: ignore[assignment]  # not to be found
    sys.argv = ["ghostasync", *words[2:]]
    sys.path[0] = "."
    runpy.run_module("ghostasync", run_name="__main__", alter_sys=True)
