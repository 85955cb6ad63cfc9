from __future__ import annotations

import itertools
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostasync.model import State
from ghostasync.views.folding import Failure, Failures, fold_hosts, short_hosts


def unfold(text: str) -> list[str]:
    """Read ranges as an inventory does."""
    names: list[str] = []
    for term in re.findall(r"(?:\[[^\]]*\]|[^,\[])+", text):
        before, _, rest = term.partition("[")
        items, _, after = rest.partition("]")
        for item in items.split(","):
            first, _, last = item.partition("-")
            if not items:
                names.append(term)
                continue
            span = range(int(first), int(last or first) + 1)
            names += [f"{before}{n:0{len(first)}}{after}" for n in span]
    return names


NAMES = st.lists(
    st.one_of(
        st.from_regex(r"\A(web|db)-?[0-9]{1,3}(\.dc[0-9])?(\.example)?\Z"),
        st.from_regex(r"\A[a-c]?[0-9]{0,2}[a-c]?\Z").filter(bool),
    ),
    max_size=20,
)


@given(NAMES)
def test_a_folded_text_reads_back_as_the_same_names(names: list[str]) -> None:
    folded = fold_hosts(names)

    assert sorted(unfold(folded)) == sorted(set(names))


@given(NAMES, st.randoms())
def test_terms_hold_the_same_whatever_the_order(
    names: list[str], rng: random.Random
) -> None:
    shuffled = list(names)
    rng.shuffle(shuffled)

    assert sorted(unfold(fold_hosts(shuffled))) == sorted(unfold(fold_hosts(names)))


@given(NAMES)
def test_folding_never_makes_more_terms_than_names(names: list[str]) -> None:
    terms = re.sub(r"\[[^\]]*\]", "", fold_hosts(names)).split(",")

    assert len(terms) <= max(1, len(set(names)))


@pytest.mark.parametrize(
    ("names", "folded"),
    [
        ([], ""),
        (["web1"], "web1"),
        (["localhost"], "localhost"),
        (["web1", "web1"], "web1"),
        (["web3", "web1", "web2"], "web[1-3]"),
        ([f"web{n:03}" for n in range(1, 288)], "web[001-287]"),
        (["web004", "web119"], "web[004,119]"),
        (["web9", "web10", "web11"], "web[9-11]"),
        (["web09", "web10"], "web[09-10]"),
        (["web9", "web09"], "web9,web09"),
        (["web", "web1", "web2"], "web,web[1-2]"),
        (["a1.dc2.example", "a2.dc2.example"], "a[1-2].dc2.example"),
        (["a1.dc1", "a1.dc2"], "a1.dc[1-2]"),
        (["10.0.0.4", "10.0.0.5"], "10.0.0.[4-5]"),
        (["db1", "web1", "web2"], "db1,web[1-2]"),
    ],
)
def test_hosts_fold_to_ranges(names: list[str], folded: str) -> None:
    assert fold_hosts(names) == folded


def test_ranges_too_wide_are_counted() -> None:
    odd = [f"web{n}" for n in range(1, 40, 2)]

    assert short_hosts(odd, 20) == "web1 and 19 others"
    assert short_hosts(odd[:2], 20) == "web[1,3]"
    assert short_hosts(["a-single-very-long-name"], 5) == "a-single-very-long-name"


def test_equal_failures_are_one() -> None:
    failures = Failures()

    for host, reason in itertools.product(("a", "b"), ("disk", "net")):
        failures.add(host, State.PREPARING, reason, tail=f"{host} says {reason}")

    assert list(failures) == [
        Failure(State.PREPARING, "disk", ("a", "b"), "a says disk"),
        Failure(State.PREPARING, "net", ("a", "b"), "a says net"),
    ]
