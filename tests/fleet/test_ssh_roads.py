"""Ways to real OpenSSH servers, and those that are blocked."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import anyio
import attrs
import pytest

from ghostasync.errors import Unreachable
from ghostasync.model import Host
from ghostasync.transports.ssh import Handshakes, SshSession, SshTransport
from tests.fleet.conftest import Connect, StartFleet
from tests.transports.commands import ignore, run

pytestmark = pytest.mark.fleet

MIB = 1 << 20
HARDLY_ANY_TIME = 0.3


async def test_a_bastion_is_shared_by_the_hosts_behind_it(
    sshd_fleet: StartFleet,
    connect: Connect,
) -> None:
    fleet = sshd_fleet(4)
    bastion, *behind = fleet.hosts
    settings = attrs.evolve(fleet.ssh, jump=f"root@127.0.0.1:{bastion.port}")
    transport = SshTransport(settings)
    data = os.urandom(5 * MIB)

    for host in behind:
        session = connect.session(transport, host)
        await session.open()
        ended = await run(session, "sha256sum", stdin=data)

        assert ended == (0, f"{hashlib.sha256(data).hexdigest()}  -\n")
    assert fleet.log("h1").count("Connection from") == 1
    await transport.aclose()


async def test_an_unreachable_bastion_is_named(
    sshd_fleet: StartFleet, connect: Connect
) -> None:
    fleet = sshd_fleet(2)
    fleet.kill("h1")
    settings = attrs.evolve(fleet.ssh, jump=f"127.0.0.1:{fleet.hosts[0].port}")
    session = connect.session(SshTransport(settings), fleet.hosts[1])

    with pytest.raises(Unreachable, match=r"jump host 127.0.0.1:.* refused") as caught:
        await session.open()

    assert caught.value.host == "h2"


async def test_a_host_that_the_bastion_cannot_reach_is_named(
    sshd_fleet: StartFleet,
    connect: Connect,
) -> None:
    fleet = sshd_fleet(2)
    fleet.kill("h2")
    settings = attrs.evolve(fleet.ssh, jump=f"127.0.0.1:{fleet.hosts[0].port}")
    session = connect.session(SshTransport(settings), fleet.hosts[1])

    with pytest.raises(Unreachable, match=r"jump host .*Connection refused"):
        await session.open()


async def test_a_proxy_command_carries_the_connection(
    sshd_fleet: StartFleet, connect: Connect
) -> None:
    fleet = sshd_fleet(1)
    relay = (
        "import os,socket,sys,threading;s=socket.create_connection(sys.argv[1:]);"
        "threading.Thread(target=lambda:[s.sendall(d) for d in "
        "iter(lambda:os.read(0,65536),b'')],daemon=True).start();"
        "[os.write(1,d) for d in iter(lambda:s.recv(65536),b'')]"
    )
    command = f'{sys.executable} -c "{relay}" %h %p'
    settings = attrs.evolve(fleet.ssh, proxy_command=command)
    session = await connect(fleet, settings)
    data = os.urandom(5 * MIB)

    ended = await run(session, "sha256sum", stdin=data)

    assert ended == (0, f"{hashlib.sha256(data).hexdigest()}  -\n")
    await session.close()


async def test_a_user_is_one_word_of_a_proxy_command_for_ssh_itself(
    sshd_fleet: StartFleet, connect: Connect, tmp_path: Path
) -> None:
    """Also where nobody has looked at the host: ssh says what it takes for a user."""
    fleet, touched = sshd_fleet(2), tmp_path / "touched"
    gate = f"-i {fleet.ssh.identity} -o UserKnownHostsFile={fleet.ssh.known_hosts}"
    port = fleet.hosts[1].port
    # ssh's own -W, through the second host, as people write it.
    command = f"ssh -F none {gate} -p {port} -W %h:%p root@127.0.0.1"
    road = attrs.evolve(fleet.ssh, proxy_command=command)
    assert await run(await connect(fleet, road), "echo in") == (0, "in\n")
    to_user = attrs.evolve(road, proxy_command=command.replace("root@", "%r@"))
    evil = attrs.evolve(
        fleet.hosts[0], user=f"x -oProxyCommand=touch${{IFS}}{touched} y"
    )

    with pytest.raises(Unreachable):
        await connect.session(SshTransport(to_user, pauses=[]), evil).open()

    assert not touched.exists()


async def test_a_server_that_drops_logins_gets_them_later(
    sshd_fleet: StartFleet,
    connect: Connect,
) -> None:
    fleet = sshd_fleet(1, options={"MaxStartups": "1:100:1"})
    transport = SshTransport(fleet.ssh, pauses=[0.2] * 30)

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(connect.session(transport, fleet.hosts[0]).open)

    assert "beginning MaxStartups throttling" in fleet.log("h1")


async def test_a_host_that_does_not_answer_holds_up_no_other(
    sshd_fleet: StartFleet,
    connect: Connect,
) -> None:
    fleet = sshd_fleet(2)
    fleet.freeze("h1")
    transport = SshTransport(fleet.ssh, handshakes=Handshakes(1), login_seconds=2)
    frozen, sound = (connect.session(transport, host) for host in fleet.hosts)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(refuses, frozen)
        await anyio.sleep(0.05)
        with anyio.fail_after(1):
            await sound.open()

    fleet.thaw("h1")


async def test_twenty_hosts_at_once_leave_nothing_behind(
    sshd_fleet: StartFleet,
    connect: Connect,
) -> None:
    fleet = sshd_fleet(20)
    transport = SshTransport(fleet.ssh)
    seen: dict[str, tuple[int | None, str]] = {}

    async def visit(host: Host) -> None:
        session = connect.session(transport, host)
        await session.open()
        seen[host.name] = await run(session, "hostname; exit 5")
        await session.execute("exec cat", output=ignore, errors=ignore)
        await session.close()

    async with anyio.create_task_group() as tasks:
        for host in fleet.hosts:
            tasks.start_soon(visit, host)

    assert seen == {host.name: (5, f"{host.name}\n") for host in fleet.hosts}
    with anyio.fail_after(5):
        while any(map(fleet.commands, seen)):  # noqa: ASYNC110  other processes
            await anyio.sleep(0.02)


async def test_a_cancelled_login_leaves_no_connection(
    sshd_fleet: StartFleet,
    connect: Connect,
) -> None:
    fleet = sshd_fleet(1)
    fleet.freeze("h1")
    session = connect.session(SshTransport(fleet.ssh), fleet.hosts[0])

    with anyio.move_on_after(0.1) as waiting:
        await session.open()

    assert waiting.cancelled_caught
    fleet.thaw("h1")
    await session.open()


async def refuses(session: SshSession) -> None:
    with pytest.raises(Unreachable, match="did not answer") as caught:
        await session.open()
    assert caught.value.retriable
