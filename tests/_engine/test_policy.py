"""
Random runs of a simulated fleet, then one rule at a time.

The runs are those of ``simulation.py``: the policy is asked, and whatever it allows
happens. Each property is stated by the fleet's own book, not by the policy's.
"""

from __future__ import annotations

import json
import random
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
    Command,
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
from tests._engine.simulation import FORWARD, Entry, Place, Simulation, Truth, simulate

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
    assert ends[Outcome.LIVE] + ends[Outcome.PARTIAL] >= seeds // 6
    assert set(reverts) >= set(Outcome) - {Outcome.PARTIAL, Outcome.MIXED}
    assert set(states) == set(S)
    assert min(states.values()) >= 2 * least, states
    assert min(said[kind] for kind in _KINDS) >= least, said
    assert min(said[kind] for kind in _RARE) >= 1, said


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
    truth, stop, begun = run.truth, first_stop(run), _begun(run)
    found: dict[str, object] = {
        "locked though it was adopted": "locked" in truth.causes and truth.adopted,
        "live after a wait for a lock": truth.committed
        and any(isinstance(x, e.LockAwaited) for x in run.events),
        "failed as often as allowed": truth.committed
        and 0 < len(truth.failed) == run.rules.max_failures,
        "left where it was to go back": run.left,
        "logins refused": stop and "refused" in stop.reason,
    }
    for entry, now in told(run):
        back = set(now.back.hosts) if now.back else set()
        waits = {h for h in back if now.states[h] is S.LIVE}
        if isinstance(entry.event, e.Stopped):
            ready = S.READY in {now.states[h] for h in begun}
            found["stopped on the way back"] = back
            found["stopped while hosts of the way back wait"] = waits
            found["stopped while hosts of a wave wait"] = now.waves and ready
        if isinstance(entry.event, e.FleetRollbackStarted):
            idle = {host for group in now.groups()[:1] for host in group}
            found["drained hosts first"] = idle and idle <= set(run.rules.drained)
    return {case for case, so in found.items() if so}


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
                assert stop.at_work == _what_becomes(stop, run, truth)


def settle(reason: str) -> Stop:
    return Stop(reason, at_work="settle")


def _what_becomes(stop: Stop, run: Simulation, truth: Truth) -> str:
    """Return what becomes of hosts at work, in the words of a stop."""
    if stop.cause != "policy":
        return "cut"
    if not truth.waves:
        return "settle"
    return "cut" if run.rules.together else "finish"


def _is_true(  # noqa: PLR0911  one for each reason
    stop: Stop, event: e.Event, truth: Truth
) -> bool:
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
    at_once = not stop or stop.at_work == "cut" or set(run.truth.causes) != {"policy"}

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

    assert said == [
        (),
        (),
        (),
        (),
        (settle("the first 5 hosts all refused the login"),),
    ]


def test_refused_logins_are_failures_like_others_once_somebody_was_let_in() -> None:
    policy = started(Rules(waves=(HOSTS,), max_failures=len(HOSTS)))
    policy.feed(e.Connected(HOSTS[-1]))

    assert [policy.feed(denied(host)) for host in HOSTS[:DENIALS]] == [()] * DENIALS


def test_a_host_that_never_answered_has_let_nobody_in() -> None:
    policy = started(Rules(waves=(HOSTS,), max_failures=len(HOSTS)))
    policy.feed(e.Failed(HOSTS[-1], "timed out", S.CONNECTING, unreachable=True))

    said = [policy.feed(denied(host)) for host in HOSTS[:DENIALS]]

    assert said[-1] == (settle("the first 5 hosts all refused the login"),)


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


@pytest.mark.parametrize("patient", [False, True])
def test_a_few_hosts_that_claim_a_lock_are_hosts_that_failed(patient: bool) -> None:
    policy = started(Rules(waves=(("a", "b", "c"),), max_failures=1, patient=patient))
    for host in "abc":
        policy.feed(e.Connected(host))

    spared = policy.feed(e.Failed("a", "run x", S.CHECKING, locked=True))
    held = policy.feed(e.Failed("b", "run x", S.CHECKING, locked=True))

    assert spared == ()
    wait = AwaitLock("b", "run x", ("a", "b", "c"))
    assert held == ((wait,) if patient else (Stop("b: run x", "locked"),))


def test_a_wave_that_is_locked_as_a_whole_is_no_few_hosts() -> None:
    policy = started(Rules(waves=(("a",), ("b", "c", "d")), max_failures=2))
    for host in "abcd":
        policy.feed(e.Connected(host))

    assert policy.feed(e.Failed("b", "run x", S.CHECKING, locked=True)) == ()
    said = policy.feed(e.Failed("a", "run x", S.CHECKING, locked=True))

    assert said == (Stop("a: run x", "locked"),)


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


# --- Each of these was broken, or is reached by no simulated run ----------------------


def live(limits: Rules) -> Policy:
    """Return a run all of whose hosts are live."""
    policy = started(limits)
    hosts = [host for wave in limits.waves for host in wave]
    for host in hosts:
        brought(policy, host, S.READY)
    for number, wave in enumerate(limits.waves, start=1):
        policy.feed(e.WaveStarted(number, len(limits.waves), wave))
        for host in wave:
            brought(policy, host, S.LIVE)
    return policy


def going_back(policy: Policy) -> tuple[Command, ...]:
    """Stop a run, and return what is said at the start of its way back."""
    policy.feed(e.Stopped("interrupted", "interrupted"))
    back = policy.way_back()
    assert back is not None
    return policy.feed(back)


def back(policy: Policy, host: str) -> tuple[Command, ...]:
    policy.feed(e.RollbackRequested(host, "interrupted"))
    return policy.feed(e.RolledBack(host))


def test_a_person_who_stops_a_way_back_does_not_end_it_for_hosts_that_wait() -> None:
    policy = live(Rules(waves=(tuple("abc"),), min_serving=2, serving=tuple("abc")))
    policy.feed(e.Stopped("c: 503"))
    way = policy.way_back()
    assert way is not None
    policy.feed(way)

    said = [policy.feed(e.Stopped("interrupted", "interrupted"))]
    said += [back(policy, host) for host in "abc"]

    assert said == [(), (TakeBack("b", "c: 503"),), (TakeBack("c", "c: 503"),), ()]


def test_hosts_that_a_killed_run_left_drained_are_admitted_before_others() -> None:
    """The others may only leave once these serve."""
    rules = Rules(waves=(("a", "b"),), min_serving=1, serving=("a",), drained=("b",))
    policy = started(rules)
    for host in "ab":
        brought(policy, host, S.READY)

    first = policy.feed(e.WaveStarted(1, 1, ("a", "b")))
    brought(policy, "b", S.UNDRAINING)
    second = policy.feed(e.Undrained("b"))

    assert (first, second) == ((Admit("b"),), (Admit("a"),))


def test_a_host_that_does_not_serve_is_taken_back_though_others_may_not_leave() -> None:
    rules = Rules(waves=(("a", "b"),), min_serving=1, serving=("a", "b"))
    policy = live(rules)
    policy.feed(e.Failed("b", "503", S.LIVE, unreachable=True))

    said = going_back(policy)

    assert said[0] == TakeBack("b", "interrupted")


def test_a_run_that_only_goes_back_waits_for_no_lock() -> None:
    policy = started(Rules(waves=(("a",),), only_back=True, patient=True))
    policy.feed(e.Connected("a"))

    said = policy.feed(e.Failed("a", "run x", S.CHECKING, locked=True))

    assert said == (Stop("a: run x", "locked"),)


def test_a_wave_waits_for_a_host_that_answered_only_when_it_was_asked_again() -> None:
    policy = started(Rules(waves=(("a",), ("b",)), changed=("a", "b")))
    brought(policy, "a", S.UPLOADING)
    policy.feed(e.KilledRunFound("a", moved=True))
    policy.feed(e.Stopped("interrupted", "interrupted"))
    for host in "ab":
        policy.feed(e.Halted(host, "interrupted"))
    policy.feed(e.KilledRunFound("b", moved=True))
    way = policy.way_back()
    assert way is not None

    said = [policy.feed(way), back(policy, "b")]

    assert said == [(TakeBack("b", "interrupted"),), (TakeBack("a", "interrupted"),)]


def test_a_host_that_is_being_drained_when_the_run_ends_is_on_the_way_back() -> None:
    policy = started(Rules(waves=(("a",),)))
    brought(policy, "a", S.DRAINING)
    policy.feed(e.Stopped("interrupted", "interrupted"))

    assert policy.way_back() == e.FleetRollbackStarted("interrupted", ("a",))


def test_a_drained_host_that_is_ready_goes_back_where_others_do() -> None:
    policy = started(Rules(waves=(("a", "b"),), changed=("a",), drained=("b",)))
    brought(policy, "a", S.UPLOADING)
    policy.feed(e.KilledRunFound("a", moved=True))
    brought(policy, "b", S.READY)
    policy.feed(e.Halted("a", "interrupted"))
    policy.feed(e.Stopped("interrupted", "interrupted"))

    assert policy.way_back() == e.FleetRollbackStarted("interrupted", ("b", "a"))


def test_hosts_that_wait_are_not_admitted_once_the_run_has_stopped() -> None:
    """Also where those that are well go on to be live."""
    rules = Rules(
        waves=(("a", "b", "c"),), together=False, min_serving=2, serving=tuple("abc")
    )
    policy = started(rules)
    for host in "abc":
        brought(policy, host, S.READY)
    policy.feed(e.WaveStarted(1, 1, ("a", "b", "c")))
    brought(policy, "a", S.UNDRAINING)
    policy.feed(e.Stopped("5 hosts failed, 4 allowed"))

    assert policy.feed(e.Undrained("a")) == ()
    assert policy.serving == {"a", "b", "c"}
    assert policy.feed(e.WaveStarted(2, 2, ("b",))) == ()


def test_a_wave_that_ends_without_a_live_host_stops_the_run() -> None:
    policy = live(Rules(waves=(("a",), ("b",)), max_failures=2))
    policy.feed(e.Failed("b", "503", S.LIVE))

    said = policy.feed(e.WaveFinished(2, live=0, failed=1))

    assert said == (Stop("every host of wave 2 failed"),)


def test_nothing_stops_a_run_that_is_committed() -> None:
    policy = live(Rules(waves=(("a",),)))
    policy.feed(e.Committed())

    assert policy.feed(e.AfterWaveFailed(1, "late")) == ()
    assert policy.feed(e.Failed("a", "503", S.LIVE)) == ()


@pytest.mark.parametrize(
    ("failed", "reason"),
    [
        ("ab", "every host of wave 1 failed"),
        ("c", "every host of wave 2 failed"),
        ("abc", "every host failed"),
    ],
)
def test_a_wave_that_could_only_end_without_a_host_stops_the_run(
    failed: str, reason: str
) -> None:
    policy = started(Rules(waves=(("a", "b"), ("c",)), max_failures=3))
    for host in "abc":
        if host in failed:
            policy.feed(e.Failed(host, "no tar", S.CONNECTING))
        else:
            brought(policy, host, S.READY)

    assert policy.feed(policy.judge()) == (settle(reason),)


def locked(host: str) -> e.Failed:
    return e.Failed(host, "run x", S.CHECKING, locked=True)


def test_a_lock_is_waited_for_again_where_it_is_held_again() -> None:
    policy = started(Rules(waves=(("a", "b"),), patient=True))
    for _ in range(2):
        policy.feed(e.Connected("a"))
        said = policy.feed(locked("a"))

        assert said == (AwaitLock("a", "run x", ("a", "b")),)
        policy.feed(e.LockAwaited("a", "run x", 5.0, ("a", "b")))


def test_a_lock_is_not_waited_for_once_time_is_up_or_the_run_has_stopped() -> None:
    late = started(Rules(waves=(("a", "b"),), patient=True))
    late.feed(e.LockAwaited("a", "run x", 0.0, ("a", "b")))
    late.feed(e.Connected("a"))
    over = started(Rules(waves=(("a", "b"),), patient=True))
    over.feed(e.Connected("a"))
    over.feed(e.Stopped("interrupted", "interrupted"))

    assert late.feed(locked("a")) == (Stop("a: run x", "locked"),)
    assert over.feed(locked("a")) == ()


def test_a_host_that_is_begun_again_with_serves_again_unless_it_is_drained() -> None:
    rules = Rules(waves=(("a", "b"),), serving=("a",), drained=("b",), max_failures=2)
    policy = started(rules)
    policy.feed(e.Failed("a", "no route", S.CONNECTING, unreachable=True))
    lost = set(policy.serving)

    policy.feed(e.LockAwaited("b", "run x", 5.0, ("a", "b")))

    assert (lost, policy.serving) == (set(), {"a"})


def test_hosts_of_a_killed_run_stay_where_another_run_holds_one() -> None:
    policy = started(Rules(waves=(("a", "b"),), changed=("a", "b")))
    for host in "ab":
        brought(policy, host, S.UPLOADING)
    policy.feed(e.Resumed("a"))
    policy.feed(e.KilledRunFound("b", moved=True))
    policy.feed(e.Stopped("c: run x", "locked"))
    policy.feed(e.Halted("b", "c: run x"))

    assert policy.way_back() is None


def test_a_run_that_stops_says_so_once_and_lets_nobody_go() -> None:
    """The host that is lost leaves no room for the one that waits, either."""
    rules = Rules(waves=(("a", "b"),), min_serving=1, serving=("a", "b"))
    policy = started(rules)
    for host in "ab":
        brought(policy, host, S.READY)
    policy.feed(e.WaveStarted(1, 1, ("a", "b")))
    brought(policy, "a", S.VERIFYING)

    said = policy.feed(e.Failed("a", "denied", S.VERIFYING, unreachable=True))

    assert said == (Stop("1 host failed, 0 allowed"),)


# --- How many serve ------------------------------------------------------------------

FOUR = ("h1", "h2", "h3", "h4")


def admitted(least: int) -> tuple[Policy, tuple[Command, ...]]:
    """Start a wave of four, of which some have to serve at any moment."""
    policy = started(Rules(waves=(FOUR,), min_serving=least, serving=FOUR))
    for host in FOUR:
        brought(policy, host, S.READY)
    return policy, policy.feed(e.WaveStarted(1, 1, FOUR))


def test_without_a_bound_nobody_waits() -> None:
    _, said = admitted(0)

    assert said == tuple(map(Admit, FOUR))


def test_hosts_leave_in_the_order_they_asked() -> None:
    policy, said = admitted(3)
    left = list(said)

    for number in range(1, 4):
        assert left == list(map(Admit, FOUR[:number]))
        brought(policy, FOUR[number - 1], S.UNDRAINING)
        left += policy.feed(e.Undrained(FOUR[number - 1]))

    assert left == list(map(Admit, FOUR))


def test_where_too_few_are_left_whoever_waits_is_told() -> None:
    policy = live(Rules(waves=(FOUR,), min_serving=2, serving=FOUR))
    assert going_back(policy) == tuple(TakeBack(h, "interrupted") for h in FOUR[:2])
    for host in FOUR[:2]:
        policy.feed(e.RollbackRequested(host, "interrupted"))

    first = policy.feed(e.Failed("h1", "503", S.ROLLING_BACK))
    second = policy.feed(e.Failed("h2", "503", S.ROLLING_BACK))

    assert first == (), "h2 may still come back"
    assert [c.host for c in second if isinstance(c, Leave)] == ["h3", "h4"]
    for command in second:
        assert isinstance(command, Leave)
        assert "2 hosts must serve and no more than 2 can" in command.reason


def test_where_no_host_of_a_wave_may_ever_leave_the_run_stops() -> None:
    _, said = admitted(4)

    assert [type(command) for command in said] == [Stop]
    assert isinstance(said[0], Stop)
    assert "4 hosts must serve and no more than 4 can" in said[0].reason


def test_a_host_that_waits_and_is_given_up_keeps_its_place_from_nobody() -> None:
    rules = Rules(waves=(("h3",), ("h1", "h2")), min_serving=3, serving=FOUR)
    policy = started(rules)
    for host in FOUR[:3]:
        brought(policy, host, S.READY)
    policy.feed(e.WaveStarted(1, 2, ("h3",)))
    brought(policy, "h3", S.LIVE)
    assert policy.feed(e.WaveStarted(2, 2, ("h1", "h2"))) == (Admit("h1"),)
    brought(policy, "h1", S.DRAINING)
    policy.feed(e.RollbackRequested("h1", "interrupted"))

    assert going_back(policy) == (TakeBack("h1", "interrupted"),)
    assert policy.feed(e.RolledBack("h1")) == (TakeBack("h3", "interrupted"),)


@given(
    total=st.integers(2, 8),
    least=st.integers(1, 7),
    seed=st.integers(0, 2**32),
    lost=st.floats(0, 0.5),
)
def test_the_bound_holds_whatever_becomes_of_hosts(
    total: int, least: int, seed: int, lost: float
) -> None:
    least, dice = min(least, total - 1), random.Random(seed)
    hosts = tuple(f"h{number}" for number in range(total))
    policy = live(Rules(waves=(hosts,), min_serving=least, serving=hosts))
    up, ends, on_its_way = set(hosts), dict[str, str](), list[str]()

    said = going_back(policy)
    while said or on_its_way:
        for command in said:
            assert isinstance(command, TakeBack | Leave)
            if isinstance(command, Leave):
                ends[command.host] = "left"
                continue
            up.discard(command.host)
            assert len(up) >= least
            on_its_way.append(command.host)
            policy.feed(e.RollbackRequested(command.host, "interrupted"))
        if not on_its_way:
            break
        host = on_its_way.pop(dice.randrange(len(on_its_way)))
        if dice.random() < lost:
            ends[host] = "lost"
            said = policy.feed(e.Failed(host, "503", S.ROLLING_BACK))
        else:
            up.add(host)
            ends[host] = "back"
            said = policy.feed(e.RolledBack(host))

    assert set(ends) == set(hosts), "everybody is told"
    if "left" in ends.values():
        assert total - list(ends.values()).count("lost") <= least


def test_a_wave_has_not_failed_where_a_killed_run_brought_a_host_of_it_live() -> None:
    policy = started(Rules(waves=(("a", "b"),), max_failures=1, together=False))
    brought(policy, "a", S.UPLOADING)
    policy.feed(e.Resumed("a", {"site": "old"}))
    brought(policy, "b", S.READY)
    policy.feed(e.WaveStarted(1, 1, ("b",)))
    brought(policy, "b", S.ACTIVATING)
    policy.feed(e.Failed("b", "exited 1", S.ACTIVATING))

    assert policy.feed(e.WaveFinished(1, live=0, failed=1)) == ()


def test_a_host_out_of_reach_proves_nothing_about_refused_logins() -> None:
    policy = started(Rules(waves=(HOSTS,), max_failures=len(HOSTS)))
    policy.feed(e.Failed(HOSTS[-1], "no route", S.CONNECTING, unreachable=True))

    said = [policy.feed(denied(host)) for host in HOSTS[:DENIALS]]

    assert said[-1] == (settle("the first 5 hosts all refused the login"),)


def test_a_login_that_sudo_refuses_proves_the_key() -> None:
    policy = started(Rules(waves=(HOSTS,), max_failures=len(HOSTS)))
    policy.feed(e.Failed(HOSTS[-1], "sudo -n refused", S.CONNECTING))

    assert [policy.feed(denied(host)) for host in HOSTS[:DENIALS]] == [()] * DENIALS


@pytest.mark.parametrize("died", [S.READY, S.SWITCHING])
def test_a_host_that_dies_in_the_first_wave_keeps_nobody_on_a_bad_release(
    died: S,
) -> None:
    rules = Rules(waves=(("a",), ("b",)), max_unreachable=2, whoever_is_dead=True)
    policy = started(rules)
    brought(policy, "a", S.READY)
    brought(policy, "b", S.READY)
    policy.feed(e.WaveStarted(1, 1, ("a",)))
    if died is S.SWITCHING:
        policy.feed(e.Admitted("a", 1))

    said = [*policy.feed(e.Failed("a", "no route", died, unreachable=True))]
    if died is S.SWITCHING:
        assert said == [TakeBack("a", "no route")]
        said = [*policy.feed(e.Failed("a", "none", S.ROLLING_BACK, unreachable=True))]

    assert not [command for command in said if isinstance(command, Stop)]
    assert policy.feed(e.WaveFinished(1, live=0, failed=1)) == ()
    assert policy.reason == ""
