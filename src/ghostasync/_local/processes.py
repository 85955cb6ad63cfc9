"""
A process group on this machine: started apart from us, read, and ended for certain.

How a killed controller ends its programs: beside each program runs a shell that reads
from a pipe of ours. A word on the pipe means that the program has ended; an end without
a word means that this process died, and the shell ends the program's group.

Rule 1: a program has ended when its *process* has, whoever still holds its output.
Rule 2: a program that is not wanted any more is ended with its whole group, be it that
its deadline has passed, that the task is cancelled, or that this process was killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import attrs
from anyio import to_thread
from anyio.abc import Process

from ..errors import BuildError
from ..protocols import OnOutput

__all__ = ["Program", "end_left_behind", "execute"]

GRACE: Final = 5.0
"""Seconds between TERM and KILL, and again for the KILL to show."""

DRAIN: Final = 0.25
"""Seconds that output may go on after its process: ``exec > >(tee log)`` needs some."""

POLL: Final = 0.02
"""Seconds between two looks at a process group, whose end is no event."""

CHUNK: Final = 65536
"""Bytes read at once: the capacity of a pipe on Linux."""

WATCH: Final = 'read -r _ || { kill -s TERM -- -"$1"; sleep 5; kill -s KILL -- -"$1"; }'
"""The script that ends group ``$1`` when stdin ends without a word."""


@attrs.frozen
class Program:
    """A program to start; *what* is its name in errors. No shell sees *argv*."""

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
        command: The program, which gets a session of its own.

        sinks: One sink gets stdout and stderr merged; of two each gets its own.

        deadline: Seconds that the program may take; None for no end.

    Returns:
        The exit status, -N where signal N ended the program; None where it was ended
        here because the deadline had passed.

    Raises:
        BuildError: The program could not be started.
    """
    with ExitStack() as fds:
        pipes = [_Pipe() for _ in sinks]
        for pipe in pipes:
            fds.callback(pipe.close)
        outs = (pipes[0].writer, pipes[-1].writer)
        try:
            process = await _start(command, subprocess.DEVNULL, outs)
        finally:
            # A pipe ends when its last writer has closed it: our own end must be gone.
            for pipe in pipes:
                os.close(pipe.writer)
        async with _guarded(process), anyio.create_task_group() as pumps:
            for pipe, sink in zip(pipes, sinks, strict=True):
                pumps.start_soon(pipe.pump, sink)
            try:
                with anyio.move_on_after(deadline) as scope:
                    await process.wait()
                # A program that is ended at its deadline may say why, so the pumps go
                # on until it has ended, and a moment longer for its helpers' output.
                await _end(process)
                with anyio.move_on_after(DRAIN):
                    for pipe in pipes:
                        await pipe.ended.wait()
            finally:
                # A cancelled task has skipped the lines above.
                await _end(process)
                for pipe in pipes:
                    pipe.stop()
    return None if scope.cancelled_caught else process.returncode


class _Pipe:
    """
    A pipe that the event loop does not tie to the process that writes to it.

    *ended* is set when nobody holds the writing end any more, or after :meth:`stop`.
    """

    # With asyncio's own pipes, waiting for a process waits for all who hold them: a
    # daemon that a script started would hold the run.

    def __init__(self) -> None:
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)
        # A cancelled run still hears the program's last words. The shield has no
        # deadline of its own: execute() calls stop() on every way out.
        self._open = anyio.CancelScope(shield=True)
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
        # Not all event loops tell whether the program or the folder was missing.
        name = os.fsdecode(command.argv[0]) if command.cwd.is_dir() else command.cwd
        why = f"{error.strerror}: {name}"
        raise BuildError(f"{command.what} could not be started: {why}") from error


def _unfit(command: Program) -> str:
    """Return why *command* cannot be given to any program; empty where it can."""
    # A NUL ends a string of C. Some event loops cut the text short in place of raising,
    # and another file would be run than the one that was named.
    if any(b"\0" in os.fsencode(part) for part in command.argv):
        return "an argument holds a NUL"
    for name, value in command.env.items():
        if "\0" in name + value:
            return f"the variable {name!r} holds a NUL"
    return ""


@asynccontextmanager
async def _guarded(process: Process) -> AsyncIterator[None]:
    """Leave only with *process* ended, even where this process is killed."""
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
        # The word keeps the watch from ending a group whose number may belong to others
        # by now. A watch that was killed itself reads no more.
        with suppress(BrokenPipeError):
            os.write(writer, b"ended\n")
        os.close(writer)
        if watch is not None:
            with anyio.move_on_after(GRACE, shield=True):
                await watch.wait()


async def _end(process: Process) -> None:
    """End the group of *process*, if that still runs: TERM, GRACE, KILL."""
    # A program that ended by itself is done, whatever children it has left (rule 1).
    if process.returncode is not None:
        return
    # The leader may go before the others, who get the rest of the grace.
    with anyio.move_on_after(GRACE, shield=True):
        _signal(process.pid, signal.SIGTERM)
        await process.wait()
        while _lives(process.pid):  # noqa: ASYNC110  no event tells of a group
            await anyio.sleep(POLL)
        return
    _signal(process.pid, signal.SIGKILL)
    with anyio.move_on_after(GRACE, shield=True):
        await process.wait()


async def end_left_behind(folders: Sequence[Path], variable: str) -> list[str]:
    """
    End the processes that work in *folders* and have "NAME=value" in their environment.

    Return their names and numbers. A system without /proc has none to tell.
    """
    # A machine has thousands of processes, so it is looked in a thread.
    look = partial(to_thread.run_sync, _working_in, folders, os.fsencode(variable))
    found = await look()
    left = found
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        with anyio.move_on_after(GRACE, shield=True):
            while left := await look():  # noqa: ASYNC110  no event tells of it
                await anyio.sleep(POLL)
    return [f"{name} ({pid})" for pid, name in found.items()]


def _working_in(folders: Sequence[Path], variable: bytes) -> dict[int, str]:
    names = {}
    for process in Path("/proc").glob("[0-9]*"):
        # Most are other users', and may not be looked at; some end meanwhile.
        with suppress(OSError):
            environment = (process / "environ").read_bytes().split(b"\0")
            cwd = (process / "cwd").readlink()
            if variable in environment and any(map(cwd.is_relative_to, folders)):
                names[int(process.name)] = (process / "comm").read_text().strip()
    return names


def _signal(group: int, number: int) -> None:
    # A group may have ended, or all that is left of it may run as another user, as
    # under sudo, whom we cannot signal.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _lives(group: int) -> bool:
    """Tell whether a process of *group* still runs; zombies do not."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # A zombie answers a signal as well. Where pid 1 reaps nobody, as in plain
    # containers, zombies stay for ever and every end would take the whole grace: /proc
    # tells.
    if not Path("/proc/self/stat").exists():
        return True
    for stat in Path("/proc").glob("[0-9]*/stat"):
        # A process may end between its listing and its reading. Its name stands in
        # parentheses and may hold some itself, so the fields follow the last one.
        with suppress(OSError):
            state, _, pgrp = stat.read_bytes().rpartition(b")")[2].split()[:3]
            if int(pgrp) == group and state not in b"ZX":
                return True
    return False
