"""Hosts behind jump hosts: shared connections, several hops, those that break."""

from __future__ import annotations

import signal
from pathlib import Path

import anyio
import attrs
import pytest

from ghostasync.errors import Unreachable
from ghostasync.model import Host, Ssh
from ghostasync.transports.ssh import SshSession, SshTransport
from tests.fleet.conftest import Connect, StartFleet
from tests.fleet.layout import write_key
from tests.fleet.processes import command_line, send
from tests.fleet.sshd import SshdFleet
from tests.transports.commands import run

pytestmark = pytest.mark.fleet


def through(fleet: SshdFleet, *names: str) -> Ssh:
    """Return settings that jump through some hosts of the fleet."""
    places = {host.name: f"root@127.0.0.1:{host.port}" for host in fleet.hosts}
    return attrs.evolve(fleet.ssh, jump=",".join(places[name] for name in names))


async def open_all(*sessions: SshSession) -> dict[str, Unreachable]:
    """Open all at once; return who could not be reached."""
    failed: dict[str, Unreachable] = {}

    async def visit(session: SshSession) -> None:
        try:
            await session.open()
        except Unreachable as exc:
            failed[session.host.name] = exc

    async with anyio.create_task_group() as tasks:
        for session in sessions:
            tasks.start_soon(visit, session)
    return failed


async def alive(*sessions: SshSession) -> list[bool]:
    """Tell of each whether it still runs commands."""
    return [
        session.is_open and await run(session, "echo in") == (0, "in\n")
        for session in sessions
    ]


async def test_a_bastion_connection_takes_so_many_hosts_and_no_more(
    sshd_fleet: StartFleet, connect: Connect
) -> None:
    """MaxSessions 0, usual for a pure jump host, does not count what is forwarded."""
    fleet = sshd_fleet(2, options={"MaxSessions": "0", "MaxStartups": "2:100:2"})
    behind = sshd_fleet(1)
    known = Path(fleet.ssh.known_hosts)
    known.write_text(known.read_text() + Path(behind.ssh.known_hosts).read_text())
    keys = behind.path("h1", "~/.ssh/authorized_keys")
    keys.write_text(fleet.path("h1", "~/.ssh/authorized_keys").read_text())
    transport = SshTransport(through(fleet, "h1"), hosts_each=3)
    sessions = [connect.session(transport, behind.hosts[0]) for _ in range(7)]

    assert await open_all(*sessions) == {}

    assert await alive(*sessions) == [True] * 7
    assert fleet.log("h1").count("Connection from") == 3
    assert "MaxStartups" not in fleet.log("h1")


async def test_a_host_that_is_done_makes_room_for_another(
    sshd_fleet: StartFleet, connect: Connect
) -> None:
    fleet = sshd_fleet(2)
    transport = SshTransport(through(fleet, "h1"), hosts_each=1)
    sessions = [connect.session(transport, fleet.hosts[1]) for _ in range(3)]

    for session in sessions:
        await session.open()
        await session.close()

    assert fleet.log("h2").count("Connection from") == 3
    assert fleet.log("h1").count("Connection from") == 1


async def test_a_connection_to_a_bastion_that_dies_takes_only_its_hosts_with_it(
    sshd_fleet: StartFleet, connect: Connect
) -> None:
    fleet = sshd_fleet(2)
    transport = SshTransport(through(fleet, "h1"), hosts_each=2)
    sessions = [connect.session(transport, fleet.hosts[1]) for _ in range(4)]
    for session in sessions:
        await session.open()

    (first, *_) = served(fleet, "h1")
    send(first, signal.SIGKILL)
    with anyio.fail_after(10):
        while all(session.is_open for session in sessions):  # noqa: ASYNC110
            await anyio.sleep(0.01)

    assert await alive(*sessions) == [False, False, True, True]
    assert await open_all(*sessions) == {}
    assert await alive(*sessions) == [True] * 4
    assert fleet.log("h1").count("Connection from") == 3


def served(fleet: SshdFleet, host: str) -> list[int]:
    """Return the processes of a host that serve a connection each, oldest first."""
    found = fleet.processes(host)
    mine = [pid for pid in found if command_line(pid).startswith("sshd: root")]
    # By when they were started: numbers begin anew once all are used up.
    return sorted(mine, key=started)


def started(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[19])


async def test_a_login_that_a_bastion_refuses_is_not_tried_for_each_host(
    sshd_fleet: StartFleet, connect: Connect
) -> None:
    fleet = sshd_fleet(2)
    fleet.path("h1", "~/.ssh/authorized_keys").write_text("")
    transport = SshTransport(through(fleet, "h1"), hosts_each=2)
    hosts = [attrs.evolve(fleet.hosts[1], name=f"web{n}") for n in range(5)]

    failed = await open_all(*(connect.session(transport, host) for host in hosts))
    failed |= await open_all(connect.session(transport, Host("later")))

    assert sorted(failed) == ["later", "web0", "web1", "web2", "web3", "web4"]
    assert all(exc.denied and not exc.retriable for exc in failed.values())
    assert all("jump host root@127" in str(exc) for exc in failed.values())
    assert fleet.log("h1").count("Connection from") == 1


async def test_a_bastion_that_is_down_costs_all_its_hosts_one_try(
    sshd_fleet: StartFleet, connect: Connect
) -> None:
    fleet = sshd_fleet(2)
    fleet.freeze("h1")
    transport = SshTransport(through(fleet, "h1"), login_seconds=1)
    hosts = [attrs.evolve(fleet.hosts[1], name=f"web{n}") for n in range(5)]

    with anyio.fail_after(4):
        failed = await open_all(*(connect.session(transport, host) for host in hosts))

    assert len(failed) == 5
    assert all(exc.retriable and not exc.denied for exc in failed.values())
    fleet.thaw("h1")
    assert await open_all(connect.session(transport, hosts[0])) == {}


async def test_a_bastion_that_forwards_nothing_is_told_what_to_allow(
    sshd_fleet: StartFleet, connect: Connect
) -> None:
    fleet = sshd_fleet(2, options={"AllowTcpForwarding": "no"})
    session = connect.session(SshTransport(through(fleet, "h1")), fleet.hosts[1])

    with pytest.raises(Unreachable, match="AllowTcpForwarding, PermitOpen") as caught:
        await session.open()

    assert (caught.value.host, caught.value.retriable) == ("h2", False)


async def test_two_hops_lead_to_a_host(
    sshd_fleet: StartFleet, connect: Connect
) -> None:
    fleet = sshd_fleet(3)
    session = connect.session(SshTransport(through(fleet, "h1", "h2")), fleet.hosts[2])

    await session.open()

    assert await run(session, "hostname") == (0, "h3\n")
    assert [fleet.log(f"h{n}").count("Accepted publickey") for n in (1, 2, 3)] == [
        1,
        1,
        1,
    ]


async def test_the_ssh_configuration_leads_through_its_jump_hosts(
    sshd_fleet: StartFleet, connect: Connect, tmp_path: Path
) -> None:
    fleet = sshd_fleet(3)
    outer, inner, last = fleet.hosts
    (tmp_path / "more").write_text(
        f"Host inner\n  Port {inner.port}\n  ProxyJump outer\n"
        f"Host web*\n  Port {last.port}\n  ProxyJump inner\n"
    )
    config = tmp_path / "config"
    config.write_text(
        f"Include {tmp_path}/more\nHost outer\n  Port {outer.port}\n"
        f"Host *\n  HostName 127.0.0.1\n  User root\n  ProxyJump outer\n"
        f"  IdentityFile /nowhere/id_other\n  IdentityFile {fleet.ssh.identity}\n"
    )
    settings = Ssh(known_hosts=fleet.ssh.known_hosts, config=str(config))
    session = connect.session(SshTransport(settings), Host("web1"))

    await session.open()

    assert await run(session, "hostname") == (0, "h3\n")
    assert [fleet.log(f"h{n}").count("Accepted publickey") for n in (1, 2, 3)] == [
        1,
        1,
        1,
    ]


async def test_a_jump_host_is_offered_its_own_keys_beside_the_identity(
    sshd_fleet: StartFleet, connect: Connect, tmp_path: Path
) -> None:
    fleet, own = sshd_fleet(2), tmp_path / "own"
    public = write_key(own)
    fleet.path("h1", "~/.ssh/authorized_keys").write_text(f"{public}\n")
    config = tmp_path / "config"
    config.write_text(
        f"Host gate\n HostName 127.0.0.1\n Port {fleet.hosts[0].port}\n"
        f" IdentityFile {own}\nHost *\n IdentityAgent none\n"
    )
    settings = attrs.evolve(fleet.ssh, jump="gate", config=str(config))
    session = connect.session(SshTransport(settings), fleet.hosts[1])

    await session.open()

    assert await run(session, "hostname") == (0, "h2\n")


async def test_hosts_and_jump_hosts_may_have_ipv6_addresses(
    sshd_fleet: StartFleet, connect: Connect
) -> None:
    fleet = sshd_fleet(2, address="::1")
    bastion, host = fleet.hosts
    settings = attrs.evolve(fleet.ssh, jump=f"root@[::1]:{bastion.port}")
    direct = connect.session(SshTransport(fleet.ssh), bastion)
    session = connect.session(SshTransport(settings), host)

    await direct.open()
    await session.open()

    assert await run(direct, "hostname") == (0, "h1\n")
    assert await run(session, "hostname") == (0, "h2\n")
    fleet.kill("h1")
    await direct.close()
    with pytest.raises(Unreachable, match=rf"^\[::1\]:{bastion.port}: connection ref"):
        await direct.open()
