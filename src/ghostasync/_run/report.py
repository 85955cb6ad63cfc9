"""
The report of a finished run: arithmetic over the sum of its events.

The exit status of each outcome is a contract, on which others script.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from .._engine.fleet import Fleet
from .._engine.host import GONE, HostRun
from ..machine import NOT_LOOKED, SERVES_NEW
from ..model import ExitStatus, HostReport, Outcome, Report
from ..model import State as S  # noqa: N817  as in the table
from .record import Recording

__all__ = ["EXIT_STATUS", "sum_up", "verdict", "verdict_back"]

EXIT_STATUS: Final[dict[Outcome, ExitStatus]] = {
    Outcome.STRANDED: ExitStatus.STRANDED,
    Outcome.MIXED: ExitStatus.MIXED,
    Outcome.INTERRUPTED: ExitStatus.INTERRUPTED,
    Outcome.LOCKED: ExitStatus.LOCKED,
    Outcome.LIVE: ExitStatus.DONE,
    Outcome.UNCHANGED: ExitStatus.DONE,
    Outcome.PARTIAL: ExitStatus.DONE,
    Outcome.FAILED: ExitStatus.FAILED,
}
"""The exit status of each outcome."""

_WORSE: Final = frozenset({Outcome.STRANDED, Outcome.MIXED})
"""Outcomes whose exit status comes before that of anything that went wrong later."""


def sum_up(
    fleet: Fleet, record: Recording, *, seconds: float, after_all_due: bool
) -> Report:
    """
    Return the report of a run that took *seconds*.

    *after_all_due* is whether the run went live and after_all_deploy has not passed.
    """
    outcome, state = _outcome(fleet), fleet.policy.run
    status = EXIT_STATUS[outcome]
    if fleet.run.refused and outcome is Outcome.FAILED:
        status = ExitStatus.REFUSED
    back = fleet.run.spec.way_back
    if not status and (fleet.run.links_left or (back and back.partly)):
        outcome, status = Outcome.PARTIAL, ExitStatus.FAILED
    # A partial or live run exits 7 where after_all_deploy failed; a stranded host is
    # the graver news.
    if after_all_due and outcome not in _WORSE:
        status = ExitStatus.AFTER_ALL_FAILED
    reason = fleet.policy.full_reason or (
        state.after_all.reason if state.after_all else ""
    )
    hosts = fleet.hosts.values()
    return Report(
        run=fleet.run.id,
        outcome=outcome,
        exit_status=status,
        releases={r.module.name: r.id for r in fleet.run.releases},
        hosts={ctx.name: _host(ctx, reason, record) for ctx in hosts},
        waves=tuple(wave.hosts for wave in state.waves),
        nbytes=sum(ctx.attempt.sent for ctx in hosts),
        fetched=sum(ctx.attempt.fetched for ctx in hosts),
        skew=fleet.skew,
        seconds=round(seconds, 3),
        log=str(record.folder),
        reason=reason,
        action=fleet.run.goal.action.value,
    )


def verdict(
    states: Collection[S],
    *,
    committed: bool,
    interrupted: bool,
    locked: bool,
) -> Outcome:
    """
    Return the outcome of a run: the first that applies, the worst first.

    Args:
        states: Every selected host's last state.

        committed: Whether the run went all the way, within its budgets.

        interrupted: Whether a person stopped it.

        locked: Whether another run had a host's lock.
    """
    # A stranded host needs a person, whatever else became of the run.
    if S.STRANDED in states:
        return Outcome.STRANDED
    # A run commits only within its budgets, so failures left here were allowed.
    if committed:
        if not SERVES_NEW.issuperset(states):
            return Outcome.PARTIAL
        return Outcome.LIVE if S.LIVE in states else Outcome.UNCHANGED
    # Stopped by policy under on_failure = "rollback-host": live hosts have stayed.
    if S.LIVE in states:
        return Outcome.MIXED
    if interrupted:
        return Outcome.INTERRUPTED
    return Outcome.LOCKED if locked else Outcome.FAILED


def verdict_back(
    states: Collection[S], *, lost: bool, interrupted: bool, locked: bool
) -> Outcome:
    """
    Return the outcome of a run that only takes back what another one did.

    Args:
        states: Every host's last state.

        lost: Whether a host was not looked at that may serve the release to be undone.

        interrupted: Whether a person stopped it before it began.

        locked: Whether another run had a host's lock.
    """
    if S.STRANDED in states or lost:
        return Outcome.STRANDED
    if interrupted:
        return Outcome.INTERRUPTED
    if locked:
        return Outcome.LOCKED
    if not NOT_LOOKED.isdisjoint(states):
        return Outcome.FAILED
    return Outcome.LIVE if S.ROLLED_BACK in states else Outcome.UNCHANGED


def _outcome(fleet: Fleet) -> Outcome:
    state, stopped = fleet.policy.run, fleet.policy.run.stopped
    interrupted = stopped is not None and stopped.cause == "interrupted"
    # What was terminated meanwhile is nobody's to look after, and of what was brought
    # along a warning tells.
    known = [h for h in state.hosts.values() if h.name not in state.joined]
    hosts = [host for host in known if not host.gone]
    states = [host.state for host in hosts]
    if fleet.run.goal.only_back:
        return verdict_back(
            states,
            lost=stopped is None and _left_unseen(fleet),
            interrupted=interrupted,
            locked=fleet.policy.locked,
        )
    if fleet.policy.locked:
        # A host that the killed run brought live is not moved while another run has the
        # lock. Counted as live, it would make the outcome mixed in place of locked.
        states = [S.FAILED if host.moved else host.state for host in hosts]
    elif not state.committed and _left_moved(fleet):
        return Outcome.STRANDED
    # Who leaves a release has to know of each host that may still serve it.
    dead = [host for host in hosts if host.failure and host.failure.unreachable]
    if fleet.run.goal.recalls and dead and not interrupted:
        return Outcome.STRANDED
    outcome = verdict(
        states,
        committed=state.committed,
        interrupted=interrupted,
        locked=fleet.policy.locked,
    )
    # A swap changes no host, and yet what visitors see.
    if fleet.run.goal.active_color and outcome is Outcome.UNCHANGED:
        return Outcome.LIVE
    return outcome


def _left_unseen(fleet: Fleet) -> bool:
    """Tell whether a host was not looked at that may serve the release to be undone."""
    killed = fleet.run.killed
    # Without a journal nobody knows which hosts the killed run had reached: any may.
    changed = killed.changed if killed and killed.hosts else list(fleet.hosts)
    return not set(fleet.policy.run.in_state(*NOT_LOOKED)).isdisjoint(changed)


def _left_moved(fleet: Fleet) -> bool:
    """Tell whether a resumption that stopped leaves hosts that may have moved."""
    # A host that was not looked at may serve the killed run's release: to call the run
    # failed would say that every reachable host serves what it served before.
    killed = fleet.run.killed
    if killed is None:
        return False
    hosts = fleet.policy.run.hosts
    return any(
        host.state in NOT_LOOKED and (not host.looked or host.moved)
        for host in (hosts[name] for name in killed.changed if name in hosts)
    )


def _host(ctx: HostRun, reason: str, record: Recording) -> HostReport:
    """Return one host's row; *reason* is the run's, for hosts without their own."""
    failure, state = ctx.book.failure, ctx.state
    if failure is not None:
        reason = failure.reason
    elif ctx.book.gone:
        reason = GONE
    elif state in SERVES_NEW:
        reason = ""
    return HostReport(
        state=state,
        stage=failure.stage if failure else None,
        reason=reason,
        exit_status=failure.exit_status if failure else None,
        seconds=round(max(0.0, ctx.ended_at - ctx.began_at), 3),
        log=str(record.host_log(ctx.name)),
    )
