"""
The command line with its sockets counted: ``python -m benchmarks.harness.sent OUT …``.

OUT gets the bytes that this process sent, to hosts and to a store, when it ends.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__: list[str] = []

_sent = 0


def _counted(method: Callable[..., int]) -> Callable[..., int]:
    def count(self: socket.socket, *args: Any) -> int:
        global _sent  # noqa: PLW0603  one process, one thread that sends
        nbytes = method(self, *args)
        _sent += nbytes
        return nbytes

    return count


def main(out: Path, words: list[str]) -> None:
    # uvloop sends below Python; asyncio's own loop does not.
    sys.modules["uvloop"] = None  # type: ignore[assignment]
    for name in ("send", "sendmsg"):
        setattr(socket.socket, name, _counted(getattr(socket.socket, name)))
    leave = os._exit

    def note(status: int) -> None:
        out.write_text(f"{_sent}\n")
        leave(status)

    os._exit = note  # type: ignore[assignment]  # the way in which a command ends
    sys.argv[1:] = words
    from ghostasync.__main__ import main as command

    command()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
