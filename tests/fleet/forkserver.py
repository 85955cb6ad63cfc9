"""
The process that commands of the tests come from: it has all modules, and forks.

An interpreter that has just started costs as much processor time as all else that a
deploy to three hosts takes here. What a fork runs is the same ``python -m ghostasync``.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import selectors
import socket
import struct
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

__all__ = ["Order"]


@attrs.frozen
class Order:
    """
    A command to start.

    With a *prefix* it is executed anew; otherwise it is forked, with the warnings and
    the clock that this process has, and *quick* says which of the engine's own seconds
    are fewer: ``{"_remote.call.GRACE": 2}``.
    """

    args: tuple[str, ...]
    cwd: str
    env: dict[str, str]
    prefix: tuple[str, ...] = ()
    quick: Mapping[str, float] = attrs.field(factory=dict)

    def text(self) -> bytes:
        return json.dumps(attrs.asdict(self)).encode()

    @classmethod
    def read(cls, text: bytes) -> Order:
        read: dict[str, Any] = json.loads(text)
        prefix, quick = tuple(read["prefix"]), read["quick"]
        return cls(tuple(read["args"]), read["cwd"], read["env"], prefix, quick)


def _serve(control: socket.socket) -> tuple[Order, tuple[int, int]]:
    """Fork for each order; return in the child, with its order, stdout and stderr."""
    waited: dict[int, tuple[int, int]] = {}  # by pidfd: process, where to report
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fd in waited:
                    selector.unregister(key.fd)
                    _report(key.fd, *waited.pop(key.fd))
                    continue
                text, (out, err, status), _, _ = socket.recv_fds(control, 1 << 20, 3)
                pid = os.fork()
                if pid == 0:
                    for pidfd, (_, other) in waited.items():
                        os.close(pidfd)
                        os.close(other)
                    os.close(status)
                    return Order.read(text), (out, err)
                os.close(out)
                os.close(err)
                control.send(struct.pack("i", pid))
                pidfd = os.pidfd_open(pid)
                waited[pidfd] = pid, status
                selector.register(pidfd, selectors.EVENT_READ)


def _report(pidfd: int, pid: int, to: int) -> None:
    _, status = os.waitpid(pid, 0)
    try:
        os.write(to, struct.pack("i", os.waitstatus_to_exitcode(status)))
    except BrokenPipeError:
        pass  # nobody asks any more
    finally:
        os.close(to)
        os.close(pidfd)


def _become(order: Order, streams: tuple[int, int]) -> None:
    """Take the place of a process that was started for *order*."""
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    for number, stream in enumerate(streams, 1):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(order.cwd)
    if order.prefix:
        words = [*order.prefix, sys.executable, "-m", "ghostasync", *order.args]
        os.execvpe(words[0], words, order.env)
    os.environ.clear()
    os.environ.update(order.env)
    time.tzset()
    for place, seconds in order.quick.items():
        module, _, name = place.rpartition(".")
        found = importlib.import_module(f"ghostasync.{module}")
        if not hasattr(found, name):
            raise AttributeError(place)
        setattr(found, name, seconds)
    sys.argv = ["ghostasync", *order.args]
    sys.path[0] = order.cwd


def _import_all() -> None:
    import ghostasync.cli._commands
    import ghostasync.testing
    import ghostasync.transports.ssh  # noqa: F401


if __name__ == "__main__":
    if "FAKETIME" in os.environ:
        # uvloop forks, and a fork of a process with threads may wait for ever for a
        # lock that libfaketime had in another thread. asyncio's loop does not fork.
        sys.modules["uvloop"] = None  # type: ignore[assignment]  # not to be found
    _import_all()
    gc.freeze()
    try:
        with socket.socket(fileno=int(sys.argv[1])) as _control:
            _order = _serve(_control)
    except ValueError:  # nobody orders any more: no descriptors have come
        sys.exit()
    _become(*_order)
    runpy.run_module("ghostasync", run_name="__main__", alter_sys=True)
