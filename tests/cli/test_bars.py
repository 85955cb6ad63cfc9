from __future__ import annotations

import pytest

from ghostasync import events as e
from ghostasync.cli._bars import ASCII, pipeline, serving, tallies
from ghostasync.cli._view import lines
from ghostasync.model import State
from ghostasync.views.board import Board
from tests.story import failed_run, folded


@pytest.mark.parametrize("state", State)
def test_a_host_is_counted_whatever_its_state(state: State) -> None:
    board = Board()
    board.counts[state] = 7

    drawn = [*pipeline(board, 80, ASCII), *tallies(board, 80, ASCII)]

    assert "7" in "".join(line.plain for line in drawn)


def test_a_run_that_went_back_says_what_serves_and_shows_no_way() -> None:
    story = failed_run(60)

    drawn = [line.plain for line in lines(folded(story.records), 0, 80, 24)]

    assert not any("live 0" in line or "wave" in line for line in drawn)
    assert any("old release live on 59 hosts" in line for line in drawn)


def test_what_a_killed_run_may_have_moved_is_unknown() -> None:
    board = Board()
    board.apply(
        e.Record(1, 0.0, "r", e.Started("resume", "a", ("site",), ("h1", "h2")))
    )
    for number, event in enumerate(
        (
            e.Connected("h1"),
            e.Checked("h1", live={"site": "new"}),
            e.Halted("h1", "locked"),
        )
    ):
        board.apply(e.Record(2 + number, 0.0, "r", event))

    (drawn,) = (line.plain for line in serving(board, 80, ASCII))

    assert drawn == " unknown on 1 host, as before: 1 host"


def test_hosts_that_served_nothing_before_serve_nothing_again() -> None:
    board = folded(failed_run(60).records)
    for number, row in enumerate(board.hosts.values()):
        row.serves = ({"site": ""}, None)[number % 2]

    (drawn,) = (line.plain for line in serving(board, 80, ASCII))

    assert drawn == " no release on 30 hosts, as before: 30 hosts"
