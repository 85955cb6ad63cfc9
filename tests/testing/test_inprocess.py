"""A fleet within this process."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import anyio
import pytest

from ghostasync.errors import Unreachable
from ghostasync.testing import InProcessFleet
from ghostasync.transports.ssh import SshTransport
from tests.testing.called import opened
from tests.transports.commands import ignore, run


async def test_the_fleet_is_reached_like_any_hosts(tmp_path: Path) -> None:
    data = os.urandom(3_000_001)
    async with InProcessFleet(3, tmp_path / "fleet") as fleet:
        transport = SshTransport(fleet.ssh)
        for host in fleet.hosts:
            session = await opened(transport, host)

            ended = await run(session, "pwd; sha256sum; exit 3", stdin=data)

            digest = hashlib.sha256(data).hexdigest()
            assert ended == (3, f"{fleet.home(host.name)}\n{digest}  -\n")
            await session.close()


async def test_a_stopped_host_ends_its_connections_and_refuses_more(
    tmp_path: Path,
) -> None:
    async with InProcessFleet(2, tmp_path / "fleet") as fleet:
        transport = SshTransport(fleet.ssh)
        session = await opened(transport, fleet.hosts[0])
        channel = await session.execute("exec cat", output=ignore, errors=ignore)

        await fleet.stop("host-1")

        assert await channel.wait() is None
        with pytest.raises(Unreachable, match="connection refused"):
            await session.open()
        await opened(transport, fleet.hosts[1])


async def test_a_command_of_the_fleet_notices_that_its_caller_has_gone(
    tmp_path: Path,
) -> None:
    async with InProcessFleet(1, tmp_path / "fleet") as fleet:
        session = await opened(SshTransport(fleet.ssh), fleet.hosts[0])
        marker = fleet.home("host-1") / "noticed"
        await session.execute("cat; echo > noticed", output=ignore, errors=ignore)
        await run(session, "true")

        session.abort()

        with anyio.fail_after(5):
            while not marker.exists():  # noqa: ASYNC110  written by a process
                await anyio.sleep(0.01)
