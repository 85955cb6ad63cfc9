"""
A command as a host would run it: ``/bin/sh -c``, raw pipes, a session of its own.

The class is a protocol of asyncio and no process of anyio: an in-process fleet pauses
each pipe while its client's window is full, and a command ends with its process while
children still hold its output.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

import anyio
import anyio.lowlevel

from ..protocols import OnOutput

__all__ = ["Process", "start"]

QUIET_SECONDS: Final = 0.2
"""Seconds of silence after which output of a process that has ended is complete."""

END_SECONDS: Final = 7.0
"""Seconds that a process has to notice that nobody listens; ``run.sh`` may take 5."""


class Process(asyncio.SubprocessProtocol):
    """One command, its output handed to callables; a :class:`protocols.Channel`."""

    def __init__(self, output: OnOutput, errors: OnOutput) -> None:
        self._output, self._errors = output, errors
        self._transport: asyncio.SubprocessTransport | None = None
        self._open = {1, 2}
        self._nbytes = 0
        self._aborted = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._silent = asyncio.Event()
        self._exited = asyncio.Event()
        self.on_room: Callable[[bool], None] = lambda _: None

    async def write(self, data: bytes | memoryview) -> None:
        """Write to stdin; return when there is room for more."""
        self.feed(data)
        await self._writable.wait()
        await anyio.lowlevel.checkpoint()

    def feed(self, data: bytes | memoryview) -> None:
        """
        Write to stdin, however full; *on_room* tells when to pause.

        Raises:
            BrokenPipeError: The command does not read any more.
        """
        stdin = self._pipe(0)
        if stdin is None or stdin.is_closing():
            raise BrokenPipeError("the command does not read any more")
        # uvloop's pipes can write, but are not asyncio's class.
        cast("asyncio.WriteTransport", stdin).write(data)

    def write_eof(self) -> None:
        """Close stdin, once what was written has gone."""
        if stdin := self._pipe(0):
            stdin.close()

    async def wait(self) -> int | None:
        """Wait for the end and return the exit status; None where a signal ended it."""
        await self._exited.wait()
        # Children may hold the output as long as they live, as on a real host: they are
        # listened to until they pause.
        while not self._silent.is_set():
            nbytes_before = self._nbytes
            with anyio.move_on_after(QUIET_SECONDS):
                await self._silent.wait()
            if nbytes_before == self._nbytes:
                break
        self.abort()
        return self.returncode

    @property
    def returncode(self) -> int | None:
        """The exit status; None while it runs and where a signal ended it."""
        code = self._transport.get_returncode() if self._transport else None
        return code if code is not None and code >= 0 else None

    def abort(self) -> None:
        """Close all pipes, as sshd does when a channel goes; the command may go on."""
        self._aborted = True
        for fd in range(3):
            if pipe := self._pipe(fd):
                pipe.close()
        if self._transport is not None and self._exited.is_set():
            self._transport.close()
        self._writable.set()

    async def end(self) -> None:
        """End the command: close its pipes, then, after ``END_SECONDS``, SIGKILL."""
        self.abort()
        # A supervisor needs the time to end its script in order. The shield lets a
        # cancelled test wait for that as well.
        with anyio.move_on_after(END_SECONDS, shield=True):
            await self._exited.wait()
        if self._transport is not None and not self._exited.is_set():
            # The group may end between the look and the signal.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._transport.get_pid(), signal.SIGKILL)
            await self._exited.wait()

    def pause_output(self, paused: bool) -> None:
        """Stop reading what the command writes, or go on."""
        for fd in self._open:
            if transport := self._pipe(fd):
                pipe = cast("asyncio.ReadTransport", transport)
                (pipe.pause_reading if paused else pipe.resume_reading)()

    # --- Callbacks of asyncio ------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._nbytes += len(data)
        (self._output if fd == 1 else self._errors)(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        del exc
        self._open.discard(fd)
        if fd == 0:
            self.resume_writing()
        elif not self._open:
            self._silent.set()

    def pause_writing(self) -> None:
        self._writable.clear()
        self.on_room(False)

    def resume_writing(self) -> None:
        self._writable.set()
        self.on_room(True)

    def process_exited(self) -> None:
        self._exited.set()
        self._writable.set()
        # The transport could not be closed while the process ran: that kills it.
        if self._aborted:
            self.abort()

    def _pipe(self, fd: int) -> asyncio.BaseTransport | None:
        return self._transport.get_pipe_transport(fd) if self._transport else None


async def start(
    command: str, home: Path, output: OnOutput, errors: OnOutput
) -> Process:
    """Run *command* at *home*, with the environment that a login would give it."""
    environment = {
        "HOME": str(home),
        "PATH": os.environ.get("PATH", os.defpath),
        "SHELL": "/bin/sh",
    }
    loop = asyncio.get_running_loop()
    _, process = await loop.subprocess_exec(
        lambda: Process(output, errors),
        *("/bin/sh", "-c", command),
        cwd=home,
        env=environment,
        start_new_session=True,
    )
    return process
