"""
The sum of a run's records: one fold for the policy, the board and the replay.

Rule 1: a fact is folded here if more than one of the three asks for it.
Rule 2: this file does no I/O, reads no clock and decides nothing.

The policy folds events as they happen and decides by the sum, the board folds the same
records for the screen, and the replay folds a journal. So all three agree on where a
run is, wherever its records end: a controller may be killed after any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Generic, Self, TypeVar

import attrs

from . import events as e
from .machine import TRANSITIONS, HostMachine, after
from .model import Revision
from .model import State as S  # noqa: N817  as in the table

__all__ = ["HostState", "RunState", "folded"]

_CAUSES: Final[tuple[e.Cause, ...]] = ("policy", "locked", "abandoned", "interrupted")
"""Causes to stop, the gravest last: what a person says counts over all else."""

_MOVES: Final = frozenset(event for ways in TRANSITIONS.values() for event in ways)


@attrs.define
class HostState(HostMachine):
    """
    Knowledge of one host: its place in the table, and facts that later events hide.

    *failure* is the first that went wrong, or else why the way back failed; a host that
    was halted or taken back because of others has none. A host that was *looked* at has
    said what it serves.
    *serves* maps modules to release ids as last seen, None where the host never said;
    *previous* maps them to what their links said before the run. *moved* and *drained*
    are what a killed run did, see :class:`events.KilledRunFound`. A host that is not
    *connected* is being called again; one that is *gone* is in the inventory no more.
    """

    name: str = ""
    failure: e.Failed | None = None
    serves: Mapping[str, str] | None = None
    previous: Mapping[str, str] = attrs.field(factory=dict)
    looked: bool = False
    moved: bool = False
    drained: bool = False
    connected: bool = False
    answered: bool = False
    gone: bool = False

    @classmethod
    def of(cls, name: str) -> Self:
        """Return the host *name*, to which nothing has happened yet."""
        return cls(name=name)

    def note(self, event: e.HostEvent) -> None:
        """
        Take note of *event*, whether it moves the host in the table or not.

        Raises:
            IllegalTransition: The host cannot be where it says; nothing has changed.
        """
        # The table is asked first: an event that it refuses leaves no trace.
        if type(event) in _MOVES:
            self.apply(event)
        match event:
            case e.Connected() | e.Reconnected():
                self.connected = self.answered = True
            case e.Disconnected():
                self.connected = False
            case e.Gone():
                self.connected, self.gone = False, True
            case e.Checked(live=serves) | e.RolledBack(to=serves):
                # The way back tells only of the modules whose links had moved.
                self.serves, self.looked = {**(self.serves or {}), **serves}, True
            case e.Prepared(previous=previous):
                self.previous = previous
            case e.Resumed(previous=previous):
                # The killed run moved the link, so a way back has to restore it.
                self.previous, self.moved = previous, True
            case e.KilledRunFound(moved=moved, drained=drained):
                self.moved, self.drained, self.looked = moved, drained, True
                # A host that never answered before may have been asked again.
                self.connected = True
            # The first failure is what to tell: later ones follow from it. But a failed
            # way back replaces it, for a person has to look at the host.
            case e.Failed() if self.failure is None or self.state is S.STRANDED:
                self.failure = event


H = TypeVar("H", bound=HostState)


_ENDED: Final = ("", "")


@attrs.define
class RunState(Generic[H]):
    """
    Knowledge of a run; :meth:`fold` is the only way to change it.

    *packages*, *revisions*, *migrated* and *migrating* are by module: what it was
    packaged as, what its source resolved to, whether its before_switch has passed, and
    the host on which one has begun with the run that began it, if that is a killed one,
    both empty once it has ended. *waves* are those
    that have begun, in order. *stopped* has the first reason and the gravest cause; the
    run is *locked* where another one holds a host of it, whatever else stopped it.
    *generation* is its number, 0 before it has one. *joined* are hosts that the run has
    brought along at its end.
    """

    make_host: Callable[[str], H]
    """Function that returns a host, of the given name, without any event yet."""

    started: e.Started | None = None
    hosts: dict[str, H] = attrs.field(factory=dict)
    revisions: dict[str, Revision] = attrs.field(factory=dict)
    packages: dict[str, e.Packaged] = attrs.field(factory=dict)
    migrated: set[str] = attrs.field(factory=set)
    migrating: dict[str, tuple[str, str]] = attrs.field(factory=dict)
    generation: int = 0
    waves: list[e.WaveStarted] = attrs.field(factory=list)
    waves_over: dict[int, e.WaveFinished] = attrs.field(factory=dict)
    stopped: e.Stopped | None = None
    locked: bool = False
    going_back: e.FleetRollbackStarted | None = None
    committed: bool = False
    joined: tuple[str, ...] = ()
    manifest: e.ManifestMoved | None = None
    after_all: e.AfterAllFailed | None = None
    finished: e.Finished | None = None

    def fold(self, event: e.Event) -> None:
        """
        Take note of *event*; events come in the order of their records.

        Raises:
            IllegalTransition: A host cannot be where the event says.
        """
        if isinstance(event, e.HostEvent):
            self.host(event.host).note(event)
        elif isinstance(event, e.Started):
            self.started = event
            self._fold_hosts(event.hosts)
        elif isinstance(event, e.LockAwaited):
            # A run that waits for another one gives back all that it held, and begins
            # again with these hosts: nothing that was known of them counts any more.
            self._fold_hosts(event.hosts or tuple(self.hosts))
        elif isinstance(event, e.Joined):
            self.joined = event.hosts
            self._fold_hosts(event.hosts)
        else:
            self._fold_modules(event)
            self._fold_rollout(event)

    def after(self, event: e.Event) -> S | None:
        """
        Return where the host of *event* would be after it; None where it is of no host.

        Raises:
            IllegalTransition: The host cannot be where the event says.
        """
        if not isinstance(event, e.HostEvent):
            return None
        state = self.host(event.host).state
        return after(state, event) if type(event) in _MOVES else state

    def host(self, name: str) -> H:
        """Return the host *name*, a new one where no record had it yet."""
        if name not in self.hosts:
            self.hosts[name] = self.make_host(name)
        return self.hosts[name]

    def in_state(self, *states: S) -> list[str]:
        """Return the names of the hosts in one of *states*, in the run's order."""
        return [name for name, host in self.hosts.items() if host.state in states]

    def _fold_hosts(self, names: Iterable[str]) -> None:
        for name in names:
            self.hosts[name] = self.make_host(name)

    def _fold_modules(self, event: e.RunEvent) -> None:
        match event:
            case e.Resolved(module=module, revision=revision):
                self.revisions[module] = revision
            case e.Packaged(module=module):
                self.packages[module] = event
            case e.BeforeSwitchStarted(module=module, host=host, begun_by=run):
                self.migrating[module] = (host, run)
            case e.BeforeSwitchPassed(module=module):
                self.migrated.add(module)
                self.migrating[module] = _ENDED
            # Without a status nobody knows how it ended, or whether it has.
            case e.BeforeSwitchFailed(module=module, exit_status=int()):
                self.migrating[module] = _ENDED
            case e.AfterAllFailed():
                self.after_all = event

    def _fold_rollout(self, event: e.RunEvent) -> None:
        match event:
            case e.Numbered(generation=generation):
                self.generation = generation
            case e.WaveStarted():
                self.waves.append(event)
            case e.WaveFinished(wave=wave):
                self.waves_over[wave] = event
            case e.Stopped(cause=cause):
                # The first reason is told. A person, or another run's lock, may stop
                # the run once more, and then counts as the cause.
                first = self.stopped or event
                gravest = max(first.cause, cause, key=_CAUSES.index)
                self.stopped = attrs.evolve(first, cause=gravest)
                self.locked = self.locked or cause == "locked"
            case e.FleetRollbackStarted():
                self.going_back = event
            case e.Committed():
                self.committed = True
            case e.ManifestMoved():
                self.manifest = event
            case e.Finished():
                self.finished = event


def folded(records: Iterable[e.Record]) -> RunState[HostState]:
    """
    Return the sum of *records*.

    Raises:
        IllegalTransition: They are not those of one run, in order.
    """
    run = RunState(HostState.of)
    for record in records:
        run.fold(record.event)
    return run
