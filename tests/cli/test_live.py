from __future__ import annotations

import io

import pytest

from ghostasync.cli._frontend import can_draw
from ghostasync.cli._live import Screen
from ghostasync.cli._sink import Sink
from ghostasync.views.board import Board
from tests.story import failed_run, folded


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def screened(board: Board, encoding: str = "utf-8") -> str:
    stream = Terminal()
    with Sink(stream) as sink:
        screen = Screen(board, sink, encoding)
        screen.draw()
        screen.close()
    return stream.getvalue()


@pytest.fixture
def half_way() -> Board:
    story = failed_run(40)
    return folded(story.records[: len(story.records) // 2])


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "24")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_a_frame_is_drawn_over_the_last_and_the_cursor_comes_back(
    half_way: Board,
) -> None:
    text = screened(half_way)

    assert text.count("shop/prod/web") == 2
    assert "\x1b[1A" in text
    assert text.index("\x1b[?25l") < text.index("\x1b[?25h")


def test_no_color_draws_without_colors(
    half_way: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\x1b[31m" in screened(half_way)
    monkeypatch.setenv("NO_COLOR", "1")

    text = screened(half_way)

    assert not any(f"\x1b[{code}m" in text for code in (31, 32, 33, 36, "1;31", "1;36"))


def test_a_terminal_without_unicode_gets_ascii(half_way: Board) -> None:
    assert screened(half_way, "iso-8859-1").isascii()
    assert not screened(half_way).isascii()


def test_nothing_is_written_before_a_run_has_started() -> None:
    assert screened(Board()) == ""


def test_only_terminals_with_a_cursor_get_a_board(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = io.TextIOWrapper(io.BytesIO())
    gone.close()

    assert can_draw(Terminal())
    assert not can_draw(io.StringIO())
    assert not can_draw(gone)
    monkeypatch.setenv("TERM", "dumb")
    assert not can_draw(Terminal())
