"""Who is let in, and who is believed, by real OpenSSH."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import asyncssh
import attrs
import pytest

from ghostasync.errors import Unreachable
from ghostasync.model import Host, Ssh
from ghostasync.transports.ssh import Handshakes, SshTransport
from tests.fleet.conftest import Connect, StartFleet
from tests.transports.commands import run

pytestmark = pytest.mark.fleet

MIB = 1 << 20
HARDLY_ANY_TIME = 0.3


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


def write_key(path: Path, key: asyncssh.SSHKey) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(key.export_private_key())
    return path


async def test_a_login_that_is_called_off_while_it_waits_its_turn_leaves_no_stream(
    sshd_fleet: StartFleet,
) -> None:
    fleet = sshd_fleet(1)
    handshakes = Handshakes(connects=1)
    transport = SshTransport(fleet.ssh, handshakes=handshakes)
    session = transport.session(fleet.hosts[0])

    async with handshakes.working, anyio.create_task_group() as tasks:
        tasks.start_soon(session.open)
        while not any(stream.early for stream in transport._streams):  # noqa: ASYNC110
            await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()

    (stream,) = transport._streams
    with anyio.fail_after(5):
        await stream.gone.wait()
