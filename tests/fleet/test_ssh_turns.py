"""In a large fleet a host may wait for its turn to log in longer than its sshd does."""

from __future__ import annotations

import anyio
import pytest

from ghostasync.transports.ssh import Handshakes, SshTransport
from tests.fleet.conftest import Connect, StartFleet

pytestmark = pytest.mark.fleet


async def test_a_host_that_hung_up_while_it_waited_for_its_turn_is_called_anew(
    sshd_fleet: StartFleet, connect: Connect
) -> None:
    fleet = sshd_fleet(1, options={"LoginGraceTime": "1"})
    handshakes = Handshakes(1)
    transport = SshTransport(fleet.ssh, handshakes=handshakes, stale_seconds=0.5)
    session = connect.session(transport, fleet.hosts[0])

    async with anyio.create_task_group() as tasks:
        await handshakes.working.acquire_on_behalf_of(fleet)
        tasks.start_soon(session.open)
        with anyio.fail_after(20):
            while not (streams := tuple(transport._streams)):
                await anyio.wait_all_tasks_blocked()
            await streams[0].gone.wait()  # its sshd says nothing of it
        handshakes.working.release_on_behalf_of(fleet)

    said = fleet.log("h1")
    assert (said.count("Connection from"), said.count("Accepted publickey")) == (2, 1)
