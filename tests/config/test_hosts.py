from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostasync import Host
from ghostasync.config._hosts import expand, hosts_of, require_hosts
from ghostasync.errors import ConfigError, PlanError


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("web1", "web1"),
        ("web[1-3].example.com", "web1.example.com web2.example.com web3.example.com"),
        ("web[08-11]", "web08 web09 web10 web11"),
        ("web[001-002]", "web001 web002"),
        ("web[9-11]", "web9 web10 web11"),
        ("db[1,3,5-7]", "db1 db3 db5 db6 db7"),
        ("db[01,3]", "db01 db3"),
        ("r[1-2]n[1-2]", "r1n1 r1n2 r2n1 r2n2"),
        ("[1-2]", "1 2"),
        ("web[7]", "web7"),
        ("192.0.2.[8-10]", "192.0.2.8 192.0.2.9 192.0.2.10"),
        ("2001:db8::1", "2001:db8::1"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("[2001:db8::12]", "2001:db8::12"),
        ("[fe80::1%eth0]", "fe80::1%eth0"),
        ("2001:db8::[1-2]", "2001:db8::1 2001:db8::2"),
    ],
)
def test_ranges_become_names(pattern: str, names: str) -> None:
    assert expand(pattern) == names.split()


@pytest.mark.parametrize(
    "pattern", ["web[", "web]", "web[]", "web[a-c]", "web[1-]", "web[1,]", "web[[1-2]]"]
)
def test_broken_ranges_are_refused(pattern: str) -> None:
    with pytest.raises(PlanError) as caught:
        expand(pattern)

    assert str(caught.value) == (
        f'"{pattern}" has a broken range; allowed: [1-9], [001-300], [1,3,5-7]'
    )


@pytest.mark.parametrize("item", ["3-1", f"1-{'9' * 5000}", "9" * 5000])
def test_ranges_count_upwards(item: str) -> None:
    with pytest.raises(PlanError, match=r": the range .* does not count upwards$"):
        expand(f"web[{item}]")


@pytest.mark.parametrize("pattern", ["w[1-999999999]", "w[1-1000][1-1000]"])
def test_a_typing_mistake_does_not_eat_the_memory(pattern: str) -> None:
    with pytest.raises(PlanError, match=r"stands for \d+ hosts; allowed: 100000$"):
        expand(pattern)


@given(st.text())
def test_any_text_expands_or_is_refused(text: str) -> None:
    try:
        names = expand(text)
    except PlanError:
        return

    assert names


# --- Rows that others give -------------------------------------------------------


def test_rows_are_read_as_those_of_the_file() -> None:
    rows = [
        "web[1-2]",
        {"name": "db", "address": "192.0.2.1", "port": 22, "labels": {"az": "a"}},
    ]

    assert hosts_of(rows, "inventory.command") == (
        Host("web1"),
        Host("web2"),
        Host("db", "192.0.2.1", 22, labels={"az": "a"}),
    )


def test_each_wrong_row_is_told_by_its_number() -> None:
    rows = [
        "web[1-2]",
        {"name": "a", "port": "22"},
        {"name": "b", "adress": "x"},
        "web2",
        ["c"],
        {"name": "d", "labels": {"az": "a\ud800"}},
        {"name": "e", "address": "-o x"},
        {"address": "192.0.2.1"},
    ]

    with pytest.raises(ConfigError) as caught:
        hosts_of(rows, "it")

    port, address, name, row, label, argument, missing = caught.value.problems
    assert port == 'it[1].port: is "22"; allowed: a whole number, 0 to 65535'
    assert address.startswith("it[2].adress: is unknown (did you mean address?)")
    assert name == 'it[3]: "web2" is the name of it[0] too; allowed: each name once'
    assert row.startswith("it[4]: is an array; allowed: a string like")
    assert label.startswith("it[5].labels.az: is ")
    assert argument.startswith('it[6].address: is "-o x"; allowed: a host name, an')
    assert missing.startswith("it[7].name: is missing; allowed: host names")


WHAT_NO_HOST_IS = [
    "-oProxyCommand=touch x",
    "a -oProxyCommand=touch x",
    "a b",
    "a\tb",
    "a\nb",
    "a\x00",
    "a\x1b[2J",
    "a\x85b",
    "a\u2028b",
    "a\u202eb",
    "a\ud800",
    "a;id",
    "a|id",
    "$(id)",
    "`id`",
    "${HOME}",
    "a'b",
    'a"b',
    "*",
    "a,b",
    "../a",
    "@cert-authority",
]


@pytest.mark.parametrize("text", WHAT_NO_HOST_IS)
@pytest.mark.parametrize("key", ["name", "address", "user", "host_key_alias"])
def test_what_is_no_place_and_no_user_is_none(key: str, text: str) -> None:
    row = {"name": "a", key: text}

    with pytest.raises(ConfigError) as caught:
        hosts_of([row], "it")

    (problem,) = caught.value.problems
    assert problem.startswith("it[0]" if key == "name" else f"it[0].{key}: is ")
    assert "allowed: " in problem or "broken range" in problem
    assert problem.isprintable()


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("address", "192.0.2.1"),
        ("address", "web1.example.com"),
        ("address", "2001:db8::1"),
        ("address", "fe80::1%eth0.7"),
        ("address", "bücher.example"),
        ("host_key_alias", "i-0abc"),
        ("user", "deploy"),
        ("user", "CORP\\deploy"),
        ("user", "deploy@example.com"),
        ("user", "first.last-2"),
    ],
)
def test_what_a_place_or_a_user_can_be(key: str, text: str) -> None:
    (host,) = hosts_of([{"name": "a", key: text}], "it")

    assert getattr(host, key) == text


@pytest.mark.parametrize(
    "label", ["-x", "a b", "a=b", "a,b", "a\x1b", "a\u202e", "a\x85"]
)
def test_a_label_has_a_name(label: str) -> None:
    with pytest.raises(ConfigError, match="is no name for it"):
        hosts_of([{"name": "a", "labels": {label: "x"}}], "it")


@pytest.mark.parametrize("text", ["a\nroot=1", "\x1b[2J", "a\u2028b", "\u202e", "\x9b"])
def test_a_label_is_one_line_that_people_read_as_it_is(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^it\[0\]\.labels\.az: is "):
        hosts_of([{"name": "a", "labels": {"az": text}}], "it")


def test_a_mistake_in_every_row_is_not_told_a_thousand_times() -> None:
    with pytest.raises(ConfigError) as caught:
        hosts_of([{"name": "a b"}] * 1000, "it")

    *_, last, more = caught.value.problems
    assert last.startswith('it[9]: is "a b"; allowed: host names')
    assert more == "it: 990 findings more"


@pytest.mark.parametrize(
    ("host", "finding"),
    [
        (Host("a", port=22.5), "it[0].port: is 22.5; allowed: a whole number, 0 to"),  # type: ignore[arg-type]  # wrong
        (Host("a", port=True), "it[0].port: is true; allowed: a whole number, 0 to"),
        (Host("a", labels={"az": 1}), "it[0].labels.az: is 1; allowed: a string"),  # type: ignore[dict-item]  # wrong
        (Host("a", labels={"az": "a\nb"}), 'it[0].labels.az: is "a\\nb"; allowed: a'),
        (Host("web[1-2]"), 'it[0]: is "web[1-2]"; allowed: host names'),
        (Host(None), "it[0].name: is null; allowed: host names"),  # type: ignore[arg-type]  # wrong
    ],
)
def test_hosts_that_code_has_made_are_no_better_than_rows(
    host: Host, finding: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        require_hosts([host], "it")

    assert str(caught.value).startswith(finding)


def test_hosts_that_code_has_made_come_out_as_they_are() -> None:
    hosts = (Host("b", "192.0.2.1", 22, "x", {"az": "a"}), Host("a"))

    assert require_hosts(iter(hosts), "it") == hosts
