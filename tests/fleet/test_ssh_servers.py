"""Servers other than a plain OpenSSH, and those that are set up sparingly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anyio
import attrs
import pytest

from ghostasync.errors import ConnectionDied
from ghostasync.transports.ssh import SshTransport
from tests.fleet.conftest import Connect, StartFleet, need
from tests.fleet.console import Console
from tests.fleet.dropbear import DROPBEAR, dropbear
from tests.fleet.ports import reserve
from tests.fleet.sample_app import SampleApp
from tests.fleet.sshd import namespaces_work
from tests.haproxy import HAPROXY, multiplexer
from tests.transports.commands import ignore, run

pytestmark = pytest.mark.fleet


@pytest.fixture
def multiplexed(tmp_path: Path) -> Iterator[int]:
    """Reserve a port for an HAProxy."""
    need(HAPROXY.exists(), "needs haproxy")
    with reserve() as held:
        yield held.getsockname()[1]


async def test_a_port_that_is_shared_with_https_leads_to_sshd(
    sshd_fleet: StartFleet, connect: Connect, multiplexed: int, tmp_path: Path
) -> None:
    """It waits for the first bytes of whoever comes, to see what they speak."""
    fleet = sshd_fleet(1)
    host = attrs.evolve(fleet.hosts[0], port=multiplexed)
    settings = attrs.evolve(fleet.ssh, host_keys="insecure")

    with multiplexer(tmp_path / "haproxy", multiplexed, ssh=fleet.hosts[0].port):
        session = connect.session(SshTransport(settings, pauses=[]), host)
        with anyio.fail_after(5):
            await session.open()
        assert await run(session, "echo in") == (0, "in\n")


@pytest.mark.parametrize(
    "command", ["true", "sleep 9 & true", "head -c 300000 /etc/services"]
)
async def test_dropbear_takes_one_command_after_another(
    sshd_fleet: StartFleet, connect: Connect, command: str
) -> None:
    need(Path(DROPBEAR).exists(), "needs dropbear-bin")
    need(namespaces_work(), "needs root, and unshare with CAP_SYS_ADMIN")
    fleet = sshd_fleet(1)
    host = dropbear(fleet)
    settings = attrs.evolve(fleet.ssh, host_keys="insecure")
    session = connect.session(SshTransport(settings), host)
    await session.open()

    held = await session.execute("cat", output=ignore, errors=ignore)
    statuses = [(await run(session, command))[0] for _ in range(12)]
    held.abort()

    assert statuses == [0] * 12
    assert await run(session, "echo in") == (0, "in\n")


async def test_a_server_of_two_sessions_has_room_for_the_next_command(
    sshd_fleet: StartFleet, connect: Connect
) -> None:
    """Beside the lock, which is held all the time, one more."""
    session = await connect(sshd_fleet(1, options={"MaxSessions": "2"}))
    held = await session.execute("cat", output=ignore, errors=ignore)

    for _ in range(6):
        # A child in the background holds the channel, until this side drops it.
        assert await run(session, "sleep 60 & echo in") == (0, "in\n")
    # One that is called off counts until its process has ended.
    (await session.execute("sleep 1", output=ignore, errors=ignore)).abort()
    assert await run(session, "echo in") == (0, "in\n")
    second = await session.execute("cat", output=ignore, errors=ignore)
    with pytest.raises(ConnectionDied, match="set MaxSessions in its sshd_config"):
        await run(session, "true")

    second.abort()
    held.abort()


def test_a_fleet_of_two_sessions_a_connection_deploys(
    sshd_fleet: StartFleet, tmp_path: Path
) -> None:
    """And one whose key exchange is out of fashion, without a word about that."""
    options = {"MaxSessions": "2", "KexAlgorithms": "diffie-hellman-group14-sha256"}
    sample = SampleApp.create(tmp_path, sshd_fleet(3, options=options), "site")
    console = Console(sample)
    console.configure(sample.plan())

    for _ in range(2):
        sample.repositories["site"].commit("next")
        deployed = console.deploy()
        assert (deployed.exit, deployed.stderr) == (0, "")
