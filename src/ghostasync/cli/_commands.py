"""
A function for each command that works on a plan; each returns the exit status.

One file, though long: commands share their options, and the end of a run.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated, TextIO

import attrs
from cyclopts import Parameter
from cyclopts.validators import Number

import ghostasync as api

from .. import Run
from ..errors import PlanError
from ..goal import Converge, Execute, Goal, Redeploy, Resume, Revert, Rollback, Swap
from ..model import ExitStatus, Plan, Report
from ..views.summary import TypedCommand, failure, is_clean, success
from ..views.text import plural
from . import _tables as tables
from ._frontend import FrontEnd
from ._options import (
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
    parse_time,
)
from ._running import Signals, conduct, run_async, supervise
from ._sink import show
from ._why import why

__all__ = [
    "build",
    "check",
    "closing",
    "converge",
    "deploy",
    "exec",
    "history",
    "lock",
    "logs",
    "redeploy",
    "resume",
    "rollback",
    "status",
    "swap",
    "unlock",
]


def check(*, limit: Repeatable = (), options: Common = COMMON) -> int:
    """
    Look at sources, store and hosts with the deploy's own eyes; changes nothing.

    Where nothing stands in the way, it says what is live and what would be deployed.

    Args:
        limit: Hosts: globs, !x, label=v, @failed, @behind; a comma is "and".

        options: As everywhere.
    """
    answer = run_async(partial(api.overview, options.plan(), limit=limit))
    as_json = options.output == "json"
    show(
        tables.overview_json(answer) if as_json else tables.overview(answer), sys.stdout
    )
    bad = any(not finding.warning for finding in answer.findings)
    return ExitStatus.FAILED if bad else ExitStatus.DONE


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
    # The ids are for $(…), so progress goes to stderr. JSON has them in its records.
    stream = sys.stdout if options.output == "json" else sys.stderr
    with FrontEnd(options.output, stream) as front:

        async def work(_: Signals) -> list[str]:
            made = await api.build(
                plan, modules=modules, rev=rev, force=force, observe=front.observe
            )
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
    goal = pick.goal(modules, mode)
    if mode.dry_run and mode.why:
        raise PlanError(
            "--why needs a build, and --dry-run makes none: say one of them"
        )
    if not mode.dry_run:
        return _run(options, plan, goal, locking, limit=pick.limit)
    answer = run_async(
        partial(
            api.dry_run,
            plan,
            modules=goal.modules,
            rev=goal.rev,
            packages=goal.packages,
            force=goal.force,
            back=goal.back,
            limit=pick.limit,
            inventory_shrank=locking.inventory_shrank,
        )
    )
    return _preview(options, answer)


def redeploy(
    *packages: str,
    limit: Repeatable = (),
    limits: Limits = LIMITS,
    force: Flag = False,
    dry_run: Flag = False,
    locking: Locking = LOCKING,
    options: Common = COMMON,
) -> int:
    """
    Deploy what a run had released, or other stored packages; nothing is built.

    Args:
        packages: A run, by how its id begins, or packages, one for each module: by id,
            by commit, or by how one begins. History names them.

        limit: Hosts: globs, !x, label=v, @failed, @behind; a comma is "and".

        limits: How to go about it.

        force: Deploy again what is unchanged.

        dry_run: Look at hosts, and say what would be done; nothing is changed.

        locking: What to do where another run holds a host.

        options: As everywhere.
    """
    plan = limits.applied(options.plan())
    goal = Redeploy(packages, force)
    if not dry_run:
        return _run(options, plan, goal, locking, limit=limit)
    look = partial(api.dry_run, plan, redeploy=packages, force=force, limit=limit)
    shrank = locking.inventory_shrank
    return _preview(options, run_async(partial(look, inventory_shrank=shrank)))


def _preview(options: Common, answer: api.Preview) -> int:
    """Show what a run would do; return the exit status that it would have."""
    as_json = options.output == "json"
    status = answer.exit_status
    if status == ExitStatus.REFUSED:
        # What is refused leaves stdout empty; people see all the same what would go.
        show([] if as_json else tables.preview(answer), sys.stderr)
        raise PlanError(answer.refused)
    show(
        [tables.preview_json(answer)] if as_json else tables.preview(answer), sys.stdout
    )
    return status


def converge(*hosts: str, locking: Locking = LOCKING, options: Common = COMMON) -> int:
    """
    Bring hosts to what MANIFEST says, from stored packages; those in line are left.

    Args:
        hosts: Names, or expressions as for --limit; all hosts by default.

        locking: What to do where another run holds a host.

        options: As everywhere.
    """
    return _run(options, options.plan(), Converge(), locking, limit=hosts)


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
        run: The run, by how its id begins; the newest that is unfinished by default.

        revert: Put every host back to what it served before that run.

        locking: What to do where another run holds a host.

        options: As everywhere.
    """
    goal = Revert(run) if revert else Resume(run)
    return _run(options, options.plan(), goal, locking)


def rollback(
    run: str = "",
    /,
    *,
    to: Repeatable = (),
    limit: Repeatable = (),
    remove: Flag = False,
    recorded_secrets: Flag = False,
    force: Flag = False,
    dry_run: Flag = False,
    yes: Flag = False,
    locking: Locking = LOCKING,
    options: Common = COMMON,
) -> int:
    """
    Undo a run: take the hosts that it moved to what they served before.

    On a terminal, where neither RUN nor --to is said, it shows what there was and what
    would go back, and asks first.

    Args:
        run: The run to undo, or how its id begins; by default the newest that stands.

        to: The release to go to instead, by its id, its commit, or how one begins; one
            for each module. Repeatable.

        limit: Hosts: globs, !x, label=v, @failed, @behind; a comma is "and".

        remove: Remove the links of modules that the run had brought.

        recorded_secrets: Have scripts see the secrets that the release had.

        force: Go back past a before_switch that has no way back (no_return).

        dry_run: Look at hosts, and say where each would go.

        yes: Do not ask.

        locking: What to do where another run holds a host.

        options: As everywhere.
    """
    plan = options.plan()
    goal = Rollback(run, to, remove, recorded_secrets, force)
    as_json = options.output == "json"
    # Scripts and CI are never asked, and a person who names what to undo knows it.
    people = sys.stdin.isatty() and sys.stdout.isatty() and not as_json
    asks = people and not (yes or run or to)
    if not (dry_run or asks):
        return _run(options, plan, goal, locking, limit=limit)
    look = partial(api.preview_rollback, plan, run=run, to=to, limit=limit)
    answer = run_async(partial(look, remove=remove, force=force))
    told = [*tables.releases(answer, time.time()), *tables.ways(answer)]
    hosts = plural(len(answer.to), "host")
    if dry_run:
        told += [f"{hosts}; nothing was changed"]
        show([tables.back_json(answer)] if as_json else told, sys.stdout)
        return 0
    show(told, sys.stdout)
    if not _agrees(f"take {hosts} back? [y/N] "):
        show(["nothing was changed"], sys.stdout)
        return ExitStatus.FAILED
    goal = attrs.evolve(goal, agreed=answer.run)
    return _run(options, plan, goal, locking, limit=limit)


def swap(
    *,
    other: Annotated[Path, Parameter(name="--with")],
    to: str = "",
    locking: Locking = LOCKING,
    options: Common = COMMON,
) -> int:
    """
    Have visitors get the other color: its hosts come in, then these go out.

    The same again takes them back. Hosts that come in have to serve what MANIFEST says
    and to be healthy.

    Args:
        other: The configuration of the other color.

        to: The color that is to be active, blue or green; by default the one that is
            not.

        locking: What to do where another run holds a host.

        options: As everywhere.
    """
    from ..config import load_plan

    goal = Swap(load_plan(other), to)
    return _run(options, options.plan(), goal, locking)


def exec(  # noqa: A001  the command's name
    *command: str,
    script: Path | None = None,
    module: str = "",
    limit: Repeatable = (),
    limits: Limits = LIMITS,
    locking: Locking = LOCKING,
    options: Common = COMMON,
) -> int:
    """
    Run a script on hosts, in the release that each serves, wave by wave.

    What hosts print goes to stdout, equal outputs once; all else to stderr. No link
    moves, and nothing is taken back.

    Args:
        command: Behind "--": one word is a line for sh, more are a program and its
            arguments.

        script: A file to run instead; its first line says by what.

        module: The module whose folder and variables it gets; needed with several.

        limit: Hosts: globs, !x, label=v, @failed, @behind; a comma is "and".

        limits: How to go about it.

        locking: What to do where another run holds a host.

        options: As everywhere.
    """
    goal = Execute(_text(command, script), module)
    plan = limits.applied(options.plan())
    as_json = options.output == "json"
    front = FrontEnd(*("json", sys.stdout) if as_json else ("lines", sys.stderr))
    report = _conduct(front, plan, goal, locking, limit)
    if not as_json:
        show(tables.outputs(_printed(report)), sys.stdout)
    closing(report, front, _typed(options), sys.stderr)
    return report.exit_status


def _printed(report: Report) -> Iterator[api.Log]:
    """Yield the logs of a run's hosts, from its folder here."""
    for name, host in report.hosts.items():
        with suppress(OSError):  # nothing was printed there
            yield api.Log(Path(host.log).read_bytes(), host=name)


def _text(command: tuple[str, ...], script: Path | None) -> str:
    """
    Return the script that was typed, or is in a file.

    Raises:
        PlanError: Both are said, or the file cannot be read.
    """
    if script is None:
        return command[0] if len(command) == 1 else shlex.join(command)
    if command:
        raise PlanError("exec: say --script FILE or -- COMMAND, not both")
    try:
        return os.fsdecode(script.read_bytes())
    except OSError as exc:
        raise PlanError(f"exec: {script}: {exc.strerror}") from None


def _agrees(question: str) -> bool:
    """Ask the person at the terminal; the end of its input is a no."""
    try:
        return input(question).strip().lower() in {"y", "yes"}
    except EOFError:
        return False


def status(*, limit: Repeatable = (), options: Common = COMMON) -> int:
    """
    Say what hosts serve, and whether that is what MANIFEST says.

    Args:
        limit: Hosts: globs, !x, label=v, @failed, @behind; a comma is "and".

        options: As everywhere.
    """
    fleet = run_async(partial(api.status, options.plan(), limit=limit))
    command = _typed(options)
    as_json = options.output == "json"
    shown = [tables.status_json(fleet)] if as_json else tables.status(fleet, command)
    show(shown, sys.stdout)
    return fleet.exit_status


def history(
    *,
    count: Annotated[int, Parameter(validator=Number(gte=1))] = 20,
    verify: Flag = False,
    options: Common = COMMON,
) -> int:
    """
    Say which runs there were, the newest first, those that failed too.

    Args:
        count: How many.

        verify: Compare the journals instead with what later runs saw of them; exit
            status 1: some were changed, cut off or taken away.

        options: As everywhere.
    """
    as_json = options.output == "json"
    if verify:
        compared, wrong = run_async(partial(api.verify_history, options.plan()))
        if as_json:
            show([tables.verified_json(compared, wrong)], sys.stdout)
        else:
            show(tables.verified(compared, wrong), sys.stdout)
        return ExitStatus.FAILED if wrong else ExitStatus.DONE
    entries = run_async(partial(api.past_runs, options.plan(), count=count))
    told = tables.history(entries, time.time())
    show(tables.history_json(entries) if as_json else told, sys.stdout)
    return 0


def lock(*, reason: str = "", until: str = "", options: Common = COMMON) -> int:
    """
    Freeze the app: nothing is deployed until unlock, but a rollback is.

    Args:
        reason: Why; those who are stopped by it read it.

        until: The end: a time of today or tomorrow, 18:00, or 2026-01-31T18:00, of this
            machine's clock.

        options: As everywhere.
    """
    plan, ends = options.plan(), parse_time(until)
    left = run_async(partial(api.freeze, plan, reason, until=ends))
    end = f" until {until}" if until else ""
    done = f"frozen{end}: {reason}"
    return _frozen(options, left, done, "not frozen, but for this store")


def unlock(*, options: Common = COMMON) -> int:
    """
    End a freeze, whoever has asked for it.

    Args:
        options: As everywhere.
    """
    left = run_async(partial(api.unfreeze, options.plan()))
    done = "no longer frozen in the store" if left else "nothing is frozen"
    return _frozen(options, left, done, "still frozen")


def _frozen(options: Common, left: Mapping[str, str], done: str, but: str) -> int:
    """Say what was done in the store, and on which hosts it was not."""
    as_json = options.output == "json"
    lines = [f"{host}: {but}: {reason}" for host, reason in left.items()]
    show([tables.frozen_json(done, left)] if as_json else [done, *lines], sys.stdout)
    return ExitStatus.FAILED if left else ExitStatus.DONE


def logs(
    run: str = "",
    host: str = "",
    /,
    *,
    script: str = "",
    options: Common = COMMON,
) -> int:
    """
    Print what the scripts of a run printed; no host is contacted.

    Args:
        run: The beginning of the run's id; the newest run by default.

        host: The output on this host alone.

        script: The output of this script alone, such as post_deploy.

        options: As everywhere.
    """
    found = run_async(partial(api.logs, options.plan(), run, host=host, script=script))
    as_json = options.output == "json"
    show(tables.logs_json(found) if as_json else tables.logs(found), sys.stdout)
    return 0


def _run(
    options: Common,
    plan: Plan,
    goal: Goal,
    locking: Locking,
    *,
    limit: tuple[str, ...] = (),
) -> int:
    """Carry out a run with its front end, and say its last words."""
    front = FrontEnd(options.output, sys.stdout)
    report = _conduct(front, plan, goal, locking, limit)
    closing(report, front, _typed(options))
    return report.exit_status


def _typed(options: Common) -> TypedCommand:
    return TypedCommand.typed(sys.argv[1:], options.config)


def _conduct(
    front: FrontEnd, plan: Plan, goal: Goal, locking: Locking, limit: tuple[str, ...]
) -> Report:
    with front:

        def begin() -> AbstractAsyncContextManager[Run]:
            return api.start(
                plan,
                goal,
                limit=limit,
                wait=locking.wait,
                break_lock=locking.break_lock,
                reason=locking.reason,
                inventory_shrank=locking.inventory_shrank,
                observe=front.observe,
            )

        return run_async(partial(conduct, front, begin))


def closing(
    report: Report,
    front: FrontEnd,
    command: TypedCommand | None,
    stream: TextIO | None = None,
) -> None:
    """Say the last words: success on *stream*, else stdout, failures on stderr."""
    if front.output == "board":
        # Lines have said it when it was found out.
        show(chain.from_iterable(map(why, front.board.differs)), stream or sys.stdout)
    # A partial run is both: it exits with 0, and hosts of it need to be looked at.
    if report.exit_status == 0 and front.output != "json":
        show([success(report, front.board)], stream or sys.stdout)
    if not is_clean(report):
        width = shutil.get_terminal_size().columns
        show(failure(report, front.board, command, width), sys.stderr)
