from __future__ import annotations

import asyncio
import socket
import struct
import sys
import threading
from pathlib import Path

import anyio
import pytest

from ghostasync.transports._resolve import resolve
from ghostasync.transports._stream import Stream, dial, spawn


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


async def wire_on(road: Carrier) -> Stream:
    wire = Stream()
    wire.connection_made(road)
    return wire


async def test_packets_of_one_turn_go_out_together() -> None:
    road = Carrier()
    wire = await wire_on(road)

    wire.write(b"a")
    wire.write(bytearray(b"b"))
    assert road.sent == []
    await asyncio.sleep(0)

    assert road.sent == [b"ab"]


async def test_an_abort_sends_what_was_written_first() -> None:
    road = Carrier()
    wire = await wire_on(road)
    wire.write(b"goodbye")

    wire.abort()

    assert (road.sent, road.aborted, wire.is_closing()) == ([b"goodbye"], True, True)


async def test_nothing_is_sent_once_the_road_has_ended() -> None:
    road = Carrier()
    wire = await wire_on(road)
    wire.connection_lost(None)

    wire.write(b"too late")
    await asyncio.sleep(0)

    assert road.sent == []


async def test_a_road_that_cannot_be_written_to_is_lost() -> None:
    road = Carrier()
    wire = await wire_on(road)
    road.broken = True

    wire.write(b"x")
    await asyncio.sleep(0)

    assert wire.lost


async def test_what_arrives_early_is_handed_on() -> None:
    wire, upper = await wire_on(Carrier()), Peer()
    wire.data_received(b"welcome\r\nSSH-2.0-x\r\n")

    wire.attach(upper)
    wire.data_received(b"more")
    wire.eof_received()
    wire.connection_lost(None)

    assert upper.heard == ["made", b"welcome\r\nSSH-2.0-x\r\n", b"more", "eof", "lost"]


async def test_a_road_that_ended_early_is_told() -> None:
    wire, upper = await wire_on(Carrier()), Peer()
    wire.connection_lost(None)

    wire.attach(upper)

    assert upper.heard == ["made", "lost"]


async def test_the_version_line_may_come_in_pieces_after_others() -> None:
    wire = await wire_on(Carrier())
    for piece in (b"welcome\r", b"\nSS"):
        wire.data_received(piece)
    with anyio.move_on_after(0.01) as waiting:
        await wire.greeted()
    assert waiting.cancelled_caught

    wire.data_received(b"H-2.0-x\r\n")

    assert await wire.greeted()


async def test_a_road_that_ends_before_the_version_line_was_no_greeting() -> None:
    wire = await wire_on(Carrier())
    wire.data_received(b"Exceeded MaxStartups\r\n")
    wire.connection_lost(None)

    assert not await wire.greeted()
    assert wire.early == "Exceeded MaxStartups"


async def test_a_peer_that_never_greets_is_left() -> None:
    road = Carrier()
    wire = await wire_on(road)

    for _ in range(70):
        wire.data_received(b"x" * 1000)

    assert road.aborted
    assert not await wire.greeted()


async def test_a_congested_road_is_told_until_it_ends() -> None:
    wire = await wire_on(Carrier())

    wire.pause_writing()
    assert not wire.writable.is_set()
    wire.resume_writing()
    assert wire.writable.is_set()
    wire.pause_writing()
    wire.connection_lost(None)

    assert wire.writable.is_set()


async def test_a_process_is_a_road(tmp_path: Path) -> None:
    echo = "import os;[os.write(1,d) for d in iter(lambda:os.read(0,65536),b'')]"
    wire, upper = await spawn(f'{sys.executable} -c "{echo}"'), Peer()
    wire.write(b"SSH-2.0-echo\r\n")

    assert await wire.greeted()
    wire.attach(upper)
    wire.abort()
    await wire.gone.wait()

    assert upper.heard == ["made", b"SSH-2.0-echo\r\n", "lost"]


async def test_a_process_that_ends_at_once_is_no_greeting() -> None:
    wire = await spawn("false")

    assert not await wire.greeted()
    await wire.gone.wait()


async def test_a_command_that_does_not_exist_is_an_os_error() -> None:
    with pytest.raises(FileNotFoundError):
        await spawn("/nowhere/relay")


async def test_a_server_that_hangs_up_while_we_connect_has_said_nothing() -> None:
    """A busy loop sees the reset where it looked for the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        hanging_up = threading.Thread(target=_hang_up, args=(listener,))
        hanging_up.start()
        dialling = asyncio.ensure_future(dial(await resolve("127.0.0.1"), port))
        await asyncio.sleep(0)
        hanging_up.join()

        wire = await dialling

        assert not await wire.greeted()


def _hang_up(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    at_once = struct.pack("ii", 1, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
    connection.close()


async def test_every_address_of_a_name_is_tried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Where localhost is ::1 as well, that comes first and refuses.
        wire = await dial(await resolve("localhost"), listener.getsockname()[1])

        listener.accept()[0].close()
        wire.abort()
        await wire.gone.wait()
