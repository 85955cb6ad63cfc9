from __future__ import annotations

import hashlib
import os
from pathlib import Path

import anyio
import pytest

from ghostasync._remote import call as remote
from ghostasync.errors import ConnectionDied, RemoteError, Unreachable
from ghostasync.model import Host
from ghostasync.protocols import Channel, Session, Transport
from ghostasync.testing import (
    Answer,
    Call,
    FakeTransport,
    InProcessFleet,
    LocalTransport,
)
from ghostasync.transports.ssh import SshTransport
from tests.transports.commands import ignore, run

WEB = Host("web1")


async def opened(transport: Transport, host: Host = WEB) -> Session:
    session = transport.session(host)
    await session.open()
    return session


async def test_a_fake_host_is_handed_what_the_script_was_given() -> None:
    transport = FakeTransport(lambda _: Answer(output=b"uid=0\n"))
    session = await opened(transport)

    printed = await remote.query(session, "probe", "it's", "", "two\nlines", "\udcff")

    assert printed == "uid=0\n"
    assert transport.calls == [
        Call("web1", "probe", ("it's", "", "two\nlines", "\udcff"))
    ]


async def test_a_fake_host_counts_the_payload() -> None:
    transport = FakeTransport(lambda _: Answer())
    session = await opened(transport)

    async def feed(channel: Channel) -> None:
        await channel.write(b"x" * 70_000)
        await channel.write(b"y" * 7)
        channel.write_eof()

    await remote.call(session, "receive", feed=feed)

    assert transport.calls == [Call("web1", "receive", (), 70_007)]


async def test_a_fake_script_that_fails_is_a_remote_error() -> None:
    session = await opened(FakeTransport(lambda _: Answer(status=7, output=b"no\n")))

    with pytest.raises(RemoteError, match="check exited 7: no"):
        await remote.call(session, "check")


async def test_a_fake_lock_is_held_until_its_stdin_is_closed() -> None:
    session = await opened(FakeTransport(lambda _: Answer(None, b"held\n")))

    channel, said = await remote.hold(session, "lock", "/ghost")

    assert said == "held"
    with anyio.move_on_after(0.02) as waiting:
        await channel.wait()
    assert waiting.cancelled_caught
    channel.write_eof()
    assert await channel.wait() == 0


async def test_a_fake_host_can_die_in_a_call() -> None:
    def die(call: Call) -> Answer:
        raise ConnectionDied(call.host, "gone")

    session = await opened(FakeTransport(die))

    with pytest.raises(ConnectionDied):
        await remote.call(session, "switch")
    with pytest.raises(ConnectionDied):
        await remote.call(session, "switch")


async def test_a_fake_script_with_a_deadline_is_ended_at_it() -> None:
    async def never(_: Call) -> Answer:
        await anyio.sleep_forever()
        return Answer()

    session = await opened(FakeTransport(never))

    status = await remote.supervise(session, sudo=False, output=ignore, seconds=0.01)

    assert status is None


async def test_a_fake_host_can_be_unreachable() -> None:
    transport = FakeTransport(lambda _: Answer(), unreachable=frozenset({"web1"}))

    with pytest.raises(Unreachable):
        await opened(transport)


async def test_local_hosts_run_the_real_scripts(tmp_path: Path) -> None:
    transport = LocalTransport(tmp_path)
    session = await opened(transport)

    facts = await remote.query(session, "probe")

    assert f"home={tmp_path}/web1\n" in facts
    await transport.aclose()


async def test_local_hosts_take_binary_stdin(tmp_path: Path) -> None:
    transport = LocalTransport(tmp_path)
    data = os.urandom(3_000_001)

    ended = await run(await opened(transport), "sha256sum", stdin=data)

    assert ended == (0, f"{hashlib.sha256(data).hexdigest()}  -\n")
    await transport.aclose()


async def test_what_a_local_host_leaves_running_ends_with_the_transport(
    tmp_path: Path,
) -> None:
    transport = LocalTransport(tmp_path)
    session = await opened(transport)
    seen = anyio.Event()
    pid = bytearray()

    def keep(data: bytes) -> None:
        pid.extend(data)
        seen.set()

    await session.execute("echo $$; exec cat >&2", output=keep, errors=ignore)
    await seen.wait()
    await transport.aclose()

    assert not Path("/proc", pid.decode().strip()).exists()


async def test_the_fleet_is_reached_like_any_hosts(tmp_path: Path) -> None:
    data = os.urandom(3_000_001)
    async with InProcessFleet(3, tmp_path / "fleet") as fleet:
        transport = SshTransport(fleet.ssh)
        for host in fleet.hosts:
            session = await opened(transport, host)

            ended = await run(session, "pwd; sha256sum; exit 3", stdin=data)

            digest = hashlib.sha256(data).hexdigest()
            assert ended == (3, f"{fleet.home(host.name)}\n{digest}  -\n")
            await session.close()


async def test_a_stopped_host_ends_its_connections_and_refuses_more(
    tmp_path: Path,
) -> None:
    async with InProcessFleet(2, tmp_path / "fleet") as fleet:
        transport = SshTransport(fleet.ssh)
        session = await opened(transport, fleet.hosts[0])
        channel = await session.execute("exec cat", output=ignore, errors=ignore)

        await fleet.stop("host-1")

        assert await channel.wait() is None
        with pytest.raises(Unreachable, match="connection refused"):
            await session.open()
        await opened(transport, fleet.hosts[1])


async def test_a_command_of_the_fleet_notices_that_its_caller_has_gone(
    tmp_path: Path,
) -> None:
    async with InProcessFleet(1, tmp_path / "fleet") as fleet:
        session = await opened(SshTransport(fleet.ssh), fleet.hosts[0])
        marker = fleet.home("host-1") / "noticed"
        await session.execute("cat; echo > noticed", output=ignore, errors=ignore)
        await run(session, "true")

        session.abort()

        with anyio.fail_after(5):
            while not marker.exists():  # noqa: ASYNC110  written by a process
                await anyio.sleep(0.01)
