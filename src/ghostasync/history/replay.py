"""
What a journal says about the run that wrote it: pure, wherever the journal ends.

A controller may be killed at any moment, and the disk may lose the end of what it
wrote. So a journal is read as far as it makes sense, and what it does not say any more
is asked of the hosts, which keep records of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import attrs

from .. import events as e
from ..errors import StoreError
from ..fold import HostState, RunState
from ..journal import records
from ..machine import (
    LEFT_ALONE,
    MAY_BE_DRAINED,
    MAY_HAVE_MOVED,
    NOT_MOVED,
    IllegalTransition,
)
from ..model import Action, Revision
from ..model import State as S  # noqa: N817  as in the table

__all__ = ["PastRun", "continued", "read_run"]

_WENT_LIVE: Final = frozenset({"live", "unchanged", "partial"})


@attrs.frozen
class PastRun:
    """
    One run, as far as it got. A run that resumes another one counts as one with it.

    *ids* are the run's own and those of the runs whose work it took up, the newest
    first; *continues* is the next of these, where that is not read in yet, and *undoes*
    the run that this one rolls back; empty where there is none.
    *manifest* is what MANIFEST named for its modules before, *packages* what they got;
    *migrated* are the modules whose before_switch has passed;
    *states* and *previous* are by host: how far it came, and what its links said before
    (module to text). *began* is in POSIX seconds.
    """

    ids: tuple[str, ...]
    action: str = ""
    actor: str = ""
    began: float = 0.0
    modules: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    continues: str = ""
    undoes: str = ""
    limited: bool = False
    force: bool = False
    revert: bool = False
    manifest: Mapping[str, str] = attrs.field(factory=dict)
    packages: Mapping[str, str] = attrs.field(factory=dict)
    revisions: Mapping[str, Revision] = attrs.field(factory=dict)
    states: Mapping[str, S] = attrs.field(factory=dict)
    previous: Mapping[str, Mapping[str, str]] = attrs.field(factory=dict)
    switching: bool = False
    committed: bool = False
    migrated: frozenset[str] = frozenset()
    going_back: bool = False
    finished: e.Finished | None = None

    @property
    def id(self) -> str:
        """The run's id."""
        return self.ids[0]

    @property
    def went_live(self) -> bool:
        """Whether it ended with all that it was for, within its budgets."""
        return self.finished is not None and self.finished.outcome in _WENT_LIVE

    @property
    def brought(self) -> bool:
        """Whether it took hosts to what MANIFEST did not name before."""
        return any(self.manifest.get(m) != p for m, p in self.packages.items())

    def in_state(self, *states: S) -> tuple[str, ...]:
        """Return the hosts whose last known state is one of these, in order."""
        return tuple(host for host in self.hosts if self.states.get(host) in states)

    @property
    def changed(self) -> tuple[str, ...]:
        """The hosts whose links may have moved, and may not be back."""
        return self.in_state(*MAY_HAVE_MOVED)

    @property
    def drained(self) -> tuple[str, ...]:
        """The hosts that it may have left drained; one that was stranded stays so."""
        return self.in_state(*MAY_BE_DRAINED)

    @property
    def is_open(self) -> bool:
        """Whether something is left to do: it was killed, or its resumption failed."""
        if self.finished is None:
            return True
        if len(self.ids) == 1 or self.went_live:
            return False
        drained = self.in_state(S.DRAINING)
        return bool(self.changed or drained or self.finished.outcome == "locked")


def read_run(lines: Iterable[bytes]) -> PastRun | None:
    """
    Read a run from the *lines* of its journal, each with its newline.

    Returns:
        None where it ended before the run had begun, or is no run on hosts.
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


def continued(newer: PastRun, older: PastRun) -> PastRun:
    """Return *newer* as one with *older*, the run whose work it took up."""
    states = {
        host: _now(state, older.states.get(host, state))
        for host, state in newer.states.items()
    }
    # One that was not dead at all has ended by itself, beside what was to resume it.
    idle = MAY_HAVE_MOVED.isdisjoint(newer.states.values())
    finished = older.finished if idle and older.finished else newer.finished
    return attrs.evolve(
        newer,
        ids=(*newer.ids, *older.ids),
        action=newer.action if newer.revert else older.action,
        began=older.began,
        limited=older.limited,
        continues=older.continues,
        undoes=newer.undoes or older.undoes,
        going_back=newer.going_back or older.going_back,
        manifest=older.manifest or newer.manifest,
        packages={**older.packages, **newer.packages},
        revisions={**older.revisions, **newer.revisions},
        states=states,
        previous={
            host: {**older.previous.get(host, {}), **newer.previous.get(host, {})}
            for host in {**older.previous, **newer.previous}
        },
        switching=newer.switching or older.switching,
        committed=newer.committed or older.committed,
        migrated=newer.migrated | older.migrated,
        finished=finished,
    )


def _now(state: S, before: S) -> S:
    """Return what is true of a host that two runs in a row had to do with."""
    if state not in NOT_MOVED or before not in MAY_HAVE_MOVED | {S.DRAINING}:
        return state
    if before is S.LIVE and state not in LEFT_ALONE:
        # Its environment may have been replaced: it has to prove itself again.
        return S.ACTIVATING
    return before


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
    # A resumption may stop before anything went back: that is to be finished.
    stopped = run.stopped is not None and started.action != Action.RESUME.value
    made = {name: event.package for name, event in run.packages.items()}
    return PastRun(
        ids=(first.run,),
        action=started.action,
        actor=started.actor,
        began=first.at,
        modules=started.modules,
        hosts=started.hosts,
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
        switching=bool(run.waves),
        committed=run.manifest is not None,
        migrated=frozenset(run.migrated),
        going_back=started.revert or run.going_back is not None or stopped,
        finished=run.finished,
    )
