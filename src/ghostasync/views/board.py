"""
What a run looks like at one moment, folded from its records.

Pure: it reads no clock and draws nothing; times are those of the records, in POSIX
seconds. Screens, plain lines and the closing words all read it.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Final

import attrs

from .. import events as e
from ..model import State as S  # noqa: N817  as in the table of states
from .folding import Failures
from .text import last_lines

__all__ = ["Board", "GateRow", "HostRow", "ModuleRow"]

_RESTING: Final = frozenset(
    {S.READY, S.LIVE, S.UNCHANGED, S.FAILED, S.ROLLED_BACK, S.STRANDED}
)
_OVER: Final = frozenset({S.UNCHANGED, S.FAILED, S.LIVE, S.ROLLING_BACK})
_NOT_UPLOADED: Final = frozenset({S.CONNECTING, S.CHECKING, S.UPLOADING})
_RATE_WINDOW: Final = 5.0
"""Seconds over which the transfer rate is averaged: steady to read, yet current."""


@attrs.define
class HostRow:
    """One host: where it is, since when, and the last it said."""

    name: str
    state: S = S.CONNECTING
    since: float = 0.0
    nbytes: int = 0
    line: str = ""
    serves: Mapping[str, str] | None = None
    """Module to release id as last seen by this run; None where it never said."""


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
    """What the whole fleet waits for: a script, where it runs, the last it said."""

    name: str
    where: str
    since: float
    line: str = ""
    failed: e.BeforeSwitchFailed | e.AfterWaveFailed | None = None


@attrs.define
class Board:
    """The whole run; :meth:`apply` is the only way to change it."""

    run: str = ""
    started: e.Started | None = None
    finished: e.Finished | None = None
    modules: dict[str, ModuleRow] = attrs.field(factory=dict)
    hosts: dict[str, HostRow] = attrs.field(factory=dict)
    counts: Counter[S] = attrs.field(factory=Counter)
    failures: Failures = attrs.field(factory=Failures)
    warnings: list[str] = attrs.field(factory=list)
    wave: int = 0
    waves: int = 0
    wave_hosts: tuple[str, ...] = ()
    waves_over: dict[int, e.WaveFinished] = attrs.field(factory=dict)
    soaking: bool = False
    gate: GateRow | None = None
    stopped: str = ""
    waiting: str = ""
    going_back: e.FleetRollbackStarted | None = None
    after_all: e.AfterAllFailed | None = None
    nbytes: int = 0
    uploaded: int = 0
    switched: int = 0
    began: float = 0.0
    at: float = 0.0
    _active: dict[str, HostRow] = attrs.field(factory=dict)
    _sending: Mapping[str, int] = attrs.field(factory=dict)
    _samples: deque[tuple[float, int]] = attrs.field(factory=deque)
    _spared: int = 0

    def apply(self, record: e.Record) -> None:
        """Take note of *record*; records come in order."""
        self.at = record.at
        if isinstance(record.event, e.HostEvent):
            self._host(record, record.event)
        elif isinstance(record.event, e.Started):
            self._begin(record, record.event)
        else:
            self._packaging(record.event)
            self._gates(record.event)
            self._rollout(record.event)

    # --- What is asked of it ---------------------------------------------------

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
        """How much of the fleet's bytes has arrived, from 0 to 1; hosts weigh alike."""
        due = len(self.hosts) - self._spared
        whole = max(1, self.whole)
        partly = sum(min(1.0, sent / whole) for sent in self._sending.values())
        return min(1.0, (self.uploaded + partly) / due) if due else 0.0

    @property
    def phase(self) -> str:
        """What the run as a whole is doing, in one or two words."""
        if self.finished:
            return self.finished.outcome
        if self.going_back or self.counts[S.ROLLING_BACK]:
            return "going back"
        if self.stopped:
            return "stopping"
        if self.waiting or self.gate:
            return "waiting" if self.waiting else "gate"
        if self.wave:
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
        """How much of the present wave is live, from 0 to 1."""
        live = sum(self.hosts[name].state is S.LIVE for name in self.wave_hosts)
        return live / len(self.wave_hosts) if self.wave_hosts else 0.0

    def active(self, limit: int) -> list[HostRow]:
        """Return at most *limit* hosts that work, those longest at it first."""
        rows = self._active.values()
        busy = rows if self.packaged else [r for r in rows if r.state != S.UPLOADING]
        return heapq.nsmallest(limit, busy, key=lambda row: (row.since, row.name))

    @property
    def active_count(self) -> int:
        """How many hosts are on their way, those that wait for a package included."""
        return len(self._active)

    # --- How it gets there -----------------------------------------------------

    def _begin(self, record: e.Record, event: e.Started) -> None:
        self.run, self.began, self.started = record.run, record.at, event
        made = () if event.revert else event.modules
        self.modules = {name: ModuleRow(name) for name in made}
        self.hosts = {name: HostRow(name, since=record.at) for name in event.hosts}
        self._active = dict(self.hosts)
        self.counts = Counter({S.CONNECTING: len(self.hosts)})

    def _host(self, record: e.Record, event: e.HostEvent) -> None:
        row = self.hosts.setdefault(event.host, HostRow(event.host, since=record.at))
        self.waiting = ""
        match event:
            case e.Checked(live=serves) | e.RolledBack(to=serves):
                row.serves = serves
            case e.Uploaded():
                row.nbytes = event.nbytes
                self.uploaded += 1
            case e.Failed():
                self.failures.add(row.name, event.stage, event.reason, event.tail)
            case e.Output():
                row.line = "".join(last_lines(event.text, 1))
                if self.gate and event.script == self.gate.name:
                    self.gate.line = row.line
            case e.HostWarned():
                self.warnings.append(f"{row.name}: {event.text}")
            case e.Switched():
                self.switched += 1
        if record.state is not None and record.state is not row.state:
            self._move(row, record.state, record.at)

    def _move(self, row: HostRow, state: S, at: float) -> None:
        self.counts[row.state] -= 1
        self.counts[state] += 1
        before = row.state
        row.state, row.since, row.line = state, at, ""
        self._spared += state in _OVER and before in _NOT_UPLOADED
        if state in _RESTING:
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
            case e.BuildFailed(module=name):
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
            case e.WaveStarted():
                self.wave, self.waves = event.wave, event.waves
                self.wave_hosts, self.soaking = event.hosts, False
            case e.WaveFinished():
                self.waves_over[event.wave] = event
                self.soaking = event.wave < self.waves
            case e.Stopped():
                self.stopped = event.reason
            case e.FleetRollbackStarted():
                self.going_back = event
            case e.AfterAllFailed():
                self.after_all = event
                self.warnings.append(event.reason)
            case e.LockAwaited(host=name, holder=holder, hosts=again):
                self.waiting = f"{name}: {holder}"
                self._start_over(again)
            case e.Warned():
                self.warnings.append(event.text)
            case e.Finished():
                self.finished, self.nbytes, self._sending = event, event.nbytes, {}

    def _start_over(self, names: Iterable[str]) -> None:
        """Have hosts wait to be connected, as when the run began."""
        for name in names:
            self._move(self.hosts[name], S.CONNECTING, self.at)
            self.failures.forget(name)
        self.uploaded = 0
        self._spared = sum(row.state in _OVER for row in self.hosts.values())

    def _sample(self) -> None:
        self._samples.append((self.at, self.nbytes))
        while self._samples[0][0] < self.at - _RATE_WINDOW:
            self._samples.popleft()
        for name, sent in self._sending.items():
            self.hosts[name].nbytes = sent
