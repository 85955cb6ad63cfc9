"""
Random runs of a simulated fleet: the policy is asked, and whatever it allows happens.

The fleet here knows the table of states and nothing else. It is driven as the one page
of ``_run/deploy.py`` drives the real one, and hypothesis chooses what happens next.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable
from typing import Final

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostasync import events as e
from ghostasync import journal
from ghostasync._engine.commands import (
    Admit,
    AwaitLock,
    Command,
    Leave,
    Stop,
    TakeBack,
    decode,
    encode,
)
from ghostasync._engine.policy import DENIALS, Policy, Rules
from ghostasync.machine import MAY_HAVE_MOVED, RESTING, SWITCHED, TRANSITIONS
from ghostasync.model import State as S  # noqa: N817  as in the table

HOSTS = tuple(f"web{n}" for n in range(1, 8))

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


class Over(Exception):
    """The run goes no further."""


@attrs.define(eq=False)
class Simulation:
    """A fleet that does what the policy says, one random event after the other."""

    policy: Policy
    draw: Callable[[st.SearchStrategy[object]], object]
    events: list[e.Event] = attrs.field(factory=list)
    commands: list[Command] = attrs.field(factory=list)
    at_work: list[str] = attrs.field(factory=list)
    cut: bool = False
    awaited: AwaitLock | None = None
    most_away: int = 0

    def note(self, event: e.Event) -> None:
        self.events.append(event)
        for command in self.policy.feed(event):
            self.commands.append(command)
            self.carry_out(command)

    def state(self, host: str) -> S:
        return self.policy.run.host(host).state

    def carry_out(self, command: Command) -> None:
        match command:
            case Stop():
                self.note(e.Stopped(command.reason, command.cause))
                self.cut = self.cut or command.at_once
            case Admit(host=host) if not self.policy.reason:
                self.note(e.Admitted(host, 1))
                self.at_work.append(host)
            case TakeBack(host=host, reason=reason):
                if self.state(host) is not S.ROLLING_BACK:
                    self.note(e.RollbackRequested(host, reason))
                self.at_work.append(host)
            case AwaitLock():
                self.awaited = command

    def chance(self, percent: int) -> bool:
        return int(str(self.draw(st.integers(0, 99)))) < percent

    def failure(self, host: str) -> e.Failed:
        stage = self.state(host)
        left = stage in {S.CONNECTING, S.CHECKING}
        return e.Failed(
            host,
            "it broke",
            stage,
            unreachable=stage is S.CONNECTING and self.chance(50),
            locked=left and stage is S.CHECKING and self.chance(30),
        )

    def step(self) -> None:
        """Let one host at work do its next thing."""
        host = str(self.draw(st.sampled_from(self.at_work)))
        if self.state(host) in RESTING:
            self.at_work.remove(host)
            return
        odds = 20 if self.state(host) is S.ROLLING_BACK else 8
        if self.chance(odds):
            self.note(self.failure(host))
            if self.state(host) is S.ROLLING_BACK:
                self.at_work.remove(host)
        elif self.state(host) is S.UPLOADING and self.chance(10):
            self.note(e.Unchanged(host))
        elif self.chance(5):
            self.note(e.Disconnected(host, "lost"))
            self.note(e.Reconnected(host, 1.0))
        else:
            self.note(FORWARD[self.state(host)](host))

    def until_all_rest(self) -> None:
        while self.at_work and not self.cut and self.awaited is None:
            if self.chance(1) and not self.policy.final:
                self.note(e.Stopped("interrupted", "interrupted"))
                self.cut = True
                break
            self.step()
        for host in self.at_work if self.cut or self.awaited else ():
            self.cancel(host)
        self.at_work.clear()

    def cancel(self, host: str) -> None:
        reason = self.policy.reason or "interrupted"
        ways = TRANSITIONS[self.state(host)]
        if e.Halted in ways and self.state(host) not in RESTING:
            self.note(e.Halted(host, reason))
        elif e.RollbackRequested in ways and self.state(host) not in RESTING:
            self.note(e.RollbackRequested(host, reason))

    # --- The page --------------------------------------------------------------

    def deploy(self) -> None:
        with contextlib.suppress(Over):
            self.forward()
        self.go_back()

    def forward(self) -> None:
        self.note(e.Started("deploy", "shop/prod/web", ("site",), HOSTS))
        self.gather()
        self.note(self.policy.judge())
        self.go_on()
        for number, wave in enumerate(self.policy.rules.waves, start=1):
            self.switch(number, wave)
        self.note(e.Committed())

    def gather(self) -> None:
        while True:
            self.awaited = None
            names = [host for host in HOSTS if self.state(host) is S.CONNECTING]
            self.at_work = list(names)
            self.until_all_rest()
            if self.awaited is None or self.policy.reason:
                return self.go_on()
            patience = 30.0 if self.chance(50) else 0.0
            self.note(
                e.LockAwaited(self.awaited.host, "run x", patience, self.awaited.hosts)
            )

    def switch(self, number: int, wave: tuple[str, ...]) -> None:
        ready = tuple(host for host in wave if self.state(host) is S.READY)
        if not ready:
            return
        waves = len(self.policy.rules.waves)
        self.note(e.WaveStarted(number, waves, ready))
        self.until_all_rest()
        live = [host for host in ready if self.state(host) is S.LIVE]
        self.note(e.WaveFinished(number, len(live), len(ready) - len(live)))
        self.go_on()
        for host in live:
            if self.chance(10):
                self.note(e.Failed(host, "unhealthy", S.LIVE))
        self.until_all_rest()
        self.go_on()

    def go_on(self) -> None:
        if self.policy.reason:
            raise Over

    def go_back(self) -> None:
        if not self.policy.reason or self.policy.final:
            return
        self.cut = False
        back = self.policy.way_back()
        for host in HOSTS:
            if self.state(host) is S.READY and host not in (back.hosts if back else ()):
                self.note(e.Halted(host, self.policy.reason))
        if back is not None:
            self.note(back)
            while self.at_work:
                self.step()


@st.composite
def rules(draw: st.DrawFn) -> Rules:
    order = draw(st.permutations(HOSTS))
    cuts = sorted(draw(st.sets(st.integers(1, len(HOSTS) - 1), max_size=3)))
    edges = [0, *cuts, len(HOSTS)]
    waves = tuple(tuple(order[a:b]) for a, b in itertools.pairwise(edges))
    return Rules(
        waves=waves,
        max_failures=draw(st.integers(0, 3)),
        max_unreachable=draw(st.none() | st.integers(0, 3)),
        together=draw(st.booleans()),
        min_serving=draw(st.integers(0, 6)),
        serving=HOSTS,
        patient=draw(st.booleans()),
    )


@st.composite
def runs(draw: st.DrawFn) -> Simulation:
    simulation = Simulation(Policy(draw(rules())), draw)
    simulation.deploy()
    return simulation


@given(runs())
def test_a_run_never_goes_live_with_more_failures_than_allowed(run: Simulation) -> None:
    folded, limits = run.policy.run, run.policy.rules
    failed = [host for host in folded.hosts.values() if host.failure]
    counted = [
        host
        for host in failed
        if limits.max_unreachable is None
        or not (host.failure and host.failure.unreachable)
    ]

    if folded.committed:
        assert len(counted) <= limits.max_failures
        assert len(failed) - len(counted) <= (limits.max_unreachable or 0)
        assert not folded.in_state(S.STRANDED)


@given(runs())
def test_nothing_is_admitted_or_switched_after_a_stop_at_once(run: Simulation) -> None:
    stopped = next(
        (n for n, event in enumerate(run.events) if isinstance(event, e.Stopped)),
        len(run.events),
    )
    later = run.events[stopped:]

    assert not [
        event for event in later if isinstance(event, e.Admitted | e.WaveStarted)
    ]
    if run.policy.rules.together:
        assert not [event for event in later if isinstance(event, e.Switched)]


@given(runs())
def test_every_host_that_may_have_moved_is_on_the_way_back(run: Simulation) -> None:
    folded, limits = run.policy.run, run.policy.rules
    if folded.committed or not folded.stopped:
        return
    alive = {S.ROLLED_BACK, S.STRANDED, S.HALTED, S.FAILED, S.UNCHANGED}
    if not limits.together and folded.stopped.cause == "policy":
        alive.add(S.LIVE)
    if limits.min_serving:
        alive.add(S.LIVE)  # left as it is, said aloud: nobody else could serve
        left = {c.host for c in run.commands if isinstance(c, Leave)}
        mixed = set(folded.in_state(S.LIVE)) - left
        assert not mixed or not (limits.together or folded.stopped.cause != "policy")

    assert {host.state for host in folded.hosts.values()} <= alive
    switched = {event.host for event in run.events if isinstance(event, e.Admitted)}
    assert all(
        folded.hosts[host].state in {S.ROLLED_BACK, S.STRANDED, S.LIVE}
        for host in switched
    )


@given(runs())
def test_enough_hosts_serve_at_any_moment(run: Simulation) -> None:
    """Whatever fails by itself is no choice of the policy; what it lets go, is."""
    policy, least = Policy(run.policy.rules), run.policy.rules.min_serving
    for event in run.events:
        before = len(policy.serving)
        commands = policy.feed(event)
        if any(isinstance(c, Admit) for c in commands) and least:
            assert len(policy.serving) >= least or len(policy.serving) >= before


@given(runs())
def test_a_policy_fed_with_a_journal_is_where_the_run_was(run: Simulation) -> None:
    """The records are written and read back, so nothing but plain data is needed."""
    lines = [
        journal.line(e.Record(seq=n, at=0.0, run="r", event=event))
        for n, event in enumerate(run.events, start=1)
    ]
    again = Policy(run.policy.rules)
    for line in lines:
        again.feed(journal.decode(line).event)

    assert again.run.hosts == run.policy.run.hosts
    assert again.reason == run.policy.reason
    assert (again.serving, again.away) == (run.policy.serving, run.policy.away)
    assert again.way_back() == run.policy.way_back()
    assert again.final == run.policy.final


@given(runs())
def test_every_command_round_trips_through_json(run: Simulation) -> None:
    for command in run.commands:
        assert decode(json.loads(json.dumps(encode(command)))) == command


def test_what_is_no_command_is_refused() -> None:
    with pytest.raises(ValueError, match="'Reboot' is no command"):
        decode({"command": "Reboot", "host": "web1"})


@given(runs())
def test_a_cut_run_whose_events_end_anywhere_knows_who_may_have_moved(
    run: Simulation,
) -> None:
    """A resumption asks these hosts: none that was switched may be missing."""
    policy, moved = Policy(run.policy.rules), set[str]()
    for event in run.events:
        policy.feed(event)
        if isinstance(event, e.Switched):
            moved.add(event.host)
        if isinstance(event, e.RolledBack):
            moved.discard(event.host)

        known = set(policy.run.in_state(*MAY_HAVE_MOVED))

        assert moved <= known


# --- One rule at a time ------------------------------------------------------------


def started(limits: Rules) -> Policy:
    policy = Policy(limits)
    hosts = tuple(host for wave in limits.waves for host in wave)
    policy.feed(e.Started("deploy", "shop/prod/web", ("site",), hosts))
    return policy


def brought(policy: Policy, host: str, until: S) -> None:
    """Take one host on its way, up to a state."""
    while policy.run.host(host).state is not until:
        state = policy.run.host(host).state
        policy.feed(e.Admitted(host, 1) if state is S.READY else FORWARD[state](host))


def denied(host: str) -> e.Failed:
    return e.Failed(host, "refused", S.CONNECTING, unreachable=True, denied=True)


def test_refused_logins_stop_the_run_where_nobody_was_let_in() -> None:
    policy = started(Rules(waves=(HOSTS,), max_failures=len(HOSTS)))

    said = [policy.feed(denied(host)) for host in HOSTS[:DENIALS]]

    assert said == [(), (), (), (), (Stop("the first 5 hosts all refused the login"),)]


def test_refused_logins_are_failures_like_others_once_somebody_was_let_in() -> None:
    policy = started(Rules(waves=(HOSTS,), max_failures=len(HOSTS)))
    policy.feed(e.Connected(HOSTS[-1]))

    assert [policy.feed(denied(host)) for host in HOSTS[:DENIALS]] == [()] * DENIALS


def test_a_failure_in_the_first_of_more_waves_stops_the_run() -> None:
    policy = started(Rules(waves=(("a", "b"), ("c",)), max_failures=3))
    for host in "abc":
        brought(policy, host, S.READY)
    policy.feed(e.WaveStarted(1, 2, ("a", "b")))
    brought(policy, "a", S.VERIFYING)

    said = policy.feed(e.Failed("a", "503", S.VERIFYING))

    assert said == (Stop("a failed in the first wave"),)


def test_a_failure_within_the_budget_takes_only_its_host_back() -> None:
    policy = started(Rules(waves=(("a", "b"),), max_failures=1, together=False))
    for host in "ab":
        brought(policy, host, S.READY)
    policy.feed(e.WaveStarted(1, 1, ("a", "b")))
    brought(policy, "a", S.VERIFYING)

    said = policy.feed(e.Failed("a", "503", S.VERIFYING))

    assert said == (TakeBack("a", "503"),)


def test_a_host_waits_until_enough_others_serve() -> None:
    policy = started(
        Rules(waves=(("a", "b", "c"),), min_serving=2, serving=("a", "b", "c"))
    )
    for host in "abc":
        brought(policy, host, S.READY)

    first = policy.feed(e.WaveStarted(1, 1, ("a", "b", "c")))
    policy.feed(e.Admitted("a", 1))
    for _ in range(4):
        state = policy.run.host("a").state
        assert policy.feed(FORWARD[state]("a")) == ()
    second = policy.feed(e.Undrained("a"))

    assert (first, second) == ((Admit("a"),), (Admit("b"),))


def test_the_last_wave_goes_back_first_and_waits_for_nobody_out_of_reach() -> None:
    policy = started(Rules(waves=(("a",), ("b", "c")), max_failures=0))
    for host in "abc":
        brought(policy, host, S.READY)
    policy.feed(e.WaveStarted(1, 2, ("a",)))
    brought(policy, "a", S.LIVE)
    policy.feed(e.WaveStarted(2, 2, ("b", "c")))
    brought(policy, "b", S.LIVE)
    brought(policy, "c", S.LIVE)
    policy.feed(e.Stopped("interrupted", "interrupted"))
    back = policy.way_back()
    assert back is not None

    first = policy.feed(back)
    for host in "bc":
        policy.feed(e.RollbackRequested(host, ""))
    still = policy.feed(e.RolledBack("b"))
    rest = policy.feed(e.Disconnected("c", "lost"))

    assert back.hosts == ("b", "c", "a")
    assert first == (TakeBack("b", "interrupted"), TakeBack("c", "interrupted"))
    assert (still, rest) == ((), (TakeBack("a", "interrupted"),))


def test_a_held_lock_is_waited_for_once_and_only_by_hosts_that_did_not_fail() -> None:
    policy = started(Rules(waves=(("a", "b", "c"),), max_failures=1, patient=True))
    for host in "abc":
        policy.feed(e.Connected(host))
    policy.feed(e.Failed("c", "no tar", S.CHECKING))

    held = policy.feed(e.Failed("a", "run x", S.CHECKING, locked=True))
    again = policy.feed(e.Failed("b", "run x", S.CHECKING, locked=True))

    assert (held, again) == ((AwaitLock("a", "run x", ("a", "b")),), ())


def test_a_lock_that_nobody_waits_for_stops_the_run() -> None:
    policy = started(Rules(waves=(("a",),), max_failures=1))
    policy.feed(e.Connected("a"))

    said = policy.feed(e.Failed("a", "run x", S.CHECKING, locked=True))

    assert said == (Stop("a: run x", "locked"),)


def test_a_killed_run_s_host_goes_back_with_the_fleet() -> None:
    policy = started(Rules(waves=(("a", "b"),), changed=("a",)))
    for host in "ab":
        brought(policy, host, S.UPLOADING)
    policy.feed(e.KilledRunFound("a", moved=True))
    for host in "ab":
        brought(policy, host, S.READY)
    policy.feed(e.Stopped("MANIFEST", "abandoned"))

    back = policy.way_back()

    assert back == e.FleetRollbackStarted("MANIFEST", ("a",))


def test_a_killed_run_s_host_is_left_to_another_run_that_holds_it() -> None:
    policy = started(Rules(waves=(("a", "b"),), changed=("a",)))
    brought(policy, "a", S.UPLOADING)
    policy.feed(e.KilledRunFound("a", moved=True))
    policy.feed(e.Stopped("b: run x", "locked"))

    assert policy.way_back() is None
    assert policy.unseen() == []


def test_states_behind_the_switch_are_those_of_admitted_hosts() -> None:
    assert SWITCHED < MAY_HAVE_MOVED
