from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs

from ghostasync import Hook, Host
from ghostasync.balancers.commands import Commands
from ghostasync.protocols import Balancer


@attrs.define
class Access:
    """A host on which nothing runs."""

    host: Host
    variables: Mapping[str, str] = attrs.field(factory=dict)
    ran: list[tuple[str, str]] = attrs.field(factory=list)

    async def run(self, text: str, *, on: Literal["controller", "host"]) -> None:
        self.ran.append((text, on))


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
