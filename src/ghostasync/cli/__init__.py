"""
The command line: parse, call the API, map results and errors to an exit status.

Only the module of the command that was typed is imported, and rich and asyncssh only
where they are used: a command takes its imports' time before it does anything. The
process belongs to the command line, so signals, limits, the collector and the way the
process ends are set here and nowhere else.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import logging
import os
import resource
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import takewhile
from typing import Final

from cyclopts import (
    App,
    CycloptsError,
    Parameter,
    UnknownCommandError,
    UnusedCliTokensError,
)

from ..errors import (
    BuildError,
    Frozen,
    GhostasyncError,
    NothingToResume,
    PlanError,
    SourceError,
)
from ..model import ExitStatus
from ..views.text import last_lines
from ._exits import Interrupted
from ._home import find_home
from ._sink import Errors, show

__all__ = ["COMMANDS", "execute", "main"]

_FIRST: Final = ("--config", "--output")

COMMANDS: Final = {
    "init": "_init",
    "check": "_commands",
    "build": "_commands",
    "deploy": "_commands",
    "redeploy": "_commands",
    "converge": "_commands",
    "resume": "_commands",
    "rollback": "_commands",
    "boot-script": "_boot",
    "exec": "_commands",
    "history": "_commands",
    "logs": "_commands",
    "lock": "_commands",
    "unlock": "_commands",
    "status": "_commands",
    "swap": "_commands",
    "demo": "_demo",
    "explain": "_explain",
}
"""Each command, and the module that is imported when it is typed."""

_FILES: Final = 65536
"""
Open files to ask for, where the hard limit allows them. No more: scripts that run here
inherit the limit, and old programs close every number below it one by one.
"""

_NEW_OBJECTS: Final = 50_000
"""
Objects that are made before the collector looks for garbage among them.

A host of 10,000 takes the engine 1.3 ms of CPU then, as with no collector at all; with
Python's own 700 it is 2.0 ms.
"""


def main() -> None:
    """Run the command that was typed, and exit with its status."""
    statuses: list[int] = []
    # Handlers run in reverse order, so this one, the first to be registered, runs after
    # the threads and all other handlers.
    atexit.register(_leave, statuses)
    _prepare()
    # Lines that say what to type end in comments, and not every shell drops them. Words
    # behind "--" are a command for hosts, of which nothing may be dropped.
    if "--" not in sys.argv:
        sys.argv[1:] = takewhile("#".__ne__, sys.argv[1:])
    _import_commands(arrange(sys.argv[1:]))
    # Modules are never garbage, so the collector need not look at them; a run makes
    # some. It was off while they were imported.
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)
    gc.enable()
    statuses.append(execute(sys.argv[1:]))
    _flush()
    # A signal between the end of a run and that of the process would belie the exit
    # status. The interpreter takes Python's own handlers away before it has ended, but
    # not this one.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(statuses[0])


def execute(tokens: Sequence[str]) -> int:
    """
    Run one command and return its exit status; expected failures are short lines.

    Args:
        tokens: The arguments, without the program's name.
    """
    words = arrange(tokens)
    if words[:1] == ["--version"]:
        show([_version()], sys.stdout)
        return 0
    try:
        find_home()
        result = _application(words)(
            words,
            result_action="return_value",
            exit_on_error=False,
            print_error=False,
            help_on_error=False,
        )
    except CycloptsError as error:
        return _say([_usage(error)], ExitStatus.REFUSED)
    except PlanError as error:
        # Whoever wants nothing to be left unfinished has what they want.
        status = ExitStatus.REFUSED
        if isinstance(error, NothingToResume):
            status = ExitStatus.DONE
        elif isinstance(error, Frozen):
            status = ExitStatus.LOCKED
        return _say(str(error).splitlines(), status)
    except GhostasyncError as error:
        tail = error.tail if isinstance(error, BuildError | SourceError) else ""
        return _say([str(error), *last_lines(tail, 6, 300)], ExitStatus.FAILED)
    except (Interrupted, KeyboardInterrupt):
        return _say(["interrupted; every link is as it was"], ExitStatus.INTERRUPTED)
    return result if isinstance(result, int) else 0


def arrange(tokens: Sequence[str]) -> list[str]:
    """
    Move common options that stand before the command behind it.

    ``--config a.toml deploy --force`` becomes ``deploy --config a.toml --force``.
    """
    rest = list(tokens)
    moved: list[str] = []
    while rest and rest[0].split("=", 1)[0] in _FIRST:
        count = 1 if "=" in rest[0] else 2
        moved, rest = moved + rest[:count], rest[count:]
    return rest[:1] + moved + rest[1:]


def _usage(error: CycloptsError) -> str:
    """Say what is wrong with the command, in the words that the user typed."""
    match error:
        case UnusedCliTokensError(unused_tokens=words):
            return f"what is {' '.join(words or [])!r} for? See --help"
        case UnknownCommandError():
            problem = str(error).partition(" Available commands")[0]
            known = ", ".join(COMMANDS)
            return f"{problem} Commands: {known}."
    return " ".join(str(error).split())


def _import_commands(words: Sequence[str]) -> list[Callable[..., object]]:
    """Import the command that was typed, or all of them for a list of commands."""
    if words[:1] == ["--version"]:
        return []
    named = [name for name in words[:1] if name in COMMANDS]
    return [
        getattr(import_module(f".{COMMANDS[name]}", __name__), name.replace("-", "_"))
        for name in named or COMMANDS
    ]


def _application(words: Sequence[str]) -> App:
    app = App(
        name="ghostasync",
        help="Deploy to a whole fleet in two phases; put every link back if it fails.",
        version=_version,
        default_parameter=Parameter(show_default=False),
    )
    for command in _import_commands(words):
        app.command(command)
    return app


def _version() -> str:
    from importlib.metadata import version

    return version("ghostasync")


def _say(lines: Sequence[str], status: int) -> int:
    show((f"ghostasync: {line}" for line in lines), sys.stderr)
    return status


def _prepare() -> None:
    """Prepare the process: enough open files, and no death by a lost terminal."""
    # One connection a host stays open for the whole run; the usual soft limit, 1,024,
    # would end at some 1,000 hosts.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = max(soft, _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES))
    with contextlib.suppress(OSError, ValueError):
        if soft != resource.RLIM_INFINITY:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(Errors())
    # An older server has asyncssh compute what cryptography has deprecated, and both
    # tell their developers in the middle of our lines.
    warnings.filterwarnings("ignore", module=r"asyncssh\.")
    # A handler that does nothing ignores SIGHUP in this process only: programs that it
    # starts get the default again. Where nohup has SIGHUP ignored already, so it stays.
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda *_: None)


def _leave(statuses: Sequence[int]) -> None:
    """
    End the process once all else is done, without taking its objects apart.

    Taking them apart costs 60 to 100 ms of CPU and changes nothing. A process that a
    bug ended has no status, and ends the usual way, with a traceback.
    """
    _flush()
    if statuses:
        os._exit(statuses[0])


def _flush() -> None:
    """Flush the output; a reader that has gone is no failure of the command."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            # The interpreter flushes again at its end, and would exit with 120.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
