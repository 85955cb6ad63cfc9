from __future__ import annotations

from contextlib import AsyncExitStack

import attrs

from ghostasync.transports._bastion import Bastion
from ghostasync.transports._target import Target
from ghostasync.transports._wire import Wire

WEB1 = Target("web1", 22, "root")


@attrs.define(eq=False)
class Gate:
    """A connection to a bastion that is open once it was opened."""

    is_open: bool = False

    async def open(self) -> None:
        self.is_open = True

    async def tunnel(self, _: Target) -> Wire:
        return Wire()

    async def close(self) -> None:
        self.is_open = False


async def test_a_host_that_waits_for_its_greeting_takes_one_place() -> None:
    gates: list[Gate] = []

    def connect() -> Gate:
        gates.append(Gate())
        return gates[-1]

    bastion = Bastion(connect, hosts_each=2)
    async with AsyncExitStack() as waiting:
        wires = []
        for connections in (1, 1, 2, 2, 3):
            place = await waiting.enter_async_context(bastion.place())
            wires.append(await place.tunnel(WEB1))
            assert len(gates) == connections
    wires[0].lost = True

    async with bastion.place():
        assert len(gates) == 3
