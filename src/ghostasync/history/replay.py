"""
Replay of a journal: from the lines that a run wrote to what is known of it.

A controller may be killed at any moment, and the disk may lose the end of its journal.
So a journal is read as far as it makes sense: up to a line that is torn, or a record
that the table of states refuses. Hosts keep records of their own, and are asked about
everything that the journal does not say any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .. import events as e
from ..errors import StoreError
from ..fold import HostState, RunState
from ..journal import records
from ..machine import IllegalTransition
from ..model import Action
from .past_run import PastRun

__all__ = ["read_run"]


def read_run(lines: Iterable[bytes]) -> PastRun | None:
    """
    Read a run from the *lines* of its journal, each with its newline.

    Returns:
        None where the journal ends before the run had begun, or is of no run on hosts.
    """
    run = RunState(HostState.of)
    first: e.Record | None = None
    for record in _readable(lines):
        if isinstance(record.event, e.Started):
            first = record
        if first is None:
            continue
        try:
            run.fold(record.event)
        except IllegalTransition:
            break  # the record cannot be of this run
    return _past_run(first, run) if first and run.started else None


def _readable(lines: Iterable[bytes]) -> Iterator[e.Record]:
    """Yield records up to the first line that is torn or damaged."""
    try:
        yield from records(lines, "journal")
    except StoreError:
        return


def _past_run(first: e.Record, run: RunState[HostState]) -> PastRun | None:
    started = run.started
    if started is None:
        return None
    takes_up = started.revert or started.action == Action.RESUME.value
    # A run that has stopped is on its way back even where no host has begun to. But a
    # resumption may stop before anything went back: then it is still to be finished.
    stopped = run.stopped is not None and started.action != Action.RESUME.value
    made = {name: event.package for name, event in run.packages.items()}
    return PastRun(
        ids=(first.run,),
        action=started.action,
        actor=started.actor,
        reason=started.reason,
        began=first.at,
        modules=started.modules,
        hosts=(*started.hosts, *run.joined),
        joined=run.joined,
        continues=started.of if takes_up else "",
        undoes="" if takes_up else started.of,
        limited=started.limited,
        force=started.force,
        revert=started.revert,
        manifest=started.manifest,
        packages={**started.packages, **made},
        revisions=run.revisions,
        states={name: host.state for name, host in run.hosts.items()},
        previous={
            name: host.previous for name, host in run.hosts.items() if host.previous
        },
        leads=started.leads,
        to=started.to,
        recorded_secrets=started.recorded_secrets,
        generation=run.generation,
        origin=run.generation,
        served={name: host.serves for name, host in run.hosts.items() if host.serves},
        switching=bool(run.waves),
        committed=run.committed or (run.manifest is not None and not started.leads),
        migrated=frozenset(run.migrated),
        migrating={
            name: (host, begun or first.run if host else "")
            for name, (host, begun) in run.migrating.items()
        },
        going_back=started.revert or run.going_back is not None or stopped,
        finished=run.finished,
    )
