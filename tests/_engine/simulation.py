"""
A fleet that does what a policy says, and breaks as one seed has it.

It knows the table of states and carries out commands as ``_engine/fleet.py`` does, in
the order of ``_run/deploy.py``; :class:`Truth` is the fleet's own book, kept beside the
policy's. A run that does not end within a number of steps fails its test.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterable
from typing import Final

import attrs

from ghostasync import events as e
from ghostasync._engine.commands import Admit, AwaitLock, Command, Leave, Stop, TakeBack
from ghostasync._engine.policy import Policy, Rules
from ghostasync._run.report import verdict, verdict_back
from ghostasync.machine import (
    MAY_BE_DRAINED,
    MAY_HAVE_MOVED,
    RESTING,
    TRANSITIONS,
    after,
)
from ghostasync.model import Outcome
from ghostasync.model import State as S  # noqa: N817  as in the table

MOST_STEPS: Final = 3000
"""About ten times what the longest run takes."""

FORWARD: Final[dict[S, Callable[[str], e.HostEvent]]] = {
    S.CONNECTING: e.Connected,
    S.CHECKING: lambda host: e.Checked(host, live={"site": "old"}),
    S.UPLOADING: e.Uploaded,
    S.PREPARING: lambda host: e.Prepared(host, previous={"site": "old"}),
    S.DRAINING: e.Drained,
    S.SWITCHING: e.Switched,
    S.ACTIVATING: e.Activated,
    S.VERIFYING: e.Verified,
    S.UNDRAINING: e.Undrained,
    S.ROLLING_BACK: lambda host: e.RolledBack(host, to={"site": "old"}),
}

BACK_FOR_KILLED_RUN: Final = frozenset({S.CHECKING, S.READY, S.HALTED, S.FAILED})

_KILLED_IN: Final = (
    (S.READY, 4),
    (S.DRAINING, 4),
    (S.SWITCHING, 2),
    (S.VERIFYING, 2),
    (S.LIVE, 6),
    (S.ROLLING_BACK, 1),
    (S.ROLLED_BACK, 1),
    (S.STRANDED, 1),
)
"""Where a killed run left its hosts, with odds."""


class Over(Exception):
    """The run goes no further."""


@attrs.frozen
class Weather:
    """How likely things go wrong: shares of 1 for each step of a host."""

    fails: float
    unreachable: float
    denied: float
    locked: float
    drops: float
    unhealthy: float
    strands: float
    gates: float
    unchanged: float

    @classmethod
    def of(cls, dice: random.Random) -> Weather:
        locked, barred = dice.choice((0, 0, 0.15)), dice.random() < 0.06
        return cls(
            fails=dice.choice((0, 0.004, 0.01, 0.03)),
            unreachable=0.9 if barred else dice.choice((0, 0, 0.05, 0.2)),
            denied=1 if barred else 0.1,
            locked=locked,
            drops=dice.choice((0, 0.03, 0.1)),
            unhealthy=dice.choice((0, 0.02, 0.1)),
            strands=dice.choice((0, 0.02, 0.15)),
            gates=dice.choice((0, 0.02, 0.1)),
            unchanged=dice.choice((0.05, 0.05, 0.05, 0.05, 0.9)),
        )


@attrs.define(eq=False)
class Truth:
    """
    What is so on the hosts, by the events alone.

    Hosts that are *up* serve visitors, those in *reach* answer. *touched* have what has
    to be undone, by this run or the *adopted* killed one. *failed* are failures by
    host; what a run that waited for a lock begins again with is forgotten.
    """

    rules: Rules
    states: dict[str, S] = attrs.field(factory=dict)
    up: set[str] = attrs.field(init=False)
    reach: set[str] = attrs.field(factory=set)
    touched: set[str] = attrs.field(factory=set)
    adopted: set[str] = attrs.field(factory=set)
    failed: dict[str, e.Failed] = attrs.field(factory=dict)
    waves: int = 0
    causes: list[e.Cause] = attrs.field(factory=list)
    committed: bool = False
    back: e.FleetRollbackStarted | None = None

    def __attrs_post_init__(self) -> None:
        self.up = set(self.rules.serving)

    def note(self, event: e.Event) -> None:
        match event:
            case e.HostEvent(host=host):
                self._move(host, event)
                self._learn(host, event)
            case e.Started(hosts=hosts):
                self.states = dict.fromkeys(hosts, S.CONNECTING)
            case e.LockAwaited(hosts=hosts):
                self._begin_again(hosts)
            case e.WaveStarted():
                self.waves += 1
            case e.Stopped(cause=cause):
                self.causes.append(cause)
            case e.FleetRollbackStarted():
                self.back = event
            case e.Committed():
                self.committed = True

    def _begin_again(self, hosts: Iterable[str]) -> None:
        for host in hosts:
            self.states[host] = S.CONNECTING
            self.failed.pop(host, None)
            for known in (self.reach, self.touched, self.adopted):
                known.discard(host)
        self.up |= set(hosts) - set(self.rules.drained)

    def _move(self, host: str, event: e.HostEvent) -> None:
        before = self.states[host]
        if any(type(event) in ways for ways in TRANSITIONS.values()):
            self.states[host] = after(before, event)
        now = self.states[host]
        if now is before:
            return
        if now in {S.LIVE, S.ROLLED_BACK}:
            self.up.add(host)
        elif now not in {S.UNCHANGED, *BACK_FOR_KILLED_RUN, *_EARLY}:
            self.up.discard(host)
        if now in {S.ROLLED_BACK, S.STRANDED}:
            self.touched.discard(host)
        elif now not in {S.UNCHANGED, *BACK_FOR_KILLED_RUN, *_EARLY}:
            self.touched.add(host)

    def _learn(self, host: str, event: e.HostEvent) -> None:
        match event:
            case e.Connected() | e.Reconnected():
                self.reach.add(host)
            case e.Disconnected():
                self.reach.discard(host)
            case e.KilledRunFound(moved=moved, drained=drained):
                self.reach.add(host)
                self.adopted |= {host} if moved else set()
                self.touched |= {host} if moved or drained else set()
            case e.Resumed():
                self.adopted.add(host)
            case e.Failed():
                first = self.failed.setdefault(host, event)
                if self.states[host] is S.STRANDED:
                    self.failed[host] = event
                elif first.unreachable:
                    self.up.discard(host)

    def over_budget(self) -> tuple[int, int] | None:
        """Return how many failed and how many may, where these are too many."""
        away = [host for host, failure in self.failed.items() if failure.unreachable]
        limit, rest = self.rules.max_unreachable, len(self.failed)
        if limit is not None:
            if len(away) > limit:
                return len(away), limit
            rest -= len(away)
        most = self.rules.max_failures
        return (rest, most) if rest > most else None

    def to_go_back(self) -> set[str]:
        """Return the hosts that the fleet's way back has to take along."""
        stays = set[str]()
        if not self.rules.together and set(self.causes) == {"policy"}:
            stays = {host for host, state in self.states.items() if state is S.LIVE}
        if "locked" in self.causes:
            stays |= self.adopted  # another run holds hosts, and may be moving these
        back = self.touched - stays
        ready = {host for host, state in self.states.items() if state is S.READY}
        return back | (ready & set(self.rules.drained)) if back else set()

    def groups(self) -> list[list[str]]:
        """Return the way back as groups, each of which waits for the one before."""
        assert self.back is not None
        hosts = [h for h in self.back.hosts if self.states[h] is not S.ROLLING_BACK]
        idle = [
            host
            for host in hosts
            if host in self.rules.drained and self.states[host] in BACK_FOR_KILLED_RUN
        ]
        waves = [
            [host for host in wave if host in hosts and host not in idle]
            for wave in reversed(self.rules.waves)
        ]
        return [group for group in (idle, *waves) if group]


_EARLY: Final = frozenset({S.CONNECTING, S.UPLOADING, S.PREPARING})


@attrs.frozen
class Place:
    """Where a run is: all that a policy can be asked."""

    states: dict[str, S]
    reason: str
    locked: bool
    final: bool
    serving: frozenset[str]
    away: frozenset[str]
    unseen: tuple[str, ...]
    way_back: e.FleetRollbackStarted | None
    verdict: e.Judged

    @classmethod
    def of(cls, policy: Policy) -> Place:
        return cls(
            states={name: host.state for name, host in policy.run.hosts.items()},
            reason=policy.reason,
            locked=policy.locked,
            final=policy.final,
            serving=frozenset(policy.serving),
            away=frozenset(policy.away),
            unseen=tuple(policy.unseen()),
            way_back=policy.way_back(),
            verdict=policy.judge(),
        )


@attrs.frozen
class Entry:
    """One event, what the policy said to it, and where the run was then."""

    event: e.Event
    commands: tuple[Command, ...]
    place: Place


def _rules(dice: random.Random) -> tuple[Rules, dict[str, S]]:
    """Return rules, and where a killed run left its hosts, if there was one."""
    hosts = [f"web{n}" for n in range(1, dice.randint(3, 10))]
    cuts = sorted(
        dice.sample(range(1, len(hosts)), min(dice.randint(0, 4), len(hosts) - 1))
    )
    order = dice.sample(hosts, len(hosts))
    edges = zip([0, *cuts], [*cuts, None], strict=True)
    waves = tuple(tuple(order[a:b]) for a, b in edges)
    killed, odds = dice.random() < 0.4, [n for _, n in _KILLED_IN]
    states = [state for state, _ in _KILLED_IN]
    past = {host: dice.choices(states, odds)[0] for host in hosts} if killed else {}
    only_back = killed and dice.random() < 0.4
    balancer = dice.random() < 0.7
    changed = tuple(host for host, state in past.items() if state in MAY_HAVE_MOVED)
    drained = tuple(
        host for host, state in past.items() if balancer and state in MAY_BE_DRAINED
    )
    fleet = [*hosts, *(f"db{n}" for n in range(dice.randint(0, 2)))]
    rules = Rules(
        waves=waves,
        max_failures=dice.choice((0, 1, 1, 2, 3, len(hosts))),
        max_unreachable=dice.choice((None, None, 0, 1, 2, len(hosts))),
        together=dice.random() < 0.6,
        min_serving=dice.choice((0, dice.randrange(len(fleet)), len(fleet) - 1)),
        serving=tuple(host for host in fleet if host not in drained),
        patient=dice.random() < 0.6,
        only_back=only_back,
        changed=changed,
        drained=drained,
    )
    return rules, past


def simulate(seed: int) -> Simulation:
    """Return the run that *seed* stands for, from its first event to its last."""
    dice = random.Random(seed)
    rules, past = _rules(dice)
    run = Simulation(seed, dice, Policy(rules), past, Weather.of(dice))
    run.play()
    return run


@attrs.define(eq=False, repr=False)
class Simulation:
    """One run: the policy is asked, and whatever it allows happens."""

    seed: int
    dice: random.Random
    policy: Policy
    past: dict[str, S]
    weather: Weather
    log: list[Entry] = attrs.field(factory=list)
    truth: Truth = attrs.field(init=False)
    at_work: list[str] = attrs.field(factory=list)
    left: set[str] = attrs.field(factory=set)
    building: bool = False
    cut: bool = False
    settling: bool = False
    awaited: AwaitLock | None = None
    steps: int = 0
    stop_at: int = 0
    again_at: int = 0

    def __repr__(self) -> str:
        return f"simulate({self.seed})"

    def __attrs_post_init__(self) -> None:
        self.truth = Truth(self.policy.rules)
        if self.dice.random() < 0.4:
            self.stop_at = self.dice.randrange(1, 90)
        self.again_at = self.dice.randrange(1, 12)

    # --- What is told of it ----------------------------------------------------

    @property
    def rules(self) -> Rules:
        return self.policy.rules

    @property
    def events(self) -> list[e.Event]:
        return [entry.event for entry in self.log]

    @property
    def commands(self) -> list[Command]:
        return [command for entry in self.log for command in entry.commands]

    @property
    def outcome(self) -> Outcome:
        states, causes = list(self.truth.states.values()), self.truth.causes
        interrupted, locked = "interrupted" in causes, "locked" in causes
        if self.rules.only_back:
            return verdict_back(
                states, lost=False, interrupted=interrupted, locked=locked
            )
        return verdict(
            states,
            committed=self.truth.committed,
            interrupted=interrupted,
            locked=locked,
        )

    # --- What happens ----------------------------------------------------------

    def note(self, event: e.Event) -> None:
        self.truth.note(event)
        commands = self.policy.feed(event)
        self.log.append(Entry(event, commands, Place.of(self.policy)))
        for command in commands:
            self.carry_out(command)

    def carry_out(self, command: Command) -> None:
        match command:
            case Stop():
                self.note(e.Stopped(command.reason, command.cause))
                self.cut = self.cut or command.at_work == "cut"
                self.settling = self.settling or command.at_work == "settle"
            case Admit(host=host) if not self.policy.reason:
                self.note(e.Admitted(host, 1))
                self.at_work.append(host)
            case TakeBack(host=host, reason=reason):
                if self.state(host) is not S.ROLLING_BACK:
                    self.note(e.RollbackRequested(host, reason))
                self.at_work.append(host)
            case Leave(host=host, reason=reason):
                self.left.add(host)
                self.note(e.HostWarned(host, reason))
                if self.state(host) in {S.CHECKING, S.READY}:
                    self.note(e.Failed(host, reason, self.state(host)))
            case AwaitLock():
                self.awaited = command

    def state(self, host: str) -> S:
        return self.truth.states[host]

    def chance(self, share: float) -> bool:
        return self.dice.random() < share

    def tick(self) -> None:
        """Let time pass: a person may stop the run now, more than once."""
        self.steps += 1
        assert self.steps < MOST_STEPS, "the run does not end"
        if self.stop_at and self.steps >= self.stop_at:
            cause: e.Cause = "abandoned" if self.chance(0.2) else "interrupted"
            self.stop(cause)
            self.stop_at = self.steps + self.again_at if self.chance(0.3) else 0

    def stop(self, cause: e.Cause) -> None:
        said = cause == "interrupted" and cause in self.truth.causes
        if not (said or self.policy.final):
            self.note(e.Stopped(cause, cause))
            self.cut = True

    # --- Hosts at work ---------------------------------------------------------

    def work(self, *, shielded: bool = False) -> None:
        """Let hosts do what they do, in any order, until all of them rest."""
        while self.at_work or (self.building and not self.awaited):
            self.tick()
            if (self.cut or self.awaited) and not shielded:
                self.cancel_all()
                self.building = self.building and not self.cut
                if not self.at_work:
                    return
            if self.settling and not shielded:
                self.settle()
                continue
            ready = [
                host
                for host in self.at_work
                if not (self.building and self.state(host) is S.UPLOADING)
            ]
            if self.building and (not ready or self.chance(0.1)):
                self.build()
            elif ready:
                self.step(self.dice.choice(ready))

    def build(self) -> None:
        if self.chance(self.weather.gates):
            self.note(e.BuildFailed("make exited 2"))
        else:
            self.building = False
            self.note(e.Packaged("site", "1_site_1", 1, 1, 1))

    def step(self, host: str) -> None:
        state = self.state(host)
        if state in RESTING and state is not S.LIVE:
            self.at_work.remove(host)
        elif host not in self.truth.reach and state not in {S.CONNECTING, S.LIVE}:
            self.call_again(host)
        elif self.chance(self.weather.drops) and state not in {S.CONNECTING, S.LIVE}:
            self.note(e.Disconnected(host, "lost"))
        elif self.chance(self.odds(state)):
            self.fail(host)
        elif state is S.CHECKING and self.chance(self.weather.locked):
            self.fail(host, locked=True)
        elif state is S.LIVE or (state is S.CHECKING and self.rules.only_back):
            self.at_work.remove(host)  # it is in good health, or has been looked at
        else:
            self.forward(host)
            if self.state(host) in RESTING:
                self.at_work.remove(host)

    def odds(self, state: S) -> float:
        return {
            S.CONNECTING: self.weather.unreachable,
            S.LIVE: self.weather.unhealthy,
            S.ROLLING_BACK: self.weather.strands,
        }.get(state, self.weather.fails)

    def call_again(self, host: str) -> None:
        """A host stays out of reach for a while."""
        if self.chance(0.15):
            self.note(e.Reconnected(host, 1.0))
        elif self.chance(0.05):
            self.fail(host, unreachable=self.chance(0.3))
        elif self.state(host) is S.ROLLING_BACK and self.chance(0.1):
            self.note(FORWARD[S.ROLLING_BACK](host))

    def fail(
        self, host: str, *, unreachable: bool = False, locked: bool = False
    ) -> None:
        state, denied = self.state(host), False
        if state is S.CONNECTING:
            denied = self.chance(self.weather.denied)
            unreachable = denied or self.chance(0.8)
        self.at_work.remove(host)
        self.note(
            e.Failed(
                host,
                "run x" if locked else "it broke",
                state,
                unreachable=unreachable,
                locked=locked,
                denied=denied,
            )
        )

    def forward(self, host: str) -> None:
        state, past = self.state(host), self.past.get(host)
        same = self.weather.unchanged
        if state is not S.UPLOADING:
            self.note(FORWARD[state](host))
        elif past is S.LIVE and self.chance(0.8):
            self.note(e.Resumed(host, {"site": "old"}))
        elif host not in self.rules.changed and self.chance(same):
            self.note(e.Unchanged(host))
        else:
            if host in self.rules.changed and self.chance(0.7):
                self.note(e.KilledRunFound(host, moved=True))
            self.note(e.Uploaded(host))

    def settle(self) -> None:
        """Cut short all but checks and pre-deploys; these end, or run out of time."""
        self.building = False
        for host in self.dice.sample(self.at_work, len(self.at_work)):
            may = self.state(host) in {S.CHECKING, S.PREPARING}
            if not may or host not in self.truth.reach or self.chance(0.1):
                self.cancel(host)
        if self.at_work:
            self.step(self.dice.choice(self.at_work))

    def cancel_all(self) -> None:
        for host in self.dice.sample(self.at_work, len(self.at_work)):
            self.cancel(host)

    def cancel(self, host: str) -> None:
        """Cut short what is done to a host; half a switch is worse than a whole one."""
        if self.state(host) is S.SWITCHING and self.chance(0.6):
            if self.chance(0.2):
                return self.fail(host)
            self.note(e.Switched(host))
        state, reason = self.state(host), self.policy.reason or "waits for a lock"
        ways = TRANSITIONS[state]
        if state is S.ROLLING_BACK:
            return None  # it goes on until the host is back
        self.at_work.remove(host)
        if state in RESTING:
            return None
        if e.Halted in ways:
            return self.note(e.Halted(host, reason))
        return self.note(e.RollbackRequested(host, reason))

    # --- The page --------------------------------------------------------------

    def play(self) -> None:
        hosts = tuple(sorted(host for wave in self.rules.waves for host in wave))
        self.note(e.Started("deploy", "shop/prod/web", ("site",), hosts))
        if self.rules.only_back:
            self.revert()
            return
        with contextlib.suppress(Over):
            self.deploy()
        self.go_back()

    def deploy(self) -> None:
        self.gather()
        self.note(self.policy.judge())
        self.go_on()
        self.pass_before_switch()
        for number, wave in enumerate(self.rules.waves, start=1):
            self.switch(number, wave)
            live = [host for host in wave if self.state(host) is S.LIVE]
            self.soak(number, live)
            self.pass_after_wave(number, live)
        if self.chance(self.weather.gates):
            self.stop("abandoned")  # MANIFEST could not be moved
        self.go_on()
        self.note(e.Committed())
        self.tick()

    def go_on(self) -> None:
        self.tick()
        if self.policy.reason:
            raise Over

    def gather(self) -> None:
        self.building = True
        while True:
            self.awaited = None
            self.at_work = [
                host
                for host, state in self.truth.states.items()
                if state is S.CONNECTING
            ]
            self.work()
            if self.awaited is None or self.policy.reason:
                return self.go_on()
            self.await_lock(self.awaited)

    def await_lock(self, awaited: AwaitLock) -> None:
        left = self.dice.choice((30.0, 5.0, 0.0))
        self.note(e.LockAwaited(awaited.host, awaited.holder, left, awaited.hosts))
        self.tick()
        if not self.cut and left and self.chance(0.8):
            self.weather = attrs.evolve(self.weather, locked=0.02)
            return
        self.note(e.Stopped(f"{awaited.host}: {awaited.holder}", "locked"))
        for host in awaited.hosts:
            self.note(e.Halted(host, self.policy.reason))
        self.go_on()

    def pass_before_switch(self) -> None:
        ready = [host for host, state in self.truth.states.items() if state is S.READY]
        if not ready:
            return
        self.note(e.BeforeSwitchStarted("site", ready[0]))
        if self.chance(self.weather.gates):
            self.note(e.BeforeSwitchFailed("site", ready[0], "migrate exited 1"))
        else:
            self.note(e.BeforeSwitchPassed("site", ready[0]))
        self.go_on()

    def switch(self, number: int, wave: tuple[str, ...]) -> None:
        ready = tuple(host for host in wave if self.state(host) is S.READY)
        if not ready:
            return
        self.note(e.WaveStarted(number, len(self.rules.waves), ready))
        self.work()
        live = [host for host in ready if self.state(host) is S.LIVE]
        failed = [host for host in ready if host in self.truth.failed]
        self.note(e.WaveFinished(number, len(live), len(failed)))
        self.go_on()

    def soak(self, number: int, live: list[str]) -> None:
        if not (self.weather.unhealthy and live):
            return
        self.at_work = list(live)
        self.work()
        self.go_on()
        self.note(e.Soaked(number, 1.0))

    def pass_after_wave(self, number: int, live: list[str]) -> None:
        if not live:
            return
        self.note(e.AfterWaveStarted(number))
        if self.chance(self.weather.gates):
            self.note(e.AfterWaveFailed(number, "errors went up"))
        else:
            self.note(e.AfterWavePassed(number))
        self.go_on()

    # --- The way back ----------------------------------------------------------

    def go_back(self) -> None:
        if not self.policy.reason or self.policy.final:
            return
        for host in self.policy.unseen():
            self.look_again(host)
        back = self.policy.way_back()
        for host, state in self.truth.states.items():
            if state is S.READY and host not in (back.hosts if back else ()):
                self.note(e.Halted(host, self.policy.reason))
        self.take_back(back)

    def look_again(self, host: str) -> None:
        self.tick()
        if self.chance(0.3):
            self.note(e.HostWarned(host, "could not be looked at"))
        else:
            self.find(host)

    def find(self, host: str) -> bool:
        moved = host in self.truth.adopted or (
            host in self.rules.changed and self.chance(0.9)
        )
        drained = not moved and host in self.rules.drained
        self.note(e.KilledRunFound(host, moved, drained))
        return moved or drained

    def take_back(self, back: e.FleetRollbackStarted | None) -> None:
        if back is not None:
            if self.chance(0.4):
                self.stop_at = self.steps + self.again_at
            self.note(back)
            self.work(shielded=True)

    def revert(self) -> None:
        self.at_work = list(self.truth.states)
        self.work()
        for host, state in self.truth.states.items():
            if state is not S.CHECKING:
                continue
            if self.policy.reason:
                self.note(e.Halted(host, self.policy.reason))
            elif not self.find(host):
                self.note(e.Unchanged(host))
        if not self.policy.reason:
            back = self.policy.way_back()
            self.take_back(back and attrs.evolve(back, reason="back from run x"))
