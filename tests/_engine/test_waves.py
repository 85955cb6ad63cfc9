from __future__ import annotations

from collections import Counter
from fractions import Fraction

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostasync import Plan
from ghostasync._engine.waves import (
    GHOST_WORDS,
    allowed,
    cut,
    is_budget,
    is_size,
    needed,
    parse_budget,
    parse_waves,
)
from ghostasync.errors import PlanError
from ghostasync.model import Host
from tests._engine.balanced import (
    Fleet,
    rolled,
)
from tests.deploying import run

PERCENT = st.integers(1, 100).map(lambda n: f"{n}%")
SIZES = st.lists(st.integers(1, 9) | PERCENT, min_size=1, max_size=4)
LABELS = st.lists(st.sampled_from(["a", "b", "c", "d", ""]), max_size=40)


def fleet(labels: str | list[str]) -> list[Host]:
    return [
        Host(f"h{n}", labels={"az": label} if label else {})
        for n, label in enumerate(labels)
    ]


def names(waves: tuple[tuple[Host, ...], ...]) -> list[str]:
    return [" ".join(host.name for host in wave) for wave in waves]


@pytest.mark.parametrize(
    ("total", "waves", "sizes"),
    [
        (0, ["100%"], []),
        (5, ["100%"], [5]),
        (10, [1, "25%"], [1, 3, 3, 3]),
        (7, [1, 2], [1, 2, 2, 2]),
        (7, [3], [3, 3, 1]),
        (3, ["1%"], [1, 1, 1]),
        (101, ["1%", "100%"], [2, 99]),
        (2, [5, 1], [2]),
        (4, "1by1", [1, 1, 1, 1]),
    ],
)
def test_sizes_are_hosts_or_percent_and_the_last_repeats(
    total: int, waves: list[int | str] | str, sizes: list[int]
) -> None:
    assert [len(wave) for wave in cut(fleet("x" * total), waves)] == sizes


@pytest.mark.parametrize(
    ("waves", "expected"),
    [
        ("1/3", ["h0 h3", "h1 h4", "h2"]),
        ("25%", ["h0 h4", "h1", "h2", "h3"]),
        ("50%", ["h0 h2 h4", "h1 h3"]),
        ("1by1", ["h0", "h1", "h2", "h3", "h4"]),
        (["50%"], ["h0 h1 h2", "h3 h4"]),
    ],
)
def test_ghosts_words_are_stripes_where_sizes_are_slices(
    waves: list[int | str] | str, expected: list[str]
) -> None:
    assert names(cut(fleet("xxxxx"), waves)) == expected


def test_ghosts_stripes_of_a_small_fleet_are_never_empty() -> None:
    assert names(cut(fleet("xx"), "25%")) == ["h0", "h1"]


def test_each_wave_takes_its_share_of_every_label_value() -> None:
    assert names(cut(fleet("aaabbb"), [2], "az")) == ["h0 h3", "h1 h4", "h2 h5"]
    assert names(cut(fleet("aaaabb"), "50%", "az")) == ["h0 h1 h4", "h2 h3 h5"]


def test_seats_left_over_go_to_the_value_that_is_owed_most() -> None:
    assert names(cut(fleet("aaaaabbb"), [1], "az")) == [
        *("h0", "h5", "h1", "h2", "h6", "h3", "h7", "h4")
    ]


def test_a_seat_that_later_waves_could_not_give_is_given_at_once() -> None:
    # All eight are owed the same, but the first four are not missed later.
    cuts = cut(fleet("abcd" + "eee" + "fff" + "ggg" + "hhh"), [8, 5, 3], "az")

    assert ["".join(host.labels["az"] for host in wave) for wave in cuts] == [
        "eeffgghh",
        "abcde",
        "fgh",
    ]


def test_ghosts_stripes_are_spread_too() -> None:
    # The stripe itself, hosts 0 and 4, would miss the value that most hosts have.
    first, *_ = names(cut(fleet("abbbc"), "25%", "az"))

    assert first == "h0 h1"


def test_hosts_without_the_label_are_one_more_value() -> None:
    assert names(cut(fleet(["a", "", "a", ""]), [2], "az")) == ["h0 h1", "h2 h3"]


@given(LABELS, SIZES | st.sampled_from(GHOST_WORDS), st.sampled_from(["", "az"]))
def test_every_host_is_in_exactly_one_wave_in_fleet_order(
    labels: list[str], waves: list[int | str] | str, spread_by: str
) -> None:
    hosts = fleet(labels)

    cuts = cut(hosts, waves, spread_by)

    place = [[int(host.name[1:]) for host in wave] for wave in cuts]
    assert sorted(n for wave in place for n in wave) == list(range(len(hosts)))
    assert all(wave == sorted(wave) and wave for wave in place)


@given(LABELS, SIZES | st.sampled_from(GHOST_WORDS))
def test_spreading_does_not_change_the_sizes(
    labels: list[str], waves: list[int | str] | str
) -> None:
    hosts = fleet(labels)

    plain, spread = cut(hosts, waves), cut(hosts, waves, "az")

    assert [len(wave) for wave in plain] == [len(wave) for wave in spread]


@given(LABELS, SIZES | st.sampled_from(GHOST_WORDS))
def test_shares_are_within_one_host(
    labels: list[str], waves: list[int | str] | str
) -> None:
    hosts = fleet(labels)
    of_all = Counter(labels)

    for wave in cut(hosts, waves, "az"):
        taken = Counter(host.labels.get("az", "") for host in wave)
        for label, count in of_all.items():
            share = Fraction(len(wave) * count, len(hosts))
            assert abs(taken[label] - share) <= 1


@given(st.integers(0, 10_000), st.integers(0, 100))
def test_a_budget_in_percent_is_rounded_down(total: int, percent: int) -> None:
    count = allowed(f"{percent}%", total)

    assert count * 100 <= percent * total < (count + 1) * 100


def test_a_budget_in_hosts_is_itself() -> None:
    assert allowed(3, 100) == 3


@given(st.integers(0, 100), st.integers(1, 10_000))
def test_who_must_serve_is_rounded_up(percent: int, total: int) -> None:
    count = needed(f"{percent}%", total)

    assert Fraction(percent * total, 100) <= count < Fraction(percent * total, 100) + 1
    assert needed(3, 100) == 3


@pytest.mark.parametrize(
    ("text", "waves"),
    [
        ("1,25%", (1, "25%")),
        (" 1, 25% ", (1, "25%")),
        ("10", (10,)),
        ("100%", ("100%",)),
        ("25%", "25%"),
        ("1/3", "1/3"),
        ("1by1", "1by1"),
    ],
)
def test_waves_of_the_command_line(
    text: str, waves: tuple[int | str, ...] | str
) -> None:
    assert parse_waves(text) == waves


@pytest.mark.parametrize(
    "text", ["", "0", "1,", "0%", "101%", "1/4", "1,1/3", "-1", "2.5", "٣", "9" * 5000]
)
def test_other_waves_are_refused(text: str) -> None:
    with pytest.raises(PlanError) as caught:
        parse_waves(text)

    assert str(caught.value) == (
        f"waves: is {text!r}; allowed: 1,25% or 1by1, 1/3, 25% or 50%"
    )


@pytest.mark.parametrize(("text", "budget"), [("0", 0), ("12", 12), ("5%", "5%")])
def test_budget_of_the_command_line(text: str, budget: int | str) -> None:
    assert parse_budget(text) == budget


@pytest.mark.parametrize("text", ["", "-1", "101%", "5 %", "five", "1.5%"])
def test_other_budgets_are_refused(text: str) -> None:
    with pytest.raises(PlanError, match="max_failures: is "):
        parse_budget(text)


def test_nothing_may_fail_but_no_wave_is_empty() -> None:
    assert is_budget(0)
    assert is_budget("0%")
    assert not is_size(0)
    assert not is_size("0%")
    assert not is_budget(-1)


async def test_waves_are_spread_by_a_label(plan: Plan) -> None:
    hosts = tuple(
        Host(f"h{n}", labels={"az": "a" if n <= 3 else "b"}) for n in range(1, 7)
    )
    plan = attrs.evolve(rolled(plan, waves=(2,), spread_by="az"), hosts=hosts)

    report, _ = await run(plan, Fleet())

    assert report.waves == (("h1", "h4"), ("h2", "h5"), ("h3", "h6"))
