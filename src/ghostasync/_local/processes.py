"""
A process group on this machine: started apart from us, read, and ended for certain.

Rule 1: a program has ended when its *process* has, whoever still holds its output.
Rule 2: one that is not wanted any more is ended with its whole group, be it that its
deadline has passed, that we are cancelled, or that we were killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import anyio
import attrs
from anyio.abc import Process

from ..errors import BuildError
from ..protocols import OnOutput

__all__ = ["Program", "execute"]

GRACE: Final = 5.0
"""Seconds between TERM and KILL, and again for the KILL to show."""

DRAIN: Final = 0.25
"""Seconds that output may go on after its process: ``exec > >(tee log)`` needs some."""

POLL: Final = 0.02
"""Seconds between two looks at a process group; there is nothing to wait on."""

CHUNK: Final = 65536  # bytes; what a pipe holds

WATCH: Final = 'read -r _ || { kill -s TERM -- -"$1"; sleep 5; kill -s KILL -- -"$1"; }'
"""Ends group ``$1`` when stdin ends without a word: its controller was killed."""


@attrs.frozen
class Program:
    """A program to start; *what* is how errors call it. No shell sees *argv*."""

    argv: Sequence[str | bytes | Path]
    cwd: Path
    env: Mapping[str, str] = attrs.field(repr=False)
    what: str


async def execute(
    command: Program, sinks: Sequence[OnOutput], deadline: float | None = None
) -> int | None:
    """
    Run a program, stdin from ``/dev/null``, and wait until it has ended.

    Args:
        command: What to run; in a session of its own.

        sinks: One gets stdout and stderr merged; of two each gets its own.

        deadline: Seconds it may take; None for no end.

    Returns:
        The exit status, -N where signal N ended it; None where we did, because the
        deadline had passed.

    Raises:
        BuildError: It could not be started.
    """
    with ExitStack() as fds:
        pipes = [_Pipe() for _ in sinks]
        for pipe in pipes:
            fds.callback(pipe.close)
        outs = (pipes[0].writer, pipes[-1].writer)
        try:
            process = await _start(command, subprocess.DEVNULL, outs)
        finally:
            for pipe in pipes:
                os.close(pipe.writer)
        async with _guarded(process), anyio.create_task_group() as pumps:
            for pipe, sink in zip(pipes, sinks, strict=True):
                pumps.start_soon(pipe.pump, sink)
            try:
                with anyio.move_on_after(deadline) as scope:
                    await process.wait()
                await _end(process)  # its last words still find a reader
                with anyio.move_on_after(DRAIN):
                    for pipe in pipes:
                        await pipe.ended.wait()
            finally:
                await _end(process)
                for pipe in pipes:
                    pipe.stop()
    return None if scope.cancelled_caught else process.returncode


class _Pipe:
    """
    A pipe that the event loop does not tie to the process that writes to it.

    With asyncio's own pipes, waiting for a process waits for all who hold them.
    """

    def __init__(self) -> None:
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._open = anyio.CancelScope(shield=True)  # until stop(), which always comes
        self.ended = anyio.Event()

    async def pump(self, output: OnOutput) -> None:
        with self._open:
            while True:
                await anyio.wait_readable(self._reader)
                with suppress(BlockingIOError):
                    if not (data := os.read(self._reader, CHUNK)):
                        break
                    output(data)
        self.ended.set()

    def stop(self) -> None:
        self._open.cancel()

    def close(self) -> None:
        os.close(self._reader)


async def _start(command: Program, stdin: int, outs: tuple[int, int]) -> Process:
    if why := _unfit(command):
        raise BuildError(f"{command.what} could not be started: {why}")
    try:
        return await anyio.open_process(
            command.argv,
            cwd=command.cwd,
            env=command.env,
            stdin=stdin,
            stdout=outs[0],
            stderr=outs[1],
            start_new_session=True,
        )
    except OSError as error:
        # Not all event loops say what was missing.
        name = os.fsdecode(command.argv[0]) if command.cwd.is_dir() else command.cwd
        why = f"{error.strerror}: {name}"
        raise BuildError(f"{command.what} could not be started: {why}") from error


def _unfit(command: Program) -> str:
    """Say what no program can be given; some event loops would cut it short."""
    if any(b"\0" in os.fsencode(part) for part in command.argv):
        return "an argument holds a NUL"
    for name, value in command.env.items():
        if "\0" in name + value:
            return f"the variable {name!r} holds a NUL"
    return ""


@asynccontextmanager
async def _guarded(process: Process) -> AsyncIterator[None]:
    """Never leave without *process* having ended, not even by being killed."""
    reader, writer = os.pipe()
    argv = ("/bin/sh", "-c", WATCH, "ghost-watch", str(process.pid))
    command = Program(argv, Path("/"), {"PATH": os.defpath}, "the watch")
    watch: Process | None = None
    try:
        try:
            watch = await _start(command, reader, (subprocess.DEVNULL,) * 2)
        finally:
            os.close(reader)
        yield
    finally:
        await _end(process)
        with suppress(BrokenPipeError):
            os.write(writer, b"ended\n")
        os.close(writer)
        if watch is not None:
            with anyio.move_on_after(GRACE, shield=True):
                await watch.wait()


async def _end(process: Process) -> None:
    """End the group of *process*, if that still runs: TERM, GRACE, KILL."""
    if process.returncode is not None:
        return
    with anyio.move_on_after(GRACE, shield=True):
        _signal(process.pid, signal.SIGTERM)
        await process.wait()
        while _lives(process.pid):  # noqa: ASYNC110  no event tells of a group
            await anyio.sleep(POLL)
        return
    _signal(process.pid, signal.SIGKILL)
    with anyio.move_on_after(GRACE, shield=True):
        await process.wait()


def _signal(group: int, number: int) -> None:
    # PermissionError: all that is left of it runs as someone else, as sudo does.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _lives(group: int) -> bool:
    """Whether a process of *group* still runs; zombies do not."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    if not Path("/proc/self/stat").exists():
        return True
    # Where pid 1 reaps nobody, as in plain containers, zombies stay for ever.
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, its = stat.read_bytes().rpartition(b")")[2].split()[:3]
            if int(its) == group and state not in b"ZX":
                return True
    return False
