"""
One jump host, and the connections to it that the hosts behind it share.

sshd does not count what it forwards in MaxSessions; what bounds it are the descriptors
of the process that serves a connection, usually 1,024, and that all hosts on one
connection share its TCP stream.
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
    """One connection to the bastion, opened when asked for; an ``SshSession``."""

    @property
    def is_open(self) -> bool: ...
    async def open(self) -> None: ...
    async def tunnel(self, target: Endpoint) -> Stream: ...
    async def close(self) -> None: ...


@attrs.define(eq=False)
class JumpConnection:
    """One connection to the bastion, and the hosts on it."""

    gate: JumpSession
    coming: set[object] = attrs.field(factory=set)
    wires: weakref.WeakSet[Stream] = attrs.field(factory=weakref.WeakSet)

    @property
    def hosts(self) -> int:
        """How many use it; those whose road has ended do not."""
        return len(self.coming) + sum(not wire.lost for wire in self.wires)


@attrs.frozen
class Place:
    """One host's place on a line; from when there is a road, the road is counted."""

    line: JumpConnection
    host: object

    async def tunnel(self, target: Endpoint) -> Stream:
        """Open a road to *target*."""
        wire = await self.line.gate.tunnel(target)
        self.line.wires.add(wire)
        self.line.coming.discard(self.host)
        return wire


class Bastion:
    """
    A jump host; *connect* returns another connection to it, not yet open.

    One that dies takes its own hosts with it, and is opened again for the next.
    """

    def __init__(
        self, connect: Callable[[], JumpSession], hosts_each: int = HOSTS_EACH
    ) -> None:
        self._connect = connect
        self._hosts_each = hosts_each
        self._lines: list[JumpConnection] = []
        self._opening = anyio.Lock()
        self._tries = 0
        self._failure: Unreachable | None = None

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[Place]:
        """
        Take a place on a connection with room for it, and open that where it is not.

        Raises:
            Unreachable: There is no connection to the bastion.
        """
        line, host = self._with_room(), object()
        line.coming.add(host)
        try:
            if not line.gate.is_open:
                await self._open(line)
            yield Place(line, host)
        finally:
            line.coming.discard(host)

    async def close(self) -> None:
        """Close all connections in an orderly way."""
        async with anyio.create_task_group() as tasks:
            while self._lines:
                tasks.start_soon(self._lines.pop().gate.close)

    def _with_room(self) -> JumpConnection:
        for line in self._lines:
            if line.hosts < self._hosts_each:
                return line
        self._lines.append(JumpConnection(self._connect()))
        return self._lines[-1]

    async def _open(self, line: JumpConnection) -> None:
        """Open one at a time; who waited meanwhile shares a failure."""
        seen = self._tries
        async with self._opening:
            last = self._failure
            # A refused login is not tried again, for whichever host.
            if last and (self._tries != seen or not last.retriable):
                raise last
            self._failure = None
            try:
                await line.gate.open()
            except Unreachable as exc:
                self._failure = exc
                raise
            finally:
                self._tries += 1
