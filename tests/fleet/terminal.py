"""A command as a person sees it, on a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

from tests.fleet.console import Console

__all__ = ["on_a_terminal"]


def on_a_terminal(
    console: Console, *args: str, types: bytes | None = None
) -> tuple[int, bytes]:
    """
    Return the exit status of a command, and all that it writes to its terminal.

    *types* is what the person types; where it is None, stdin is no terminal.
    """
    ours, its = pty.openpty()
    os.write(ours, types or b"")
    folder = str(console.sample.folder)
    process = subprocess.Popen(
        [sys.executable, "-m", "ghostasync", *args],
        cwd=folder,
        env={
            **os.environ,
            "HOME": folder,
            "XDG_CACHE_HOME": f"{folder}/cache",
            **console.env,
            "TERM": "xterm",
        },
        stdin=subprocess.DEVNULL if types is None else its,
        stdout=its,
        stderr=its,
    )
    os.close(its)
    shown = bytearray()
    try:
        while data := os.read(ours, 65536):
            shown += data
    except OSError:
        pass  # how Linux says that a terminal was closed
    finally:
        os.close(ours)
        process.wait()
    return process.returncode, bytes(shown)
