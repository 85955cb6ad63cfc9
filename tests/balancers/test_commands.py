from __future__ import annotations

from ghostasync import Hook, Host
from ghostasync.balancers.commands import Commands
from ghostasync.protocols import Balancer
from tests.balancers.access import Access


async def test_each_command_runs_where_it_is_to_run() -> None:
    access = Access(Host("h1"))
    balancer: Balancer = Commands(Hook("lb drain", "host"), Hook("lb ready"))

    await balancer.drain(access)
    await balancer.undrain(access)

    assert access.ran == [("lb drain", "host"), ("lb ready", "controller")]


async def test_where_there_is_no_command_nothing_runs() -> None:
    access = Access(Host("h1"))
    balancer = Commands(Hook(), Hook())

    await balancer.drain(access)
    await balancer.undrain(access)

    assert access.ran == []
