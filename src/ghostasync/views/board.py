"""
The board: a run at one moment, folded from its records.

Pure: the board reads no clock and draws nothing; times are those of the records, in
POSIX seconds. Screens, plain lines and the closing words all read it.

``fold`` knows what the policy and the replay need as well. The board adds what only
people look at: since when, how many, how fast, and the last words of scripts. Counts of
hosts by state are kept up at each move, because a fleet has up to 20,000 hosts and a
screen asks four times a second.

One file, though long: one fold, and what it keeps.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import attrs

from .. import events as e
from ..fold import HostState, RunState
from ..machine import NOT_UPLOADED, RESTING, SPARED
from ..model import Action
from ..model import State as S  # noqa: N817  as in the table of states
from .folding import Failures
from .text import last_lines

__all__ = ["Board", "GateRow", "HostRow", "ModuleRow"]

_BROUGHT: Final = frozenset({"live", "unchanged", "partial"})
"""Outcomes of a run that has brought what it was to bring."""

_WENT_BACK: Final = frozenset({S.ROLLING_BACK, S.ROLLED_BACK, S.HALTED})
"""States in which a host may be that has failed by itself before."""

_RATE_WINDOW: Final = 5.0
"""Seconds over which the transfer rate is averaged: steady to read, yet current."""


@attrs.define
class HostRow(HostState):
    """One host, since when it is in its state, and the last line of its script."""

    since: float = 0.0
    nbytes: int = 0
    line: str = ""


@attrs.define
class ModuleRow:
    """One module on its way to a package."""

    name: str
    status: str = "waiting"
    revision: str = ""
    line: str = ""
    since: float = 0.0
    packaged: e.Packaged | None = None
    failed: e.BuildFailed | None = None
    fetched: bool = False


@attrs.define
class GateRow:
    """A script that the whole fleet waits for, its place, and its last line."""

    name: str
    where: str
    since: float
    line: str = ""
    failed: e.BeforeSwitchFailed | e.AfterWaveFailed | None = None


@attrs.define
class Board(RunState[HostRow]):
    """The whole run; :meth:`apply` is the only way to change it."""

    make_host: Callable[[str], HostRow] = HostRow.of
    run: str = ""
    modules: dict[str, ModuleRow] = attrs.field(factory=dict)
    counts: Counter[S] = attrs.field(factory=Counter)
    failures: Failures = attrs.field(factory=Failures)
    warnings: list[str] = attrs.field(factory=list)
    differs: list[e.Differs] = attrs.field(factory=list)
    soaking: bool = False
    gate: GateRow | None = None
    waiting: e.LockAwaited | None = None
    waiting_since: float = 0.0
    nbytes: int = 0
    fetched: int = 0
    uploaded: int = 0
    switched: int = 0
    began: float = 0.0
    at: float = 0.0
    _active: dict[str, HostRow] = attrs.field(factory=dict)
    _sending: Mapping[str, int] = attrs.field(factory=dict)
    _samples: deque[tuple[float, int]] = attrs.field(factory=deque)
    _spared: int = 0
    _held: list[e.Failed] = attrs.field(factory=list)

    def apply(self, record: e.Record) -> None:
        """Take note of *record*; records come in order."""
        self.at, event = record.at, record.event
        if isinstance(event, e.HostEvent):
            row = self.host(event.host)
            before = row.state
            self.fold(event)
            self._host(row, event)
            if row.state is not before:
                self._moved(row, before)
            return
        self.fold(event)
        if isinstance(event, e.Started):
            self._start(record, event)
        else:
            self._packaging(event)
            self._gates(event)
            self._rollout(event)
            self._stops(event)

    # --- Questions ---------------------------------------------------------------

    def elapsed(self, now: float) -> float:
        """Seconds from the first record to *now*, or to the last once it is over."""
        return (self.at if self.finished else max(now, self.at)) - self.began

    @property
    def packaged(self) -> bool:
        """Whether every module has its package."""
        return all(row.packaged for row in self.modules.values())

    @property
    def rate(self) -> float:
        """Bytes per second over the last seconds of transfer; 0 when there is none."""
        if len(self._samples) < 2:  # noqa: PLR2004  two make a slope
            return 0.0
        (first, before), (last, after) = self._samples[0], self._samples[-1]
        return (after - before) / (last - first) if last > first else 0.0

    @property
    def upload_fraction(self) -> float:
        """Share of the fleet's bytes that has arrived, 0 to 1; hosts weigh alike."""
        due = len(self.hosts) - self._spared
        whole = max(1, self.whole)
        partly = sum(min(1.0, sent / whole) for sent in self._sending.values())
        return min(1.0, (self.uploaded + partly) / due) if due else 0.0

    @property
    def executes(self) -> bool:
        """Whether hosts run a script of a person, and get no release."""
        return self.started is not None and self.started.action == Action.EXEC.value

    @property
    def swaps(self) -> str:
        """The color that visitors are to get; empty in a run that is no swap."""
        return self.started.color if self.started else ""

    @property
    def is_back(self) -> bool:
        """Whether the run is over and has not brought what it was to bring."""
        if self.finished is None or self.started is None:
            return False
        return self.started.revert or self.finished.outcome not in _BROUGHT

    @property
    def failed(self) -> list[HostRow]:
        """Hosts that failed by themselves, wherever they are by now."""
        return [self.hosts[name] for f in self.failures for name in f.hosts]

    @property
    def tallies(self) -> Counter[S]:
        """Hosts by state; one that failed by itself is FAILED wherever it went then."""
        counts = Counter(self.counts)
        for row in self.failed:
            if row.state in _WENT_BACK:
                counts[row.state] -= 1
                counts[S.FAILED] += 1
        counts[S.FAILED] -= self.held
        return counts

    @property
    def held(self) -> int:
        """Number of hosts that another run holds; no failure of their own."""
        rows = self.failed
        locked = sum(row.failure is not None and row.failure.locked for row in rows)
        return len(self._held) + locked

    @property
    def phase(self) -> str:
        """Phase of the run as a whole, in one or two words."""
        # The gravest comes first: a fleet that goes back may still switch some hosts.
        # A host that fails in a wave goes back alone: while the run may go on, it does.
        if self.finished:
            return self.finished.outcome
        alone = (self.wave or self.joined) and not self.stopped
        if self.going_back or (self.counts[S.ROLLING_BACK] and not alone):
            return "going back"
        if self.stopped:
            return "stopping"
        if self.waiting or self.gate:
            return "waiting" if self.waiting else "gate"
        if self.wave or self.joined:
            return "soaking" if self.soaking else "switching"
        return self._before_the_barrier()

    def _before_the_barrier(self) -> str:
        if self.started and self.started.revert:
            return "checking"
        if not self.packaged:
            return "building"
        if self.uploaded + self._spared < len(self.hosts):
            return "uploading"
        return "preparing" if self.counts[S.PREPARING] else "ready"

    @property
    def whole(self) -> int:
        """Bytes of all packages that are known so far."""
        rows = self.modules.values()
        return sum(row.packaged.nbytes for row in rows if row.packaged)

    @property
    def wave_fraction(self) -> float:
        """Share of the present wave that is live, from 0 to 1."""
        live = sum(self.hosts[name].state is S.LIVE for name in self.wave_hosts)
        return live / len(self.wave_hosts) if self.wave_hosts else 0.0

    def active(self, limit: int) -> list[HostRow]:
        """Return at most *limit* hosts that work, those longest at it first."""
        # Until the package is built, hosts in UPLOADING wait for it and do not work.
        rows = self._active.values()
        busy = rows if self.packaged else [r for r in rows if r.state != S.UPLOADING]
        return heapq.nsmallest(limit, busy, key=lambda row: (row.since, row.name))

    @property
    def active_count(self) -> int:
        """Number of hosts on their way, those that wait for a package included."""
        return len(self._active)

    @property
    def wave(self) -> int:
        """The number of the present wave; 0 before the first."""
        return self.waves[-1].wave if self.waves else 0

    @property
    def wave_count(self) -> int:
        """Number of waves; 0 before the first has begun."""
        return self.waves[-1].waves if self.waves else 0

    @property
    def wave_hosts(self) -> tuple[str, ...]:
        """The hosts of the present wave."""
        return self.waves[-1].hosts if self.waves else ()

    # --- Folding -----------------------------------------------------------------

    def _start(self, record: e.Record, event: e.Started) -> None:
        self.run, self.began = record.run, record.at
        # A run that only takes back, or runs a script, builds nothing to show.
        none = event.revert or self.executes or event.color
        made = () if none else event.modules
        self.modules = {name: ModuleRow(name) for name in made}
        self._recount(self.hosts)

    def _recount(self, begun: Iterable[str]) -> None:
        """Count all hosts anew, of which those of *begun* have begun just now."""
        for name in begun:
            self.hosts[name].since = self.at
        rows = self.hosts.values()
        self.counts = Counter(row.state for row in rows)
        self._active = {row.name: row for row in rows if row.state not in RESTING}
        self.uploaded = 0
        self._spared = sum(row.state in SPARED for row in rows)

    def _host(self, row: HostRow, event: e.HostEvent) -> None:
        # Any word of a host means that the wait for another run is over.
        self.waiting = None
        match event:
            case e.Uploaded():
                row.nbytes = event.nbytes or event.fetched
                self.fetched += event.fetched
                self.uploaded += 1
            case e.Failed(locked=True) if not self.stopped:
                # The run may wait for the host, which has not failed then.
                self._held.append(event)
            case e.Failed():
                self._failed(event)
            case e.Output():
                row.line = "".join(last_lines(event.text, 1))
                if self.gate and event.script == self.gate.name:
                    self.gate.line = row.line
            case e.HostWarned():
                self.warnings.append(f"{row.name}: {event.text}")
            case e.Switched():
                self.switched += 1

    def _failed(self, event: e.Failed) -> None:
        addresses = self.started.addresses if self.started else {}
        self.failures.add(
            event.host,
            event.stage,
            event.reason,
            event.tail,
            address=addresses.get(event.host, ""),
            unreachable=event.unreachable,
        )

    def _moved(self, row: HostRow, before: S) -> None:
        self.counts[before] -= 1
        self.counts[row.state] += 1
        row.since, row.line = self.at, ""
        # The share of bytes is of hosts that are sent some: a host that leaves the way
        # before that is taken out of the sum.
        self._spared += row.state in SPARED and before in NOT_UPLOADED
        if row.state in RESTING:
            self._active.pop(row.name, None)
        else:
            self._active[row.name] = row

    def _packaging(self, event: e.RunEvent) -> None:
        match event:
            case e.Resolved(module=name, revision=revision):
                short = f"{revision.rev} {revision.commit[:7]}".strip()
                row = self._module(name, "fetching")
                row.revision = short
            case e.BuildStarted(module=name):
                self._module(name, "building").fetched = True
            case e.BuildOutput(module=name) if name:
                row = self.modules.setdefault(name, ModuleRow(name))
                row.line = "".join(last_lines(event.text, 1)) or row.line
            case e.Packaged(module=name):
                row = self._module(name, "reused" if event.reused else "packaged")
                row.packaged, row.line = event, ""
            case e.Differs():
                self.differs.append(event)
            case e.BuildFailed(module=name):
                # A failure without a module is that of the first one not packaged:
                # modules are built in their order.
                left = (row.name for row in self.modules.values() if not row.packaged)
                self._module(name or next(left, ""), "failed").failed = event

    def _module(self, name: str, status: str) -> ModuleRow:
        row = self.modules.setdefault(name, ModuleRow(name))
        row.status, row.since = status, self.at
        return row

    def _gates(self, event: e.RunEvent) -> None:
        match event:
            case e.BeforeSwitchStarted(module=name, host=host):
                where = f"of {name} on {host}"
                self.gate = GateRow("before_switch", where, self.at)
            case e.AfterWaveStarted(wave=wave):
                where = f"of wave {wave}"
                self.gate, self.soaking = GateRow("after_wave", where, self.at), False
            case e.BuildOutput(module=""):
                if self.gate:
                    self.gate.line = "".join(last_lines(event.text, 1))
            case e.BeforeSwitchFailed() | e.AfterWaveFailed():
                if self.gate:
                    self.gate.failed = event
            case e.BeforeSwitchPassed() | e.AfterWavePassed():
                self.gate = None

    def _rollout(self, event: e.RunEvent) -> None:
        match event:
            case e.Progressed():
                self.nbytes, self._sending = event.nbytes, event.sent
                self._sample()
            case e.Judged():
                self._fail_held()
            case e.WaveStarted():
                self.soaking = False
            case e.WaveFinished():
                self.soaking = event.wave < self.wave_count
            case e.Joined(hosts=joined):
                self._recount(joined)
            case e.AfterAllFailed():
                self.warnings.append(event.reason)
            case e.Warned():
                self.warnings.append(event.text)
            case e.Finished():
                self._fail_held()
                self.nbytes, self._sending = event.nbytes, {}

    def _stops(self, event: e.RunEvent) -> None:
        match event:
            case e.LockAwaited(hosts=again):
                self.waiting, self.waiting_since = event, self.at
                self._held.clear()
                self._recount(again)
                for host in again:
                    self.failures.forget(host)
            case e.Stopped() if self.stopped and self.stopped.reason == event.reason:
                self.waiting = None
                self._fail_held()
                # No host is the cause where a gate, a build or a person is.
                rows = (self.gate, *self.modules.values())
                ours = event.cause in {"policy", "locked"}
                if ours and not any(row.failed for row in rows if row):
                    self.failures.stopped_by_last()

    def _fail_held(self) -> None:
        """Count hosts as failed that another run holds: this one does not wait."""
        for event in self._held:
            self._failed(event)
        self._held.clear()

    def _sample(self) -> None:
        self._samples.append((self.at, self.nbytes))
        while self._samples[0][0] < self.at - _RATE_WINDOW:
            self._samples.popleft()
        for name, sent in self._sending.items():
            self.hosts[name].nbytes = sent
