"""
The files that runs of this machine leave, and their way into a store that is elsewhere.

A run writes into a folder of its own, which it claims for as long as it lives. At its
end it hands in what the store has not got yet. A run that was killed could not: the
next one on this machine does it in its place, before it reads what the store has.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from typing import Final

import anyio
from anyio import to_thread

from .._local.together import at_once
from ..errors import NotInStore, StoreError
from ..protocols import RunLog
from .reports import REPORT
from .runs import JOURNAL

__all__ = ["claim", "hand_in_files", "hand_in_killed", "mark"]

KEEP: Final = 20
"""Folders of runs that stay here though the store has them: reports name their logs."""

AT_ONCE: Final = 16
"""Files on their way to the store at once."""

_DONE: Final = ".handed-in"
_CLAIM: Final = ".lock"


def claim(folder: Path) -> int | None:
    """
    Take the folder of a run until the file that is returned is closed.

    The kernel gives it back when this process dies.

    Returns:
        A file descriptor; None where a run that lives has the folder.

    Raises:
        OSError: The folder cannot be written.
    """
    claimed = os.open(folder / _CLAIM, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(claimed, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(claimed)
        return None
    return claimed


def mark(folder: Path) -> None:
    """Note in the folder of a run that the store has all of it."""
    (folder / _DONE).touch(0o600)


async def hand_in_files(runs: RunLog, run: str, folder: Path) -> None:
    """
    Give the store a run's report and the output of its hosts and builds.

    Raises:
        StoreError: The store did not take them all; each was tried.
    """

    async def save(path: Path) -> StoreError | None:
        try:
            data = await anyio.Path(path).read_bytes()
            await runs.save(run, str(path.relative_to(folder)), data)
        except OSError as exc:
            return StoreError(f"{path}: {exc.strerror}")
        except StoreError as exc:
            return exc
        return None

    paths = await to_thread.run_sync(_files, folder)
    for failure in filter(None, await at_once(AT_ONCE, save, paths)):
        raise failure


async def hand_in_killed(runs: RunLog, folder: Path) -> tuple[str, ...]:
    """
    Give the store what killed runs of this machine left in *folder*, a folder a run.

    Returns:
        Failures, for people; the next run tries these files again.
    """
    problems: list[str] = []
    for path in await to_thread.run_sync(_left, folder):
        try:
            claimed = claim(path)
        except OSError as exc:
            problems.append(f"{path}: {exc.strerror}")
            continue
        # The run goes on, in another process: it hands in its files by itself.
        if claimed is None:
            continue
        try:
            # The journal goes first: another machine can resume the run by it alone.
            await _hand_in_journal(runs, path.name, path / JOURNAL)
            await hand_in_files(runs, path.name, path)
            mark(path)
        except (StoreError, OSError) as exc:
            problems.append(f"the store does not have all of run {path.name}: {exc}")
        finally:
            os.close(claimed)
    return tuple(problems)


async def _hand_in_journal(runs: RunLog, run: str, path: Path) -> None:
    try:
        data = await anyio.Path(path).read_bytes()
    except FileNotFoundError:
        return
    try:
        known = await runs.load(run, JOURNAL)
    except NotInStore:
        known = b""
    # The run that was killed may have handed in a part. A line without its newline was
    # never committed.
    if rest := data[len(known) : data.rfind(b"\n") + 1]:
        await runs.append(run, JOURNAL, len(known), rest)


def _files(folder: Path) -> list[Path]:
    logs = [*folder.glob("hosts/*.log"), *folder.glob("build/*.log")]
    report = folder / REPORT
    return [*([report] if report.exists() else []), *sorted(logs)]


def _left(folder: Path) -> list[Path]:
    """Return folders not handed in, oldest first; remove those handed in long ago."""
    runs = sorted(folder.iterdir()) if folder.exists() else []
    done = [path for path in runs if (path / _DONE).exists()]
    for path in done[:-KEEP]:
        shutil.rmtree(path, ignore_errors=True)
    # A run claims its folder before it has a journal, so a folder without one may be
    # claimed in a moment.
    return [path for path in runs if (path / JOURNAL).exists() and path not in done]
