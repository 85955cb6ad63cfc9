"""
A jump host, and the connections to it that the hosts behind it share.

A host that is to be reached takes a place on the first connection with room, which is
opened if need be; from when its own stream is open, that stream stands for the host. So
a connection counts hosts on their way and live streams, and a host that is done makes
room for another without saying so.

sshd does not count forwarded connections in MaxSessions. Their number is bounded by the
descriptors of the process that serves a connection, usually 1,024, and by all hosts on
one connection sharing its TCP stream.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol

import anyio
import attrs

from ..errors import Unreachable
from ._endpoint import Endpoint
from ._stream import Stream

__all__ = ["HOSTS_EACH", "Bastion", "JumpConnection", "JumpSession", "Place"]

HOSTS_EACH: Final = 64
"""Hosts that share one connection before the next is opened."""


class JumpSession(Protocol):
    """A handle on the bastion, opened when asked for; an ``SshSession`` is one."""

    @property
    def is_open(self) -> bool: ...
    async def open(self) -> None: ...
    async def tunnel(self, endpoint: Endpoint) -> Stream: ...
    async def close(self) -> None: ...


@attrs.define(eq=False)
class JumpConnection:
    """
    One connection to the bastion, and the hosts on it.

    *arriving* has an object for each host on its way, *streams* those of the others.
    """

    session: JumpSession
    arriving: set[object] = attrs.field(factory=set)
    streams: weakref.WeakSet[Stream] = attrs.field(factory=weakref.WeakSet)

    @property
    def hosts(self) -> int:
        """The number of hosts on the connection; a host whose stream ended is off."""
        return len(self.arriving) + sum(not stream.lost for stream in self.streams)


@attrs.frozen
class Place:
    """One host's place on a connection, until its stream is open and counts instead."""

    connection: JumpConnection
    host: object

    async def tunnel(self, endpoint: Endpoint) -> Stream:
        """Open a stream to *endpoint*; raises as :meth:`SshSession.tunnel` does."""
        stream = await self.connection.session.tunnel(endpoint)
        # A host counts once. While it waited for its greeting it took two places, and
        # busy controllers opened more connections than the hosts need.
        self.connection.streams.add(stream)
        self.connection.arriving.discard(self.host)
        return stream


class Bastion:
    """
    A jump host; *connect* returns another session with it, not yet open.

    A connection that dies takes its own hosts with it, and is opened again for the
    next.
    """

    def __init__(
        self, connect: Callable[[], JumpSession], hosts_each: int = HOSTS_EACH
    ) -> None:
        self._connect = connect
        self._hosts_each = hosts_each
        self._connections: list[JumpConnection] = []
        self._opening = anyio.Lock()
        self._tries = 0
        self._failure: Unreachable | None = None

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[Place]:
        """
        Take a place on a connection with room, and open the connection if it is not.

        Raises:
            Unreachable: There is no connection to the bastion.
        """
        # The place is taken before anything is awaited: hosts that come together would
        # all see the same room.
        connection, host = self._with_room(), object()
        connection.arriving.add(host)
        try:
            if not connection.session.is_open:
                await self._open(connection)
            yield Place(connection, host)
        finally:
            connection.arriving.discard(host)

    async def close(self) -> None:
        """Close all connections in an orderly way."""
        async with anyio.create_task_group() as tasks:
            while self._connections:
                tasks.start_soon(self._connections.pop().session.close)

    def _with_room(self) -> JumpConnection:
        for connection in self._connections:
            if connection.hosts < self._hosts_each:
                return connection
        self._connections.append(JumpConnection(self._connect()))
        return self._connections[-1]

    async def _open(self, connection: JumpConnection) -> None:
        """Open one connection at a time; hosts that waited for it share a failure."""
        tries_before = self._tries
        async with self._opening:
            last = self._failure
            # A bastion that is down costs all hosts that wait for it one try together.
            # A login that it refused is not tried again for any host, now or later.
            if last and (self._tries != tries_before or not last.retriable):
                raise last
            self._failure = None
            try:
                await connection.session.open()
            except Unreachable as exc:
                self._failure = exc
                raise
            finally:
                self._tries += 1
