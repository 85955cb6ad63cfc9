"""
Programs, scripts and locks on this machine.

``processes`` says when a program has ended. No function here keeps more of an output
than it was told to.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio

from ..errors import BuildError
from ..model import Script
from ..protocols import OnOutput
from .beneath import read
from .owners import make_private
from .processes import Program, execute

__all__ = ["LONGEST_SCRIPT", "Tail", "capture", "locked", "run", "script", "text_of"]

TAIL: Final = 4096
"""Bytes of an output that an error or event may show."""

LONGEST_SCRIPT: Final = 16 << 20
"""Bytes of a script that is read from a tree: it is held in memory."""

LOCK_POLL: Final = (0.005, 0.25)
"""First and longest pause between two tries for a lock, in seconds."""


class Tail:
    """
    The last *limit* bytes of an output, but for the rest of a word that they cut.

    Nothing would know the rest of a URL as one, and what opens doors in it.
    """

    def __init__(self, limit: int = TAIL) -> None:
        self._limit = limit
        self._kept = bytearray()
        self._cut = False

    def feed(self, data: bytes) -> None:
        """Add *data* at the end; forget the bytes before the last *limit*."""
        self._cut = self._cut or len(self._kept) + len(data) > self._limit
        self._kept += data[-self._limit :]
        del self._kept[: -self._limit]

    def text(self) -> str:
        """Return what is kept; bytes that are not UTF-8 are replaced."""
        words = self._kept.split(maxsplit=1)
        whole = words[1] if self._cut and len(words) > 1 else self._kept
        return whole.decode("utf-8", "replace")


async def run(
    argv: Sequence[str | bytes | Path],
    *,
    cwd: Path,
    env: Mapping[str, str],
    output: OnOutput,
    errors: OnOutput | None = None,
    deadline: float | None = None,
    what: str,
) -> int:
    """
    Run a program in its own session, with stdin from ``/dev/null``.

    Args:
        argv: The program and its arguments; no shell sees them.

        cwd: The folder that the program runs in.

        env: The program's whole environment.

        output: Called with stdout and stderr as they come, merged.

        errors: Called with stderr in place of *output*, where it is given.

        deadline: Seconds that the program may take; None for no end.

        what: The program's name in errors.

    Returns:
        The exit status; -N where signal N ended the program.

    Raises:
        BuildError: The program could not be started, or was not done within *deadline*.
    """
    sinks = (output, errors) if errors else (output,)
    status = await execute(Program(argv, cwd, env, what), sinks, deadline)
    if status is None:
        raise BuildError(f"{what} not done within {deadline:g} s")
    return status


async def script(
    text: bytes,
    *,
    cwd: Path,
    env: Mapping[str, str],
    output: OnOutput,
    errors: OnOutput | None = None,
    deadline: float | None = None,
    what: str,
    scratch: Path | None = None,
    within: Sequence[str | bytes] = (),
) -> int:
    """
    Run a script as :func:`run` runs a program; without ``#!`` it is for ``/bin/sh``.

    The text is kept in a private folder outside *cwd* meanwhile: in *scratch*, else in
    the system's temporary folder, which must not be mounted ``noexec`` then. *within*
    is a command that runs what it is given.

    Raises:
        BuildError: As for :func:`run`; or the script's interpreter is missing.
    """
    # A file takes any text: the kernel reads its "#!" line, and an argument list is
    # bounded and can be read by all users of this machine.
    folder = Path(tempfile.mkdtemp(prefix="ghostasync-", dir=scratch))
    try:
        file = folder / "script"
        file.touch(0o700)
        file.write_bytes(text)
        argv = (file,) if text.startswith(b"#!") else ("/bin/sh", file)
        return await run(
            (*within, *argv),
            cwd=cwd,
            env=env,
            output=output,
            errors=errors,
            deadline=deadline,
            what=what,
        )
    except BuildError as error:
        there = text.startswith(b"#!") and os.access(cwd, os.X_OK)
        if there and (why := _not_started(error.__cause__, text, folder)):
            raise BuildError(f"{what}: {why}") from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _not_started(cause: BaseException | None, text: bytes, folder: Path) -> str:
    """Return why the kernel starts no script in *folder*; empty for other reasons."""
    # It says "no such file" of a missing interpreter, too, as if the script were
    # missing, and "permission denied" of one that is no program.
    line = text.splitlines()[0].decode("utf-8", "backslashreplace")
    if isinstance(cause, FileNotFoundError):
        return f"its interpreter is not here: {line!r}"
    if not isinstance(cause, PermissionError):
        return ""
    if os.statvfs(folder).f_flag & os.ST_NOEXEC:
        return f"{folder.parent} is mounted noexec: set TMPDIR to another folder"
    return f"its interpreter cannot be started: {line!r}"


async def capture(
    argv: Sequence[str | bytes | Path],
    *,
    cwd: Path,
    env: Mapping[str, str],
    what: str,
    limit: int = 1 << 20,
) -> bytes:
    """
    Run a short query and return its stdout, at most *limit* bytes.

    Raises:
        BuildError: The program could not be started, exited non-zero (*tail* is the end
            of its stderr), or printed more than *limit* bytes.
    """
    kept, errors = bytearray(), Tail()

    # The program is read to its end, lest it wait for a reader; one chunk beyond the
    # limit shows that there was more.
    def keep(data: bytes) -> None:
        if len(kept) <= limit:
            kept.extend(data)

    status = await execute(Program(argv, cwd, env, what), (keep, errors.feed))
    if status:
        raise BuildError(
            f"{what} exited {status}", exit_status=status, tail=errors.text()
        )
    if len(kept) > limit:
        raise BuildError(f"{what} printed more than {limit} bytes")
    return bytes(kept)


@asynccontextmanager
async def locked(
    path: Path, busy: Callable[[], object] = lambda: None
) -> AsyncIterator[None]:
    """
    Hold the lock file *path*; wait for it without end, until the caller is cancelled.

    *busy* is called where there is somebody to wait for, maybe more than once. The
    kernel frees the lock when this process dies. The file stays.

    Raises:
        OSError: The file cannot be made or locked.
    """
    make_private(path.parent)
    # A caller has an open file of its own: one that gives up closes that and no other.
    # Children do not inherit it, or a daemon of a script would keep the lock.
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # The lock is asked for again and again: a thread that blocks in flock(2) cannot
        # be called off, and would get the lock later with nobody to give it back.
        pause, longest = LOCK_POLL
        while not _lock(fd):
            busy()
            await anyio.sleep(pause)
            pause = min(2 * pause, longest)
        yield
    finally:
        # The file is not removed: a waiter would lock the removed file, and the next
        # caller a new one.
        os.close(fd)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def text_of(wanted: Script, tree: Path, base: Path) -> bytes:
    """
    Return the text of a script: its own, or that of its file in *tree* or *base*.

    Raises:
        OSError: There is no such file, it leads out of *tree*, or it is too large.
    """
    if wanted.inline:
        return os.fsencode(wanted.inline)
    if wanted.path:
        return read(tree, wanted.path, LONGEST_SCRIPT)
    return (base / wanted.file).read_bytes()
