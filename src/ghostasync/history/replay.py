"""
What a journal says about the run that wrote it: pure, wherever the journal ends.

A controller may be killed at any moment, and the disk may lose the end of what it
wrote. So a journal is read as far as it makes sense, and what it does not say any more
is asked of the hosts, which keep records of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import attrs

from .. import events as e
from ..errors import StoreError
from ..journal import records
from ..machine import AFTER_SWITCH, HostMachine, IllegalTransition
from ..model import Action, Revision
from ..model import State as S  # noqa: N817  as in the table

__all__ = ["PastRun", "continued", "read_run"]

_WENT_LIVE: Final = frozenset({"live", "unchanged", "partial"})
_MAY_HAVE_MOVED: Final = AFTER_SWITCH | {S.STRANDED}
_NOT_MOVED: Final = frozenset(
    {S.CONNECTING, S.CHECKING, S.UPLOADING, S.PREPARING, S.READY, S.FAILED}
)
_NOT_TOUCHED: Final = frozenset({S.CONNECTING, S.CHECKING, S.FAILED})


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
        return self.in_state(*_MAY_HAVE_MOVED)

    @property
    def drained(self) -> tuple[str, ...]:
        """The hosts that it may have left drained; one that was stranded stays so."""
        return self.in_state(S.DRAINING, *(AFTER_SWITCH - {S.LIVE}))

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
    found: PastRun | None = None
    machines: dict[str, HostMachine] = {}
    previous: dict[str, Mapping[str, str]] = {}
    for record in _readable(lines):
        event = record.event
        if isinstance(event, e.Started):
            found = _started(record, event)
            machines = {host: HostMachine() for host in event.hosts}
        elif found is None:
            continue
        elif isinstance(event, e.LockAwaited):
            # It held nothing while it waited, and began again with these hosts.
            again = event.hosts or found.hosts
            machines.update((host, HostMachine()) for host in again)
            for host in again:
                previous.pop(host, None)
        elif isinstance(event, e.HostEvent):
            if not _applied(machines.setdefault(event.host, HostMachine()), event):
                break
            if isinstance(event, e.Prepared | e.Resumed):
                previous[event.host] = event.previous
        else:
            found = _run(found, event)
    if found is None:
        return None
    states = {host: machine.state for host, machine in machines.items()}
    return attrs.evolve(found, states=states, previous=previous)


def continued(newer: PastRun, older: PastRun) -> PastRun:
    """Return *newer* as one with *older*, the run whose work it took up."""
    states = {
        host: _now(state, older.states.get(host, state))
        for host, state in newer.states.items()
    }
    # One that was not dead at all has ended by itself, beside what was to resume it.
    idle = _MAY_HAVE_MOVED.isdisjoint(newer.states.values())
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
    if state not in _NOT_MOVED or before not in _MAY_HAVE_MOVED | {S.DRAINING}:
        return state
    if before is S.LIVE and state not in _NOT_TOUCHED:
        # Its environment may have been replaced: it has to prove itself again.
        return S.ACTIVATING
    return before


def _readable(lines: Iterable[bytes]) -> Iterator[e.Record]:
    """Yield records up to the first line that is torn or damaged."""
    try:
        yield from records(lines, "journal")
    except StoreError:
        return


def _started(record: e.Record, event: e.Started) -> PastRun:
    takes_up = event.revert or event.action == Action.RESUME.value
    return PastRun(
        ids=(record.run,),
        action=event.action,
        actor=event.actor,
        began=record.at,
        modules=event.modules,
        hosts=event.hosts,
        continues=event.of if takes_up else "",
        undoes="" if takes_up else event.of,
        limited=event.limited,
        force=event.force,
        revert=event.revert,
        manifest=event.manifest,
        going_back=event.revert,
        packages=event.packages,
    )


def _applied(machine: HostMachine, event: e.HostEvent) -> bool:
    """Move the host's machine; false where the record cannot be of this run."""
    if isinstance(event, e.Output | e.HostWarned):
        return True
    try:
        machine.apply(event)
    except IllegalTransition:
        return False
    return True


def _run(found: PastRun, event: e.RunEvent) -> PastRun:
    changes: dict[str, Any] = {}  # fields of PastRun
    match event:
        case e.Resolved(module=module, revision=revision):
            changes = {"revisions": {**found.revisions, module: revision}}
        case e.Packaged(module=module, package=package):
            changes = {"packages": {**found.packages, module: package}}
        case e.BeforeSwitchPassed(module=module):
            changes = {"migrated": found.migrated | {module}}
        case e.WaveStarted():
            changes = {"switching": True}
        case e.ManifestMoved():
            changes = {"committed": True}
        case e.FleetRollbackStarted():
            changes = {"going_back": True}
        case e.Stopped() if found.action != Action.RESUME.value:
            # A resumption may stop before anything went back: that is to be finished.
            changes = {"going_back": True}
        case e.Finished():
            changes = {"finished": event}
    return attrs.evolve(found, **changes)
