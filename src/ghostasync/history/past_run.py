"""
An earlier run: the value that planning and the engine go by.

A run that resumes another one counts as one with it; :func:`continued` says what is
true of both together. So a run that was killed, resumed and killed again is resumed as
what it was at first, on hosts that both have left somewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from .. import events as e
from ..machine import LEFT_ALONE, MAY_BE_DRAINED, MAY_HAVE_MOVED, NOT_MOVED
from ..model import Revision
from ..model import State as S  # noqa: N817  as in the table

__all__ = ["PastRun"]

_WENT_LIVE: Final = frozenset({"live", "unchanged", "partial"})


@attrs.frozen
class PastRun:
    """
    One run, as far as it got, together with the runs whose work it took up.

    *ids* are the run's own and those of the runs whose work it took up, the newest
    first; *continues* is the next of these, where that is not read in yet, and *undoes*
    the run that this one rolls back; empty where there is none.
    *manifest* is what MANIFEST named for its modules before, *packages* what they got;
    *migrated* are the modules whose before_switch has passed; *migrating* maps a module
    to the host on which one has begun and the run that began it, both empty once it has
    ended;
    *states*, *previous* and *served* are by host: its last state, the texts of its
    links before (module to text), and the releases that it served then. *began* is in
    POSIX seconds. *generation* is its number, 0 where it had none, and *origin* that of
    the first run of its work. *leads* and *to* are those of a rollback, see
    :class:`events.Started`. *joined* are those of *hosts* that had joined while it went
    on, and that it brought along.
    """

    ids: tuple[str, ...]
    action: str = ""
    actor: str = ""
    reason: str = ""
    began: float = 0.0
    modules: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()
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
    served: Mapping[str, Mapping[str, str]] = attrs.field(factory=dict)
    origin: int = 0
    leads: tuple[str, ...] = ()
    to: Mapping[str, Mapping[str, str]] = attrs.field(factory=dict)
    recorded_secrets: bool = False
    generation: int = 0
    switching: bool = False
    committed: bool = False
    migrated: frozenset[str] = frozenset()
    migrating: Mapping[str, tuple[str, str]] = attrs.field(factory=dict)
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

    def links(self, host: str, module: str) -> tuple[str, ...]:
        """Return what the run found on a host and what it brought; empty if unknown."""
        if module not in self.served.get(host, {}):
            return ()
        found = self.served[host][module]
        return (found, *filter(None, [self.packages.get(module)]))

    def in_state(self, *states: S) -> tuple[str, ...]:
        """Return the hosts whose last known state is one of these, in order."""
        return tuple(host for host in self.hosts if self.states.get(host) in states)

    @property
    def changed(self) -> tuple[str, ...]:
        """The hosts whose links may have moved, and may not be back."""
        return self.in_state(*MAY_HAVE_MOVED)

    @property
    def drained(self) -> tuple[str, ...]:
        """The hosts that it may have left drained; a stranded one stays so."""
        return self.in_state(*MAY_BE_DRAINED)

    @property
    def is_open(self) -> bool:
        """Whether something is left to do: it was killed, or its resumption failed."""
        # A run that ended by itself has left nothing to finish. Only a resumption may
        # end and leave what an earlier run had moved.
        if self.finished is None:
            return True
        if len(self.ids) == 1 or self.went_live:
            return False
        drained = self.in_state(S.DRAINING)
        return bool(self.changed or drained or self.finished.outcome == "locked")


def continued(newer: PastRun, older: PastRun) -> PastRun:
    """Return *newer* as one with *older*, the run whose work it took up."""
    # The older run says what the work is for, whom it may change and what was there
    # before; the newer one says how far it has got. A revert undoes the work, so then
    # the newer run's action counts.
    # Hosts that had joined belong to the work, though the newer run may not have begun
    # with them.
    joined = tuple(host for host in older.joined if host not in newer.hosts)
    states = {
        host: _now(state, older.states.get(host, state))
        for host, state in newer.states.items()
    } | {host: older.states[host] for host in joined}
    # If the older run has finished after all, and its resumption moved nothing, then
    # the older run's end counts.
    idle = MAY_HAVE_MOVED.isdisjoint(newer.states.values())
    finished = older.finished if idle and older.finished else newer.finished
    return attrs.evolve(
        newer,
        ids=(*newer.ids, *older.ids),
        action=newer.action if newer.revert else older.action,
        began=older.began,
        hosts=(*newer.hosts, *joined),
        joined=(*newer.joined, *joined),
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
        served={**newer.served, **older.served},
        origin=older.origin or older.generation,
        leads=older.leads,
        to=older.to,
        recorded_secrets=older.recorded_secrets,
        generation=newer.generation or older.generation,
        switching=newer.switching or older.switching,
        committed=newer.committed or older.committed,
        migrated=newer.migrated | older.migrated,
        migrating={**older.migrating, **newer.migrating},
        finished=finished,
    )


def _now(state: S, before: S) -> S:
    """Return the state of a host after two runs in a row, given that of each."""
    # A newer run that did not get to the host's link leaves it as the older one did.
    if state not in NOT_MOVED or before not in MAY_HAVE_MOVED | {S.DRAINING}:
        return state
    if before is S.LIVE and state not in LEFT_ALONE:
        # The newer run may have replaced the environment of the live release: the host
        # has to prove itself again.
        return S.ACTIVATING
    return before
