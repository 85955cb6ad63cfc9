"""Names to addresses: real lookups, and one that hangs."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import anyio
import anyio.lowlevel
import pytest

from ghostasync.transports import _resolve
from ghostasync.transports._resolve import Address, resolve


@pytest.mark.parametrize(
    ("address", "family"),
    [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)],
)
async def test_an_address_is_itself(address: str, family: int) -> None:
    assert await resolve(address) == (Address(address, family),)


async def test_a_name_has_addresses() -> None:
    assert Address("127.0.0.1", socket.AF_INET) in await resolve("localhost")


@pytest.mark.parametrize("name", ["nohost.invalid", "a..b", "x" * 70])
async def test_a_name_that_does_not_exist_is_an_error_of_the_network(
    name: str,
) -> None:
    with pytest.raises(socket.gaierror):
        await resolve(name)


async def test_a_family_may_be_asked_for() -> None:
    assert await resolve("localhost", socket.AF_INET) == (
        Address("127.0.0.1", socket.AF_INET),
    )
    with pytest.raises(socket.gaierror, match="family"):
        await resolve("::1", socket.AF_INET)


async def test_the_scope_of_an_address_is_kept() -> None:
    """Also where the resolver knows it, as from mDNS or a hosts file."""
    assert await resolve("fe80::1%lo") == (Address("fe80::1%lo", socket.AF_INET6),)
    lo = socket.if_nametoindex("lo")
    row = ("fe80::1", 0, 0, lo)
    assert _resolve._address(socket.AF_INET6, *row) == Address(
        f"fe80::1%{lo}", socket.AF_INET6
    )


def test_families_take_turns() -> None:
    six = [Address(f"fd00::{n}", socket.AF_INET6) for n in range(3)]
    four = [Address(f"10.0.0.{n}", socket.AF_INET) for n in range(2)]

    ordered = _resolve._by_turns([*six, *four])

    assert ordered == (six[0], four[0], six[1], four[1], six[2])


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Have lookups hang until the event is set."""
    answered = threading.Event()

    def hang(_: str, __: int) -> tuple[Address, ...]:
        answered.wait()
        return ()

    monkeypatch.setattr(_resolve, "_addresses", hang)
    yield answered
    answered.set()


async def test_a_lookup_that_hangs_keeps_neither_others_nor_the_end_waiting(
    hanging: threading.Event,
) -> None:
    with anyio.move_on_after(0.05) as scope:
        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(resolve, f"slow{number}")
            await anyio.lowlevel.checkpoint()

    assert scope.cancelled_caught
    waiting = [t for t in threading.enumerate() if t.name.startswith("resolve slow")]
    assert len(waiting) == 100
    assert all(thread.daemon for thread in waiting)
