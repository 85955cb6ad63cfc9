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


def all_alike(reasons: dict[str, str], *, unreachable: bool = False) -> list[Failure]:
    failures = Failures()
    for host, reason in reasons.items():
        failures.add(host, State.CHECKING, reason, unreachable=unreachable)
    return list(failures)


def test_equal_failures_are_one() -> None:
    failures = Failures()

    for host, reason in itertools.product(("a", "b"), ("disk", "net")):
        stage = State.PREPARING if reason == "disk" else State.ROLLING_BACK
        failures.add(host, stage, reason, tail=f"{host} says {reason}")

    # Both have failed anew on their way back, and are counted there.
    assert list(failures) == [
        Failure(State.ROLLING_BACK, "net", ("a", "b"), "a says net"),
        Failure(State.PREPARING, "disk", (), "a says disk", before=("a", "b")),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "pre_deploy exited 1: {}: no room",
        "/run/{}.pid: cannot bind",
        "cannot write /var/log/app-{}_1.log",
        "{}.shop.example.com: no such table",
    ],
)
def test_failures_that_differ_in_the_hosts_own_name_are_one(text: str) -> None:
    (failure,) = all_alike({f"web{n}": text.format(f"web{n}") for n in range(1, 12)})

    assert failure.hosts == tuple(f"web{n}" for n in range(1, 12))
    assert failure.reason == text.format("HOST")


def test_a_host_may_call_itself_by_the_first_part_of_its_name() -> None:
    (failure,) = all_alike({f"web{n}.example.com": f"web{n}: no room" for n in (1, 2)})

    assert failure.reason == "no room"


def test_failures_that_differ_in_a_known_address_are_one() -> None:
    failures = Failures()
    for n in range(1, 4):
        reason = f"cannot bind 10.0.0.{n}:80"
        failures.add(f"web{n}", State.ACTIVATING, reason, address=f"10.0.0.{n}")

    assert [f.reason for f in failures] == ["cannot bind HOST:80"]


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("10.0.0.{}:22: no route to host", "no route to host"),
        ("127.0.0.1:220{}: connection refused", "connection refused"),
        ("ip-10-0-0-{}.ec2:22: timed out", "timed out"),
        ("no such host: db{}.example.com (unknown)", "no such host: HOST (unknown)"),
        (
            "refused: ssh -v -p 220{0} root@10.0.0.{0}",
            "refused: ssh -v -p HOST root@HOST",
        ),
        ("the key of [10.0.0.1]:220{} is wrong", "the key of HOST is wrong"),
    ],
)
def test_hosts_out_of_reach_are_one_wherever_they_are(text: str, folded: str) -> None:
    reasons = {f"web{n}": text.format(n) for n in (1, 2, 3)}

    (failure,) = all_alike(reasons, unreachable=True)

    assert failure.reason == folded


def test_what_is_not_the_hosts_own_is_told_apart() -> None:
    reasons = {"web1": "db1 is down", "web2": "db2 is down", "web11": "web1 is down"}

    assert [failure.reason for failure in all_alike(reasons)] == [
        *("web1 is down", "db2 is down", "db1 is down")
    ]
    statuses = {"1": "exited 1", "2": "exited 2"}
    assert len(all_alike(statuses)) == 2


def test_one_host_keeps_its_own_words() -> None:
    (failure,) = all_alike({"web1": "10.0.0.1:22: timed out"}, unreachable=True)

    assert failure.reason == "10.0.0.1:22: timed out"


def test_stranded_hosts_come_first_then_what_stopped_the_run_then_the_newest() -> None:
    failures = Failures()
    failures.add("a", State.CONNECTING, "dead")
    failures.add("b", State.ACTIVATING, "broken")
    failures.stopped_by_last()
    failures.add("c", State.ACTIVATING, "late")
    failures.add("d", State.ROLLING_BACK, "lost")
    failures.add("e", State.ACTIVATING, "later")

    assert [f.reason for f in failures] == ["lost", "broken", "later", "late", "dead"]


HOSTS = st.one_of(
    st.from_regex(r"\A(web|db)?-?[0-9]{1,2}(\.example)?\Z"),
    st.text(min_size=1, max_size=4),
)
REASONS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["HOST", "10.0.0.1:22: no", "web1: no", "as web2", "{}", "{}: x"]),
)
STAGES = st.sampled_from([None, State.CONNECTING, State.ROLLING_BACK])
HAPPENINGS = st.lists(
    st.tuples(HOSTS, STAGES, REASONS, st.sampled_from(["", "web1", "10.0.0.1"])),
    max_size=30,
)


@given(HAPPENINGS, st.sets(HOSTS, max_size=3), st.booleans())
def test_folding_counts_each_host_once(
    happened: list[tuple[str, State | None, str, str]], again: set[str], lost: bool
) -> None:
    failures, last = Failures(), {}
    for number, (host, stage, reason, address) in enumerate(happened):
        text = reason.format(host) if "{}" in reason else reason
        failures.add(host, stage, text, address=address, unreachable=lost)
        last[host] = stage, text
        if number == len(happened) // 2:
            failures.stopped_by_last()
    for host in again:
        failures.forget(host)
        last.pop(host, None)

    told = [(name, f.stage) for f in failures for name in f.hosts]

    assert sorted(map(str, told)) == sorted(str((n, s)) for n, (s, _) in last.items())
    assert len(failures) == len(list(failures))
    # Equal words are never told twice, and a host is named wherever it failed.
    assert len({(f.stage, f.reason) for f in failures if len(f.hosts) == 1}) == sum(
        len(f.hosts) == 1 for f in failures
    )
    assert all(f.names for f in failures)


@given(st.lists(HOSTS, min_size=1, unique=True), st.sampled_from(["{} 1", "/{0}/{0}"]))
def test_reasons_that_differ_in_names_are_one_whatever_the_names(
    hosts: list[str], text: str
) -> None:
    named = [host for host in hosts if any(letter.isalpha() for letter in host)]

    alike = all_alike({host: text.format(host) for host in named})

    assert [set(failure.hosts) for failure in alike] == [set(named)] * bool(named)
