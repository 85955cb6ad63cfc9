"""
The road below an SSH connection: a TCP socket, a channel of a bastion, or the pipes
of a proxy command.

A :class:`Stream` is the protocol of the road and the transport of the SSH connection.
It stands between the two because asyncssh ignores back-pressure and writes each
packet on its own: 256 KiB are 16 calls of send(2) without it and one with it.

Rule: nothing in this file knows SSH, save that a server's first line is ``SSH-``.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Sequence
from typing import Final, Protocol, cast

from ._resolve import Address

__all__ = ["Carrier", "Peer", "Stream", "dial", "spawn"]

GREETING_LIMIT: Final = 65536
"""Bytes a peer may send before its version line; RFC 4253 sets no limit."""


class Carrier(Protocol):
    """What carries the bytes: an asyncio transport, or what looks like one."""

    def write(self, data: bytes, /) -> None: ...
    def abort(self) -> None: ...


class Peer(Protocol):
    """What speaks over the wire; an SSH connection does."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...


class Stream(asyncio.Protocol, asyncio.Transport):
    """
    One connection's bytes, both ways.

    *writable* is clear while the road is congested; *lost* is true once either side has
    ended it, *gone* is set once nothing of it is left. What arrives before
    :meth:`attach` is kept.
    """

    def __init__(self, info: Callable[[str], object] | None = None) -> None:
        super().__init__()
        self.writable = asyncio.Event()
        self.writable.set()
        self.gone = asyncio.Event()
        self.lost = False
        self._info = info
        self._loop = asyncio.get_running_loop()
        self._road: Carrier | None = None
        self._upper: Peer | None = None
        self._early = bytearray()
        self._greeted = asyncio.Event()
        self._spoke = False
        self._packets: list[bytes] = []

    def attach(self, upper: Peer) -> None:
        """Hand the wire to *upper*, along with what has arrived so far."""
        self._upper = upper
        upper.connection_made(self)
        if self._early:
            upper.data_received(bytes(self._early))
            self._early.clear()
        if self.lost:
            upper.connection_lost(None)

    async def greeted(self) -> bool:
        """Wait for the peer's version line; false where the road ended before it."""
        await self._greeted.wait()
        return self._spoke

    @property
    def early(self) -> str:
        """What the peer said before its version line, for people."""
        return self._early[:200].decode(errors="replace").strip()

    # The road's side.

    def connection_made(self, transport: asyncio.BaseTransport | Carrier) -> None:
        if isinstance(transport, asyncio.WriteTransport):
            self._info = self._info or transport.get_extra_info
        self._road = transport  # type: ignore[assignment]  # asyncio says Base only

    def data_received(self, data: bytes) -> None:
        if self._upper is not None:
            self._upper.data_received(data)
            return
        self._early += data
        if self._early.startswith(b"SSH-") or b"\nSSH-" in self._early:
            self._spoke = True
            self._greeted.set()
        elif len(self._early) > GREETING_LIMIT:
            self.abort()

    def eof_received(self) -> None:
        if self._upper is not None:
            self._upper.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        self.gone.set()
        if self._upper is not None:
            self._upper.connection_lost(exc)

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    # The SSH connection's side.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send *data* with all else that is written in this turn of the loop."""
        if not self._packets:
            self._loop.call_soon(self._flush)
        self._packets.append(bytes(data))

    def abort(self) -> None:
        """Send what was written in this turn, as far as it goes, and end the road."""
        self._flush()
        self._end()
        if self._road is not None:
            self._road.abort()

    def close(self) -> None:
        self.abort()

    def is_closing(self) -> bool:
        return self.lost

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Tell of the socket; a road without one, or ended, has nothing to tell."""
        if self._info is None or self.lost:
            return default
        return self._info(name) or default

    def _flush(self) -> None:
        packets, self._packets = self._packets, []
        if packets and self._road is not None and not self.lost:
            try:
                self._road.write(b"".join(packets))
            except OSError:  # a bastion's channel that is closed; its end follows
                self._end()

    def _end(self) -> None:
        self.lost = True
        self._greeted.set()
        self.writable.set()


class _Pipes(asyncio.SubprocessProtocol):
    """Make a road of a process's stdin and stdout."""

    def __init__(self) -> None:
        self.wire = Stream()
        self._process: asyncio.SubprocessTransport | None = None
        self._stdin: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are not asyncio's classes, but do the same.
        self._process = cast("asyncio.SubprocessTransport", transport)
        stdin = self._process.get_pipe_transport(0)
        self._stdin = cast("asyncio.WriteTransport | None", stdin)
        self.wire.connection_made(self)

    def write(self, data: bytes, /) -> None:
        if self._stdin is not None:
            self._stdin.write(data)

    def abort(self) -> None:
        if self._process is not None:
            self._process.close()  # kills it where it still runs

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        del fd
        self.wire.data_received(data)

    def pause_writing(self) -> None:
        self.wire.pause_writing()

    def resume_writing(self) -> None:
        self.wire.resume_writing()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        del exc
        if fd == 1:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.wire.connection_lost(exc)


async def dial(places: Sequence[Address], port: int) -> Stream:
    """
    Open a TCP connection to the first of a host's addresses that can be reached.

    Raises:
        OSError: No route, refused, …; the first address's own.
    """
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    for place in places:
        try:
            _, wire = await loop.create_connection(
                Stream, place.address, port, family=place.family
            )
        except ConnectionResetError:
            # It let us in and hung up before we could look: it said nothing.
            wire = Stream()
            wire.connection_lost(None)
        except OSError as exc:
            failure = failure or exc
            continue
        return wire
    raise failure or OSError("the name has no address")


async def spawn(command: str) -> Stream:
    """
    Start a proxy command, without a shell, in a session of its own.

    Raises:
        OSError: It could not be started.
    """
    loop = asyncio.get_running_loop()
    _, pipes = await loop.subprocess_exec(
        _Pipes,
        *shlex.split(command),
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    return pipes.wire
