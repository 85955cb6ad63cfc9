from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostasync.views.text import (
    ago,
    balanced,
    clock,
    last_lines,
    plain,
    plural,
    size,
    span,
)


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (12_345_678, "12.3 MB"),
        (99_950_000, "100 MB"),
        (999_999_999, "1.0 GB"),
        (3e15, "3000 TB"),
        (999_940, "1.0 MB"),
        (999_400, "999 kB"),
    ],
)
def test_sizes_have_three_digits(nbytes: float, text: str) -> None:
    assert size(nbytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.084, "84 ms"),
        (0.0999, "0.1 s"),
        (9.94, "9.9 s"),
        (41.3, "41 s"),
        (59.7, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3700, "1 h 01 min"),
    ],
)
def test_durations_read_as_words(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_a_clock_runs_in_steady_width() -> None:
    assert [clock(s) for s in (-1, 0, 41.9, 3600)] == [
        "0:00",
        "0:00",
        "0:41",
        "1:00:00",
    ]


def test_counts_agree_with_their_nouns() -> None:
    assert (plural(1, "host"), plural(1200, "host")) == ("1 host", "1,200 hosts")


@pytest.mark.parametrize(
    "text",
    [
        "\x1b[31mred\x1b[0m",
        "\x1b]0;title\x07red",
        "\x1b]8;;http://x\x1b\\red",
        "r\x07e\x00d",
        "\x9b31mred".replace("31m", ""),
        "red\udcff",
    ],
)
def test_what_would_steer_a_terminal_is_taken_out(text: str) -> None:
    assert plain(text) == "red"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s ago"),
        (59, "59 s ago"),
        (60, "1 min ago"),
        (3599, "60 min ago"),
        (3600, "1 h ago"),
        (47 * 3600, "47 h ago"),
        (48 * 3600, "2 days ago"),
        (5000 * 86400, "5,000 days ago"),
    ],
)
def test_an_age_is_told_in_its_largest_unit(seconds: float, text: str) -> None:
    assert ago(seconds) == text


@given(st.text())
def test_plain_text_holds_only_what_has_a_shape(text: str) -> None:
    assert plain(text).isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2J\x1b]0;title\x07b\x1b(Bc", "abc"),
        ("two\nlines", "two lines"),
        ("one line\r\n", "one line"),
        ("10%\r20%", "10% 20%"),
        ("next\x85line\u2028and\u2029more", "next line and more"),
        ("\u202egpj.exe", "gpj.exe"),
        ("\u2066a\u2069\u200e\u061cb", "ab"),
        ("pay\u200bpal\ufeff\u2060", "paypal"),
        ("\x9b31mred", "31mred"),
        ("tab\tstop", "tab stop"),
        ("byte \udcff", "byte "),
        ("\U000e0041tag", "tag"),
        ("café 日本 ☂", "café 日本 ☂"),
    ],
)
def test_plain_text_is_one_line_that_hides_nothing(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_last_lines_are_those_that_say_something() -> None:
    text = "one\n\n10%\r50%\r100% done\n   \nlast \n\n"

    assert last_lines(text, 2) == ["100% done", "last"]
    assert last_lines("", 2) == []


def test_a_balancer_says_how_long_it_may_take() -> None:
    said = balanced({"drain": 330, "undrain": 45})

    assert said == "by the balancer's settings 5 min 30 s at most, undrain 45 s"
