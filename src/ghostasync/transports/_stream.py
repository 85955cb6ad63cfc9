"""
The stream of bytes below an SSH connection, whatever carries it.

The carrier is a TCP socket, a channel of a bastion, or the pipes of a proxy command. A
:class:`Stream` is the carrier's protocol on one side, and on the other the transport of
its peer, the SSH connection. A stream stands between the two because asyncssh ignores
back-pressure and writes each packet on its own: 256 KiB are 16 calls of send(2) without
it and one with it. A stream also reads the server's greeting before any peer is
attached, which tells a server that throttles logins from one that refuses them.

Rule: nothing in this file knows SSH, save that each side's first line is ``SSH-…``.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from typing import Final, Protocol, cast

import anyio

from ._resolve import Address

__all__ = ["Carrier", "Peer", "Stream", "dial", "spawn"]

EARLY_LIMIT: Final = 65536
"""
Bytes a server may send before its connection has its turn; RFC 4253 sets no limit.

After its version line a server sends one packet, of some 2 kB, and waits for an answer.
"""

NEXT_ADDRESS_SECONDS: Final = 0.25
"""Seconds after which a host's next address is tried as well; RFC 8305 names them."""

END_TURNS: Final = 3
"""
Turns of the loop that a peer has before it is told that the stream has ended.

asyncssh looks at some packets in a task. A server with which there is no algorithm in
common hangs up at the same moment, and the reason would be lost.
"""

LAST_WORDS_SECONDS: Final = 0.5
"""Seconds that a process has to end by itself once it has closed its stdout."""

_SAID_LIMIT: Final = 2000
"""Bytes of what a process wrote to stderr that are kept."""

_EARLY_SHOWN: Final = 200
"""Bytes of what came early that are shown to people."""


class Carrier(Protocol):
    """The carrier of a stream's bytes: an asyncio transport, or an object like one."""

    def write(self, data: bytes, /) -> None: ...
    def abort(self) -> None: ...


class Peer(Protocol):
    """The user of a stream; an SSH connection is one."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...


class Stream(asyncio.Protocol, asyncio.Transport):
    """
    One connection's bytes, both ways.

    *writable* is clear while the carrier is congested; *lost* is true once either side
    has ended the stream, *gone* is set once nothing of the carrier is left. Bytes that
    arrive before :meth:`attach` are kept. *info* answers for the carrier's
    ``get_extra_info``. Of a process, *exited* is its status once it has ended, and
    *said* the end of what it has written to stderr so far.
    """

    def __init__(self, info: Callable[[str], object] | None = None) -> None:
        super().__init__()
        self.writable = asyncio.Event()
        self.writable.set()
        self.gone = asyncio.Event()
        self.lost = False
        self._info = info
        self._loop = asyncio.get_running_loop()
        self._carrier: Carrier | None = None
        self._peer: Peer | None = None
        self._early = bytearray()
        self._greeted = asyncio.Event()
        self._spoke = False
        self._packets: list[bytes] = []
        self._first_line = b""
        self.exited = 0
        self.said = ""

    def greet(self, line: bytes) -> None:
        """
        Send our version line at once; the same line of a peer is not sent again.

        A multiplexer of SSH and HTTPS on one port sends nothing before it has seen who
        comes, so both sides would wait for each other.
        """
        self._first_line = line
        self.write(line)
        self._flush()

    def attach(self, peer: Peer) -> None:
        """Hand the stream to *peer*, along with what has arrived so far."""
        self._peer = peer
        peer.connection_made(self)
        if self._packets[:1] == [self._first_line]:
            del self._packets[0]
        if self._early:
            peer.data_received(bytes(self._early))
            self._early.clear()
        # A carrier that ended before tells nobody any more, and the peer would wait.
        if self.lost:
            peer.connection_lost(None)

    async def greeted(self) -> bool:
        """Wait for the server's version line; false where the stream ended first."""
        await self._greeted.wait()
        return self._spoke

    @property
    def early(self) -> str:
        """The server's words before its version line, in one line for people."""
        return " ".join(self._early[:_EARLY_SHOWN].decode(errors="replace").split())

    # --- The carrier's side --------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport | Carrier) -> None:
        if isinstance(transport, asyncio.WriteTransport):
            self._info = self._info or transport.get_extra_info
        self._carrier = transport  # type: ignore[assignment]  # asyncio says Base only

    def data_received(self, data: bytes) -> None:
        if self._peer is not None:
            self._peer.data_received(data)
            return
        if self.lost:
            return
        self._early += data[: EARLY_LIMIT + 1]
        if self._early.startswith(b"SSH-") or b"\nSSH-" in self._early:
            self._spoke = True
            self._greeted.set()
        # Whether it has greeted or not: others may wait for their turn before it.
        if len(self._early) > EARLY_LIMIT:
            del self._early[_EARLY_SHOWN:]
            self.abort()

    def eof_received(self) -> None:
        if self._peer is not None:
            self._tell(self._peer.eof_received)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        self.gone.set()
        if self._peer is not None:
            self._tell(functools.partial(self._peer.connection_lost, exc))

    def _tell(self, end: Callable[[], None], turns: int = END_TURNS) -> None:
        """Tell the peer of the end, once it is through with what came before."""
        if turns:
            self._loop.call_soon(self._tell, end, turns - 1)
        else:
            end()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    # --- The peer's side -----------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send *data* with all else that is written in this turn of the loop."""
        if not self._packets:
            self._loop.call_soon(self._flush)
        self._packets.append(bytes(data))

    def abort(self) -> None:
        """Send what was written in this turn, if it goes, and end the carrier."""
        # asyncssh writes its disconnect message and aborts in the same turn: without a
        # flush the server would never see the message.
        self._flush()
        self._end()
        if self._carrier is not None:
            self._carrier.abort()

    def close(self) -> None:
        self.abort()

    def is_closing(self) -> bool:
        return self.lost

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Tell of the socket; a carrier without one, or ended, has nothing to tell."""
        if self._info is None or self.lost:
            return default
        return self._info(name) or default

    def _flush(self) -> None:
        packets, self._packets = self._packets, []
        if packets and self._carrier is not None and not self.lost:
            try:
                self._carrier.write(b"".join(packets))
            except OSError:
                # A channel of a bastion raises where it is closed already, and tells of
                # its end a moment later.
                self._end()

    def _end(self) -> None:
        self.lost = True
        # Nobody who waits for a greeting, or for room to write, may wait for a stream
        # that has ended; both look at *lost* next.
        self._greeted.set()
        self.writable.set()


class _Pipes(asyncio.SubprocessProtocol):
    """A carrier that is made of a process's stdin and stdout."""

    def __init__(self) -> None:
        self.stream = Stream()
        self._process: asyncio.SubprocessTransport | None = None
        self._stdin: asyncio.WriteTransport | None = None
        self._said = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not of asyncio's classes, but do the same.
        self._process = cast("asyncio.SubprocessTransport", transport)
        stdin = self._process.get_pipe_transport(0)
        self._stdin = cast("asyncio.WriteTransport | None", stdin)
        self.stream.connection_made(self)

    def write(self, data: bytes, /) -> None:
        if self._stdin is not None:
            self._stdin.write(data)

    def abort(self) -> None:
        # Closing the transport kills a process that still runs.
        if self._process is not None:
            self._process.close()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 1:
            self.stream.data_received(data)
        else:
            self._said += data
            del self._said[:-_SAID_LIMIT]
            self.stream.said = self._said.decode(errors="replace")

    def pause_writing(self) -> None:
        self.stream.pause_writing()

    def resume_writing(self) -> None:
        self.stream.resume_writing()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        del exc
        # A proxy command that has closed its stdout can answer nothing any more, though
        # the process may hang about. One that ends says why at the same moment.
        if fd == 1:
            asyncio.get_running_loop().call_later(LAST_WORDS_SECONDS, self.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._process is not None:
            self.stream.exited = self._process.get_returncode() or 0
            self._process.close()
        self.stream.connection_lost(exc)


async def dial(addresses: Sequence[Address], port: int) -> Stream:
    """
    Open a TCP connection to whichever of a host's addresses answers first.

    They are tried one by one, each while those before it are still under way.

    Source: RFC 8305 (happy eyeballs).

    Raises:
        OSError: No route, refused, …; the first address's own.
    """
    streams: list[Stream] = []
    failures: dict[Address, OSError] = {}

    async def attempt(address: Address, failed: anyio.Event) -> None:
        try:
            streams.append(await _connected(address, port))
        except OSError as exc:
            failures[address] = exc
            failed.set()
        else:
            attempts.cancel_scope.cancel()

    try:
        async with anyio.create_task_group() as attempts:
            for address in addresses:
                failed = anyio.Event()
                attempts.start_soon(attempt, address, failed)
                with anyio.move_on_after(NEXT_ADDRESS_SECONDS):
                    await failed.wait()
    except BaseException:
        # A caller that is cancelled never gets the stream that was just opened.
        for stream in streams:
            stream.abort()
        raise
    if not streams:
        # The first address is the one that the resolver prefers, so its error tells
        # most of why the host cannot be reached.
        told = [failures[address] for address in addresses]
        raise next(iter(told), OSError("the name has no address"))
    stream, *late = streams
    for other in late:
        other.abort()
    return stream


async def _connected(address: Address, port: int) -> Stream:
    loop = asyncio.get_running_loop()
    try:
        _, stream = await loop.create_connection(
            Stream, address.address, port, family=address.family
        )
    except ConnectionResetError:
        # A reset while we connect came from a server that accepted and hung up at once,
        # as one that throttles does: an ended stream says the same.
        stream = Stream()
        stream.connection_lost(None)
    return stream


async def spawn(command: Sequence[str]) -> Stream:
    """
    Start a proxy command of these words, without a shell, in a session of its own.

    Raises:
        OSError: It could not be started.
    """
    loop = asyncio.get_running_loop()
    # In a session of its own the command has no terminal to ask on, and a Ctrl-C does
    # not reach it: the way back needs the connection that it carries.
    try:
        _, pipes = await loop.subprocess_exec(_Pipes, *command, start_new_session=True)
    except OSError as exc:
        why = exc.strerror or str(exc)
        text = f"the proxy command {command[0]} cannot be started: {why.lower()}"
        raise ConnectionError(text) from exc
    return pipes.stream
