"""
The last words of a run: the failures, the releases served now, the next command.

A failed run may print eight lines, because a person reads them at night in
the log of a job. The headline has the outcome and its reason, then come failures folded
by reason, the last output of the gravest one, and three lines that say what the fleet
serves now, where the log is, and what to type next.

One file, though long: all last words of a run, which have to agree.
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Final

import attrs

from .. import events as e
from ..model import Action, Outcome, Report
from ..model import State as S  # noqa: N817  as in the table of states
from .board import Board
from .folding import WIDTH, Failure, fold_hosts, short_hosts
from .text import last_lines, plural, size, span

__all__ = ["MAX_LINES", "TypedCommand", "failure", "is_clean", "success"]

MAX_LINES: Final = 8
"""Lines that a failed run may print at its end."""

_DETAILS: Final = 4
"""Lines of these for reasons and output; the others are one each."""

_LONGEST: Final = 300
"""Characters of a line that a script printed; binary data has endless lines."""

_UNKNOWN: Final = "unknown"

_WAIT: Final = "600"
"""Seconds to wait for another run; most are over by then."""

_SCRIPTS: Final = frozenset(
    {S.PREPARING, S.DRAINING, S.ACTIVATING, S.VERIFYING, S.UNDRAINING, S.LIVE}
)
"""States whose work is scripts: those of the release, or of a balancer."""

_REFUSED: Final = 2
"""Exit status of a run that is not what the caller took it for."""

_NAMED: Final = 80
"""Characters of host names in a command."""


@attrs.frozen
class TypedCommand:
    """
    The command that the user typed, for the line "next:"; *patient* has --wait.

    A comment behind a command is one word "#" and words without a sign that any shell
    takes for its own: where a shell hands them on, the command line drops them.
    """

    this: str = "ghostasync deploy"
    config: str = ""
    patient: str = f"ghostasync deploy --wait {_WAIT}"
    tokens: tuple[str, ...] = ("deploy",)

    @classmethod
    def typed(cls, tokens: Sequence[str], config: Path | None) -> TypedCommand:
        """Make the command of its *tokens*, quoted for a shell, for people to see."""
        chosen = shlex.join(["--config", str(config)]) if config else ""
        # What stands behind "--" are words of another command.
        own = [*takewhile("--".__ne__, tokens)]
        other = tokens[len(own) :]
        own = _without("--output", own)
        patient = ["ghostasync", *_without("--wait", own), "--wait", _WAIT, *other]
        this = shlex.join(["ghostasync", *own, *other])
        return cls(this, chosen, shlex.join(patient), (*own, *other))

    def other(self, words: str) -> str:
        """Return another command, for the same configuration."""
        return " ".join(filter(None, ["ghostasync", words, self.config]))

    def converge(self, hosts: Sequence[str], group: str = "") -> str:
        """Return what brings *hosts* in line; where they are many, it names *group*."""
        names = shlex.join(hosts)
        few = len(names) <= _NAMED
        return self.other(f"converge {names if few or not group else group}")

    def sparing(self, hosts: Sequence[str]) -> str:
        """Return the same deploy without *hosts*, which have failed in it."""
        names = [f"!{host}" for host in hosts]
        spared = ",".join(names if len(",".join(names)) <= _NAMED else ["!@failed"])
        tokens, limits = [], 0
        rest = iter(self.tokens)
        for token in rest:
            option, equals, value = token.partition("=")
            if option != "--limit":
                tokens.append(token)
                continue
            limits += 1
            # Several add up, so each has to spare them; one of their names goes.
            if (value := value if equals else next(rest, "")) not in hosts:
                tokens += ["--limit", f"{value},{spared}"]
        if not limits:
            tokens += ["--limit", spared]
        return shlex.join(["ghostasync", *tokens])


def _without(option: str, tokens: Sequence[str]) -> list[str]:
    """Return *tokens* without *option* and its value."""
    kept: list[str] = []
    rest = iter(tokens)
    for token in rest:
        if token == option:
            next(rest, None)
        elif not token.startswith(f"{option}="):
            kept.append(token)
    return kept


def is_clean(report: Report) -> bool:
    """Tell whether there is nothing to say but that it went well."""
    over = {Outcome.LIVE, Outcome.UNCHANGED}
    return report.outcome in over and report.exit_status == 0


def success(report: Report, board: Board) -> str:
    """Say in one line how a run went that ended with exit status 0."""
    states = [host.state for host in report.hosts.values()]
    live, same = states.count(S.LIVE), states.count(S.UNCHANGED)
    took = f"in {span(report.seconds)}"
    if board.started and board.started.revert:
        back = plural(states.count(S.ROLLED_BACK), "host")
        rest = f"; {same} had nothing to go back from" if same else ""
        return f"{back} back {took}, as before run {board.started.of}{rest}"
    if board.executes:
        return f"exec on {plural(same, 'host')} {took}"
    if board.swaps:
        return (
            f"{board.swaps} is active {took}, on {plural(same, 'host')} of both colors"
        )
    if not live:
        return f"{plural(same, 'host')} unchanged {took}: they serve it already"
    parts = [f"{plural(live, 'host')} live {took}"]
    if same:
        parts.append(f"{same} unchanged")
    if board.wave_count > 1:
        parts.append(
            f"{board.wave_count} waves, the widest switched within {span(report.skew)}"
        )
    elif live > 1:
        parts.append(f"old and new together for {span(report.skew)}")
    if report.nbytes or not report.fetched:
        parts.append(f"{size(report.nbytes)} sent")
    if report.fetched:
        parts.append(f"{size(report.fetched)} fetched by hosts")
    return "; ".join(parts)


def failure(
    report: Report, board: Board, command: TypedCommand | None, width: int = 80
) -> list[str]:
    """
    Say in at most :data:`MAX_LINES` lines why a run failed and what to do now.

    Args:
        report: The outcome.

        board: The same run, folded from its records.

        command: What was typed; None where nothing is left to look at or to do.

        width: Cells of a line of the terminal. Longer lines are wrapped there, so names
            of hosts are told in full where they fit.
    """
    failures = _failures(board)
    news = [group for group in failures if not _is_headline(group, report, board)]
    # Where they are many, reasons say more than the output of one script.
    details = _reasons(news, _DETAILS - (len(news) < _DETAILS), width)
    worst = next((group for group in failures if group.tail), None)
    if worst and len(details) < _DETAILS:
        output = last_lines(worst.tail, _DETAILS - len(details), _LONGEST)
        # A reason ends with the last line of the script, so a single line is not shown
        # twice.
        if len(output) > 1 or not worst.reason.endswith(tuple(output)):
            details += [f"    | {line}" for line in output]
    lines = [
        _headline(report, board, failures),
        *details,
        *(
            []
            if board.executes or board.swaps
            else [f"  now:  {_serving(report, board)}"]
        ),
    ]
    if command is None:
        return lines
    if log := _log(report, failures):
        lines.append(f"  log:  {log}")
    return [*lines, f"  next: {_next(report, board, command)}"]


def _headline(report: Report, board: Board, failures: Sequence[Failure]) -> str:
    words = report.outcome.value
    if report.outcome is Outcome.LOCKED and failures:
        return f"ghostasync: {words}"  # the holder comes next, and is long
    if board.swaps and report.outcome is Outcome.PARTIAL:
        words = f"{board.swaps} is active, but not all is well"
    elif report.outcome is Outcome.PARTIAL:
        bad = sum(host.stage is not None for host in report.hosts.values())
        done = "done" if board.executes else "live"
        words = f"{done}, but not on {plural(bad, 'host')}, as max_failures allows"
    elif report.outcome in {Outcome.LIVE, Outcome.UNCHANGED}:
        words = "live, but not all is well"
    reason = f": {' '.join(last_lines(report.reason, 3))}" if report.reason else ""
    return f"ghostasync: {words}{reason}"


def _is_headline(group: Failure, report: Report, board: Board) -> bool:
    """Tell whether the headline has this failure: one of a build, with its module."""
    # A failed build has the name of its module where others have names of hosts.
    (name, *_) = group.names
    row = board.modules.get(name) if group.stage is None else None
    named = name in report.reason.replace(":", " ").split()
    reasons = {group.reason, f"{name}: {group.reason}"}
    return named and row is not None and report.reason in reasons


def _failures(board: Board) -> list[Failure]:
    """Return the failures: stranded hosts, then those of the run, then other hosts."""
    hosts = list(board.failures)
    stranded = [group for group in hosts if group.stage is S.ROLLING_BACK]
    ours = [
        _of_build(row.name, row.failed) for row in board.modules.values() if row.failed
    ]
    if (row := board.gate) and (gate := row.failed):
        where = gate.host if isinstance(gate, e.BeforeSwitchFailed) else row.where
        ours.append(Failure(None, gate.reason, (where,), gate.tail))
    if after := board.after_all:
        ours.append(Failure(None, after.reason, ("after_all_deploy",), after.tail))
    return [*stranded, *ours, *hosts[len(stranded) :]]


def _of_build(module: str, failed: e.BuildFailed) -> Failure:
    reason = failed.reason.removeprefix(f"{module}: ")
    return Failure(None, reason, (module,), failed.tail)


def _reasons(failures: Sequence[Failure], room: int, width: int) -> list[str]:
    shown = failures if len(failures) <= room else failures[: room - 1]
    lines = []
    for group in shown:
        stage = f"{group.step}: " if group.step else ""
        why = f"  {stage}{' '.join(last_lines(group.reason, 2))}"
        names = short_hosts(group.names, max(WIDTH, width - len(why) - 2))
        lines.append(f"  {names}{why}")
    if len(shown) < len(failures):
        rest = sum(len(group.hosts) for group in failures[len(shown) :])
        kinds = plural(len(failures) - len(shown), "other reason")
        lines.append(f"  {plural(rest, 'more host')}, {kinds}")
    return lines


def _serving(report: Report, board: Board) -> str:
    """Say which releases the selected hosts serve: the unknown, then by frequency."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name, host in report.hosts.items():
        groups[_served(name, host.state, report, board)].append(name)
    # Three groups at most: a fleet in pieces is looked at by status, not in one line.
    told = sorted(groups.items(), key=lambda g: (g[0] != _UNKNOWN, -len(g[1])))
    if len(told) == 1 and told[0][0]:
        return _serves(told[0][0], plural(len(told[0][1]), "host"))
    lines = []
    for serves, hosts in told[:3]:
        names = fold_hosts(hosts)
        if len(names) > WIDTH:
            # One name of many helps only where a person is to look there.
            look = serves == _UNKNOWN
            names = short_hosts(hosts) if look else plural(len(hosts), "host")
        lines.append(_serves(serves or "as before", names))
    rest = sum(len(hosts) for _, hosts in told[3:])
    return "; ".join(lines + ([f"others on {plural(rest, 'host')}"] if rest else []))


def _serves(what: str, hosts: str) -> str:
    return f"{what} on {hosts}" + (": look there" if what == _UNKNOWN else "")


def _served(name: str, state: S, report: Report, board: Board) -> str:
    """Return the releases of a host; empty where it is as before and never said."""
    # A host that failed while it went back, or that a run which takes back could not
    # look at, may serve either release: nobody knows until a person has looked.
    reverting = board.started is not None and board.started.revert
    if state is S.STRANDED or (reverting and state is S.FAILED):
        return _UNKNOWN
    row = board.hosts.get(name)
    serves = dict(row.serves or {}) if row else {}
    if state is S.LIVE:
        made = {
            m.name: m.packaged.package for m in board.modules.values() if m.packaged
        }
        new = {**made, **report.releases}
        # A host gets its own modules only, those that CHECKING looked at.
        serves |= {m: new[m] for m in new if row is None or m in (row.serves or new)}
    if row is None or (row.serves is None and not serves):
        return ""
    return ", ".join(filter(None, serves.values())) or "no release"


def _log(report: Report, failures: Sequence[Failure]) -> str:
    """Return the log of the first host that failed, else that of the run."""
    hosts = [
        report.hosts[name]
        for f in failures
        for name in f.names[:1]
        if name in report.hosts
    ]
    return next((host.log for host in hosts if host.log), report.log)


def _next(report: Report, board: Board, command: TypedCommand) -> str:
    """Return the one command to type next."""
    # Typed again, a swap that another one has overtaken would go the other way.
    if board.swaps or report.exit_status == _REFUSED:
        return command.other("status")
    if report.outcome in {Outcome.STRANDED, Outcome.LIVE, Outcome.UNCHANGED}:
        return _look(report, board, command)
    if report.outcome is Outcome.LOCKED:
        # Nobody can say when a person ends what a person has frozen.
        frozen = any(f.reason.startswith("frozen ") for f in board.failures)
        return command.other("status") if frozen else command.patient
    if output := _read_output(board, command):
        return output
    if report.outcome is Outcome.PARTIAL:
        return _bring_the_rest(board, command)
    return _again(board, command)


def _read_output(board: Board, command: TypedCommand) -> str:
    """Return what shows the output of a script that failed; it will fail again."""
    run = board.run
    for row in board.modules.values():
        if row.failed and row.failed.exit_status is not None:
            return command.other(f"logs {run} --script buildpack")
    if (gate := board.gate) and (closed := gate.failed):
        host = getattr(closed, "host", "")  # after_wave runs here
        host = f"{shlex.quote(host)} " if host else ""
        return command.other(f"logs {run} {host}--script {gate.name}")
    for failure in board.failures:
        if failure.stage in _SCRIPTS or not failure.step:
            return command.other(f"logs {run} {shlex.quote(failure.names[0])}")
    # Whether a script of a person bears another run is theirs to say.
    if board.executes:
        return command.other("check" if board.failed else f"logs {run}")
    return ""


def _bring_the_rest(board: Board, command: TypedCommand) -> str:
    """Return what brings hosts in line that max_failures has allowed to fail."""
    failed = [row.name for row in board.failed]
    if not failed:
        return command.other("status")
    # MANIFEST has moved: the hosts that failed lack nothing but what it says. Under
    # --limit it has not, and a converge would take back what has just been done.
    limited = board.started is not None and board.started.limited
    cure = command.this if limited else command.converge(failed, "@failed")
    dead = _unreachable(board) == failed
    return f"{cure}   # once {_they_answer(failed)}" if dead else cure


def _again(board: Board, command: TypedCommand) -> str:
    """Return what to type after a failure that left all hosts as they were."""
    # A tree that was fetched can be built alone; a source that was not is looked at.
    for row in board.modules.values():
        if row.failed:
            return command.other(f"build {row.name}" if row.fetched else "check")
    started, stopped = board.started, board.stopped
    failed = [row.name for row in board.failed]
    if failed:
        dead = _unreachable(board)
        if started and dead == failed and len(dead) < len(board.hosts):
            return _go_on_without(dead, started, command)
        # Hosts that are not fit for the plan stay so until somebody has looked.
        return command.other("check")
    if started and started.action == Action.RESUME.value and board.going_back:
        # The resumed run has been taken back as a whole, so nothing is left to resume.
        return command.other("deploy")
    # The run's own rules stopped it, without a host that failed: they would again.
    if stopped and stopped.cause == "policy":
        return command.other("status")
    return command.this


def _unreachable(board: Board) -> list[str]:
    """Return the hosts that failed because they do not answer."""
    return [
        row.name
        for row in board.failed
        if (why := row.failure) and why.unreachable and not why.denied
    ]


def _go_on_without(dead: list[str], started: e.Started, command: TypedCommand) -> str:
    """Return the same command without hosts that do not answer, and what that means."""
    without = f"   # goes on without {'it' if len(dead) == 1 else 'them'}"
    if started.action in {Action.DEPLOY.value, Action.REDEPLOY.value}:
        return f"{command.sparing(dead)}{without} and MANIFEST stays"
    others = [name for name in started.hosts if name not in dead]
    few = len(shlex.join(others)) <= _NAMED
    if started.action == Action.CONVERGE.value and few:
        return command.converge(others) + without
    return command.other("check")


def _they_answer(hosts: Sequence[str]) -> str:
    return "it answers" if len(hosts) == 1 else "they answer"


def _look(report: Report, board: Board, command: TypedCommand) -> str:
    if board.after_all and report.outcome is not Outcome.STRANDED:
        return command.other(f"logs {board.run} --script after_all_deploy")
    started = board.started
    stranded = [h for h, row in report.hosts.items() if row.state is S.STRANDED]
    # A converge brings hosts to what MANIFEST says. A run that takes back may have left
    # MANIFEST at the very release that it takes back, so a person looks first.
    if not (stranded and started and started.manifest and not started.revert):
        return command.other("status")
    them = "it" if len(stranded) == 1 else "them"
    there = "along" if started.action == Action.ROLLBACK.value else "back"
    if set(stranded) <= set(_unreachable(board)):
        back = f"once {_they_answer(stranded)} converge takes {them} {there}"
        return f"{command.other('status')}   # {back}"
    for host in stranded:
        # What failed on the way back fails again, until somebody has looked.
        if (why := board.hosts[host].failure) and why.exit_status is not None:
            output = command.other(f"logs {board.run} {shlex.quote(host)}")
            return f"{output}   # once mended converge takes {them} back"
    return f"{command.converge(stranded, '@failed')}   # back to what MANIFEST names"
