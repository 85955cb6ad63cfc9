"""
Random runs of a simulated fleet, then one rule at a time.

The runs are those of ``simulation.py``: the policy is asked, and whatever it allows
happens. Each property is stated by the fleet's own book, not by the policy's.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostasync import events as e
from ghostasync import journal
from ghostasync._engine.commands import (
    Admit,
    AwaitLock,
    Leave,
    Stop,
    TakeBack,
    decode,
    encode,
)
from ghostasync._engine.policy import DENIALS, Policy, Rules
from ghostasync.machine import MAY_HAVE_MOVED, RESTING, SWITCHED
from ghostasync.model import Outcome
from ghostasync.model import State as S  # noqa: N817  as in the table

from .simulation import FORWARD, Entry, Place, Simulation, Truth, simulate

HOSTS = tuple(f"web{n}" for n in range(1, 8))

runs = st.integers(0, 2**32).map(simulate)
some = settings(max_examples=200)


def told(run: Simulation) -> Iterator[tuple[Entry, Truth]]:
    """Yield each event of a run with what was so once it had happened."""
    truth = Truth(run.rules)
    for entry in run.log:
        truth.note(entry.event)
        yield entry, truth


def since_stop(run: Simulation) -> list[Entry]:
    """Return what was said once the run had stopped, the word itself included."""
    log, stops = run.log, (n for n, x in enumerate(run.events) if type(x) is e.Stopped)
    return log[next(stops, len(log)) :]


def first_stop(run: Simulation) -> Stop | None:
    return next((c for c in run.commands if isinstance(c, Stop)), None)


# --- What runs there are -------------------------------------------------------------


def test_simulated_runs_come_to_every_end_and_through_every_state() -> None:
    """Else the properties below would be true of nothing."""
    ends, states, said = Counter[Outcome](), Counter[S](), Counter[str]()
    reverts = Counter[Outcome]()
    seeds = 700
    for seed in range(seeds):
        run = simulate(seed)
        (reverts if run.rules.only_back else ends)[run.outcome] += 1
        states.update({s for entry in run.log for s in entry.place.states.values()})
        said.update({type(told).__name__ for told in (*run.events, *run.commands)})
        said.update(_rare(run))

    least = seeds // 100
    assert set(ends) == set(Outcome)
    assert min(ends[o] for o in set(Outcome) - {Outcome.UNCHANGED}) >= least, ends
    assert ends[Outcome.LIVE] + ends[Outcome.PARTIAL] >= seeds // 5
    assert set(reverts) >= set(Outcome) - {Outcome.PARTIAL, Outcome.MIXED}
    assert set(states) == set(S)
    assert min(states.values()) >= 2 * least, states
    assert min(said[kind] for kind in _KINDS) >= least, said
    assert min(said[kind] for kind in _RARE) >= 2, said


_KINDS: Final = tuple(
    kind.__name__
    for kind in (
        *(Admit, AwaitLock, Leave, Stop, TakeBack),
        *(e.AfterWaveFailed, e.BeforeSwitchFailed, e.BuildFailed, e.Committed),
        *(e.Disconnected, e.FleetRollbackStarted, e.HostWarned, e.KilledRunFound),
        *(e.LockAwaited, e.Reconnected, e.Resumed, e.Soaked, e.Unchanged),
    )
)
_RARE: Final = (
    "stopped on the way back",
    "stopped while hosts of the way back wait",
    "stopped while hosts of a wave wait",
    "locked though it was adopted",
    "live after a wait for a lock",
    "failed as often as allowed",
    "left where it was to go back",
    "logins refused",
    "drained hosts first",
)


def _rare(run: Simulation) -> set[str]:
    """Return which of the cases that matter a run has in it."""
    found = set[str]()
    for entry, truth in told(run):
        if isinstance(entry.event, e.Stopped):
            waits = [h for h, s in truth.states.items() if s is S.LIVE]
            found |= {"stopped on the way back"} if truth.back else set()
            if truth.back and set(waits) & set(truth.back.hosts):
                found.add("stopped while hosts of the way back wait")
            if truth.waves and S.READY in {truth.states[h] for h in _begun(run)}:
                found.add("stopped while hosts of a wave wait")
        if isinstance(entry.event, e.FleetRollbackStarted):
            idle = truth.groups()[:1]
            if idle and set(idle[0]) <= set(run.rules.drained):
                found.add("drained hosts first")
    truth, stop = run.truth, first_stop(run)
    if "locked" in truth.causes and truth.adopted:
        found.add("locked though it was adopted")
    if truth.committed:
        if any(isinstance(x, e.LockAwaited) for x in run.events):
            found.add("live after a wait for a lock")
        if 0 < len(truth.failed) == run.rules.max_failures:
            found.add("failed as often as allowed")
    if run.left:
        found.add("left where it was to go back")
    if stop and "refused" in stop.reason:
        found.add("logins refused")
    return found


def _begun(run: Simulation) -> set[str]:
    """Return the hosts of all waves that have begun."""
    return {h for x in run.events if isinstance(x, e.WaveStarted) for h in x.hosts}


# --- Properties of every run ---------------------------------------------------------


@some
@given(runs)
def test_a_run_never_goes_live_with_more_failures_than_allowed(run: Simulation) -> None:
    for entry, truth in told(run):
        if isinstance(entry.event, e.Committed):
            assert truth.over_budget() is None
            assert S.STRANDED not in truth.states.values()


@some
@given(runs)
def test_a_budget_stops_the_run_with_the_failure_that_spends_it(
    run: Simulation,
) -> None:
    if run.rules.only_back:
        return
    for entry, truth in told(run):
        failure = entry.event
        if isinstance(failure, e.Failed) and not (truth.causes or failure.locked):
            stops = [c for c in entry.commands if isinstance(c, Stop)]
            assert bool(stops) >= bool(truth.over_budget())


@some
@given(runs)
def test_every_stop_has_a_reason_that_is_true(run: Simulation) -> None:
    for entry, truth in told(run):
        for stop in entry.commands:
            if isinstance(stop, Stop):
                assert _is_true(stop, entry.event, truth), stop
                assert stop.at_once == (run.rules.together or not truth.waves)


def _is_true(stop: Stop, event: e.Event, truth: Truth) -> bool:
    """Tell whether what a command to stop says is so."""
    rules, reason = truth.rules, stop.reason
    failed = {host for host, state in truth.states.items() if state is S.FAILED}
    if found := re.fullmatch(
        r"(\d+) hosts? (?:failed|unreachable), (\d+) allowed", reason
    ):
        return truth.over_budget() == (int(found[1]), int(found[2]))
    if found := re.fullmatch(r"(\S+) failed in the first wave", reason):
        return truth.waves == 1 < len(rules.waves) and found[1] in truth.failed
    if found := re.fullmatch(r"every host of wave (\d+) failed", reason):
        wave = rules.waves[int(found[1]) - 1]
        return not {truth.states[host] for host in wave} & {S.LIVE, S.READY}
    if reason == "every host failed":
        return failed == set(truth.states)
    if found := re.fullmatch(r"the first (\d+) hosts all refused the login", reason):
        denied = sum(failure.denied for failure in truth.failed.values())
        rest = {s for h, s in truth.states.items() if h not in truth.failed}
        return denied == int(found[1]) >= DENIALS and rest <= {S.CONNECTING}
    if found := re.fullmatch(
        r"(\d+) hosts? must serve and no more than (\d+) .*", reason
    ):
        return rules.min_serving == int(found[1]) >= int(found[2])
    if found := re.fullmatch(r"(\S+) is stranded", reason):
        return truth.states[found[1]] is S.STRANDED
    if stop.cause == "locked":
        return isinstance(event, e.Failed) and event.locked
    return isinstance(event, e.BuildFailed | e.BeforeSwitchFailed | e.AfterWaveFailed)


@some
@given(runs)
def test_a_gate_that_fails_stops_the_run(run: Simulation) -> None:
    for entry in run.log:
        if isinstance(
            entry.event, e.BuildFailed | e.BeforeSwitchFailed | e.AfterWaveFailed
        ):
            assert entry.place.reason or any(
                isinstance(c, Stop) and entry.event.reason in c.reason
                for c in entry.commands
            )


@some
@given(runs)
def test_nothing_is_admitted_awaited_or_switched_after_a_stop(run: Simulation) -> None:
    """A link that is on its way already may get there: half a switch is worse."""
    later = since_stop(run)
    stop = first_stop(run)
    at_once = not stop or stop.at_once or set(run.truth.causes) != {"policy"}

    said = [c for entry in later for c in entry.commands]
    assert sum(isinstance(c, Stop) for c in run.commands) <= 1
    assert not [c for c in said if isinstance(c, Admit | AwaitLock | Stop)]
    assert not [x for x in later if isinstance(x.event, e.Admitted | e.WaveStarted)]
    assert not [x for x in later if isinstance(x.event, e.Committed)]
    if at_once and run.rules.together:
        on_its_way = (
            {h for h, s in later[0].place.states.items() if s is S.SWITCHING}
            if later
            else set()
        )
        switched = {x.event.host for x in later if isinstance(x.event, e.Switched)}
        assert switched <= on_its_way


@some
@given(runs)
def test_nothing_is_done_once_the_run_is_committed(run: Simulation) -> None:
    for entry, truth in told(run):
        if truth.committed:
            assert entry.commands == ()
            assert entry.place.final
            assert (entry.place.way_back, entry.place.unseen) == (None, ())


@some
@given(runs)
def test_every_host_that_may_have_moved_is_on_the_way_back(run: Simulation) -> None:
    """A host that stays does so by a rule, or because another run holds the fleet."""
    for entry, truth in told(run):
        if isinstance(entry.event, e.FleetRollbackStarted):
            assert set(entry.event.hosts) == truth.to_go_back()
            assert len(set(entry.event.hosts)) == len(entry.event.hosts)
    if run.truth.causes and not run.truth.back:
        assert not run.truth.to_go_back()


@some
@given(runs)
def test_every_run_ends_with_every_host_at_rest(run: Simulation) -> None:
    """On its way back each host got there, is stranded, or was left, said aloud."""
    truth, states = run.truth, run.truth.states

    assert set(states.values()) <= RESTING - {S.READY}
    for host in truth.back.hosts if truth.back else ():
        back = states[host] in {S.ROLLED_BACK, S.STRANDED}
        assert back != (host in run.left)
    if truth.causes and not truth.committed:
        live = {host for host, state in states.items() if state is S.LIVE}
        begun = set(truth.back.hosts) if truth.back else set()
        assert not (live - run.left) & begun


@some
@given(runs)
def test_hosts_look_at_what_a_killed_run_did_before_they_stay(run: Simulation) -> None:
    """Nobody knows what they serve, and they could be asked: so they are."""
    rules, known = run.rules, {*run.rules.changed, *run.rules.drained}
    for entry, truth in told(run):
        asked = {
            host
            for host, state in truth.states.items()
            if state in {S.FAILED, S.HALTED}
            and host in known
            and not (host in truth.failed and truth.failed[host].unreachable)
        }
        ours = not truth.committed and "locked" not in truth.causes
        assert set(entry.place.unseen) == (asked if ours else set()), rules


@some
@given(runs)
def test_enough_hosts_serve_whatever_the_policy_lets_go(run: Simulation) -> None:
    """What fails by itself is no choice of the policy."""
    least = run.rules.min_serving
    for entry, truth in told(run):
        for command in entry.commands:
            if isinstance(command, Admit | TakeBack) and command.host in truth.up:
                truth.up.discard(command.host)
                assert len(truth.up) >= least or not least


@some
@given(runs)
def test_a_host_is_left_only_where_nobody_else_could_ever_serve(
    run: Simulation,
) -> None:
    for entry, truth in told(run):
        for command in entry.commands:
            if isinstance(command, Leave):
                away = {h for h, s in truth.states.items() if s is S.ROLLING_BACK}
                lost = {h for h, failure in truth.failed.items() if failure.unreachable}
                assert truth.back is not None
                assert command.host in truth.up
                assert len(truth.up | (away - lost)) <= run.rules.min_serving


@some
@given(runs)
def test_nobody_is_let_go_twice(run: Simulation) -> None:
    admitted, back = list[str](), list[str]()
    for entry, truth in told(run):
        if isinstance(entry.event, e.LockAwaited):
            assert not admitted
        hosts = [c.host for c in entry.commands if isinstance(c, Admit)]
        taken = [c.host for c in entry.commands if isinstance(c, TakeBack | Leave)]
        assert {truth.states[host] for host in hosts} <= {S.READY}
        admitted += hosts
        back += taken

    assert len(admitted) == len(set(admitted))
    assert len(back) == len(set(back))


@some
@given(runs)
def test_waves_go_back_in_reverse_and_none_waits_for_a_host_out_of_reach(
    run: Simulation,
) -> None:
    taken, lost, groups = set[str](), set[str](), list[list[str]]()
    for entry, truth in told(run):
        if truth.back is None:
            continue
        if isinstance(entry.event, e.FleetRollbackStarted):
            groups = truth.groups()
            moving = [h for h, s in truth.states.items() if s is S.ROLLING_BACK]
            at_once = [c.host for c in entry.commands if isinstance(c, TakeBack)]
            assert at_once[: len(moving)] == [
                h for h in truth.back.hosts if h in moving
            ]
        lost |= set(truth.states) - truth.reach
        asked = [c.host for c in entry.commands if isinstance(c, TakeBack | Leave)]
        for host in asked:
            assert host in truth.back.hosts
            before = next(
                (groups[n - 1] for n, g in enumerate(groups) if n and host in g), []
            )
            assert not [
                h for h in before if _waits(h, truth) and h not in run.left | lost
            ]
        taken |= set(asked)
        truth.up -= set(asked) - run.left
        rest = [group for group in groups if not taken.issuperset(group)]
        nested = any(entry.commands)
        if rest and not nested:
            _assert_waits(rest[0], groups, taken, truth)


def _waits(host: str, truth: Truth) -> bool:
    return truth.states[host] not in {S.ROLLED_BACK, S.STRANDED}


def _assert_waits(
    group: list[str], groups: list[list[str]], taken: set[str], truth: Truth
) -> None:
    """Assert that there is a reason why *group* is not on its way yet."""
    before = groups[: groups.index(group)]
    busy = {
        host
        for earlier in before
        for host in earlier
        if host in truth.reach and _waits(host, truth)
    }
    least = truth.rules.min_serving
    full = least and len(truth.up) <= least
    away = {host for host in taken if _waits(host, truth)}
    assert busy or (full and away), (group, taken)


@some
@given(runs)
def test_a_killed_run_is_taken_back_without_a_word_about_what_fails(
    run: Simulation,
) -> None:
    if run.rules.only_back:
        stops = [c for c in run.commands if isinstance(c, Stop)]
        assert {stop.cause for stop in stops} <= {"locked"}
        assert not [c for c in run.commands if isinstance(c, Admit | AwaitLock)]
        if run.truth.back:
            assert not run.truth.causes


@some
@given(runs)
def test_a_policy_fed_with_a_journal_is_where_the_run_was_at_every_event(
    run: Simulation,
) -> None:
    """
    The records are written and read back, so nothing but plain data is needed.

    A run that is cut behind any of them goes on as if it had not been.
    """
    again = Policy(run.rules)
    for number, entry in enumerate(run.log, start=1):
        record = e.Record(seq=number, at=0.0, run="r", event=entry.event)
        read = journal.decode(journal.line(record)).event

        assert read == entry.event
        assert again.feed(read) == entry.commands
        assert Place.of(again) == entry.place

    assert again.run == run.policy.run


@some
@given(runs)
def test_every_command_round_trips_through_json(run: Simulation) -> None:
    for command in run.commands:
        assert decode(json.loads(json.dumps(encode(command)))) == command


def test_what_is_no_command_is_refused() -> None:
    with pytest.raises(ValueError, match="'Reboot' is no command"):
        decode({"command": "Reboot", "host": "web1"})


@some
@given(runs)
def test_a_cut_run_whose_events_end_anywhere_knows_who_may_have_moved(
    run: Simulation,
) -> None:
    """A resumption asks these hosts: none that was switched may be missing."""
    moved = set[str]()
    for entry in run.log:
        if isinstance(entry.event, e.Switched):
            moved.add(entry.event.host)
        if isinstance(entry.event, e.RolledBack):
            moved.discard(entry.event.host)

        states = entry.place.states
        assert {states[host] for host in moved} <= MAY_HAVE_MOVED


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
