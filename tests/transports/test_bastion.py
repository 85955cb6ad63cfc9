from __future__ import annotations

from contextlib import AsyncExitStack

import attrs

from ghostasync.transports._bastion import Bastion
from ghostasync.transports._endpoint import Endpoint
from ghostasync.transports._stream import Stream

WEB1 = Endpoint("web1", 22, "root")


@attrs.define(eq=False)
class JumpSession:
    """A connection to a bastion that is open once it was opened."""

    is_open: bool = False

    async def open(self) -> None:
        self.is_open = True

    async def tunnel(self, _: Endpoint) -> Stream:
        return Stream()

    async def close(self) -> None:
        self.is_open = False


async def test_a_host_that_waits_for_its_greeting_takes_one_place() -> None:
    gates: list[JumpSession] = []

    def connect() -> JumpSession:
        gates.append(JumpSession())
        return gates[-1]

    bastion = Bastion(connect, hosts_each=2)
    async with AsyncExitStack() as waiting:
        streams = []
        for connections in (1, 1, 2, 2, 3):
            place = await waiting.enter_async_context(bastion.place())
            streams.append(await place.tunnel(WEB1))
            assert len(gates) == connections
    streams[0].lost = True

    async with bastion.place():
        assert len(gates) == 3
