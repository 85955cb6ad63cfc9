from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import struct
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from ghostasync.transports._resolve import Address, resolve
from ghostasync.transports._stream import END_TURNS, Stream, dial, spawn


class Carrier:
    """Records what is sent, and can be made to fail."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.aborted = self.broken = False

    def write(self, data: bytes, /) -> None:
        if self.broken:
            raise BrokenPipeError
        self.sent.append(data)

    def abort(self) -> None:
        self.aborted = True


class Peer:
    """Records what arrives."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.heard.append("made")

    def data_received(self, data: bytes) -> None:
        self.heard.append(data)

    def eof_received(self) -> None:
        self.heard.append("eof")

    def connection_lost(self, exc: Exception | None) -> None:
        self.heard.append("lost")


async def stream_on(carrier: Carrier) -> Stream:
    stream = Stream()
    stream.connection_made(carrier)
    return stream


async def let_the_peer_know() -> None:
    for _ in range(END_TURNS + 1):
        await asyncio.sleep(0)


async def test_packets_of_one_turn_go_out_together() -> None:
    carrier = Carrier()
    stream = await stream_on(carrier)

    stream.write(b"a")
    stream.write(bytearray(b"b"))
    assert carrier.sent == []
    await asyncio.sleep(0)

    assert carrier.sent == [b"ab"]


async def test_an_abort_sends_what_was_written_first() -> None:
    carrier = Carrier()
    stream = await stream_on(carrier)
    stream.write(b"goodbye")

    stream.abort()

    assert (carrier.sent, carrier.aborted, stream.is_closing()) == (
        [b"goodbye"],
        True,
        True,
    )


async def test_nothing_is_sent_once_the_carrier_has_ended() -> None:
    carrier = Carrier()
    stream = await stream_on(carrier)
    stream.connection_lost(None)

    stream.write(b"too late")
    await asyncio.sleep(0)

    assert carrier.sent == []


async def test_a_carrier_that_cannot_be_written_to_is_lost() -> None:
    carrier = Carrier()
    stream = await stream_on(carrier)
    carrier.broken = True

    stream.write(b"x")
    await asyncio.sleep(0)

    assert stream.lost


async def test_what_arrives_early_is_handed_on() -> None:
    stream, peer = await stream_on(Carrier()), Peer()
    stream.data_received(b"welcome\r\nSSH-2.0-x\r\n")

    stream.attach(peer)
    stream.data_received(b"more")
    stream.eof_received()
    stream.connection_lost(None)
    await let_the_peer_know()

    assert peer.heard == ["made", b"welcome\r\nSSH-2.0-x\r\n", b"more", "eof", "lost"]


async def test_our_version_line_goes_out_at_once_and_only_once() -> None:
    class Client(Peer):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, Stream)
            transport.write(b"SSH-2.0-me\r\n")
            transport.write(b"key exchange")

    carrier = Carrier()
    stream = await stream_on(carrier)

    stream.greet(b"SSH-2.0-me\r\n")
    assert carrier.sent == [b"SSH-2.0-me\r\n"]
    stream.attach(Client())
    await asyncio.sleep(0)

    assert carrier.sent == [b"SSH-2.0-me\r\n", b"key exchange"]


async def test_a_carrier_that_ended_early_is_told() -> None:
    stream, peer = await stream_on(Carrier()), Peer()
    stream.connection_lost(None)

    stream.attach(peer)

    assert peer.heard == ["made", "lost"]


async def test_the_version_line_may_come_in_pieces_after_others() -> None:
    stream = await stream_on(Carrier())
    for piece in (b"welcome\r", b"\nSS"):
        stream.data_received(piece)
    with anyio.move_on_after(0.01) as waiting:
        await stream.greeted()
    assert waiting.cancelled_caught

    stream.data_received(b"H-2.0-x\r\n")

    assert await stream.greeted()


async def test_a_carrier_that_ends_before_the_version_line_was_no_greeting() -> None:
    stream = await stream_on(Carrier())
    stream.data_received(b"Exceeded MaxStartups\r\n")
    stream.connection_lost(None)

    assert not await stream.greeted()
    assert stream.early == "Exceeded MaxStartups"


async def test_a_peer_that_never_greets_is_left() -> None:
    carrier = Carrier()
    stream = await stream_on(carrier)

    for _ in range(70):
        stream.data_received(b"x" * 1000)

    assert carrier.aborted
    assert not await stream.greeted()


@pytest.mark.parametrize("first", [b"SSH-2.0-x\r\n", b"SSH-", b"hi\nSSH-2.0-x\r\n"])
async def test_a_server_that_does_not_wait_for_its_turn_is_left(first: bytes) -> None:
    carrier = Carrier()
    stream = await stream_on(carrier)
    stream.data_received(first)
    assert await stream.greeted()

    tracemalloc.start()
    for _ in range(1000):
        stream.data_received(bytes(1 << 20))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert carrier.aborted
    assert stream.lost
    assert peak < 4 << 20
    assert len(stream.early) <= 200


async def test_a_congested_road_is_told_until_it_ends() -> None:
    stream = await stream_on(Carrier())

    stream.pause_writing()
    assert not stream.writable.is_set()
    stream.resume_writing()
    assert stream.writable.is_set()
    stream.pause_writing()
    stream.connection_lost(None)

    assert stream.writable.is_set()


async def test_a_process_is_a_carrier(tmp_path: Path) -> None:
    echo = "import os;[os.write(1,d) for d in iter(lambda:os.read(0,65536),b'')]"
    stream, peer = await spawn([sys.executable, "-c", echo]), Peer()
    stream.write(b"SSH-2.0-echo\r\n")

    assert await stream.greeted()
    stream.attach(peer)
    stream.abort()
    await stream.gone.wait()
    await let_the_peer_know()

    assert peer.heard == ["made", b"SSH-2.0-echo\r\n", "lost"]


async def test_a_process_that_ends_at_once_is_no_greeting() -> None:
    stream = await spawn(["false"])

    assert not await stream.greeted()
    await stream.gone.wait()


async def test_a_command_that_does_not_exist_is_named() -> None:
    with pytest.raises(OSError, match="/nowhere/relay cannot be started: no such file"):
        await spawn(["/nowhere/relay"])


async def test_a_server_that_hangs_up_while_we_connect_has_said_nothing() -> None:
    """A busy loop sees the reset where it looked for the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        hanging_up = threading.Thread(target=_hang_up, args=(listener,))
        hanging_up.start()
        dialling = asyncio.ensure_future(dial(await resolve("127.0.0.1"), port))
        for _ in range(2):  # the second turn is that of the address's own task
            await asyncio.sleep(0)
        hanging_up.join()

        stream = await dialling

        assert not await stream.greeted()


def _hang_up(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    at_once = struct.pack("ii", 1, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
    connection.close()


async def test_every_address_of_a_name_is_tried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Where localhost is ::1 as well, that comes first and refuses.
        stream = await dial(await resolve("localhost"), listener.getsockname()[1])

        listener.accept()[0].close()
        stream.abort()
        await stream.gone.wait()


@pytest.fixture
def blackhole() -> Iterator[int]:
    """A port where 127.0.0.1 answers and 127.0.0.2 does not: its queue is full."""
    with contextlib.ExitStack() as sockets:
        good = sockets.enter_context(socket.create_server(("127.0.0.1", 0)))
        full = ("127.0.0.2", good.getsockname()[1])
        sockets.enter_context(socket.create_server(full, backlog=0))
        for _ in range(3):
            visitor = sockets.enter_context(socket.socket())
            visitor.setblocking(False)
            visitor.connect_ex(full)
        yield full[1]


async def test_an_address_that_swallows_all_costs_a_moment(blackhole: int) -> None:
    addresses = [Address(f"127.0.0.{n}", socket.AF_INET) for n in (2, 1)]

    with anyio.fail_after(2):
        stream = await dial(addresses, blackhole)

    assert stream.get_extra_info("peername") == ("127.0.0.1", blackhole)
    stream.abort()
    await stream.gone.wait()


async def test_a_caller_that_leaves_as_an_address_answers_leaves_no_stream() -> None:
    """Its cancellation may come in any turn of the loop."""
    for turns in range(8):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            with anyio.CancelScope() as leaving:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(dial, await resolve("127.0.0.1"), port)
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    leaving.cancel()

            listener.settimeout(5)
            visitor, _ = listener.accept()
            visitor.settimeout(5)
            assert visitor.recv(1) == b""
            visitor.close()


async def test_where_no_address_answers_the_first_ones_error_is_told() -> None:
    addresses = [Address("127.0.0.1", socket.AF_INET), Address("::1", socket.AF_INET6)]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    with pytest.raises(ConnectionRefusedError, match=r"127\.0\.0\.1"):
        await dial(addresses, port)
    with pytest.raises(OSError, match="no address"):
        await dial([], port)


async def test_an_address_with_a_scope_is_reached() -> None:
    link = _link_local()
    if not link:
        pytest.skip("needs a link-local address")
    family = socket.AF_INET6
    sockaddr = socket.getaddrinfo(link, 0, family, socket.SOCK_STREAM)[0][4]
    with socket.socket(family) as listener:
        listener.bind(sockaddr)
        listener.listen()

        stream = await dial(await resolve(link), listener.getsockname()[1])

        stream.abort()
        await stream.gone.wait()


def _link_local() -> str:
    """Return a link-local address of this machine, if it has one."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/net/if_inet6").read_text().splitlines():
            digits, *_, device = line.split()
            if digits.startswith("fe80"):
                return f"{ipaddress.IPv6Address(bytes.fromhex(digits))}%{device}"
    return ""
