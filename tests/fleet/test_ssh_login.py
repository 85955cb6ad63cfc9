"""Who is let in, and who is believed, by real OpenSSH."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import asyncssh
import attrs
import pytest

from ghostasync.errors import Unreachable
from ghostasync.model import Host, HostKeys, Ssh
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


SPELLINGS = [
    "127.0.0.1",
    "[127.0.0.1]:{port}",
    "127.0.0.*",
    "[127.*]:{port}",
    "!10.0.0.1,*",
    "other,127.0.0.1",
    "hashed",
    "hashed with its port",
    "I-0ABC",
    "[i-0abc]:{port}",
]


def hashed(name: str, line: str, path: Path) -> str:
    """Return *name* as ssh hashes that of a *line* of known_hosts."""
    path.write_text(f"{name} {line.split(' ', 1)[1]}")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", path], check=True)
    return path.read_text().split()[0]


@pytest.mark.parametrize("host_keys", ["accept-new", "strict"])
@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_a_revoked_key_is_refused_in_every_spelling_and_no_cure_is_told(
    sshd_fleet: StartFleet,
    connect: Connect,
    tmp_path: Path,
    spelling: str,
    host_keys: HostKeys,
) -> None:
    fleet, known = sshd_fleet(1), tmp_path / "known"
    host = fleet.hosts[0]
    alias = "I-0abc" if "i-0abc" in spelling.lower() else ""
    line = Path(fleet.ssh.known_hosts).read_text()
    name = spelling.format(port=host.port)
    if spelling.startswith("hashed"):
        port = f"[127.0.0.1]:{host.port}"
        name = hashed(port if "port" in spelling else "127.0.0.1", line, known)
    key = line.split(" ", 1)[1]
    # On record as good, and named by the inventory: what is revoked is refused first.
    good = line if host_keys == "strict" else ""
    known.write_text(f"{good}@revoked {name} {key}")
    before = known.read_text()
    settings = attrs.evolve(fleet.ssh, known_hosts=str(known), host_keys=host_keys)
    named = attrs.evolve(host, host_key_alias=alias, host_keys=(key.strip(),))

    with pytest.raises(Unreachable, match="a key that known_hosts revokes") as caught:
        await connect.session(SshTransport(settings), named).open()

    assert not caught.value.retriable
    assert not re.search("ssh-key|accept-new", str(caught.value))
    assert known.read_text() == before


async def test_a_key_that_is_revoked_for_another_host_is_believed(
    sshd_fleet: StartFleet, connect: Connect, tmp_path: Path
) -> None:
    fleet, known = sshd_fleet(1), tmp_path / "known"
    line = Path(fleet.ssh.known_hosts).read_text()
    key = line.split(" ", 1)[1]
    known.write_text(f"{line}@revoked *.example.com {key}@revoked [127.0.0.1]:1 {key}")

    await connect(fleet, attrs.evolve(fleet.ssh, known_hosts=str(known)))


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
    known.write_text(f"@cert-authority * {public}")
    other = attrs.evolve(fleet.hosts[0], host_key_alias="web1")
    settings = attrs.evolve(fleet.ssh, known_hosts=str(known))
    with pytest.raises(Unreachable, match=r"mismatch.*\): renew HostCertificate"):
        await connect.session(SshTransport(settings), other).open()
    known.write_text(f"@cert-authority 127.0.0.* {public}")

    settings = attrs.evolve(fleet.ssh, known_hosts=str(known), host_keys="accept-new")

    session = await connect(fleet, settings)

    assert await run(session, "echo in") == (0, "in\n")
    # The authority's key, or the host's own: either may have been lost.
    for lost in (public, asyncssh.read_private_key(key).export_public_key().decode()):
        known.write_text(f"@cert-authority * {public}@revoked 127.0.0.1 {lost}")
        with pytest.raises(Unreachable, match="a key that known_hosts revokes"):
            await connect(fleet, settings)


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
