"""Servers that let few in at once, or nobody for a while."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import attrs
import pytest

from ghostasync.errors import Unreachable
from ghostasync.model import Host
from ghostasync.transports.ssh import Handshakes, SshTransport
from tests.fleet.conftest import Connect, StartFleet
from tests.fleet.sshd import SshdFleet
from tests.transports.commands import run

pytestmark = pytest.mark.fleet


@attrs.define
class Penalty:
    """
    A front to a real sshd, as PerSourcePenalties of 9.8 make it look.

    Newcomers are hung up on, with or without a word, until *left* of them were.
    """

    left: int
    says: bytes = b""
    visits: list[float] = attrs.field(factory=list)

    @asynccontextmanager
    async def front(self, fleet: SshdFleet) -> AsyncIterator[Host]:
        port = fleet.hosts[0].port
        serving: set[asyncio.Task[None]] = set()

        async def serve(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            self.visits.append(anyio.current_time())
            self.left -= 1
            if self.left < 0:
                there, back = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.gather(_pump(reader, back), _pump(there, writer))
                return
            async with _closed(writer):
                writer.write(self.says)

        def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(serve(reader, writer))
            serving.add(task)

        server = await asyncio.start_server(visit, "127.0.0.1", 0)
        try:
            at = server.sockets[0].getsockname()[1]
            yield attrs.evolve(fleet.hosts[0], port=at)
        finally:
            server.close()
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)


@asynccontextmanager
async def _closed(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    """Close a connection in the end, and wait for that."""
    try:
        yield
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async with _closed(writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()


@pytest.mark.parametrize(
    "says", [b"", b"Not allowed at this time\r\n", b"Exceeded MaxStartups\r\n"]
)
async def test_a_penalty_is_waited_out_with_fewer_logins_at_once(
    says: bytes, sshd_fleet: StartFleet, connect: Connect
) -> None:
    fleet = sshd_fleet(1)
    settings = attrs.evolve(fleet.ssh, host_keys="insecure")
    handshakes = Handshakes()
    transport = SshTransport(settings, handshakes=handshakes, pauses=[0.2] * 5)
    penalty = Penalty(left=3, says=says)

    async with penalty.front(fleet) as host:
        session = connect.session(transport, host)
        await session.open()

        assert await run(session, "echo in") == (0, "in\n")
        limit = handshakes.endpoint(f"127.0.0.1:{host.port}").places.total_tokens
        await session.close()

    pauses = [b - a for a, b in zip(penalty.visits, penalty.visits[1:], strict=False)]
    assert len(pauses) == 3
    assert min(pauses) >= 0.1
    assert len({round(pause, 3) for pause in pauses}) > 1
    assert limit == 2  # halved thrice, and one more for the login
    assert fleet.log("h1").count("Connection from") == 1


async def test_a_penalty_that_does_not_end_is_named(
    sshd_fleet: StartFleet, connect: Connect
) -> None:
    fleet = sshd_fleet(1)
    penalty = Penalty(left=99, says=b"Not allowed at this time\r\n")

    async with penalty.front(fleet) as host:
        transport = SshTransport(fleet.ssh, pauses=[0.01, 0.01])
        with pytest.raises(Unreachable, match="PerSourcePenalties") as caught:
            await connect.session(transport, host).open()

    assert "(Not allowed at this time)" in str(caught.value)
    assert (caught.value.retriable, caught.value.denied) == (True, False)
    assert len(penalty.visits) == 3


async def test_a_bastion_that_throttles_lets_all_its_hosts_through_in_the_end(
    sshd_fleet: StartFleet, connect: Connect
) -> None:
    fleet = sshd_fleet(2)
    penalty = Penalty(left=2)

    async with penalty.front(fleet) as bastion:
        settings = attrs.evolve(
            fleet.ssh, jump=f"127.0.0.1:{bastion.port}", host_keys="insecure"
        )
        transport = SshTransport(settings, pauses=[0.05] * 5, hosts_each=4)
        sessions = [connect.session(transport, fleet.hosts[1]) for _ in range(12)]
        async with anyio.create_task_group() as tasks:
            for session in sessions:
                tasks.start_soon(session.open)
        assert all(session.is_open for session in sessions)
        for session in sessions:
            await session.close()
        await transport.aclose()

    assert len(penalty.visits) == 2 + 3
    assert fleet.log("h1").count("Connection from") == 3


async def test_a_proxy_command_that_logs_in_to_one_server_is_throttled_for_all(
    sshd_fleet: StartFleet, connect: Connect
) -> None:
    """``ssh -W`` for each host: the bastion sees a login each, and drops some."""
    fleet = sshd_fleet(3, options={"MaxStartups": "1:100:1"})
    gate, *behind = fleet.hosts
    known = f"-o UserKnownHostsFile={fleet.ssh.known_hosts}"
    who = f"-i {fleet.ssh.identity} -p {gate.port} -l root 127.0.0.1"
    command = f"ssh -F none {known} -o BatchMode=yes -W %h:%p {who}"
    settings = attrs.evolve(fleet.ssh, proxy_command=command)
    handshakes = Handshakes(per_endpoint=2)
    # On a busy machine a login takes seconds, and nobody else is let in meanwhile.
    transport = SshTransport(settings, handshakes=handshakes, pauses=[0.3] * 200)
    sessions = [connect.session(transport, host) for host in behind * 3]

    async with anyio.create_task_group() as tasks:
        for session in sessions:
            tasks.start_soon(session.open)

    assert [await run(s, "hostname") for s in sessions[:2]] == [
        (0, "h2\n"),
        (0, "h3\n"),
    ]
    assert len(handshakes._endpoints) == 1
    for session in sessions:
        await session.close()
