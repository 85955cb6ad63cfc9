"""
The joints between streams and asyncssh, in both directions.

asyncssh logs in over a stream that is open already (:class:`OpenTunnel`), and a channel
of asyncssh through a bastion carries a stream (:class:`Tunnelled`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import asyncssh

from ._stream import Stream

__all__ = ["VERSION", "VERSION_LINE", "OpenTunnel", "Tunnelled"]

VERSION: Final = f"AsyncSSH_{asyncssh.__version__}"
"""Our software version, given to asyncssh: a stream sends it before asyncssh does."""

VERSION_LINE: Final = f"SSH-2.0-{VERSION}\r\n".encode()
"""The first line of a connection; RFC 4253 has each side send it at once."""


class OpenTunnel:
    """
    The *tunnel* argument of ``asyncssh.connect``: a stream that is open already.

    Source: asyncssh calls nothing of a tunnel but ``create_connection``, and supports
    tunnels of other classes (its issues 104 and 659).
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def create_connection(
        self,
        factory: Callable[[], asyncssh.SSHClientConnection],
        host: str,  # noqa: ARG002  the stream leads there
        port: int,  # noqa: ARG002
    ) -> tuple[Stream, asyncssh.SSHClientConnection]:
        connection = factory()
        _send_no_decoys(connection)
        self._stream.attach(connection)
        return self._stream, connection


def _send_no_decoys(connection: asyncssh.SSHClientConnection) -> None:
    """
    Keep a connection from sending MSG_IGNORE before every packet.

    MSG_IGNORE protects the CBC ciphers, which are not offered here, and costs as many
    packets as the data: 310 against 430 MB per CPU second.
    """
    # asyncssh 2.24 has no option for it and sends the packet unconditionally, so the
    # method of this one connection is replaced.
    send = connection.send_packet

    def send_packet(pkttype: int, *args: bytes, **kwargs: object) -> None:
        if pkttype != asyncssh.constants.MSG_IGNORE:
            send(pkttype, *args, **kwargs)  # type: ignore[arg-type]  # passed through

    connection.send_packet = send_packet  # type: ignore[method-assign]  # no hook there


class Tunnelled(asyncssh.SSHTCPSession[bytes]):
    """A channel through a bastion, as the carrier of a stream."""

    def __init__(self) -> None:
        # The channel would tell of the bastion's socket, which is another connection's.
        self.stream = Stream(info=lambda _: None)

    def connection_made(self, chan: asyncssh.SSHTCPChannel[bytes]) -> None:
        self.stream.connection_made(chan)

    def data_received(self, data: bytes, datatype: int | None) -> None:
        del datatype
        self.stream.data_received(data)

    def eof_received(self) -> bool:
        self.stream.eof_received()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.stream.connection_lost(exc)

    def pause_writing(self) -> None:
        self.stream.pause_writing()

    def resume_writing(self) -> None:
        self.stream.resume_writing()
