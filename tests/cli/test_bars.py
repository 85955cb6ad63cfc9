from __future__ import annotations

import pytest

from ghostasync.cli._bars import ASCII, pipeline, tallies
from ghostasync.model import State
from ghostasync.views.board import Board


@pytest.mark.parametrize("state", State)
def test_a_host_is_counted_whatever_its_state(state: State) -> None:
    board = Board()
    board.counts[state] = 7

    drawn = [*pipeline(board, 80, ASCII), *tallies(board, ASCII)]

    assert "7" in "".join(line.plain for line in drawn)
