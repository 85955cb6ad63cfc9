"""Another clock for programs, by libfaketime."""

from __future__ import annotations

from pathlib import Path

__all__ = ["another_clock", "library"]


def library() -> Path | None:
    """Return libfaketime for programs with threads; None where it is not installed."""
    return next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


def another_clock(hours: int) -> dict[str, str]:
    """Return the variables of a program whose clock is *hours* ahead."""
    return {
        "LD_PRELOAD": str(library()),
        "FAKETIME": f"{hours:+}h",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
