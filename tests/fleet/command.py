"""A ``ghostasync`` command that was started, seen from outside."""

from __future__ import annotations

import atexit
import functools
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from tests.fleet.clock import another_clock
from tests.fleet.forkserver import Order

__all__ = ["Command"]

WARNINGS = {"PYTHONWARNINGS": "error"}
"""What the server was started with, and so all that it forks."""


class Command:
    """
    A process of its own, with pipes for stdout and stderr, and nothing to read.

    Its clock is *hours* ahead. Its methods are those of :class:`subprocess.Popen`.
    """

    def __init__(self, order: Order, hours: int = 0) -> None:
        out, err, status = os.pipe(), os.pipe(), os.pipe()
        self.pid = _server(hours).start(order, (out[1], err[1], status[1]))
        for pipe in (out, err, status):
            os.close(pipe[1])
        self.stdout: TextIO = os.fdopen(out[0])
        self.stderr: TextIO = os.fdopen(err[0])
        self._exit: int | None = None
        self._status = status[0]

    @property
    def returncode(self) -> int:
        """The exit status of one that has ended, -N where signal N ended it."""
        return self.wait(0)

    def poll(self) -> int | None:
        """Return the exit status; None while it runs."""
        return self._exit if self._over(0) else None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, *timeout* seconds at most, and return the exit status."""
        if not self._over(timeout) or self._exit is None:
            raise subprocess.TimeoutExpired(f"command {self.pid}", timeout or 0)
        return self._exit

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Return what it still writes, once it has ended."""
        said = ["", ""]

        def read(number: int, stream: TextIO) -> None:
            said[number] = stream.read()

        readers = [
            threading.Thread(target=read, args=item, daemon=True)
            for item in enumerate((self.stdout, self.stderr))
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(timeout)
            if reader.is_alive():
                raise subprocess.TimeoutExpired(f"command {self.pid}", timeout or 0)
        self.wait(timeout)
        return said[0], said[1]

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal; one that has ended hears nothing."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _over(self, timeout: float | None) -> bool:
        if self._exit is None:
            ready, _, _ = select.select([self._status], [], [], timeout)
            if not ready:
                return False
            (self._exit,) = struct.unpack("i", os.read(self._status, 4))
            os.close(self._status)
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stdout.close()
        self.stderr.close()
        self.wait()


class _Server:
    """The process that commands are forked from, for as long as the tests run."""

    def __init__(self, hours: int) -> None:
        clock = another_clock(hours) if hours else {}
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control = ours
        self._lock = threading.Lock()
        with its:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    str(Path(__file__).with_name("forkserver.py")),
                    str(its.fileno()),
                ],
                pass_fds=[its.fileno()],
                env={**os.environ, **WARNINGS, **clock},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        atexit.register(self._close)

    def start(self, order: Order, pipes: tuple[int, int, int]) -> int:
        """Start a command that writes to *pipes*, and its status to the last."""
        with self._lock:
            socket.send_fds(self._control, [order.text()], pipes)
            (pid,) = struct.unpack("i", self._control.recv(4))
        return int(pid)

    def _close(self) -> None:
        self._control.close()
        self._process.wait()


@functools.cache
def _server(hours: int) -> _Server:
    return _Server(hours)
