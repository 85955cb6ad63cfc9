"""One function for each command: parse, call, show; what they return is the exit."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final

from .. import _api as api
from .._jobs import Selection
from .._run import Run
from ..errors import PlanError
from ..model import Action, Report
from . import tables
from .frontend import FrontEnd
from .options import (
    COMMON,
    LIMITS,
    LOCKING,
    MODE,
    PICK,
    Common,
    Flag,
    Limits,
    Locking,
    Mode,
    Pick,
    Repeatable,
)
from .running import Signals, conduct, run_async, supervise
from .sink import show
from .summary import Command, failure, is_clean, success

__all__ = [
    "build",
    "check",
    "closing",
    "converge",
    "deploy",
    "resume",
    "rollback",
    "status",
]

_FINDINGS: Final = 1
_DRIFT: Final = 6
_STATUS: Final = {"stranded": 3, "unreachable": _DRIFT, "drift": _DRIFT}


def check(*, limit: Repeatable = (), options: Common = COMMON) -> int:
    """
    Look at sources and hosts with the deploy's own eyes; changes nothing.

    Args:
        limit: Hosts: name globs, !x, label=v, @failed; a comma is "and". Repeatable.

        options: As everywhere.
    """
    plan, selection = options.plan(), Selection(limit=limit)
    found = run_async(partial(api.check, plan, selection=selection))
    as_json = options.output == "json"
    show(tables.findings_json(found) if as_json else tables.findings(found), sys.stdout)
    return _FINDINGS if any(not item.warning for item in found) else 0


def build(
    *modules: str, rev: str = "", force: Flag = False, options: Common = COMMON
) -> int:
    """
    Fetch, build and store packages, and print their ids; no host is contacted.

    Args:
        modules: MODULE or MODULE@REV; all by default.

        rev: A branch, tag or commit instead of the configured one; for one repository.

        force: Build again what is unchanged.

        options: As everywhere.
    """
    plan = options.plan()
    selection = Selection(modules=modules, rev=rev, force=force)
    # The ids are for $(…): whatever else there is to see goes beside them.
    stream = sys.stdout if options.output == "json" else sys.stderr
    with FrontEnd(options.output, stream) as front:

        async def work(_: Signals) -> list[str]:
            made = await api.build(plan, selection=selection, observe=front.observe)
            return [package.id for package in made.values()]

        ids = run_async(partial(supervise, front, work))
    if options.output != "json":
        show(ids, sys.stdout)
    return 0


def deploy(
    *modules: str,
    pick: Pick = PICK,
    limits: Limits = LIMITS,
    mode: Mode = MODE,
    locking: Locking = LOCKING,
    options: Common = COMMON,
) -> int:
    """
    Put one release on every host, wave by wave; where it fails, put it back.

    Args:
        modules: MODULE or MODULE@REV; all by default.

        pick: What to deploy where.

        limits: How to go about it.

        mode: In earnest or not.

        locking: What to do where another run holds a host.

        options: As everywhere.
    """
    plan = limits.applied(options.plan())
    selection = pick.selection(modules, force=mode.force, locking=locking)
    if not mode.dry_run:
        return _run(options, partial(api.start, plan, selection=selection))
    found = run_async(partial(api.dry_run, plan, selection=selection))
    as_json = options.output == "json"
    show([tables.preview_json(found)] if as_json else tables.preview(found), sys.stdout)
    return 0


def converge(*hosts: str, locking: Locking = LOCKING, options: Common = COMMON) -> int:
    """
    Bring hosts to what MANIFEST says, from stored packages; those in line are left.

    Args:
        hosts: Names, or expressions as for --limit; all hosts by default.

        locking: What to do where another run holds a host.

        options: As everywhere.
    """
    begin = partial(
        api.start,
        options.plan(),
        selection=Selection(wait=locking.wait, break_lock=locking.break_lock),
        action=Action.CONVERGE,
        hosts=hosts,
    )
    return _run(options, begin)


def resume(
    run: str = "",
    /,
    *,
    revert: Flag = False,
    locking: Locking = LOCKING,
    options: Common = COMMON,
) -> int:
    """
    Finish a run whose controller was killed, or put back what it did.

    Args:
        run: The run's id; the newest that is unfinished by default.

        revert: Put every host back to what it served before that run.

        locking: What to do where another run holds a host.

        options: As everywhere.
    """
    selection = Selection(
        run=run, revert=revert, wait=locking.wait, break_lock=locking.break_lock
    )
    plan = options.plan()
    begin = partial(api.start, plan, selection=selection, action=Action.RESUME)
    return _run(options, begin)


def rollback(
    run: str = "",
    /,
    *,
    to: Repeatable = (),
    limit: Repeatable = (),
    locking: Locking = LOCKING,
    options: Common = COMMON,
) -> int:
    """
    Take the fleet back to an earlier release, on the road of a deploy.

    Args:
        run: To what served before this run; by default before the one that brought
            what serves now.

        to: The id of the release to go to instead, one for each module. Repeatable.

        limit: Hosts: name globs, !x, label=v, @failed; a comma is "and". Repeatable.

        locking: What to do where another run holds a host.

        options: As everywhere.
    """
    if run and to:
        raise PlanError("rollback: say RUN or --to RELEASE, not both")
    selection = Selection(
        packages=to,
        limit=limit,
        run=run,
        wait=locking.wait,
        break_lock=locking.break_lock,
    )
    plan = options.plan()
    begin = partial(api.start, plan, selection=selection, action=Action.ROLLBACK)
    return _run(options, begin)


def status(*, limit: Repeatable = (), options: Common = COMMON) -> int:
    """
    Say what hosts serve, and whether that is what MANIFEST says.

    Args:
        limit: Hosts: name globs, !x, label=v, @failed; a comma is "and". Repeatable.

        options: As everywhere.
    """
    plan, selection = options.plan(), Selection(limit=limit)
    fleet = run_async(partial(api.status, plan, selection=selection))
    command = Command.typed(sys.argv[1:], options.config)
    as_json = options.output == "json"
    said = [tables.status_json(fleet)] if as_json else tables.status(fleet, command)
    show(said, sys.stdout)
    states = {host.state for host in fleet.hosts.values()}
    killed = fleet.run is not None and fleet.run.moved and not fleet.run.holder
    in_line = _DRIFT if killed else 0
    return next((code for state, code in _STATUS.items() if state in states), in_line)


def _run(
    options: Common, begin: Callable[..., AbstractAsyncContextManager[Run]]
) -> int:
    """Carry out a run with its front end, and say how it ended."""
    with FrontEnd(options.output, sys.stdout) as front:

        def start() -> AbstractAsyncContextManager[Run]:
            return begin(observe=front.observe)

        report = run_async(partial(conduct, front, start))
    closing(report, front, Command.typed(sys.argv[1:], options.config))
    return report.exit_status


def closing(report: Report, front: FrontEnd, command: Command | None) -> None:
    """Say the last words: success on stdout, what went wrong on stderr."""
    if report.exit_status == 0 and front.output != "json":
        show([success(report, front.board)], sys.stdout)
    if not is_clean(report):
        show(failure(report, front.board, command), sys.stderr)
