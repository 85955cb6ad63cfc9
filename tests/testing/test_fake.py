"""Hosts that a function answers for."""

from __future__ import annotations

import anyio
import pytest

from ghostasync._remote import call as remote
from ghostasync.errors import ConnectionDied, RemoteError, Unreachable
from ghostasync.protocols import Channel
from ghostasync.testing import Answer, Call, FakeTransport
from tests.testing.called import opened
from tests.transports.commands import ignore


async def test_a_fake_host_is_handed_what_the_script_was_given() -> None:
    transport = FakeTransport(lambda _: Answer(output=b"uid=0\n"))
    session = await opened(transport)

    words = ("it's", "", "two\nlines", "\udcff")
    printed = await remote.query(session, "probe", *words, read=str)

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

    channel, said = await remote.hold(session, "lock", "/ghost", read=str)

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

    status = await remote.supervise(session, sudo="", output=ignore, seconds=0.01)

    assert status is None


async def test_a_fake_host_can_be_unreachable() -> None:
    transport = FakeTransport(lambda _: Answer(), unreachable=frozenset({"web1"}))

    with pytest.raises(Unreachable):
        await opened(transport)
