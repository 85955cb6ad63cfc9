"""Keys with passphrases, keys of the agent, and what is never tried twice."""

from __future__ import annotations

import base64
import getpass
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import asyncssh
import attrs
import pytest

from ghostasync import Rollout
from ghostasync.errors import Unreachable
from ghostasync.model import Ssh
from ghostasync.transports.ssh import SshTransport
from tests.fleet.conftest import Connect, StartFleet
from tests.fleet.console import Console
from tests.fleet.sample_app import SampleApp
from tests.fleet.sshd import SshdFleet
from tests.transports.commands import run
from tests.transports.touched_agent import KIND, TouchedAgent

pytestmark = pytest.mark.fleet

PASSPHRASE = "it's `secret`"


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Run an ssh-agent that has one key, which no host takes."""
    socket = Path(os.path.relpath(tmp_path / "agent"))  # a socket's path is short
    process = subprocess.Popen(["ssh-agent", "-D", "-a", socket])
    while not socket.exists():
        time.sleep(0.005)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
    other = tmp_path / "other"
    other.touch(mode=0o600)
    key = asyncssh.generate_private_key("ssh-ed25519")
    other.write_bytes(key.export_private_key())
    subprocess.run(["ssh-add", "-q", other], check=True)
    yield
    process.kill()
    process.wait()


def locked(fleet: SshdFleet, folder: Path) -> Path:
    """Return the fleet's key with a passphrase, and its public half beside it."""
    path = folder / "locked"
    own = Path(fleet.ssh.identity)
    path.touch(mode=0o600)
    path.write_bytes(own.read_bytes())
    change = ["ssh-keygen", "-q", "-p", "-P", "", "-N", PASSPHRASE, "-f", str(path)]
    subprocess.run(change, check=True, stdout=subprocess.DEVNULL)
    asyncssh.read_private_key(own).write_public_key(f"{path}.pub")
    return path


def add(key: Path, folder: Path) -> None:
    """Add a key with a passphrase to the agent, as a person would."""
    (folder / "passphrase").write_text(PASSPHRASE)
    ask = folder / "ask"
    ask.write_text(f"#!/bin/sh\ncat {folder}/passphrase\n")
    ask.chmod(0o755)
    env = {"SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}
    subprocess.run(["ssh-add", "-q", key], check=True, env={**os.environ, **env})


def fingerprint(key: Path) -> str:
    said = subprocess.run(["ssh-keygen", "-lf", key], capture_output=True, check=True)
    return said.stdout.decode().split()[1]


async def test_a_session_knows_the_key_that_logged_in(
    agent: None, sshd_fleet: StartFleet, connect: Connect, tmp_path: Path
) -> None:
    """One that the host does not take may be offered first."""
    fleet = sshd_fleet(1)
    session = await connect(fleet)
    assert session.key == fingerprint(Path(fleet.ssh.identity))
    key = locked(fleet, tmp_path)
    add(key, tmp_path)
    config = tmp_path / "config"
    config.write_text(f"Host *\n  User root\n  IdentityFile {key}\n")

    session = await connect(
        fleet, Ssh(known_hosts=fleet.ssh.known_hosts, config=str(config))
    )

    assert session.key == fingerprint(key)


async def test_a_key_that_others_can_read_is_used_by_us_as_little_as_by_ssh(
    sshd_fleet: StartFleet, connect: Connect, tmp_path: Path
) -> None:
    fleet, key = sshd_fleet(1), tmp_path / "key"
    key.write_bytes(Path(fleet.ssh.identity).read_bytes())
    key.chmod(0o644)
    config = tmp_path / "config"
    config.write_text(f"Host *\n  User root\n  IdentityFile {key}\n")
    named = Ssh(known_hosts=fleet.ssh.known_hosts, config=str(config))
    said = by_ssh(fleet, named)
    assert "UNPROTECTED PRIVATE KEY FILE" in said
    assert "Permission denied" in said

    with pytest.raises(Unreachable, match=f"others, .*: chmod 600 {key}$") as caught:
        await connect(fleet, named)

    assert caught.value.denied
    key.chmod(0o600)
    assert by_ssh(fleet, named) == "in\n"
    assert await run(await connect(fleet, named), "echo in") == (0, "in\n")


def by_ssh(fleet: SshdFleet, settings: Ssh) -> str:
    """Return what ssh says when it is to run ``echo in`` on the first host."""
    known = f"-oUserKnownHostsFile={settings.known_hosts}"
    words = ("ssh", "-F", str(settings.config), "-oBatchMode=yes", known)
    there = ("-p", str(fleet.hosts[0].port), "127.0.0.1", "echo in")
    done = subprocess.run([*words, *there], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


async def test_a_host_with_an_alias_is_known_by_it_and_not_by_its_address(
    sshd_fleet: StartFleet, connect: Connect, tmp_path: Path
) -> None:
    fleet = sshd_fleet(1)
    by_address = Path(fleet.ssh.known_hosts).read_text().split()[1:3]
    pinned, new = tmp_path / "pinned", tmp_path / "new"
    pinned.write_text(f"i-0abc {' '.join(by_address)}\n")
    named = attrs.evolve(fleet.hosts[0], host_key_alias="i-0abc")
    strict = attrs.evolve(fleet.ssh, known_hosts=str(pinned))
    learns = attrs.evolve(fleet.ssh, known_hosts=str(new), host_keys="accept-new")

    await connect.session(SshTransport(strict), named).open()
    await connect.session(SshTransport(learns), named).open()
    other = attrs.evolve(named, host_key_alias="i-0def")
    with pytest.raises(Unreachable, match=r"i-0def.* is unknown"):
        await connect.session(SshTransport(fleet.ssh), other).open()

    assert "i-0abc" in new.read_text().split()[0]


async def test_a_new_host_is_believed_by_the_keys_that_its_inventory_has(
    sshd_fleet: StartFleet, connect: Connect, tmp_path: Path
) -> None:
    fleet = sshd_fleet(1)
    key = " ".join(Path(fleet.ssh.known_hosts).read_text().split()[1:3])
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key()
    wrong = " ".join(other.decode().split()[:2])
    strict = attrs.evolve(fleet.ssh, known_hosts=str(tmp_path / "known"))
    learns = attrs.evolve(strict, host_keys="accept-new")
    host = attrs.evolve(fleet.hosts[0], host_key_alias="i-0abc")
    right = attrs.evolve(host, host_keys=(wrong, key))

    false = attrs.evolve(host, host_keys=(wrong,))
    with pytest.raises(Unreachable, match=r"i-0abc.* is none of those that its inv"):
        await connect.session(SshTransport(learns), false).open()
    await connect.session(SshTransport(strict), right).open()
    await connect.session(SshTransport(strict), host).open()

    assert (tmp_path / "known").read_text().split(" ", 1)[1] == f"{key}\n"


async def test_keys_of_the_inventory_do_not_outweigh_the_one_on_record(
    sshd_fleet: StartFleet, connect: Connect, tmp_path: Path
) -> None:
    fleet = sshd_fleet(1)
    key = " ".join(Path(fleet.ssh.known_hosts).read_text().split()[1:3])
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    known = tmp_path / "known"
    known.write_text(f"i-0abc {other}")
    strict = attrs.evolve(fleet.ssh, known_hosts=str(known))
    keys = {"host_key_alias": "i-0abc", "host_keys": (key,)}
    host = attrs.evolve(fleet.hosts[0], **keys)  # type: ignore[arg-type]  # keys

    with pytest.raises(Unreachable, match=r"i-0abc.* does not match known_hosts"):
        await connect.session(SshTransport(strict), host).open()


def test_a_host_and_the_journal_have_the_key_on_record(
    sshd_fleet: StartFleet, tmp_path: Path
) -> None:
    sample = SampleApp.create(tmp_path, sshd_fleet(1), "site")
    console = Console(sample)
    console.configure(sample.plan())
    key = fingerprint(Path(sample.fleet.ssh.identity))

    events = console.deploy().events

    assert [ev["key"] for ev in events if ev["event"] == "Connected"] == [key]
    record = "cat /ghost/shop/prod/web/blue/site/.ghost/activations/1"
    assert f"\nkey={key}\n" in sample.fleet.shell("h1", record)


async def test_a_key_with_a_passphrase_is_used_through_the_agent_and_no_other_is(
    agent: None, sshd_fleet: StartFleet, connect: Connect, tmp_path: Path
) -> None:
    fleet = sshd_fleet(1, options={"MaxAuthTries": "1"})
    key = locked(fleet, tmp_path)
    settings = attrs.evolve(fleet.ssh, identity=str(key))
    with pytest.raises(Unreachable, match=f"ssh-add {key}") as caught:
        await connect(fleet, settings)
    assert caught.value.denied
    add(key, tmp_path)

    session = await connect(fleet, settings)

    assert await run(session, "echo in") == (0, "in\n")


async def test_identities_only_keeps_the_agent_from_offering_others(
    agent: None, sshd_fleet: StartFleet, connect: Connect, tmp_path: Path
) -> None:
    fleet = sshd_fleet(1, options={"MaxAuthTries": "1"})
    config = named(tmp_path, tmp_path / "nowhere")
    settings = Ssh(known_hosts=fleet.ssh.known_hosts, config=str(config))
    with pytest.raises(Unreachable, match="Too many authentication fail") as caught:
        await connect(fleet, settings)
    assert (caught.value.denied, caught.value.retriable) == (True, False)
    config.write_text(config.read_text() + "  IdentitiesOnly yes\n")

    with pytest.raises(Unreachable, match="login refused") as caught:
        await connect(fleet, settings)

    assert "Too many" not in str(caught.value)


def named(folder: Path, *keys: Path | str, more: str = "") -> Path:
    """Write a configuration that names some keys."""
    config = folder / "config"
    lines = [f"  IdentityFile {key}\n" for key in keys]
    config.write_text(f"Host *\n  User root\n{''.join(lines)}{more}")
    return config


async def lets_in(fleet: SshdFleet, connect: Connect, config: Path) -> bool:
    """Tell whether both let us in with *config*: ssh, and we."""
    settings = Ssh(known_hosts=fleet.ssh.known_hosts, config=str(config))
    assert by_ssh(fleet, settings).startswith("in\n")
    return await run(await connect(fleet, settings), "echo in") == (0, "in\n")


async def test_a_named_key_of_the_agent_is_offered_before_its_others(
    agent: None, sshd_fleet: StartFleet, connect: Connect, tmp_path: Path
) -> None:
    fleet = sshd_fleet(1, options={"MaxAuthTries": "1"})
    key = locked(fleet, tmp_path)
    add(key, tmp_path)

    assert await lets_in(fleet, connect, named(tmp_path, key))


@pytest.mark.parametrize("more", ["", "  IdentitiesOnly yes\n"])
async def test_a_public_key_that_is_named_is_used_through_the_agent(
    agent: None, sshd_fleet: StartFleet, connect: Connect, tmp_path: Path, more: str
) -> None:
    """As people have it whose keys are in 1Password or on a YubiKey."""
    fleet = sshd_fleet(1, options={"MaxAuthTries": "1"})
    key = locked(fleet, tmp_path)
    add(key, tmp_path)
    key.unlink()

    assert await lets_in(fleet, connect, named(tmp_path, f"{key}.pub", more=more))
    # The name of the private key, which is nowhere, means the same.
    assert await lets_in(fleet, connect, named(tmp_path, key, more=more))
    settings = attrs.evolve(fleet.ssh, identity=f"{key}.pub")
    assert (await connect(fleet, settings)).key == fingerprint(Path(f"{key}.pub"))


@pytest.mark.parametrize("first", [True, False])
async def test_a_bad_key_beside_a_good_one_harms_nobody(
    sshd_fleet: StartFleet, connect: Connect, tmp_path: Path, first: bool
) -> None:
    fleet, bad = sshd_fleet(1), tmp_path / "bad"
    bad.write_text("no key at all\n")
    bad.chmod(0o600)
    usual = [Path(f"~/.ssh/id_{kind}") for kind in ("rsa", "ecdsa", "ed25519")]
    keys = [*usual, bad, tmp_path, Path(fleet.ssh.identity)]

    config = named(tmp_path, *(keys if first else keys[::-1]))

    assert await lets_in(fleet, connect, config)
    settings = Ssh(known_hosts="/dev/null", config=str(named(tmp_path, bad)))
    with pytest.raises(Unreachable, match=f"ssh configuration: {bad}: "):
        await connect(fleet, settings)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("/no/key", r"; /no/key: no such file$"),
        ("none", r": there is no key to offer: .* which does not answer at /no/agent$"),
    ],
)
async def test_a_login_without_any_key_is_told(
    sshd_fleet: StartFleet, connect: Connect, tmp_path: Path, name: str, told: str
) -> None:
    fleet = sshd_fleet(1)
    config = named(tmp_path, name, more="  IdentityAgent /no/agent\n")

    settings = Ssh(known_hosts=fleet.ssh.known_hosts, config=str(config))
    with pytest.raises(Unreachable, match=rf"\(publickey\){told}"):
        await connect(fleet, settings)


async def test_a_certificate_that_is_named_is_offered_with_its_key(
    agent: None, sshd_fleet: StartFleet, connect: Connect, tmp_path: Path
) -> None:
    """Whether the key is in a file, or only the agent has it."""
    authority = asyncssh.generate_private_key("ssh-ed25519")
    authority.write_public_key(tmp_path / "authority.pub")
    key = asyncssh.generate_private_key("ssh-ed25519")
    path, certificate = tmp_path / "key", tmp_path / "elsewhere-cert.pub"
    path.touch(mode=0o600)
    path.write_bytes(key.export_private_key())
    authority.generate_user_certificate(
        key, "me", principals=["root"]
    ).write_certificate(certificate)
    trusted = str(tmp_path / "authority.pub")
    fleet = sshd_fleet(1, options={"TrustedUserCAKeys": trusted, "MaxAuthTries": "2"})
    more = f"  CertificateFile {certificate}\n"

    assert await lets_in(fleet, connect, named(tmp_path, path, more=more))
    await anyio.run_process(["ssh-add", "-q", str(path)])
    path.unlink()
    assert await lets_in(fleet, connect, named(tmp_path, more=more))


async def test_an_rsa_certificate_of_the_agent_is_taken_though_it_is_the_last_key(
    agent: None, sshd_fleet: StartFleet, connect: Connect, tmp_path: Path
) -> None:
    authority = asyncssh.generate_private_key("ssh-ed25519")
    authority.write_public_key(tmp_path / "authority.pub")
    key, path = asyncssh.generate_private_key("ssh-rsa"), tmp_path / "key"
    path.touch(mode=0o600)
    path.write_bytes(key.export_private_key())
    made = authority.generate_user_certificate(key, "me", principals=["root"])
    made.write_certificate(f"{path}-cert.pub")
    trusted = str(tmp_path / "authority.pub")
    fleet = sshd_fleet(1, options={"TrustedUserCAKeys": trusted})
    await anyio.run_process(["ssh-add", "-q", str(path)])

    assert await lets_in(fleet, connect, named(tmp_path))


async def test_a_certificate_that_expired_meanwhile_is_read_again(
    sshd_fleet: StartFleet, connect: Connect, tmp_path: Path
) -> None:
    authority = asyncssh.generate_private_key("ssh-ed25519")
    authority.write_public_key(tmp_path / "authority.pub")
    key, path = asyncssh.generate_private_key("ssh-ed25519"), tmp_path / "key"
    path.touch(mode=0o600)
    path.write_bytes(key.export_private_key())

    def certify(until: str, user: str = "root") -> None:
        made = authority.generate_user_certificate(
            key, "me", principals=[user], valid_before=until
        )
        made.write_certificate(f"{path}-cert.pub")

    trusted = str(tmp_path / "authority.pub")
    fleet = sshd_fleet(1, options={"TrustedUserCAKeys": trusted})
    config = named(tmp_path, path)
    settings = Ssh(known_hosts=fleet.ssh.known_hosts, config=str(config))
    certify("+1h", "ann")
    with pytest.raises(Unreachable, match=r"the certificate of SHA256:\S+ is for ann$"):
        await connect(fleet, settings)
    transport = SshTransport(settings)
    certify("-1m")
    with pytest.raises(Unreachable, match=r"certificate of SHA256:\S+ has expired$"):
        await connect.session(transport, fleet.hosts[0]).open()

    certify("+1h")

    await connect.session(transport, fleet.hosts[0]).open()


@pytest.mark.parametrize(
    "said", ["$OTHER_AGENT", "${OTHER_AGENT}", "{folder}/agent", "{folder}/%u"]
)
@pytest.mark.usefixtures("agent")
async def test_the_agent_of_the_configuration_is_found_as_by_ssh(
    sshd_fleet: StartFleet,
    connect: Connect,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: str,
) -> None:
    fleet = sshd_fleet(1)
    await anyio.run_process(["ssh-add", "-q", fleet.ssh.identity])
    monkeypatch.setenv("OTHER_AGENT", os.environ["SSH_AUTH_SOCK"])
    monkeypatch.setenv("SSH_AUTH_SOCK", "/nowhere")
    folder = os.path.relpath(tmp_path)  # a socket's path is short
    (tmp_path / getpass.getuser()).symlink_to("agent")
    place = said.replace("{folder}", folder)

    more = f"  IdentityAgent {place}\n"

    assert await lets_in(fleet, connect, named(tmp_path, more=more))


@pytest.mark.parametrize("listed", [True, False])
async def test_an_agent_that_never_answers_costs_seconds_and_not_the_host(
    sshd_fleet: StartFleet,
    connect: Connect,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    listed: bool,
) -> None:
    """No time at all where a key is named; else what an agent has to say its keys."""
    monkeypatch.setattr("ghostasync.transports._client.AGENT_SECONDS", 0.2)
    fleet, path = sshd_fleet(1), os.path.relpath(tmp_path / "silent")
    key = Path(fleet.ssh.identity)
    if not listed:
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / ".ssh").mkdir()
        (tmp_path / ".ssh/id_ed25519").symlink_to(key)
    more = f"  IdentityAgent {path}\n"
    config = named(tmp_path, *[key] * listed, more=more)
    settings = Ssh(known_hosts=fleet.ssh.known_hosts, config=str(config))
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(path)
        silent.listen()

        session = await connect(fleet, settings)

    assert await run(session, "echo in") == (0, "in\n")


async def test_a_key_that_is_touched_is_for_three_hosts_and_for_jump_hosts(
    sshd_fleet: StartFleet, connect: Connect, tmp_path: Path
) -> None:
    fleet, agent = sshd_fleet(6), TouchedAgent()
    path = os.path.relpath(tmp_path / "touched")  # a socket's path is short
    line = f"{KIND.decode()} {base64.b64encode(agent.public).decode()}\n"
    for host in fleet.hosts[:5]:
        fleet.path(host.name, "~/.ssh/authorized_keys").write_text(line)
    bastion = fleet.hosts[0]
    more = f"  IdentityAgent {path}\n"
    # In its file is what tells the key in the agent from others, and no more.
    keys = agent.write(tmp_path / "sk"), fleet.ssh.identity
    config = named(tmp_path, *keys, more=more)
    settings = Ssh(known_hosts=fleet.ssh.known_hosts, config=str(config))
    transport = SshTransport(settings)
    sessions = [connect.session(transport, host) for host in fleet.hosts]

    async with agent.listening(path):
        for session in sessions[:3]:
            await session.open()
        for session in sessions[3:5]:
            with pytest.raises(Unreachable, match="touched, which a run asks for at 3"):
                await session.open()
        # Behind a bastion that takes the key, hosts are as many as one likes.
        behind = attrs.evolve(settings, jump=f"127.0.0.1:{bastion.port}")
        reached = connect.session(SshTransport(behind), fleet.hosts[5])
        await reached.open()

    assert agent.touches == 4
    assert await run(reached, "hostname") == (0, "h6\n")


def test_a_key_with_a_passphrase_and_no_agent_asks_nobody_and_says_what_to_do(
    sshd_fleet: StartFleet, tmp_path: Path
) -> None:
    fleet = sshd_fleet(1)
    key = locked(fleet, tmp_path)
    console = Console(SampleApp.create(tmp_path, fleet, "site"))
    settings = attrs.evolve(fleet.ssh, identity=str(key))
    console.configure(console.sample.plan(ssh=settings))

    outcome = console.deploy(SSH_AUTH_SOCK="")

    assert (outcome.exit, outcome.stdout) == (2, "")
    assert f"ssh.identity: {key} has a passphrase" in outcome.stderr
    assert f"ssh-add {key}" in outcome.stderr
    assert "Connection from" not in fleet.log("h1")


def test_a_refused_login_and_a_wrong_host_key_are_tried_once_by_a_deploy(
    sshd_fleet: StartFleet, tmp_path: Path
) -> None:
    fleet = sshd_fleet(2)
    fleet.path("h1", "~/.ssh/authorized_keys").write_text("")
    fleet.change_host_key("h2")
    console = Console(SampleApp.create(tmp_path, fleet, "site"))
    console.configure(console.sample.plan(rollout=Rollout(max_failures=2)))

    outcome = console.deploy()

    refused, wrong = (outcome.event("Failed", host) for host in ("h1", "h2"))
    assert outcome.exit == 1
    assert (refused["denied"], refused["unreachable"]) == (True, True)
    assert (wrong["denied"], wrong["unreachable"]) == (False, True)
    assert "login refused for user root" in refused["reason"]
    assert "ssh-keygen -R" in wrong["reason"]
    for host in ("h1", "h2"):
        assert fleet.log(host).count("Connection from") == 1


async def test_two_at_once_learn_each_host_key_once_and_whole(
    sshd_fleet: StartFleet, connect: Connect, tmp_path: Path
) -> None:
    fleet = sshd_fleet(3)
    learned = tmp_path / "known"
    learned.write_text("[10.0.0.1]:22 ssh-ed25519 cut-short-without-newline")
    before = learned.read_text()
    settings = attrs.evolve(fleet.ssh, known_hosts=str(learned), host_keys="accept-new")
    transports = [SshTransport(settings), SshTransport(settings)]

    async with anyio.create_task_group() as tasks:
        for transport in transports:
            for host in fleet.hosts:
                tasks.start_soon(connect.session(transport, host).open)

    lines = learned.read_text().splitlines()
    assert lines[0] == before
    real = Path(fleet.ssh.known_hosts).read_text().splitlines()
    assert sorted(lines[1:]) == sorted(real)


async def test_a_key_that_another_run_has_just_learned_is_not_overruled(
    sshd_fleet: StartFleet, connect: Connect, tmp_path: Path
) -> None:
    fleet = sshd_fleet(1)
    learned = tmp_path / "known"
    settings = attrs.evolve(fleet.ssh, known_hosts=str(learned), host_keys="accept-new")
    early = connect.session(SshTransport(settings), fleet.hosts[0])
    await connect(fleet, settings)
    fleet.change_host_key("h1")

    for _ in range(2):
        with pytest.raises(Unreachable, match="does not match known_hosts") as caught:
            await early.open()
        assert not caught.value.retriable

    assert learned.read_text().count("\n") == 1
