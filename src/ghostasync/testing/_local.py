"""A transport to hosts that are folders: the real scripts run, without SSH."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from ..errors import ConnectionDied, Unreachable
from ..model import Host
from ..protocols import OnOutput
from ._process import Process, start

__all__ = ["LocalTransport"]


class LocalTransport:
    """
    A transport whose host *x* is the folder ``root/x``; commands are local processes.

    Plans for it use ``~/`` paths. A host named in *unreachable* refuses to be opened.
    """

    def __init__(
        self, root: Path, *, unreachable: frozenset[str] = frozenset()
    ) -> None:
        self.root = root
        self.unreachable = unreachable
        self._processes: set[Process] = set()

    def home(self, name: str) -> Path:
        """Return the home folder of a host."""
        return self.root / name

    def session(self, host: Host) -> LocalSession:
        """Return a handle on *host*."""
        return LocalSession(self, host)

    async def run(
        self, host: Host, command: str, output: OnOutput, errors: OnOutput
    ) -> Process:
        """Start a command; processes that it leaves running end with the transport."""
        process = await start(command, self.home(host.name), output, errors)
        self._processes.add(process)
        return process

    async def aclose(self) -> None:
        """End the processes that still run."""
        await asyncio.gather(*(process.end() for process in self._processes))
        self._processes.clear()


class LocalSession:
    """One folder; see :class:`protocols.Session`."""

    key: Final = ""

    def __init__(self, transport: LocalTransport, host: Host) -> None:
        self.host = host
        self._transport = transport
        self._open = False
        self._channels: list[Process] = []

    async def open(self) -> None:
        """Make the home folder, unless the host is listed as unreachable."""
        if self.host.name in self._transport.unreachable:
            raise Unreachable(self.host.name, "connection refused", retriable=True)
        self._transport.home(self.host.name).mkdir(parents=True, exist_ok=True)
        self._open = True

    async def execute(
        self, command: str, *, output: OnOutput, errors: OnOutput
    ) -> Process:
        """Start *command*."""
        if not self._open:
            raise ConnectionDied(self.host.name, "the connection is gone")
        channel = await self._transport.run(self.host, command, output, errors)
        self._channels.append(channel)
        return channel

    def abort(self) -> None:
        """Close the pipes of all commands."""
        self._open = False
        for channel in self._channels:
            channel.abort()
        self._channels.clear()

    async def close(self) -> None:
        """Close the pipes of all commands."""
        self.abort()
