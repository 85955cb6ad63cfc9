"""
A fleet of SSH servers in this process, for tests, demonstrations and rehearsals.

How it works: each host is a listener of asyncssh on a loopback port, and each command a
real process in the host's home folder. Data goes both ways by callbacks, and a side
that is full pauses the other, as sshd does.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import anyio
import asyncssh
import attrs

from ..model import Host, Ssh
from ._process import Process, start

__all__ = ["InProcessFleet"]

SERVER_OPTIONS: Final[dict[str, Any]] = {  # asyncssh types each of them differently
    "config": None,
    "encoding": None,
    "gss_host": None,
    "x509_trusted_certs": None,
    "x509_trusted_cert_paths": [],
    "compression_algs": ["none"],
}


@attrs.define(eq=False)
class _Machine:
    """One host, while it is up."""

    host: Host
    home: Path
    acceptor: asyncssh.SSHAcceptor
    connections: set[asyncssh.SSHServerConnection]
    processes: set[Process]


class InProcessFleet:
    """
    *hosts* SSH servers named ``host-1`` … on loopback ports of their own.

    Commands run as real processes of this user, each host's with a home folder of its
    own under *root*, so plans for it use ``~/`` paths. Good for some fifty hosts::

        async with InProcessFleet(3, folder) as fleet:
            plan = attrs.evolve(plan, hosts=fleet.hosts, ssh=fleet.ssh)
    """

    def __init__(self, hosts: int, root: Path) -> None:
        self._count = hosts
        self._root = root
        self._machines: dict[str, _Machine] = {}

    @property
    def hosts(self) -> tuple[Host, ...]:
        """The hosts, in order."""
        return tuple(machine.host for machine in self._machines.values())

    @property
    def ssh(self) -> Ssh:
        """The settings to log in with: a key and known hosts of the fleet, strictly."""
        return Ssh(
            user="ghost",
            identity=str(self._root / "client_key"),
            known_hosts=str(self._root / "known_hosts"),
            config=False,
        )

    def home(self, name: str) -> Path:
        """Return the home folder of a host."""
        return self._root / name

    async def stop(self, name: str) -> None:
        """Take a host down: its connections end, new ones are refused."""
        machine = self._machines[name]
        machine.acceptor.close()
        for connection in tuple(machine.connections):
            connection.abort()
        await asyncio.gather(*(process.end() for process in machine.processes))
        await machine.acceptor.wait_closed()

    async def __aenter__(self) -> Self:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        host_key = asyncssh.generate_private_key("ssh-ed25519")
        client_key = asyncssh.generate_private_key("ssh-ed25519")
        identity = self._root / "client_key"
        identity.touch(mode=0o600)
        identity.write_bytes(client_key.export_private_key())
        try:
            for number in range(1, self._count + 1):
                await self._launch(f"host-{number}", host_key, client_key)
        except BaseException:
            # Without an __enter__ there is no __exit__: servers that were started are
            # ended here.
            await self._end()
            raise
        public = " ".join(host_key.export_public_key().decode().split()[:2])
        (self._root / "known_hosts").write_text(
            "".join(f"[{host.address}]:{host.port} {public}\n" for host in self.hosts)
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        # A cancelled test must not leave processes behind. The shield has no deadline,
        # since each stop() ends its processes within END_SECONDS.
        with anyio.CancelScope(shield=True):
            await asyncio.gather(*map(self.stop, self._machines))

    async def _launch(
        self, name: str, host_key: asyncssh.SSHKey, client_key: asyncssh.SSHKey
    ) -> None:
        home = self.home(name)
        home.mkdir(exist_ok=True)
        connections: set[asyncssh.SSHServerConnection] = set()
        processes: set[Process] = set()
        acceptor = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=lambda: _Door(home, connections, processes),
            server_host_keys=[host_key],
            authorized_client_keys=asyncssh.import_authorized_keys(
                client_key.export_public_key().decode()
            ),
            **SERVER_OPTIONS,
        )
        host = Host(name, "127.0.0.1", acceptor.get_port())
        self._machines[name] = _Machine(host, home, acceptor, connections, processes)


class _Door(asyncssh.SSHServer):
    """One connection of a client, which is let in where it has the key."""

    def __init__(
        self,
        home: Path,
        connections: set[asyncssh.SSHServerConnection],
        processes: set[Process],
    ) -> None:
        self._home, self._connections, self._processes = home, connections, processes
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._connection is not None:
            self._connections.discard(self._connection)

    def session_requested(self) -> _Exec:
        return _Exec(self._home, self._processes)


class _Exec(asyncssh.SSHServerSession[bytes]):
    """One command, between its channel and its process."""

    def __init__(self, home: Path, processes: set[Process]) -> None:
        self._home, self._processes = home, processes
        self._command = ""
        self._early: list[bytes] = []
        self._eof = self._gone = False
        self._channel: asyncssh.SSHServerChannel[bytes] | None = None
        self._process: Process | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self._channel = chan

    def exec_requested(self, command: str) -> bool:
        self._command = command
        return True

    def session_started(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        process = await start(self._command, self._home, self._output, self._errors)
        self._processes.add(process)
        self._process = process
        process.on_room = self._on_room
        # The client does not wait for the process to start: it may have sent stdin, or
        # have gone, in the meantime.
        if self._gone:
            process.abort()
        for data in self._early:
            self.data_received(data, None)
        if self._eof:
            process.write_eof()
        status = await process.wait()
        self._processes.discard(process)
        if self._channel is not None and not self._gone:
            # The client may have closed the channel an instant ago, and minds no
            # status.
            with contextlib.suppress(OSError):
                if status is None:
                    self._channel.exit_with_signal("KILL")
                else:
                    self._channel.exit(status)

    # A channel may have been closed an instant ago by the client, who minds no output.

    def _output(self, data: bytes) -> None:
        if self._channel is not None and not self._gone:
            with contextlib.suppress(OSError):
                self._channel.write(data)

    def _errors(self, data: bytes) -> None:
        if self._channel is not None and not self._gone:
            with contextlib.suppress(OSError):
                self._channel.write_stderr(data)

    def _on_room(self, room: bool) -> None:
        if self._channel is None or self._gone:
            return
        if room:
            # Not at once: asyncio's pipe is in the middle of its own bookkeeping, and
            # what resuming delivers would be written into it.
            asyncio.get_running_loop().call_soon(self._channel.resume_reading)
        else:
            self._channel.pause_reading()

    def data_received(self, data: bytes, datatype: int | None) -> None:
        del datatype
        if self._process is None:
            self._early.append(data)
            return
        try:
            self._process.feed(data)
        except BrokenPipeError:
            # sshd drops stdin that no process reads any more, too.
            return

    def eof_received(self) -> bool:
        self._eof = True
        if self._process is not None:
            self._process.write_eof()
        return True

    def pause_writing(self) -> None:
        if self._process is not None:
            self._process.pause_output(True)

    def resume_writing(self) -> None:
        if self._process is not None:
            self._process.pause_output(False)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._gone = True
        if self._process is not None:
            self._process.abort()
