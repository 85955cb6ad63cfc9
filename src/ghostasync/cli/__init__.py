"""The command line: parse, call the API, map what comes out to an exit status."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final

from cyclopts import (
    App,
    CycloptsError,
    Parameter,
    UnknownCommandError,
    UnusedCliTokensError,
)

from ..errors import BuildError, GhostasyncError, PlanError
from ..views.text import last_lines, plain
from . import commands
from .demo import demo
from .options import arrange
from .running import INTERRUPTED, Interrupted
from .sink import show

__all__ = ["execute", "main"]

_REFUSED = 2
_FAILED = 1

_COMMANDS: Final = (
    commands.init,
    commands.check,
    commands.build,
    commands.deploy,
    commands.converge,
    commands.resume,
    commands.rollback,
    commands.status,
    demo,
)

_FILES: Final = 65536
"""Open files to ask for, where the hard limit allows them. No more: scripts here
inherit the limit, and old programs close every number below it one by one."""


def main() -> None:
    """Run the command that was typed, and exit with its status."""
    _prepare()
    status = execute(sys.argv[1:])
    _flush()
    for number in (signal.SIGINT, signal.SIGTERM):
        # The interpreter takes other handlers away before it has ended.
        signal.signal(number, signal.SIG_IGN)
    sys.exit(status)


def execute(tokens: Sequence[str]) -> int:
    """
    Run one command and return its exit status; expected failures are short lines.

    Args:
        tokens: The arguments, without the program's name.
    """
    try:
        result = _application()(
            arrange(tokens),
            result_action="return_value",
            exit_on_error=False,
            print_error=False,
            help_on_error=False,
        )
    except CycloptsError as error:
        return _say([_usage(error)], _REFUSED)
    except PlanError as error:
        return _say(str(error).splitlines(), _REFUSED)
    except GhostasyncError as error:
        tail = error.tail if isinstance(error, BuildError) else ""
        return _say([str(error), *last_lines(tail, 6, 300)], _FAILED)
    except (Interrupted, KeyboardInterrupt):
        return _say(["interrupted; every link is as it was"], INTERRUPTED)
    return result if isinstance(result, int) else 0


def _usage(error: CycloptsError) -> str:
    """Say what is wrong with what was typed, in the words of who typed it."""
    match error:
        case UnusedCliTokensError(unused_tokens=words):
            return f"what is {' '.join(words or [])!r} for? See --help"
        case UnknownCommandError():
            said = str(error).partition(" Available commands")[0]
            known = ", ".join(command.__name__ for command in _COMMANDS)
            return f"{said} Commands: {known}."
    return " ".join(str(error).split())


def _application() -> App:
    app = App(
        name="ghostasync",
        help="Deploy to a whole fleet in two phases; put every link back if it fails.",
        version=version("ghostasync"),
        default_parameter=Parameter(show_default=False),
    )
    for command in _COMMANDS:
        app.command(command)
    return app


def _say(lines: Sequence[str], status: int) -> int:
    show((f"ghostasync: {plain(line)}" for line in lines), sys.stderr)
    return status


def _prepare() -> None:
    """
    Prepare the process for a run: enough open files, and no death by a lost terminal.

    A handler that does nothing ignores SIGHUP here only: programs that are started
    get the default again.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = max(soft, _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES))
    with contextlib.suppress(OSError, ValueError):
        if soft != resource.RLIM_INFINITY:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda *_: None)


def _flush() -> None:
    """Flush what is left; the interpreter must not mind that nobody reads it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
