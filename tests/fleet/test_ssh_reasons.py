"""What the other side says when it lets nobody in reaches the person."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import asyncssh
import attrs
import pytest

from ghostasync.errors import Unreachable
from ghostasync.model import Host
from ghostasync.transports.ssh import SshTransport
from tests.fleet.conftest import Connect, StartFleet
from tests.fleet.layout import USER

pytestmark = pytest.mark.fleet

HARDLY_ANY_TIME = 5.0


async def refusal(connect: Connect, transport: SshTransport, host: Host) -> Unreachable:
    session = connect.session(transport, host)
    with pytest.raises(Unreachable) as caught:
        await session.open()
    assert "\n" not in str(caught.value)
    return caught.value


async def test_an_expired_account_is_told_in_the_servers_words(
    sshd_fleet: StartFleet, connect: Connect
) -> None:
    fleet = sshd_fleet(1, user=USER, options={"UsePAM": "yes"})
    expired = f"{USER}:*:19000:0:99999:7::1:"
    fleet.shell(
        "h1",
        f"sed 's/^{USER}:.*/{expired}/' /etc/shadow >/srv/shadow && "
        "cat /srv/shadow >/etc/shadow",
    )

    said = await refusal(connect, SshTransport(fleet.ssh), fleet.hosts[0])

    assert "the server says: Your account has expired" in str(said)


async def test_hosts_that_are_being_mended_are_told_in_the_servers_words(
    sshd_fleet: StartFleet, connect: Connect
) -> None:
    fleet = sshd_fleet(1, user=USER, options={"UsePAM": "yes"})
    fleet.shell(
        "h1",
        "mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd "
        "&& echo 'New disks until 18:00.' >/run/nologin",
    )

    said = await refusal(connect, SshTransport(fleet.ssh), fleet.hosts[0])

    assert str(said).endswith("; the server says: New disks until 18:00.")
    assert said.retriable


async def test_a_second_factor_is_named(
    sshd_fleet: StartFleet, connect: Connect
) -> None:
    more = {"AuthenticationMethods": "publickey,keyboard-interactive"}
    fleet = sshd_fleet(
        1, options={**more, "KbdInteractiveAuthentication": "yes", "UsePAM": "yes"}
    )

    said = await refusal(connect, SshTransport(fleet.ssh), fleet.hosts[0])

    assert str(said) == (
        "the key of user root is accepted, but the server also wants "
        "keyboard-interactive, and nobody is asked here: set AuthenticationMethods "
        "publickey for that user in its sshd_config"
    )
    assert said.denied


async def test_a_server_that_takes_passwords_only_is_told_so(
    sshd_fleet: StartFleet, connect: Connect
) -> None:
    only = {"PubkeyAuthentication": "no", "PasswordAuthentication": "yes"}
    fleet = sshd_fleet(1, options={**only, "PermitRootLogin": "yes"})

    said = await refusal(connect, SshTransport(fleet.ssh), fleet.hosts[0])

    assert "the server takes no keys, only password, and nobody" in str(said)


async def test_a_wrong_key_is_a_wrong_key_whatever_else_the_server_takes(
    sshd_fleet: StartFleet, connect: Connect, tmp_path: Path
) -> None:
    also = {"PasswordAuthentication": "yes", "PermitRootLogin": "yes"}
    fleet, other = sshd_fleet(1, options=also), tmp_path / "other"
    other.touch(mode=0o600)
    other.write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key())
    settings = attrs.evolve(fleet.ssh, identity=str(other))

    said = await refusal(connect, SshTransport(settings), fleet.hosts[0])

    assert "is the key in authorized_keys there?" in str(said)


@pytest.mark.parametrize(
    ("keyword", "value", "told"),
    [
        ("Ciphers", "aes256-cbc", "no encryption algorithm in common: the server has "),
        ("KexAlgorithms", "diffie-hellman-group1-sha1", "no key exchange algorithm in"),
    ],
)
async def test_algorithms_that_do_not_meet_are_told_in_short(
    sshd_fleet: StartFleet, connect: Connect, keyword: str, value: str, told: str
) -> None:
    fleet = sshd_fleet(1, options={keyword: value})

    # The server hangs up at the same moment, so more than one try is looked at.
    for _ in range(5):
        said = await refusal(connect, SshTransport(fleet.ssh), fleet.hosts[0])

        assert str(said).startswith(told)
        assert value in str(said)
        assert f"see {keyword} in its sshd_config" in str(said)
        assert len(str(said)) < 300


async def test_a_host_key_that_nobody_here_can_judge_is_told(
    sshd_fleet: StartFleet, connect: Connect, tmp_path: Path
) -> None:
    certified = "ssh-ed25519-cert-v01@openssh.com"
    certificate = tmp_path / "host-cert.pub"
    options = {"HostCertificate": str(certificate), "HostKeyAlgorithms": certified}
    fleet = sshd_fleet(1, options=options)
    fleet.kill("h1")
    key = asyncssh.read_private_key(tmp_path / "fleet1/h1/host_key")
    made = key.generate_host_certificate(key, "h1", principals=["127.0.0.1"])
    made.write_certificate(certificate)
    fleet.start("h1")

    said = await refusal(connect, SshTransport(fleet.ssh), fleet.hosts[0])

    told = f"no host key algorithm in common: the server has {certified}, and "
    assert str(said).startswith(told)
    assert "see HostKeyAlgorithms in its sshd_config" in str(said)


RELAYS = {
    "echo 'relay: no such tenant' >&2; exit 3": "exited 3: relay: no such tenant",
    "echo a >&2; echo 'token expired' >&2; echo >&2; exit 1": "1: a; token expired",
    "exec /no/such/relay": "exited 127",
}


@pytest.mark.parametrize("script", RELAYS)
async def test_a_proxy_command_that_fails_is_told_at_once_in_its_words(
    sshd_fleet: StartFleet, connect: Connect, script: str, tmp_path: Path
) -> None:
    fleet, relay = sshd_fleet(1), tmp_path / "relay"
    relay.write_text(f"#!/bin/sh\n{script}\n")
    relay.chmod(0o755)
    settings = attrs.evolve(fleet.ssh, proxy_command=f"{relay} %h %p")
    started = time.monotonic()

    said = await refusal(connect, SshTransport(settings), fleet.hosts[0])

    assert time.monotonic() - started < HARDLY_ANY_TIME
    assert RELAYS[script] in str(said)


async def test_a_bastion_that_refuses_ssh_is_told_at_once(
    sshd_fleet: StartFleet, connect: Connect, tmp_path: Path
) -> None:
    fleet = sshd_fleet(2)
    gate = fleet.hosts[1]
    known = f"-o UserKnownHostsFile={fleet.ssh.known_hosts}"
    who = f"-o BatchMode=yes -i /dev/null -p {gate.port} -l root 127.0.0.1"
    command = f"ssh -F none {known} -W %h:%p {who}"
    settings = attrs.evolve(fleet.ssh, proxy_command=command)
    started = time.monotonic()

    said = await refusal(connect, SshTransport(settings), fleet.hosts[0])

    assert time.monotonic() - started < HARDLY_ANY_TIME
    assert "the proxy command exited 255: " in str(said)
    assert "Permission denied (publickey)" in str(said)


WAITING = {
    "echo 'Log in: https://sso.example/x' >&2; exec sleep 60": (
        "; the proxy command says: Log in: https://sso.example/x"
    ),
    "echo 220 mail.example ESMTP; exec sleep 60": "; it says: 220 mail.example ESMTP",
    "echo HTTP/1.1 400 Bad Request": "a web server answers, and no sshd: HTTP/1.1 400",
    "echo no such tenant >&2": "hung up before its version line (no such tenant)",
}


@pytest.mark.parametrize("script", WAITING)
async def test_what_comes_in_place_of_a_version_line_is_told(
    sshd_fleet: StartFleet, connect: Connect, script: str
) -> None:
    command = f'sh -c "{script}"'
    settings = attrs.evolve(sshd_fleet(1).ssh, proxy_command=command)

    transport = SshTransport(settings, login_seconds=0.3, pauses=[0.01])
    said = await refusal(connect, transport, Host("web1"))

    assert WAITING[script] in str(said)


async def test_a_proxy_command_that_fails_without_a_word_is_tried_a_few_times(
    sshd_fleet: StartFleet, connect: Connect, tmp_path: Path
) -> None:
    fleet, visits = sshd_fleet(1), tmp_path / "visits"
    script = f"open({str(visits)!r}, 'a').write('x'); raise SystemExit(7)"
    command = f'{sys.executable} -c "{script}"'
    settings = attrs.evolve(fleet.ssh, proxy_command=command)
    transport = SshTransport(settings, pauses=[0.01] * 9)

    said = await refusal(connect, transport, fleet.hosts[0])

    assert str(said) == "the proxy command exited 7"
    assert visits.read_text() == "xxx"


@pytest.fixture
def asking_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Path], None]]:
    """Run an ssh-agent that asks somebody who does not answer before it signs."""
    ask = tmp_path / "ask"
    ask.write_text("#!/bin/sh\nexec sleep 60\n")
    ask.chmod(0o755)
    socket = Path(os.path.relpath(tmp_path / "agent"))
    environ = {**os.environ, "SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}
    command = ["ssh-agent", "-D", "-a", str(socket)]
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL) as process:
        while not socket.exists():
            time.sleep(0.005)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))

        def add(key: Path) -> None:
            subprocess.run(["ssh-add", "-q", "-c", key], check=True)

        yield add
        process.kill()


async def test_an_agent_that_waits_for_somebody_is_told(
    sshd_fleet: StartFleet,
    connect: Connect,
    asking_agent: Callable[[Path], None],
) -> None:
    fleet = sshd_fleet(1)
    await anyio.to_thread.run_sync(asking_agent, Path(fleet.ssh.identity))
    settings = attrs.evolve(fleet.ssh, identity="")

    transport = SshTransport(settings, login_seconds=1.5)
    said = await refusal(connect, transport, fleet.hosts[0])

    assert "the agent has not signed with SHA256:" in str(said)
    assert "it waits for a touch, or for somebody to confirm" in str(said)


async def test_an_agent_that_somebody_has_told_no_is_told(
    sshd_fleet: StartFleet,
    connect: Connect,
    tmp_path: Path,
    asking_agent: Callable[[Path], None],
) -> None:
    fleet = sshd_fleet(1)
    (tmp_path / "ask").write_text("#!/bin/sh\nexit 1\n")
    await anyio.to_thread.run_sync(asking_agent, Path(fleet.ssh.identity))

    transport = SshTransport(attrs.evolve(fleet.ssh, identity=""))
    said = await refusal(connect, transport, fleet.hosts[0])

    assert "(publickey): the agent would not sign with SHA256:" in str(said)
