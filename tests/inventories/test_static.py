from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostasync.errors import PlanError
from ghostasync.inventories.static import Static, expand
from ghostasync.model import Host
from ghostasync.protocols import Inventory


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


async def test_the_hosts_are_those_of_the_plan() -> None:
    hosts = (Host("web2"), Host("web1"))
    inventory: Inventory = Static(hosts)

    assert await inventory.hosts() == hosts
