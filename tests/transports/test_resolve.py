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


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Have lookups hang until the event is set."""
    answered = threading.Event()

    def hang(_: str) -> tuple[Address, ...]:
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
