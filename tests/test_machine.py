"""The table has few enough ways that every life of a host can be lived in a test."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Final

import pytest

from ghostasync import events as e
from ghostasync import machine
from ghostasync.machine import (
    AFTER_SWITCH,
    BACK_FOR_KILLED_RUN,
    GONE_BACK,
    IN_ORDER,
    LEFT_ALONE,
    MAY_BE_DRAINED,
    MAY_HAVE_MOVED,
    NOT_BACK,
    NOT_LOOKED,
    NOT_MOVED,
    NOT_UPLOADED,
    RESTING,
    SERVES_NEW,
    SETTLED,
    SPARED,
    SWITCHED,
    TERMINAL,
    TRANSITIONS,
    HostMachine,
    IllegalTransition,
    mermaid,
)
from ghostasync.model import State

BEFORE_THE_BAR: Final = frozenset(
    {State.CONNECTING, State.CHECKING, State.UPLOADING, State.PREPARING, State.READY}
)
FACTS: Final = {
    e.Admitted: e.Admitted("web1", wave=1),
    e.Failed: e.Failed("web1", "exited 7", State.VERIFYING),
    e.Halted: e.Halted("web1", "interrupted"),
    e.Gone: e.Gone("web1", "terminated"),
    e.RollbackRequested: e.RollbackRequested("web1", "over budget"),
    e.Disconnected: e.Disconnected("web1", "reset"),
    e.Reconnected: e.Reconnected("web1", 1.5),
    e.Output: e.Output("web1", "site", "post_deploy", "hello"),
    e.HostWarned: e.HostWarned("web1", "clock is off"),
}

Life = tuple[tuple[State, type[e.HostEvent], State], ...]
"""What happened to one host: state before, event, state after; to its very end."""


def fact(kind: type[e.HostEvent]) -> e.HostEvent:
    return FACTS.get(kind) or kind("web1")


def lives(so_far: Life = (), state: State = State.CONNECTING) -> Iterator[Life]:
    if state in TERMINAL:
        yield so_far
    for event, after in TRANSITIONS[state].items():
        yield from lives((*so_far, (state, event, after)), after)


EVERY_LIFE: Final = tuple(lives())
HOST_EVENTS: Final = tuple(
    kind
    for kind in vars(e).values()
    if isinstance(kind, type) and issubclass(kind, e.HostEvent)
)


def test_the_table_is_total() -> None:
    assert set(TRANSITIONS) == set(State)


def test_every_state_is_reached_from_connecting() -> None:
    reached = {after for life in EVERY_LIFE for _, _, after in life}

    assert reached | {State.CONNECTING} == set(State)


def test_no_host_is_in_one_state_twice() -> None:
    for life in EVERY_LIFE:
        seen = [before for before, _, _ in life]

        assert len(set(seen)) == len(seen)


def test_live_hosts_were_switched_activated_verified_and_undrained_in_order() -> None:
    asked = [e.Admitted, e.Drained, e.Switched, e.Activated, e.Verified, e.Undrained]
    to_live = [
        [event for _, event, _ in life[:index]]
        for life in EVERY_LIFE
        for index, (state, _, _) in enumerate(life)
        if state is State.LIVE
    ]
    by_this_run = [events for events in to_live if events[-1] is not e.Resumed]

    assert by_this_run
    assert all(events[-len(asked) :] == asked for events in by_this_run)


def test_a_failure_before_the_bar_costs_nothing() -> None:
    for state in BEFORE_THE_BAR:
        assert TRANSITIONS[state][e.Failed] is State.FAILED


def test_a_failure_behind_the_bar_ends_rolled_back_or_stranded() -> None:
    behind = set(State) - BEFORE_THE_BAR - TERMINAL
    ends = {
        (state, life[-1][2])
        for life in EVERY_LIFE
        for state, event, _ in life
        if state in behind and event in {e.Failed, e.RollbackRequested}
    }

    assert {state for state, _ in ends} == behind
    assert {end for _, end in ends} == {State.ROLLED_BACK, State.STRANDED}


def test_an_admitted_host_never_ends_failed_or_unchanged() -> None:
    ends = {
        life[-1][2]
        for life in EVERY_LIFE
        if e.Admitted in (events := {event for _, event, _ in life})
        and e.Gone not in events
    }

    assert ends == {State.ROLLED_BACK, State.STRANDED}


def test_a_host_that_was_not_admitted_was_never_behind_the_bar() -> None:
    for life in EVERY_LIFE:
        if e.Admitted not in {event for _, event, _ in life}:
            states = {before for before, _, _ in life}
            # But for what a run that was killed had done there.
            taken_back = {State.FAILED, State.HALTED, State.ROLLING_BACK}
            assert states <= BEFORE_THE_BAR | {State.LIVE} | taken_back
            assert State.LIVE not in states or life[2][1] is e.Resumed
            if states <= BEFORE_THE_BAR:
                ends = {State.FAILED, State.HALTED, State.UNCHANGED}
                assert life[-1][2] in ends


# fmt: off
SETS: Final[dict[State, str]] = {
    # One letter a set that the state is in, in the order of NAMED.
    State.CONNECTING:   "...... N L . . . . . . . . u",
    State.CHECKING:     "...... N L . . . . . . s . u",
    State.UPLOADING:    "...... N . . . . . . . . . u",
    State.PREPARING:    "...... N . . . . . . . . . .",
    State.READY:        ".R.... N . . . . . . . s . .",
    State.DRAINING:     "...... . . D . . . . . . . .",
    State.SWITCHING:    "...A.M . . D . . . . . . . .",
    State.ACTIVATING:   "..SA.M . . D . . . . . . . .",
    State.VERIFYING:    "..SA.M . . D . . . . . . . .",
    State.UNDRAINING:   "..SA.M . . D . . . . . . . .",
    State.LIVE:         ".RSAOM . . . V P . . . . t .",
    State.UNCHANGED:    "TR..O. . . . V P . . . . t .",
    State.HALTED:       "TR.... N L . . P . l b s . .",
    State.FAILED:       "TR.... N L . . P . l b s . .",
    State.ROLLING_BACK: "...A.M . . D . P . . . . . .",
    State.ROLLED_BACK:  "TR..O. . . . . . B . . . t .",
    State.STRANDED:     "TR...M . . . . . B . b . t .",
}
# fmt: on
NAMED: Final = (
    *(TERMINAL, RESTING, SWITCHED, AFTER_SWITCH, IN_ORDER, MAY_HAVE_MOVED),
    *(NOT_MOVED, LEFT_ALONE, MAY_BE_DRAINED, SERVES_NEW, SPARED),
    *(GONE_BACK, NOT_LOOKED, NOT_BACK, BACK_FOR_KILLED_RUN, SETTLED, NOT_UPLOADED),
)


def test_every_named_set_says_yes_or_no_to_every_state() -> None:
    assert set(SETS) == set(State)
    for state, letters in SETS.items():
        told = [letter != "." for letter in letters.replace(" ", "")]

        assert [state in named for named in NAMED] == told, state


def test_a_link_moves_only_in_states_that_say_so() -> None:
    for life in EVERY_LIFE:
        states = [before for before, _, _ in life]
        if State.SWITCHING in states:
            since = states[states.index(State.SWITCHING) :]
            if e.Gone in {event for _, event, _ in life}:
                since = [s for s in since if s in AFTER_SWITCH]
            assert set(since) <= AFTER_SWITCH


def test_hosts_rest_where_their_life_ends_and_where_they_wait_for_the_fleet() -> None:
    assert {life[-1][2] for life in EVERY_LIFE} == TERMINAL
    assert {State.READY, State.LIVE} == RESTING - TERMINAL


def test_a_terminal_state_accepts_nothing() -> None:
    ended = {"UNCHANGED", "HALTED", "FAILED", "ROLLED_BACK", "STRANDED"}

    assert {state.name for state in TERMINAL} == ended
    # But for what a run that was killed had moved on a host that stops here now.
    back = {e.RollbackRequested: State.ROLLING_BACK}
    assert TRANSITIONS[State.FAILED] == TRANSITIONS[State.HALTED] == back
    taken_back = {(s, e.RollbackRequested) for s in (State.FAILED, State.HALTED)}
    for state, kind in set(product(TERMINAL, HOST_EVENTS)) - taken_back:
        with pytest.raises(IllegalTransition):
            HostMachine(state).apply(fact(kind))


def test_an_event_leads_where_the_table_says() -> None:
    for state, ways in TRANSITIONS.items():
        for kind, after in ways.items():
            host = HostMachine(state)

            assert host.apply(fact(kind)) is after
            assert host.state is after


def test_an_illegal_event_raises_and_changes_nothing() -> None:
    for state, kind in product(State, HOST_EVENTS):
        if kind not in TRANSITIONS[state]:
            host, event = HostMachine(state), fact(kind)

            with pytest.raises(IllegalTransition) as caught:
                host.apply(event)

            assert host.state is state
            assert (caught.value.state, caught.value.event) == (state, event)
            assert str(caught.value) == f"{kind.__name__} cannot happen in {state.name}"


def test_the_machine_walks_every_life() -> None:
    for life in EVERY_LIFE:
        host = HostMachine()

        for before, event, after in life:
            assert host.state is before
            assert host.apply(fact(event)) is after


def test_the_diagram_shows_every_transition_and_nothing_else() -> None:
    first, start, *arrows = mermaid().splitlines()
    drawn = set()
    for arrow in arrows:
        way, _, names = arrow.strip().partition(": ")
        before, after = way.split(" --> ")
        drawn |= {(before, name, after) for name in names.split(" / ")}

    told = {
        (before.name, event.__name__, after.name)
        for before, ways in TRANSITIONS.items()
        for event, after in ways.items()
    }
    assert (first, start) == ("stateDiagram-v2", "    [*] --> CONNECTING")
    assert drawn == told


def test_every_set_that_the_table_names_is_judged_state_by_state() -> None:
    sets = [getattr(machine, name) for name in machine.__all__ if name.isupper()]

    assert {id(each) for each in sets if isinstance(each, frozenset)} == {
        id(each) for each in NAMED
    }
