"""What journals say, wherever they end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostasync import events as e
from ghostasync.history.past_run import PastRun, continued
from ghostasync.history.replay import read_run
from ghostasync.model import State
from tests.history.telling import HOSTS, PREVIOUS, journal, started, story
from tests.story import NEW, OLD, Story

WHOLE = journal(
    story(started(limited=True, manifest={"site": OLD}), waves=(("h1",), ("h2", "h3")))
)


def test_a_whole_journal_is_the_whole_run() -> None:
    found = read_run(WHOLE)

    assert found is not None
    assert (found.action, found.actor, found.limited) == ("deploy", "ann", True)
    assert found.packages == {"site": NEW}
    assert found.revisions["site"].commit == "a" * 40
    assert found.manifest == {"site": OLD}
    assert found.states == dict.fromkeys(HOSTS, State.LIVE)
    assert found.previous == dict.fromkeys(HOSTS, PREVIOUS)
    assert found.switching
    assert found.committed
    assert found.went_live
    assert not found.is_open


def test_a_journal_can_end_after_any_line() -> None:
    seen = []
    for count in range(len(WHOLE)):
        found = read_run(WHOLE[:count])
        if count == 0:
            assert found is None
            continue
        assert found is not None
        assert found.is_open
        assert found.hosts == HOSTS
        # A link can only have moved where what it said before is on record.
        assert set(found.changed) <= set(found.previous)
        assert not found.committed or found.switching
        seen.append(len(found.changed))
    assert seen == sorted(seen)
    assert seen[-1] == len(HOSTS)


def test_a_run_that_waited_for_a_lock_began_again_with_every_host() -> None:
    told = story(started())
    at = next(n for n, r in enumerate(told.records) if isinstance(r.event, e.Judged))
    waited = Story(HOSTS)
    for record in told.records[:at]:
        waited.tell(record.event)
    waited.tell(e.LockAwaited("h1", "run 1 by ann", 60.0))
    waited.machines.clear()
    begun_again = read_run(journal(waited))
    for record in told.records[1:]:
        waited.tell(record.event)

    found = read_run(journal(waited))

    assert begun_again is not None
    assert begun_again.states == dict.fromkeys(HOSTS, State.CONNECTING)
    assert begun_again.previous == {}
    assert found == read_run(journal(told))


@given(st.data())
def test_a_torn_line_counts_for_nothing(data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(WHOLE) - 1))
    torn = WHOLE[count][: data.draw(st.integers(0, len(WHOLE[count]) - 1))]

    assert read_run([*WHOLE[:count], torn]) == read_run(WHOLE[:count])


def test_every_byte_of_a_line_can_be_the_last() -> None:
    at = next(n for n, text in enumerate(WHOLE) if b"Prepared" in text)
    before = read_run(WHOLE[:at])

    for count in range(len(WHOLE[at])):
        assert read_run([*WHOLE[:at], WHOLE[at][:count]]) == before
    assert read_run(WHOLE[: at + 1]) != before


@given(st.data())
def test_a_journal_is_read_up_to_what_a_power_failure_damaged(
    data: st.DataObject,
) -> None:
    count = data.draw(st.integers(1, len(WHOLE) - 1))
    noise = data.draw(st.binary(min_size=1, max_size=80)) + b"\n"

    assert read_run([*WHOLE[:count], noise, *WHOLE[count:]]) == read_run(WHOLE[:count])


def test_a_build_is_no_run_on_hosts() -> None:
    told = Story(())
    told.tell(e.Packaged("site", NEW, 10, 20, 3))

    assert read_run(journal(told)) is None


def test_an_old_journal_reads_with_defaults() -> None:
    first = WHOLE[0].decode()
    cut = first[: first.index(',"manifest"')] + "}\n"

    found = read_run([cut.encode(), *WHOLE[1:]])

    assert found is not None
    assert (found.limited, found.manifest) == (False, {})


# --- Runs in a row ---------------------------------------------------------------


def was(**states: State) -> PastRun:
    return PastRun(
        ("1",), hosts=tuple(states), states=states, previous={"h1": PREVIOUS}
    )


@pytest.mark.parametrize(
    ("before", "then", "now"),
    [
        (State.LIVE, State.CONNECTING, State.LIVE),
        (State.LIVE, State.FAILED, State.LIVE),
        (State.LIVE, State.READY, State.ACTIVATING),
        (State.ACTIVATING, State.CHECKING, State.ACTIVATING),
        (State.ACTIVATING, State.LIVE, State.LIVE),
        (State.ACTIVATING, State.ROLLED_BACK, State.ROLLED_BACK),
        (State.LIVE, State.UNCHANGED, State.UNCHANGED),
        (State.READY, State.CHECKING, State.CHECKING),
        (State.DRAINING, State.FAILED, State.DRAINING),
        (State.DRAINING, State.ROLLED_BACK, State.ROLLED_BACK),
        (State.STRANDED, State.FAILED, State.STRANDED),
    ],
)
def test_what_a_resumed_run_did_not_touch_is_as_it_was(
    before: State, then: State, now: State
) -> None:
    newer = PastRun(("2",), action="resume", continues="1", states={"h1": then})

    both = continued(newer, was(h1=before))

    assert both.states == {"h1": now}
    assert both.ids == ("2", "1")
    assert both.previous == {"h1": PREVIOUS}
