from __future__ import annotations

import pytest

from ghostasync.config._selection import named, select
from ghostasync.errors import PlanError
from ghostasync.model import Host

FLEET = [
    Host("web1", labels={"az": "a", "size": "big"}),
    Host("web2", labels={"az": "b"}),
    Host("web3", labels={"az": "b"}),
    Host("db1"),
]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ([], "web1 web2 web3 db1"),
        (["*"], "web1 web2 web3 db1"),
        (["web*"], "web1 web2 web3"),
        (["web[13]"], "web1 web3"),
        (["web*,!web3"], "web1 web2"),
        (["az=b"], "web2 web3"),
        (["az=*"], "web1 web2 web3"),
        (["!az=b"], "web1 db1"),
        (["web*, az=b, !web2"], "web3"),
        (["db1", "web1"], "web1 db1"),
        (["@failed"], "web2 db1"),
        (["@failed,web*"], "web2"),
        (["!@failed"], "web1 web3"),
        (["@failed", "@behind"], "web2 web3 db1"),
    ],
)
def test_terms_narrow_and_limits_add_up(limits: list[str], expected: str) -> None:
    chosen = select(
        FLEET, limits, {"@failed": {"web2", "db1", "gone"}, "@behind": {"web3"}}
    )

    assert " ".join(host.name for host in chosen) == expected


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("wbe*", "no host is named wbe*"),
        ("WEB1", "no host is named WEB1"),
        ("web*,!web9", "no host is named web9"),
        ("zone=a", "no host has a label zone; labels: az, size"),
        ("az=c", "no host has az=c"),
        ("!az=c", "no host has az=c"),
        ("@failed", "no host failed by itself in its last run"),
        ("@behind", "no host that answers is behind MANIFEST"),
        ("@broken", "there is no @broken, only @failed and @behind"),
        ("web1,,web2", "a term is empty"),
        ("", "a term is empty"),
        ("!", "a term is empty"),
        (
            "az=a,az=b",
            'no host is left, for a comma means "and": for "or" it is repeated',
        ),
        (
            "*,!web*,!db1",
            'no host is left, for a comma means "and": for "or" it is repeated',
        ),
    ],
)
def test_what_names_nothing_is_refused(limit: str, message: str) -> None:
    with pytest.raises(PlanError) as caught:
        select(FLEET, ["web1", limit], {})

    assert str(caught.value) == f"--limit {limit}: {message}"


def test_a_fleet_without_labels_says_so() -> None:
    with pytest.raises(PlanError, match=r"no host has a label az; labels: none$"):
        select([Host("web1")], ["az=a"], {})


def test_not_the_failed_ones_is_everybody_when_none_failed() -> None:
    assert select(FLEET, ["!@failed"], {}) == tuple(FLEET)


def test_an_empty_inventory_is_refused() -> None:
    with pytest.raises(PlanError) as caught:
        select([], [], {})

    assert str(caught.value) == "inventory.hosts: there are no hosts to deploy to"


@pytest.mark.parametrize(
    ("expressions", "expected"),
    [
        ([], "db1 web1 web2 web3"),
        (["az=b,!web3"], "web2"),
        (["az=a", "db*"], "db1 web1"),
    ],
)
def test_expressions_name_hosts(expressions: list[str], expected: str) -> None:
    assert " ".join(sorted(named(FLEET, expressions))) == expected


def test_an_expression_that_names_nobody_says_so() -> None:
    with pytest.raises(PlanError, match=r"^no host has az=c$"):
        named(FLEET, ["az=c"])
