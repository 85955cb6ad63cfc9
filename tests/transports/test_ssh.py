"""What needs no OpenSSH: servers that misbehave before or at the first line."""

from __future__ import annotations

import asyncio
import socket
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import asyncssh
import pytest

from ghostasync._remote.call import hold, query
from ghostasync.errors import BadAnswer, ConfigError, ConnectionDied, Unreachable
from ghostasync.model import Host, Ssh
from ghostasync.testing import InProcessFleet
from ghostasync.transports._resolve import Address
from ghostasync.transports.ssh import Handshakes, SshTransport
from tests.transports.commands import ignore

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def settings(tmp_path: Path) -> Ssh:
    identity = tmp_path / "identity"
    identity.touch(mode=0o600)
    key = asyncssh.generate_private_key("ssh-ed25519")
    identity.write_bytes(key.export_private_key())
    return Ssh("me", identity=str(identity), known_hosts="/dev/null", config=False)


@asynccontextmanager
async def server(
    serve: Serve, address: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Host]:
    async def closing(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    listener = await asyncio.start_server(closing, address, port)
    try:
        yield Host("web1", address, listener.sockets[0].getsockname()[1])
    finally:
        listener.close()


async def test_a_refused_connection_says_where(settings: Ssh) -> None:
    async with server(never_reached) as host:
        pass

    with pytest.raises(Unreachable, match="connection refused") as caught:
        await SshTransport(settings).session(host).open()

    assert str(caught.value) == f"127.0.0.1:{host.port}: connection refused"
    assert caught.value.retriable


async def test_an_unknown_name_is_not_worth_another_try(settings: Ssh) -> None:
    session = SshTransport(settings).session(Host("web1.invalid"))

    with pytest.raises(Unreachable, match=r"no such host: web1\.invalid") as caught:
        await session.open()

    assert not caught.value.retriable


async def test_a_host_that_moved_is_looked_up_again(
    settings: Ssh, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[str] = []

    async def resolve(name: str, _: int) -> tuple[Address, ...]:
        looked_up.append(name)
        return (Address(f"127.0.0.{len(looked_up)}", socket.AF_INET),)

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-none\r\n")
        await reader.read(1)

    monkeypatch.setattr("ghostasync.transports.ssh.resolve", resolve)
    transport = SshTransport(settings)
    async with server(greet) as first:
        web = Host("web1", "web1.example", first.port)
        with pytest.raises(Unreachable):
            await transport.session(web).open()
    async with server(greet, "127.0.0.2", first.port):
        with pytest.raises(Unreachable, match="closed the connection during login"):
            await transport.session(web).open()

    assert looked_up == ["web1.example"] * 2


async def test_a_server_that_hangs_up_is_tried_again_with_its_words_kept(
    settings: Ssh,
) -> None:
    visits = 0

    async def busy(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal visits
        visits += 1
        writer.write(b"Exceeded MaxStartups\r\n")
        await writer.drain()

    async with server(busy) as host:
        session = SshTransport(settings, pauses=[0.01, 0.01]).session(host)

        with pytest.raises(Unreachable, match="Exceeded MaxStartups") as caught:
            await session.open()

    assert caught.value.retriable
    assert visits == 3


async def test_a_server_that_ends_after_its_version_is_not_tried_again(
    settings: Ssh,
) -> None:
    visits = 0

    async def curt(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal visits
        visits += 1
        writer.write(b"hello\r\nSSH-2.0-Curt\r\n")
        await writer.drain()

    async with server(curt) as host:
        session = SshTransport(settings, pauses=[0.01]).session(host)

        with pytest.raises(Unreachable, match="closed the connection during login"):
            await session.open()

    assert visits == 1


async def test_a_silent_server_costs_its_own_time_only(
    settings: Ssh, tmp_path: Path
) -> None:
    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with InProcessFleet(1, tmp_path / "fleet") as fleet, server(silent) as host:
        transport = SshTransport(fleet.ssh, handshakes=Handshakes(1), login_seconds=0.5)
        other = transport.session(fleet.hosts[0])

        async def open_silent() -> None:
            with pytest.raises(Unreachable, match="did not answer"):
                await transport.session(host).open()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(open_silent)
            await anyio.sleep(0.02)
            with anyio.fail_after(0.4):
                await other.open()
        await other.close()


async def test_what_is_not_ssh_is_not_listened_to_for_ever(settings: Ssh) -> None:
    async def chatter(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while True:
                writer.write(b"HTTP/1.1 200 OK\r\n" * 100)
                await writer.drain()

    async with server(chatter) as host:
        with pytest.raises(Unreachable):
            await SshTransport(settings, pauses=()).session(host).open()


async def test_a_session_that_is_not_open_runs_nothing(settings: Ssh) -> None:
    session = SshTransport(settings).session(Host("web1"))

    with pytest.raises(ConnectionDied):
        await session.execute("true", output=ignore, errors=ignore)
    session.abort()
    await session.close()


def test_a_missing_identity_is_a_configuration_error() -> None:
    with pytest.raises(
        ConfigError, match=r"^ssh\.identity: /nowhere/key: no such file$"
    ):
        SshTransport(Ssh(identity="/nowhere/key", config=False))


def test_what_is_no_identity_is_named(tmp_path: Path) -> None:
    identity = tmp_path / "identity"
    identity.write_text("no key\n")

    with pytest.raises(ConfigError, match=rf"^ssh\.identity: {identity}: Invalid"):
        SshTransport(Ssh(identity=str(identity), config=False))


def test_known_hosts_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"^ssh\.known_hosts: {tmp_path}: is a dir"):
        SshTransport(Ssh(known_hosts=str(tmp_path), config=False))


def test_a_line_of_known_hosts_that_is_none_is_said_once_and_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = tmp_path / "known"
    key = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    known.write_text(f"<<<<<<< HEAD\na {key}=======\nb {key}>>>>>>> other\n")

    SshTransport(Ssh(known_hosts=str(known), config=False))

    (said,) = caplog.messages
    assert said == f"{known}: no host key in line 1, 3, 5, which is passed over"


def test_an_identity_with_a_passphrase_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    identity = tmp_path / "identity"
    key = asyncssh.generate_private_key("ssh-ed25519")
    identity.write_bytes(key.export_private_key("pkcs8-pem", "secret"))

    with pytest.raises(ConfigError, match=r"has a passphrase, .* && ssh-add /"):
        SshTransport(Ssh(identity=str(identity), config=False))


async def test_a_server_that_hung_up_gets_half_as_many_handshakes() -> None:
    handshakes = Handshakes(per_endpoint=8)

    for _ in range(2):
        handshakes.endpoint("bastion").slow_down()

    assert handshakes.endpoint("bastion").places.total_tokens == 2
    assert handshakes.endpoint("other").places.total_tokens == 8


async def test_a_server_that_lets_us_in_gets_one_more_handshake_a_round() -> None:
    limit = Handshakes(per_endpoint=4).endpoint("bastion")
    for _ in range(3):
        limit.slow_down()
    seen = []

    for _ in range(12):
        limit.speed_up()
        seen.append(int(limit.places.total_tokens))

    assert seen == [2, 2, 3, 3, 3, *[4] * 7]


async def test_a_login_that_takes_long_gives_its_turn_to_the_next() -> None:
    handshakes = Handshakes(connects=1)

    async with handshakes.turn(patience=0.01):
        with anyio.fail_after(5):
            async with handshakes.turn():
                pass

    assert handshakes.working.borrowed_tokens == 0


async def never_reached(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    raise AssertionError


# --- Servers that lie ------------------------------------------------------------


KEX = bytes.fromhex("0000000c0a14") + b"nonsense"

HELLOS = {
    "no line": (b"", b"x" * 65_536),
    "lines": (b"", b"welcome\r\n" * 8192),
    "a version without end": (b"SSH-2.0-", b"x" * 65_536),
    "lines after the version": (b"SSH-2.0-x\r\n", b"welcome\r\n" * 8192),
    "zeros after the version": (b"SSH-2.0-x\r\n", bytes(65_536)),
    "no packet": (b"SSH-2.0-x\r\n", b""),
    "a packet of 4 GiB": (b"SSH-2.0-x\r\n\xff\xff\xff\xff", b"x" * 65_536),
    "an odd packet": (b"SSH-2.0-x\r\n" + KEX, KEX * 4000),
    "tricks": ("hi \x1b[2J\u202e\u2028\r\nSSH-2.0-\x1b[2J\r\n".encode(), b"\x00" * 9),
    "another version": (b"SSH-1.5-x\r\n", b""),
}


@pytest.mark.parametrize("name", HELLOS)
async def test_a_server_that_says_anything_is_a_host_out_of_reach(
    name: str, settings: Ssh
) -> None:
    first, then = HELLOS[name]

    async def lie(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            writer.write(first)
            while then:
                writer.write(then)
                await writer.drain()
            await asyncio.sleep(0.2)

    tracemalloc.start()
    try:
        async with server(lie) as host:
            transport = SshTransport(settings, pauses=[], login_seconds=5)
            with anyio.fail_after(40), pytest.raises(Unreachable) as caught:
                await transport.session(host).open()
            await transport.aclose()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert peak < 24 << 20


async def test_a_host_that_floods_each_channel_is_one_host_that_failed(
    tmp_path: Path,
) -> None:
    """By asyncssh's own server, which sends as fast as it is read."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(tmp_path / "identity")
    (tmp_path / "identity").chmod(0o600)
    sent = 0

    async def flood(process: asyncssh.SSHServerProcess[bytes]) -> None:
        nonlocal sent
        with suppress(asyncssh.Error, BrokenPipeError, ConnectionError):
            while True:
                process.stdout.write(b"z" * 65_536)
                process.stderr.write(b"\x1b[2J" * 16_384)
                sent += 131_072
                await process.stdout.drain()
                await process.stderr.drain()

    class Open(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return False

    listener = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[key],
        server_factory=Open,
        process_factory=flood,
        encoding=None,
    )
    settings = Ssh(
        "me",
        identity=str(tmp_path / "identity"),
        known_hosts="/dev/null",
        host_keys="insecure",
        config=False,
    )
    transport = SshTransport(settings)
    session = transport.session(Host("web1", "127.0.0.1", listener.get_port()))
    await session.open()
    tracemalloc.start()
    try:
        for script in ("probe", "check"):
            with anyio.fail_after(20), pytest.raises(BadAnswer) as caught:
                await query(session, script, read=str)
            assert f"{script} answered nonsense" in str(caught.value)
        with anyio.fail_after(20), pytest.raises(BadAnswer):
            await hold(session, "lock", read=str)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        session.abort()
        await transport.aclose()
        listener.close()
        await listener.wait_closed()

    assert sent < 64 << 20
    assert peak < 48 << 20
