"""
Status: the releases that hosts serve, beside those that MANIFEST names.

Links and records on hosts say what is served, MANIFEST what is expected, reports which
hosts were left stranded. The lock of a run that goes on, or the journal of a killed
one, says which run is at work. Numbers in records and in MANIFEST say which of two
releases came later, and so whether a host would go forward or back.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, Literal, TypeVar

import attrs

from .._engine.look import looked_at
from .._engine.spec import RunSpec
from .._planning.unfinished import Seen, strange_run, unfinished_run
from .._remote.answers import run_of
from .._remote.facts import Facts, ModuleState
from ..errors import HostError, StoreError
from ..history.past_run import PastRun
from ..history.reports import last_states
from ..model import ExitStatus, State
from ..protocols import ActiveColor, ManifestLine, Store, Transport

T = TypeVar("T")

_RECORDS: Final = 20
"""Activation records that each host is asked for; what matters is among the last."""

__all__ = [
    "Ahead",
    "Condition",
    "FleetStatus",
    "HostStatus",
    "OpenRun",
    "OtherStore",
    "Way",
]


Condition = Literal["in-line", "drift", "unreachable", "stranded"]
"""
Condition of a host, from the best to the worst: it serves what MANIFEST says, or
something else; it does not answer; or no run has put it in order since a rollback
failed on it.
"""


Way = Literal["", "forward", "back", "ahead"]
"""
Direction in which a converge would take a host: to a later release; to an older one, or
nobody knows; or back from one that is later than MANIFEST's. Empty where it serves what
MANIFEST says, or said nothing.
"""


@attrs.frozen
class HostStatus:
    """
    Releases of one host, and its condition.

    *live* maps modules to release ids, empty where there is none; *text* says why
    *state* is no better. *runs* maps modules to the runs that moved their links, as the
    host has it on record. *way* is where a converge would take the host.
    """

    live: Mapping[str, str]
    state: Condition
    text: str = ""
    runs: Mapping[str, str] = attrs.field(factory=dict)
    way: Way = ""


@attrs.frozen
class Ahead:
    """A release that a later run brought; *later* where it is newer than all others."""

    release: str
    later: bool


@attrs.frozen
class OtherStore:
    """
    The run that brought what serves, where it is known to hosts and not to this store.

    *url* is this store, *hosts* are those that the run has moved.
    """

    run: str
    actor: str
    at: str
    url: str
    hosts: tuple[str, ...]


@attrs.frozen
class OpenRun:
    """
    A run that has not ended.

    *holder* is what it says of itself on hosts that it holds; empty where it was
    killed. *releases* are what it made (module to release id); *moved* is whether it
    had begun to move links, *going_back* whether it was on its way back, *committed*
    whether MANIFEST had moved. *migrating* maps modules to the hosts where their
    before_switch has begun and may be at work still.
    """

    id: str
    action: str = ""
    actor: str = ""
    holder: str = ""
    releases: Mapping[str, str] = attrs.field(factory=dict)
    moved: bool = False
    going_back: bool = False
    committed: bool = False
    migrating: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class FleetStatus:
    """
    Releases that MANIFEST expects of modules, and the status of each host.

    *run* is the run that holds hosts, or else the newest that was killed; None where
    there is neither. *ahead* maps modules to what hosts serve by a run later than
    MANIFEST's, where the store has it. *other* is told where what serves came from
    another store, *frozen* where a person has frozen the app. *color* is the fleet's
    own and *active_color* the one that serves visitors, as *active* has it on record;
    without a record the configuration says it.
    """

    expected: Mapping[str, str]
    hosts: Mapping[str, HostStatus]
    run: OpenRun | None = None
    ahead: Mapping[str, Ahead] = attrs.field(factory=dict)
    other: OtherStore | None = None
    frozen: str = ""
    color: str = ""
    active_color: str = ""
    active: ActiveColor | None = None

    @property
    def exit_status(self) -> ExitStatus:
        """The exit status of ``ghostasync status``."""
        states = {host.state for host in self.hosts.values()}
        # A stranded host needs a person, whatever others do.
        if "stranded" in states:
            return ExitStatus.STRANDED
        # A run that was killed before it moved a link has left the fleet in line.
        killed = self.run is not None and self.run.moved and not self.run.holder
        drift = killed or states & {"unreachable", "drift"}
        return ExitStatus.DRIFT if drift else ExitStatus.DONE


@attrs.frozen
class _Ages:
    """
    The order in which releases came, by the records of all hosts.

    *first* maps releases to the number of the run that brought each first; *store* is
    the word of the store that is asked.
    """

    first: Mapping[str, int]
    store: str

    @classmethod
    def of(cls, seen: Seen, store: str) -> _Ages:
        first: dict[str, int] = {}
        for facts in seen.values():
            targets = facts.targets.values() if isinstance(facts, Facts) else ()
            for move in (move for target in targets for move in target.activations):
                known = first.get(move.release, move.age)
                first[move.release] = min(known, move.age)
        return cls(first, store)

    def is_later(self, release: str, than: str) -> bool:
        """Tell whether *release* came after another one; no where nobody knows."""
        return self.first.get(release, 0) > self.first.get(than, sys.maxsize)

    def way(self, target: ModuleState, line: ManifestLine) -> Way:
        """Return where a converge would take the link of one module."""
        if target.live == line.package and not target.dangling:
            return ""
        if not target.live or target.dangling:
            return "forward"
        if target.record is not None and target.record.generation > line.generation:
            return "ahead"
        # Numbers of stores that know nothing of each other say little.
        strange = target.record is not None and target.record.store != self.store
        later = self.is_later(line.package, target.live)
        return "forward" if later and not strange else "back"


async def compare(spec: RunSpec, transport: Transport) -> FleetStatus:
    """Return what each host serves beside what MANIFEST says."""
    names = {chosen.module.name for chosen in spec.modules}
    lines = {line.module: line for line in spec.manifest if line.module in names}
    store = spec.store
    last = await last_states(store.runs)
    seen = await looked_at(spec, transport, records=_RECORDS)
    ages = _Ages.of(seen, await store.identity())
    hosts = {
        name: _status(facts, lines, last.get(name, ""), ages)
        for name, facts in seen.items()
    }
    holders = [facts.holder for facts in seen.values() if isinstance(facts, Facts)]
    killed = await unfinished_run(store, spec.plan, spec.manifest, seen)
    return FleetStatus(
        expected={name: line.package for name, line in lines.items()},
        hosts=hosts,
        run=_open_run(killed, next(filter(None, holders), "")),
        ahead=await _ahead(store, lines, seen, ages),
        other=await _other_store(store, seen),
        frozen=await who_froze(store, seen),
        color=spec.plan.app.color,
        active_color=spec.plan.app.active_color,
        active=spec.active,
    )


def _status(
    facts: Facts | HostError,
    lines: Mapping[str, ManifestLine],
    last: str,
    ages: _Ages,
) -> HostStatus:
    stranded = last == State.STRANDED.value
    if isinstance(facts, HostError):
        return HostStatus({}, "stranded" if stranded else "unreachable", str(facts))
    live = {name: target.live for name, target in facts.targets.items()}
    runs = {n: t.record.run for n, t in facts.targets.items() if t.record}
    expected = {name: line.package for name, line in lines.items()}
    texts = [_difference(name, expected.get(name, ""), facts) for name in live]
    text = "; ".join(filter(None, texts))
    way = _way(facts, lines, ages)
    if stranded:
        # A link that is right again proves nothing: the post-deploy of the old release,
        # or its verification, may have failed.
        return HostStatus(live, "stranded", text, runs, way or "forward")
    return HostStatus(live, "drift" if text else "in-line", text, runs, way)


def _way(facts: Facts, lines: Mapping[str, ManifestLine], ages: _Ages) -> Way:
    """Return where a converge would take a host; of several modules the gravest."""
    order: tuple[Way, ...] = ("ahead", "back", "forward")
    targets = facts.targets.items()
    ways = {ages.way(target, lines[n]) for n, target in targets if n in lines}
    return next((way for way in order if way in ways), "")


async def _ahead(
    store: Store,
    lines: Mapping[str, ManifestLine],
    seen: Seen,
    ages: _Ages,
) -> dict[str, Ahead]:
    """Return, by module, what hosts serve by a run later than MANIFEST's."""
    latest: dict[str, tuple[int, str]] = {}
    others: dict[str, set[str]] = defaultdict(set)
    for facts in seen.values():
        targets = facts.targets.items() if isinstance(facts, Facts) else ()
        for name, target in targets:
            others[name].add(target.live)
            if (line := lines.get(name)) and ages.way(target, line) == "ahead":
                number = target.record.generation if target.record else 0
                latest[name] = max(latest.get(name, (0, "")), (number, target.live))
    ahead = {}
    for name, (_, release) in latest.items():
        with suppress(StoreError):
            await store.packages.package(release)
            left = others[name] - {release, ""}
            later = all(ages.is_later(release, each) for each in left)
            ahead[name] = Ahead(release, later=later)
    return ahead


async def who_froze(store: Store, seen: Seen) -> str:
    """Return who has frozen the app, by the store's word or that of a host."""
    freeze = await store.frozen()
    if freeze is not None and not 0 < freeze.until < time.time():
        return freeze.text
    told = (facts.frozen for facts in seen.values() if isinstance(facts, Facts))
    return next(filter(None, told), "")


async def who_holds(store: Store, seen: Seen) -> str:
    """Return why a deploy would end with 4; empty where it would not."""
    if frozen := await who_froze(store, seen):
        return f"{frozen}; ghostasync unlock ends it"
    told = (facts.holder for facts in seen.values() if isinstance(facts, Facts))
    return next((f"{holder} is going on" for holder in told if holder), "")


async def _other_store(store: Store, seen: Seen) -> OtherStore | None:
    known = await store.runs.ids()
    strange = strange_run(seen, known, await store.identity())
    if strange is None:
        return None
    last = strange.last
    return OtherStore(last.run, last.actor, last.at, store.url, strange.hosts)


def _open_run(killed: PastRun | None, holder: str) -> OpenRun | None:
    """Return the run that goes on, else the one that was killed."""
    # A resumption holds hosts under its own id, and counts as one with the killed run:
    # its journal then says more than its text does.
    if name := run_of(holder):
        run = OpenRun(name, holder=holder)
        if killed is None or run.id not in killed.ids:
            return run
    elif killed is None:
        return None
    return OpenRun(
        id=killed.id,
        action=killed.action,
        actor=killed.actor,
        holder=holder,
        releases=killed.packages,
        moved=killed.switching,
        going_back=killed.going_back,
        committed=killed.committed,
        migrating={m: host for m, (host, _) in killed.migrating.items() if host},
    )


def _difference(module: str, expected: str, facts: Facts) -> str:
    target = facts.targets[module]
    # A link to a release that is gone serves nobody, whatever its text says.
    if target.dangling:
        return f"{module}: the link leads nowhere"
    if target.live == expected:
        return ""
    if target.live:
        return f"{module}: serves {target.live}"
    what = "nothing" if target.kind == "absent" else f"a {target.kind} that is not ours"
    return f"{module}: serves {what}"
