from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import asyncssh
import attrs
import pytest

from ghostasync.errors import ConnectionDied, Unreachable
from ghostasync.model import Host, Ssh
from ghostasync.transports.ssh import (
    Handshakes,
    SshChannel,
    SshSession,
    SshTransport,
)
from tests.fleet.conftest import StartFleet
from tests.fleet.sshd import SshdFleet
from tests.transports.commands import ignore, run

pytestmark = pytest.mark.fleet

MIB = 1 << 20
HARDLY_ANY_TIME = 0.3


class Connect:
    """Hands out transports and sessions, and closes them with the test."""

    def __init__(self, resources: AsyncExitStack) -> None:
        self._resources = resources

    def session(self, transport: SshTransport, host: Host) -> SshSession:
        session = transport.session(host)
        self._resources.push_async_callback(transport.aclose)
        self._resources.push_async_callback(session.close)
        return session

    async def __call__(
        self, fleet: SshdFleet, settings: Ssh | None = None
    ) -> SshSession:
        """Log in to the first host."""
        session = self.session(SshTransport(settings or fleet.ssh), fleet.hosts[0])
        await session.open()
        return session


@pytest.fixture
async def connect(sshd_fleet: StartFleet) -> AsyncIterator[Connect]:
    async with AsyncExitStack() as resources:
        yield Connect(resources)


async def test_binary_stdin_arrives_byte_for_byte(
    sshd_fleet: StartFleet, connect: Connect
) -> None:
    session = await connect(sshd_fleet(1))
    data = os.urandom(5 * MIB + 1)

    ended = await run(session, "sha256sum", stdin=data)

    assert ended == (0, f"{hashlib.sha256(data).hexdigest()}  -\n")


@pytest.mark.parametrize("poor", [False, True])
async def test_sudo_leaves_binary_stdin_alone(
    sshd_fleet: StartFleet, connect: Connect, poor: bool
) -> None:
    session = await connect(sshd_fleet(1, user="ghostuser", poor=poor))
    data = os.urandom(5 * MIB + 1)

    status, said = await run(session, "sudo -n cat | wc -c; sudo -n id -un", stdin=data)

    assert (status, said.split()) == (0, [str(len(data)), "root"])


async def test_a_poor_host_has_no_tools_of_comfort(
    sshd_fleet: StartFleet, connect: Connect
) -> None:
    session = await connect(sshd_fleet(1, poor=True))

    found = await run(
        session, "command -v zstd flock setsid sha256sum; tar --help 2>&1 | head -c 7"
    )

    assert found == (0, "BusyBox")


async def test_stdout_and_stderr_are_told_apart(
    sshd_fleet: StartFleet, connect: Connect
) -> None:
    session = await connect(sshd_fleet(1))
    output, errors = bytearray(), bytearray()

    channel = await session.execute(
        "echo out; echo err >&2; exit 7", output=output.extend, errors=errors.extend
    )

    assert await channel.wait() == 7
    assert (bytes(output), bytes(errors)) == (b"out\n", b"err\n")


async def test_a_command_killed_by_a_signal_has_no_status(
    sshd_fleet: StartFleet,
    connect: Connect,
) -> None:
    session = await connect(sshd_fleet(1))

    assert await run(session, "kill -9 $$") == (None, "")


async def test_all_output_precedes_the_status(
    sshd_fleet: StartFleet, connect: Connect
) -> None:
    session = await connect(sshd_fleet(1))

    status, said = await run(session, "seq 200000; exit 3")

    assert (status, said[-7:]) == (3, "200000\n")
    assert said.count("\n") == 200_000


async def test_a_child_that_holds_the_output_does_not_hold_us(
    sshd_fleet: StartFleet,
    connect: Connect,
) -> None:
    session = await connect(sshd_fleet(1))
    started = time.monotonic()

    ended = await run(session, "sleep 60 & echo done; exit 4")

    assert ended == (4, "done\n")
    assert time.monotonic() - started < 5


async def test_a_crashed_host_gives_no_status_and_comes_back(
    sshd_fleet: StartFleet,
    connect: Connect,
) -> None:
    fleet = sshd_fleet(1)
    session = await connect(fleet)
    channel = await session.execute("exec sleep 60", output=ignore, errors=ignore)

    fleet.kill("h1")

    assert await channel.wait() is None
    with pytest.raises(ConnectionDied):
        await channel.write(b"x")
    with pytest.raises(ConnectionDied):
        await session.execute("true", output=ignore, errors=ignore)
    with pytest.raises(Unreachable, match="connection refused"):
        await session.open()
    fleet.start("h1")
    await session.open()
    assert await run(session, "echo back") == (0, "back\n")


async def test_a_command_that_reads_nothing_stops_the_writer(
    sshd_fleet: StartFleet,
    connect: Connect,
) -> None:
    session = await connect(sshd_fleet(1))
    channel = await session.execute("exec sleep 60", output=ignore, errors=ignore)

    taken = await write_until_stuck(channel)

    assert taken <= 4 * MIB  # sshd's window of 2 MiB, one write, and a margin
    channel.abort()


async def test_a_congested_road_stops_the_writer(
    sshd_fleet: StartFleet, connect: Connect
) -> None:
    fleet = sshd_fleet(1)
    transport = SshTransport(fleet.ssh)
    session = connect.session(transport, fleet.hosts[0])
    await session.open()
    channel = await session.execute("exec cat", output=ignore, errors=ignore)
    fleet.freeze("h1")

    before = anonymous_nbytes()
    await write_until_stuck(channel)

    assert anonymous_nbytes() - before < 1.5 * MIB  # what the kernel holds is not ours
    fleet.thaw("h1")
    channel.abort()


async def test_writing_to_a_command_that_ended_is_a_broken_pipe(
    sshd_fleet: StartFleet,
    connect: Connect,
) -> None:
    session = await connect(sshd_fleet(1))
    channel = await session.execute("exit 3", output=ignore, errors=ignore)

    with pytest.raises(BrokenPipeError):
        await channel.write(bytes(100 * MIB))

    assert await channel.wait() == 3


async def test_an_aborted_channel_has_ended(
    sshd_fleet: StartFleet, connect: Connect
) -> None:
    session = await connect(sshd_fleet(1))
    channel = await session.execute("exec cat", output=ignore, errors=ignore)

    channel.abort()

    assert await channel.wait() is None
    assert await run(session, "echo alive") == (0, "alive\n")


async def test_a_connection_that_takes_no_more_commands_says_so(
    sshd_fleet: StartFleet,
    connect: Connect,
) -> None:
    session = await connect(sshd_fleet(1, options={"MaxSessions": "1"}))
    await session.execute("exec cat", output=ignore, errors=ignore)

    with pytest.raises(ConnectionDied, match="open failed"):
        await session.execute("true", output=ignore, errors=ignore)


async def test_another_host_key_is_refused(
    sshd_fleet: StartFleet, connect: Connect
) -> None:
    fleet = sshd_fleet(1)
    fleet.change_host_key("h1")

    with pytest.raises(Unreachable, match="does not match known_hosts") as caught:
        await connect(fleet)

    assert not caught.value.retriable


async def test_an_unknown_host_key_is_refused(
    sshd_fleet: StartFleet, connect: Connect
) -> None:
    fleet = sshd_fleet(1)
    settings = attrs.evolve(fleet.ssh, known_hosts="/dev/null")

    with pytest.raises(Unreachable, match="is unknown: ssh-keyscan"):
        await connect(fleet, settings)


async def test_accept_new_learns_a_key_once(
    sshd_fleet: StartFleet, connect: Connect, tmp_path: Path
) -> None:
    fleet = sshd_fleet(1)
    learned = tmp_path / "new" / "known_hosts"
    settings = attrs.evolve(fleet.ssh, known_hosts=str(learned), host_keys="accept-new")

    await connect(fleet, settings)

    assert learned.read_text() == (tmp_path / "fleet1" / "known_hosts").read_text()
    await connect(fleet, attrs.evolve(settings, host_keys="strict"))
    fleet.change_host_key("h1")
    with pytest.raises(Unreachable, match="does not match"):
        await connect(fleet, settings)


async def test_insecure_takes_any_host_key(
    sshd_fleet: StartFleet, connect: Connect
) -> None:
    fleet = sshd_fleet(1)
    settings = attrs.evolve(fleet.ssh, known_hosts="/dev/null", host_keys="insecure")

    assert await run(await connect(fleet, settings), "echo in") == (0, "in\n")


async def test_another_key_is_refused_once(
    sshd_fleet: StartFleet, connect: Connect, tmp_path: Path
) -> None:
    fleet = sshd_fleet(1)
    other = write_key(tmp_path / "other", asyncssh.generate_private_key("ssh-ed25519"))

    with pytest.raises(Unreachable, match="login refused for user root") as caught:
        await connect(fleet, attrs.evolve(fleet.ssh, identity=str(other)))

    assert not caught.value.retriable
    assert fleet.log("h1").count("Connection from") == 1


async def test_a_certificate_beside_the_key_is_used(
    sshd_fleet: StartFleet, connect: Connect, tmp_path: Path
) -> None:
    authority = asyncssh.generate_private_key("ssh-ed25519")
    trusted = tmp_path / "authority.pub"
    authority.write_public_key(trusted)
    key = asyncssh.generate_private_key("ssh-ed25519")
    identity = write_key(tmp_path / "identity", key)
    authority.generate_user_certificate(
        key, "me", principals=["root"]
    ).write_certificate(f"{identity}-cert.pub")
    fleet = sshd_fleet(1, options={"TrustedUserCAKeys": str(trusted)})

    session = await connect(fleet, attrs.evolve(fleet.ssh, identity=str(identity)))

    assert await run(session, "echo in") == (0, "in\n")


async def test_one_authority_vouches_for_all_hosts(
    sshd_fleet: StartFleet, connect: Connect, tmp_path: Path
) -> None:
    authority = asyncssh.generate_private_key("ssh-ed25519")
    key = tmp_path / "fleet1" / "h1" / "host_key"
    certificate = tmp_path / "host-cert.pub"
    fleet = sshd_fleet(1, options={"HostCertificate": str(certificate)})
    fleet.kill("h1")
    authority.generate_host_certificate(
        asyncssh.read_private_key(key), "h1", principals=["127.0.0.1"]
    ).write_certificate(certificate)
    fleet.start("h1")
    known = tmp_path / "authority"
    public = authority.export_public_key().decode()
    known.write_text(f"@cert-authority 127.0.0.* {public}")

    session = await connect(fleet, attrs.evolve(fleet.ssh, known_hosts=str(known)))

    assert await run(session, "echo in") == (0, "in\n")


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Run an ssh-agent; return its socket."""
    socket = Path(os.path.relpath(tmp_path / "agent"))  # a socket's path is short
    process = subprocess.Popen(["ssh-agent", "-D", "-a", socket])
    while not socket.exists():
        time.sleep(0.005)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
    yield socket
    process.kill()
    process.wait()


async def test_without_an_identity_the_agent_is_asked(
    sshd_fleet: StartFleet, connect: Connect, agent: Path
) -> None:
    fleet = sshd_fleet(1)
    await anyio.run_process(["ssh-add", "-q", fleet.ssh.identity])

    session = await connect(fleet, attrs.evolve(fleet.ssh, identity=""))

    assert await run(session, "echo in") == (0, "in\n")


async def test_the_ssh_configuration_is_honoured(
    sshd_fleet: StartFleet, connect: Connect, tmp_path: Path
) -> None:
    fleet = sshd_fleet(1)
    config = tmp_path / "config"
    config.write_text(
        f"Host web*\n  HostName 127.0.0.1\n  Port {fleet.hosts[0].port}\n"
        f"  User root\n  IdentityFile {fleet.ssh.identity}\n"
    )
    settings = Ssh(known_hosts=fleet.ssh.known_hosts, config=str(config))
    session = connect.session(SshTransport(settings), Host("web1"))

    await session.open()

    assert await run(session, "echo in") == (0, "in\n")


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


async def test_without_namespaces_the_home_folder_is_the_hosts_own(
    sshd: None, connect: Connect, tmp_path: Path
) -> None:
    with SshdFleet(1, tmp_path / "plain", isolated=False) as fleet:
        session = await connect(fleet)

        assert await run(session, "cd; pwd") == (0, f"{fleet.path('h1', '~')}\n")
        await session.close()


async def refuses(session: SshSession) -> None:
    with pytest.raises(Unreachable, match="did not answer") as caught:
        await session.open()
    assert caught.value.retriable


async def write_until_stuck(channel: SshChannel) -> int:
    """Write until there is no room for a while; return how many bytes went."""
    chunk = bytes(MIB // 4)
    for count in range(256):
        with anyio.move_on_after(HARDLY_ANY_TIME) as waiting:
            await channel.write(chunk)
        if waiting.cancelled_caught:
            return count * len(chunk)
    raise AssertionError


def write_key(path: Path, key: asyncssh.SSHKey) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(key.export_private_key())
    return path


def anonymous_nbytes() -> int:
    """Return what this process holds that is not in files, in bytes."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise LookupError
