"""
A proxy between the controller and one host, for tests to break.

It forwards TCP. While it works nobody notices it. It can reset what runs over it, fall
silent one way or both, or keep newcomers waiting, at a moment of the test's choice.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from typing import Final, cast

import attrs
from anyio.from_thread import BlockingPortal

from ghostasync.model import Host
from tests.fleet.ports import reserve

__all__ = ["TcpProxy"]

_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: close(2) sends RST, not FIN."""


ARRIVING: Final = 40.0
"""Seconds that a run may take to connect, on a busy machine."""


class _End(asyncio.Protocol):
    """One of two sockets of a connection: what arrives here leaves at the *other*."""

    def __init__(self) -> None:
        self.other: _End | None = None
        self._transport: asyncio.Transport | None = None
        self._waiting = bytearray()
        self._silent = False
        self._broken = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._broken:
            self.reset()
            return
        self.quieten(silent=self._silent)
        self.write(b"")

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None:
            self.other.reset() if exc else self.other.close()

    def write(self, data: bytes) -> None:
        self._waiting += data
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(bytes(self._waiting))
            self._waiting.clear()

    def quieten(self, *, silent: bool) -> None:
        """Stop reading, the end of the stream included, or go on."""
        self._silent = silent
        if self._transport is not None and not self._transport.is_closing():
            turn = "pause_reading" if silent else "resume_reading"
            getattr(self._transport, turn)()

    def close(self) -> None:
        if self._transport is not None and not self._silent:
            self._transport.close()

    def reset(self) -> None:
        self._broken = True
        if self._transport is None:
            return
        raw = self._transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()


@attrs.define(eq=False)
class _Connection:
    """One connection: the controller's end, and the host's."""

    near: _End
    far: _End


class TcpProxy:
    """
    A port of *address* that leads to *host*; :attr:`host` is what to connect to.

    Its methods may be called from any thread; the sockets live in the loop of *portal*.
    """

    def __init__(
        self, portal: BlockingPortal, host: Host, address: str = "127.0.0.1"
    ) -> None:
        self._portal = portal
        self._to = host
        self._address = address
        self._connections: list[_Connection] = []
        self._reaching: set[asyncio.Task[None]] = set()
        self._arrived = threading.Event()
        self._holding = False
        self._server: asyncio.Server | None = None
        self._held = reserve(address)
        self._port = self._held.getsockname()[1]
        self.host = attrs.evolve(host, address=address, port=self._port)
        self.open()

    def open(self) -> None:
        """Let newcomers in, as it does from the beginning."""
        self._portal.call(self._listen)

    def shut(self) -> None:
        """Refuse newcomers, as a machine does that runs no sshd."""
        self._portal.call(self._close_server)

    def hold(self) -> None:
        """Let newcomers connect, and carry nothing for them."""
        self._arrived.clear()
        self._holding = True

    def wait(self, seconds: float = ARRIVING) -> None:
        """Return once somebody has connected who is kept waiting."""
        if not self._arrived.wait(seconds):
            raise TimeoutError(f"nobody came to {self._to.name} in {seconds} s")

    def go(self, _: str = "") -> None:
        """Let who waits go on, as at a gate."""
        self.flow()

    def flow(self) -> None:
        """Carry everything, for those who were kept waiting as well."""
        self._holding = False
        self._portal.call(self._quieten, False, False)

    def silence(self, *, up: bool = True, down: bool = True) -> None:
        """Carry nothing more of what is connected now, and tell neither side."""
        self._holding = False
        self._portal.call(self._quieten, up, down)

    def reset(self) -> None:
        """Break what is connected now; both sides are told at once."""
        self._holding = False
        self._portal.call(self._reset)

    def close(self) -> None:
        """Close the proxy for good."""
        self.reset()
        self.shut()
        self._held.close()

    async def _listen(self) -> None:
        if self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(
                self._arrive, self._address, self._port
            )

    async def _close_server(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _arrive(self) -> _End:
        connection = _Connection(_End(), _End())
        connection.near.other, connection.far.other = connection.far, connection.near
        self._connections.append(connection)
        connection.near.quieten(silent=self._holding)
        connection.far.quieten(silent=self._holding)
        task = asyncio.ensure_future(self._reach(connection))
        self._reaching.add(task)
        self._arrived.set()
        task.add_done_callback(self._reaching.discard)
        return connection.near

    async def _reach(self, connection: _Connection) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(
                lambda: connection.far, self._to.address, self._to.port
            )
        except OSError:
            connection.near.reset()

    async def _quieten(self, up: bool, down: bool) -> None:
        for connection in self._connections:
            connection.near.quieten(silent=up)
            connection.far.quieten(silent=down)

    async def _reset(self) -> None:
        for connection in self._connections:
            connection.near.reset()
            connection.far.reset()
        self._connections.clear()
        # Sockets are closed in the loop's next turn.
        await asyncio.gather(*self._reaching)
        await asyncio.sleep(0)
