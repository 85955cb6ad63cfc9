"""
Hosts over SSH, with asyncssh.

Rule 1: a dead or slow host holds no token that another host waits for.
Rule 2: a refused login or a wrong host key is never tried again.
Rule 3: foreign errors are translated in ``_translate``, and nowhere else.
"""

from __future__ import annotations

import functools
import os
import random
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import anyio
import anyio.to_thread
import asyncssh

from ..errors import ConnectionDied, Unreachable
from ..model import Host, Ssh
from ..protocols import OnOutput
from ._bastion import HOSTS_EACH, Bastion
from ._channel import SshChannel
from ._endpoint import Endpoint
from ._files import unusable
from ._handshakes import Handshakes
from ._login import Login, hop
from ._open_tunnel import OpenTunnel, Tunnelled
from ._resolve import Address, resolve
from ._stream import Stream, dial, spawn
from ._translate import HungUp, TryLater, behind, not_forwarded, one_line, unreachable
from ._trust import HostKeyCheck, Trust

__all__ = ["Handshakes", "SshChannel", "SshSession", "SshTransport"]

PAUSES: Final = (1.0, 3.0, 6.0, 6.0, 6.0)
"""The later ones outlast the 5 s after which sshd forgets most penalties."""

STALE_SECONDS: Final = 30.0
"""A server ends whoever has not logged in within LoginGraceTime, 120 s by default. In a
large fleet a host may wait for its turn as long: then it is called anew."""

CLOSE_SECONDS: Final = 3.0
"""How long an orderly close may take."""

SHARED_OPTIONS: Final[dict[str, Any]] = {  # asyncssh types each of them differently
    "config": None,
    # AES first: asyncssh's own first choice makes six cipher objects for a packet.
    "encryption_algs": [
        "aes128-gcm@openssh.com",
        "aes256-gcm@openssh.com",
        "aes128-ctr",
        "aes256-ctr",
        "chacha20-poly1305@openssh.com",
    ],
    "compression_algs": ["none"],
    "preferred_auth": ["publickey"],
    "login_timeout": 0,  # ours is counted from when the host's turn comes
    "keepalive_interval": 15,
    "keepalive_count_max": 3,
    "utf8_decode_errors": "replace",
    # What would be looked for on disk, for every connection.
    "gss_host": None,
    "x509_trusted_certs": None,
    "x509_trusted_cert_paths": [],
}


class SshTransport:
    """
    Reaches hosts as *settings* say.

    Args:
        settings: The ``[ssh]`` table.

        handshakes: Shared with other transports of this loop; else one of its own.

        login_seconds: How long a host may take to answer, and then to let us in; time
            spent waiting for other hosts' handshakes does not count.

        pauses: Seconds, give or take half, before each new try with a server that hung
            up at once.

        hosts_each: How many hosts share one connection to their jump host.

        environ: The environment that names the agent.

    Raises:
        ConfigError: The identity or ``known_hosts`` cannot be read.
    """

    def __init__(
        self,
        settings: Ssh,
        *,
        handshakes: Handshakes | None = None,
        login_seconds: float = 30,
        pauses: Sequence[float] = PAUSES,
        hosts_each: int = HOSTS_EACH,
        stale_seconds: float = STALE_SECONDS,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._login = Login(settings, environ)
        self._trust = Trust(settings)
        self._handshakes = handshakes or Handshakes(settings.connects)
        self._login_seconds = login_seconds
        self._pauses = tuple(pauses)
        self._hosts_each = hosts_each
        self._bastions: dict[str, Bastion] = {}
        self._stale_seconds = stale_seconds
        self._wires: weakref.WeakSet[Stream] = weakref.WeakSet()

    def session(self, host: Host) -> SshSession:
        """Return a handle on *host*; nothing is contacted yet."""
        return SshSession(host, functools.partial(self._connect, host))

    async def aclose(self) -> None:
        """
        Close the connections to bastions, and wait until every road has ended.

        uvloop spins for ever when it is closed while a transport is still ending.
        """
        while self._bastions:
            _, bastion = self._bastions.popitem()
            await bastion.close()
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            for wire in tuple(self._wires):
                wire.abort()
                await wire.gone.wait()

    async def _connect(self, host: Host, jump: str | None = None) -> _Connection:
        """Connect and log in; again where the server hung up before it said a word."""
        target = await self._target(host, jump)
        for pause in self._pauses:
            try:
                return await self._attempt(host, target)
            except TryLater:
                await anyio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311  jitter
        return await self._attempt(host, target)

    async def _target(self, host: Host, jump: str | None) -> Endpoint:
        find = functools.partial(self._login.target, host, jump)
        try:
            if self._login.reads_files:
                return await anyio.to_thread.run_sync(find)
            return find()
        except (OSError, ValueError) as exc:
            raise Unreachable(host.name, f"ssh configuration: {unusable(exc)}") from exc

    async def _attempt(self, host: Host, target: Endpoint) -> _Connection:
        endpoint = self._handshakes.endpoint(target.endpoint)
        try:
            async with endpoint.places:
                wire = await self._reach(host, target)
                since = anyio.current_time()
                try:
                    async with self._handshakes.turn():
                        waited = anyio.current_time() - since
                        if wire.lost or waited > self._stale_seconds:
                            wire.abort()
                            wire = await self._reach(host, target)
                        connection = await self._log_in(target, wire)
                except BaseException:
                    wire.abort()
                    raise
        except HungUp:
            endpoint.slow_down()
            raise
        except (OSError, ValueError, asyncssh.Error) as exc:
            raise unreachable(host, target, self._trust, exc) from exc
        endpoint.speed_up()
        return connection

    async def _reach(self, host: Host, target: Endpoint) -> Stream:
        """Open a road to the server and wait for the first line that it sends."""
        if target.jump:
            try:
                async with self._bastion(target.jump).place() as place:
                    return await self._greeted(host, place.tunnel(target))
            except Unreachable as exc:
                raise exc if exc.host == host.name else behind(host, exc) from exc
        if target.proxy_command:
            return await self._greeted(host, spawn(target.proxy_command))
        places = await self._look_up(target.address)
        return await self._greeted(host, dial(places, target.port))

    async def _look_up(self, address: str) -> tuple[Address, ...]:
        async with self._handshakes.lookups:
            with anyio.fail_after(self._login_seconds):
                return await resolve(address)

    async def _greeted(self, host: Host, opening: Awaitable[Stream]) -> Stream:
        with anyio.fail_after(self._login_seconds):
            wire = await opening
            self._wires.add(wire)
            try:
                greeted = await wire.greeted()
            except BaseException:
                wire.abort()
                raise
        if not greeted:
            raise HungUp(host.name, wire.early)
        return wire

    def _bastion(self, jump: str) -> Bastion:
        """Return the last of the jump hosts *jump*, which the others lead to."""
        if jump not in self._bastions:
            before, _, last = jump.rpartition(",")
            host = hop(last)
            connect = functools.partial(self._connect, host, before)
            self._bastions[jump] = Bastion(
                lambda: SshSession(host, connect), self._hosts_each
            )
        return self._bastions[jump]

    async def _log_in(self, target: Endpoint, wire: Stream) -> _Connection:
        doorkeeper = HostKeyCheck(self._trust, target)
        with anyio.fail_after(self._login_seconds):
            connection = await asyncssh.connect(
                target.address,
                target.port,
                username=target.user,
                client_keys=list(target.keys.own),
                agent_path=target.keys.agent or None,
                agent_identities=list(target.keys.only) or None,
                known_hosts=self._trust.known_hosts,
                host_key_alias=target.alias,
                client_factory=lambda: doorkeeper,
                tunnel=OpenTunnel(wire),
                **SHARED_OPTIONS,
            )
        if doorkeeper.learned:
            await anyio.to_thread.run_sync(self._trust.save, target)
        return connection, wire


_Connection = tuple[asyncssh.SSHClientConnection, Stream]


class SshSession:
    """One host; see :class:`protocols.Session`."""

    def __init__(
        self, host: Host, connect: Callable[[], Awaitable[_Connection]]
    ) -> None:
        self.host = host
        self._connect = connect
        self._connection: _Connection | None = None
        self._opening = anyio.Lock()

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as we know."""
        return self._connection is not None and not self._connection[1].lost

    async def open(self) -> None:
        """Connect and log in, once; where the connection has died, again."""
        async with self._opening:
            if not self.is_open:
                self._connection = await self._connect()

    async def execute(
        self, command: str, *, output: OnOutput, errors: OnOutput
    ) -> SshChannel:
        """Start *command* through the login shell."""
        connection, wire = self._alive()
        channel = SshChannel(self.host.name, wire, output, errors)
        try:
            await connection.create_session(
                lambda: channel, command, encoding=None, request_pty=False
            )
        except (OSError, asyncssh.Error) as exc:
            channel.abort()
            text = "the connection died" if wire.lost else one_line(exc)
            raise ConnectionDied(self.host.name, text) from exc
        except BaseException:
            channel.abort()
            raise
        return channel

    async def tunnel(self, target: Endpoint) -> Stream:
        """
        Open a TCP connection from this host to *target*.

        Raises:
            Unreachable: This host may not do that, or is gone.
            OSError: It cannot reach the target.
        """
        tunnelled = Tunnelled()
        try:
            connection, _ = self._alive()
            await connection.create_connection(
                lambda: tunnelled, target.address, target.port
            )
        except (ConnectionDied, asyncssh.Error) as exc:
            if not self.is_open:
                raise TryLater(self.host.name, "the connection died") from exc
            raise not_forwarded(self.host.name, target, exc) from exc
        return tunnelled.wire

    def abort(self) -> None:
        """Drop the connection now."""
        if self._connection is not None:
            connection, wire = self._connection
            connection.abort()
            wire.abort()

    async def close(self) -> None:
        """Close the connection in an orderly way."""
        if self._connection is None:
            return
        connection, wire = self._connection
        connection.close()
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            await connection.wait_closed()
            await wire.gone.wait()
        wire.abort()

    def _alive(self) -> _Connection:
        if self._connection is None or self._connection[1].lost:
            raise ConnectionDied(self.host.name, "the connection is gone")
        return self._connection
