"""Sum a run up: what became of every host, and of the run as a whole."""

from __future__ import annotations

from .._engine.fleet import Fleet
from .._engine.host import Context
from ..model import HostReport, Outcome, Report
from ..model import State as S  # noqa: N817  as in the table
from .outcome import EXIT_STATUS, verdict, verdict_back
from .record import Recording

__all__ = ["sum_up"]

_WORSE = frozenset({Outcome.STRANDED, Outcome.MIXED})
"""Outcomes whose exit status comes before that of anything that went wrong later."""


def sum_up(
    fleet: Fleet, record: Recording, *, seconds: float, exit_status: int | None
) -> Report:
    """
    Return the report of a run that took *seconds*.

    *exit_status* is the run's own where it was live and something failed afterwards,
    None where its outcome says it all.
    """
    outcome = _outcome(fleet)
    if outcome in _WORSE or exit_status is None:
        exit_status = EXIT_STATUS[outcome]
    return Report(
        run=fleet.run.id,
        outcome=outcome,
        exit_status=exit_status,
        releases={r.module.name: r.id for r in fleet.run.releases},
        hosts={ctx.name: _host(ctx, fleet.reason, record) for ctx in fleet.hosts},
        waves=tuple(fleet.switched),
        nbytes=sum(ctx.sent for ctx in fleet.hosts),
        skew=fleet.skew,
        seconds=round(seconds, 3),
        log=str(record.folder),
        reason=fleet.reason,
    )


def _outcome(fleet: Fleet) -> Outcome:
    states = [ctx.machine.state for ctx in fleet.hosts]
    if fleet.locked:
        # What an earlier run left live is no doing of this one.
        states = [S.FAILED if ctx.moved else ctx.machine.state for ctx in fleet.hosts]
    if not fleet.run.goal.only_back:
        if _is_left(fleet):
            return Outcome.STRANDED
        return verdict(
            states,
            committed=fleet.committed,
            interrupted=fleet.interrupted,
            locked=fleet.locked,
        )
    past = fleet.run.past
    # Where there is no journal, any host may serve what was to go.
    changed = past.changed if past and past.hosts else [c.name for c in fleet.hosts]
    left = {c.name for c in fleet.hosts if c.machine.state is S.FAILED}
    return verdict_back(
        states,
        lost=fleet.committed and not left.isdisjoint(changed),
        interrupted=fleet.interrupted,
        locked=fleet.locked,
    )


def _is_left(fleet: Fleet) -> bool:
    """Tell whether a resumption that stopped leaves what nobody could take back."""
    past = fleet.run.past
    if past is None or fleet.committed or fleet.locked:
        return False
    return any(
        ctx.machine.state is S.FAILED
        and ctx.name in past.changed
        and (ctx.facts is None or ctx.moved)
        for ctx in fleet.hosts
    )


def _host(ctx: Context, reason: str, record: Recording) -> HostReport:
    failure, state = ctx.failure, ctx.machine.state
    if failure is not None:
        reason = failure.reason
    elif state in {S.LIVE, S.UNCHANGED, S.READY}:
        reason = ""
    return HostReport(
        state=state,
        stage=failure.stage if failure else None,
        reason=reason,
        exit_status=failure.exit_status if failure else None,
        seconds=round(max(0.0, ctx.ended_at - ctx.began_at), 3),
        log=str(record.host_log(ctx.name)),
    )
