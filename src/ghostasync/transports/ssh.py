"""
The transport that reaches hosts over SSH, with asyncssh.

How a login works: an :class:`~._endpoint.Endpoint` is worked out for the host, a
:class:`~._stream.Stream` is opened to it (a TCP socket, a channel of its jump host or
the pipes of a proxy command), and the server's version line is awaited. Only a server
that has greeted gets one of the few turns in which keys are exchanged and asyncssh logs
in, so that a silent host costs its own time alone.

Rule 1: a dead or slow host holds no token that another host waits for.
Rule 2: a refused login or a wrong host key is never tried again.
Rule 3: foreign errors are translated in ``_translate``, and nowhere else.

One file, though long: a connection, from its address to its end.
"""

from __future__ import annotations

import contextlib
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
from ._client import Client
from ._endpoint import Endpoint
from ._files import require_homes, unusable
from ._handshakes import Handshakes
from ._heard import Heard
from ._kerberos import why_not
from ._login import Login, hop
from ._open_tunnel import VERSION, VERSION_LINE, OpenTunnel, Tunnelled
from ._resolve import Address, resolve
from ._stream import Stream, dial, spawn
from ._translate import (
    HungUp,
    TryLater,
    behind,
    not_forwarded,
    not_greeted,
    not_opened,
    still_silent,
    unreachable,
)
from ._trust import FLAWED, Trust

__all__ = ["Handshakes", "SshChannel", "SshSession", "SshTransport"]

PAUSES: Final = (1.0, 3.0, 6.0, 6.0, 6.0)
"""
Seconds before each new try with a server that hung up at once.

The later pauses outlast the 5 s of a penalty of sshd (PerSourcePenalties, since 9.8).
"""

STALE_SECONDS: Final = 30.0
"""
Seconds after which a stream that waited for its turn is opened anew.

sshd ends a connection without a login after LoginGraceTime, 120 s by default, and a
host of a large fleet may wait that long.
"""

CLOSE_SECONDS: Final = 3.0
"""Seconds that an orderly close may take."""

ROOM_PAUSES: Final = (0.1, 0.2, 0.4, 0.8, 1.6)
"""
Seconds before each new try with a server that took no further command.

sshd counts a command in MaxSessions until it has ended, also where its channel was
dropped before; without such a command only the first two tries are worth it.
"""

ASKED_AT_ONCE: Final = 16
"""Hosts that ssh is asked about at once; each takes some open files meanwhile."""

TOUCHED: Final = 3
"""Hosts, besides jump hosts, whose login may have a person touch a key."""

SHARED_OPTIONS: Final[dict[str, Any]] = {  # asyncssh types each of them differently
    # By default asyncssh would look for ~/.ssh/config, for each connection anew.
    "config": None,
    "client_version": VERSION,
    # AES comes first: asyncssh's own first choice, chacha20, makes three cipher objects
    # a packet in Python; AES-GCM makes one.
    "encryption_algs": [
        "aes128-gcm@openssh.com",
        "aes256-gcm@openssh.com",
        "aes128-ctr",
        "aes256-ctr",
        "chacha20-poly1305@openssh.com",
    ],
    # An archive is compressed already, and zlib would run once for each host.
    "compression_algs": ["none"],
    # A deploy asks nobody for a password; the client notes which server would have one.
    "preferred_auth": [
        "gssapi-with-mic",
        "publickey",
        "keyboard-interactive",
        "password",
    ],
    # A host's time is counted here, from when its turn comes.
    "login_timeout": 0,
    # Without keepalives a dead peer blocks a write until TCP gives up, after some 15
    # minutes; with these, for a minute.
    "keepalive_interval": 15,
    "keepalive_count_max": 3,
    # A banner that is not UTF-8 would end the login.
    "utf8_decode_errors": "replace",
    "gss_kex": False,
    # X.509 would have files looked for on disk, for every connection.
    "x509_trusted_certs": None,
    "x509_trusted_cert_paths": [],
}


class SshTransport:
    """
    A transport that reaches hosts as *settings* say.

    Args:
        settings: The ``[ssh]`` table.

        handshakes: Limits shared with other transports of this loop; by default this
            transport has its own.

        login_seconds: How long a host may take to answer, and again to let us in; time
            spent waiting for other hosts' handshakes does not count.

        pauses: Seconds, give or take half, before each new try with a server that hung
            up at once.

        hosts_each: How many hosts share one connection to their jump host.

        stale_seconds: How long a stream may wait for its turn before it is opened anew.

        environ: The environment that names the agent.

    Raises:
        ConfigError: The identity or ``known_hosts`` cannot be read, or there is no home
            folder.
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
        require_homes(settings)
        self._login = Login(settings, environ)
        self._trust = Trust(settings)
        self._handshakes = handshakes or Handshakes(settings.connects)
        self._login_seconds = login_seconds
        self._pauses = tuple(pauses)
        self._hosts_each = hosts_each
        self._bastions: dict[str, Bastion] = {}
        self._stale_seconds = stale_seconds
        self._streams: weakref.WeakSet[Stream] = weakref.WeakSet()
        self._asking = anyio.CapacityLimiter(ASKED_AT_ONCE)
        self._addresses: dict[tuple[str, int], tuple[Address, ...]] = {}
        self._touched: set[str] = set()

    def session(self, host: Host) -> SshSession:
        """Return a handle on *host*; nothing is contacted yet."""
        return SshSession(host, functools.partial(self._connect, host))

    async def aclose(self) -> None:
        """
        Close the connections to bastions, and wait until every stream has ended.

        The wait lasts ``CLOSE_SECONDS`` at most.
        """
        self._login.stop()
        while self._bastions:
            _, bastion = self._bastions.popitem()
            await bastion.close()
        # uvloop spins for ever when it is closed while a transport is still ending, so
        # the wait is shielded: a cancelled run has to reach it too.
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            for stream in tuple(self._streams):
                stream.abort()
                await stream.gone.wait()

    async def _connect(self, host: Host, jump: str | None = None) -> _Connection:
        """
        Connect and log in; again where the server hung up before its version line.

        *jump* is given for a jump host: the hosts before it, separated by commas.

        Raises:
            Unreachable: No connection, a refused login, or the wrong host key.
        """
        endpoint = await self._endpoint(host, jump)
        may_touch = functools.partial(self._may_touch, host, is_hop=jump is not None)
        for number, pause in enumerate(self._pauses):
            try:
                return await self._attempt(host, endpoint, may_touch)
            except TryLater as exc:
                if number == exc.tries:
                    raise
                # A fleet that was throttled together would come back together, so the
                # pauses differ from host to host.
                jitter = random.uniform(0.5, 1.5)  # noqa: S311  no secret
                await anyio.sleep(pause * jitter)
        return await self._attempt(host, endpoint, may_touch)

    def _may_touch(self, host: Host, *, is_hop: bool) -> bool:
        """Tell whether a person may be asked to touch a key for *host*."""
        # A jump host is logged in to for all hosts behind it at once. Nobody touches a
        # key for each host of a fleet, within the seconds of its login.
        if not is_hop and len(self._touched) < TOUCHED:
            self._touched.add(host.name)
        return is_hop or host.name in self._touched

    async def _endpoint(self, host: Host, jump: str | None) -> Endpoint:
        work_out = functools.partial(self._login.endpoint, host, jump)
        try:
            # ssh is asked for each host, once, and keys may have to be read.
            if self._login.reads_files:
                return await anyio.to_thread.run_sync(
                    work_out, abandon_on_cancel=True, limiter=self._asking
                )
            return work_out()
        except (OSError, ValueError) as exc:
            raise Unreachable(host.name, f"ssh configuration: {unusable(exc)}") from exc

    async def _attempt(
        self, host: Host, endpoint: Endpoint, may_touch: Callable[[], bool]
    ) -> _Connection:
        """Connect and log in once; TryLater where another attempt does no harm."""
        limit = self._handshakes.endpoint(endpoint.limit_key)
        heard = Heard()
        client = functools.partial(Client, self._trust, endpoint, heard, may_touch)
        try:
            async with limit.places:
                # The server greets before the login takes its turn: turns are few, and
                # a host that never answers would hold one for all its time.
                stream = await self._reach(host, endpoint)
                greeted_at = anyio.current_time()
                try:
                    async with self._handshakes.turn():
                        waited = anyio.current_time() - greeted_at
                        # A server that has ended the stream meanwhile, or is about to,
                        # would count as one where the login failed.
                        if stream.lost or waited > self._stale_seconds:
                            stream.abort()
                            stream = await self._reach(host, endpoint)
                        connection = await self._log_in(host, endpoint, stream, client)
                except BaseException:
                    # A login that is called off in the queue has no connection of
                    # asyncssh yet that would end the stream.
                    stream.abort()
                    raise
        except HungUp:
            # sshd drops some of the logins that come together, at random: fewer come
            # together next time.
            limit.slow_down()
            raise
        except (OSError, ValueError, asyncssh.Error) as exc:
            raise unreachable(host, endpoint, self._trust, exc, heard) from exc
        limit.speed_up()
        return connection

    async def _reach(self, host: Host, endpoint: Endpoint) -> Stream:
        """Open a stream to the server and wait for its version line."""
        if endpoint.jump:
            try:
                async with self._bastion(endpoint.jump).place() as place:
                    return await self._greeted(host, place.tunnel(endpoint))
            except Unreachable as exc:
                # An error of the jump host names the jump host; the host behind it gets
                # an error of its own that says both names.
                raise exc if exc.host == host.name else behind(host, exc) from exc
        if endpoint.proxy_command:
            return await self._greeted(host, spawn(endpoint.proxy_command))
        return await self._dialled(host, endpoint)

    async def _dialled(self, host: Host, endpoint: Endpoint) -> Stream:
        """Open a stream to where the host answered before, or else to its addresses."""
        # The way back needs no resolver that the way there did not need.
        name = endpoint.address, endpoint.family
        kept = self._addresses.get(name)
        addresses = kept or await self._look_up(endpoint)
        try:
            stream = await self._greeted(host, dial(addresses, endpoint.port))
        except OSError as exc:
            if not kept:
                raise
            # A host that was replaced may have another address by now.
            with contextlib.suppress(OSError):
                addresses = await self._look_up(endpoint)
            if addresses == kept:
                raise exc from None
            stream = await self._greeted(host, dial(addresses, endpoint.port))
        self._addresses[name] = addresses
        return stream

    async def _look_up(self, endpoint: Endpoint) -> tuple[Address, ...]:
        async with self._handshakes.lookups:
            # The deadline starts with the token: hosts that wait for other lookups have
            # spent nothing of their time.
            with anyio.fail_after(self._login_seconds):
                return await resolve(endpoint.address, endpoint.family)

    async def _greeted(self, host: Host, opening: Awaitable[Stream]) -> Stream:
        """Return the stream once its server has greeted, as we do; else HungUp."""
        stream: Stream | None = None
        try:
            with anyio.fail_after(self._login_seconds):
                stream = await opening
                stream.greet(VERSION_LINE)
                # Streams are noted for aclose, since no connection knows this one yet.
                self._streams.add(stream)
                greeted = await stream.greeted()
        except BaseException as exc:
            if stream is not None:
                stream.abort()
                if isinstance(exc, TimeoutError):
                    raise still_silent(stream) from exc
            raise
        if not greeted:
            raise not_greeted(host.name, stream)
        return stream

    def _bastion(self, jump: str) -> Bastion:
        """Return the last of the jump hosts in *jump*, which the others lead to."""
        if jump not in self._bastions:
            # The hosts before it are connected to as any jump host is, one hop shorter:
            # a chain of hops is shared from its first hop on.
            before, _, last = jump.rpartition(",")
            host = hop(last)
            connect = functools.partial(self._connect, host, before)
            self._bastions[jump] = Bastion(
                lambda: SshSession(host, connect), self._hosts_each
            )
        return self._bastions[jump]

    async def _log_in(
        self,
        host: Host,
        endpoint: Endpoint,
        stream: Stream,
        client: Callable[[], Client],
    ) -> _Connection:
        asked = self._trust.algorithms(endpoint)
        try:
            return await self._log_in_by(asked, endpoint, stream, client())
        except asyncssh.HostKeyNotVerifiable as exc:
            # A certificate that has expired, or is for another name, is none for ssh.
            if exc.reason.startswith(FLAWED):
                self._trust.distrust_authority(endpoint, exc.reason)
            # Of which kinds the host's keys on record are, under a hashed name, may be
            # known only now that all names were compared.
            better = self._trust.algorithms(endpoint)
            if better == asked:
                raise
        stream = await self._reach(host, endpoint)
        return await self._log_in_by(better, endpoint, stream, client())

    async def _log_in_by(
        self,
        algorithms: Sequence[str],
        endpoint: Endpoint,
        stream: Stream,
        client: Client,
    ) -> _Connection:
        try:
            with anyio.fail_after(self._login_seconds):
                connection = await asyncssh.connect(
                    endpoint.address.lower(),
                    endpoint.port,
                    username=endpoint.user,
                    client_keys=None,
                    known_hosts=self._trust.known_for(endpoint),
                    server_host_key_algs=algorithms,
                    host_key_alias=endpoint.alias,
                    client_factory=lambda: client,
                    tunnel=OpenTunnel(stream),
                    gss_host=endpoint.address.lower() if endpoint.gssapi else None,
                    gss_delegate_creds=endpoint.delegates,
                    **SHARED_OPTIONS,
                )
        except asyncssh.PermissionDenied as exc:
            if client.withheld:
                raise ValueError(
                    "the key that is left has to be touched, which a run asks for at "
                    f"{TOUCHED} hosts at most: use one that need not be, or reach the "
                    "hosts through a jump host that takes this one"
                ) from exc
            if client.heard.takes_tickets:
                why = await anyio.to_thread.run_sync(why_not, endpoint)
                client.heard.no_ticket = why
            raise
        except (asyncssh.ConnectionLost, ConnectionError) as exc:
            theirs = client.host_key_algorithms
            if not theirs or {*algorithms} & {*theirs}:
                raise
            # sshd finds that out as well, and hangs up without a word.
            raise asyncssh.KeyExchangeFailed(
                "No matching host key algorithm found, sent "
                f"{','.join(algorithms)} and received {','.join(theirs)}"
            ) from exc
        finally:
            client.close_agent()
        by = client.key
        if not by and client.heard.ticket:
            by = connection.get_gss_context().user
        connection.set_extra_info(key=by)
        # Writing the file blocks, and may wait for another run that writes to it.
        if self._trust.is_unsaved(endpoint):
            await anyio.to_thread.run_sync(self._trust.save, endpoint)
        return connection, stream


_Connection = tuple[asyncssh.SSHClientConnection, Stream]


class _NoRoom(ConnectionDied):
    """The server took no further command, on a connection that lives."""


class SshSession:
    """
    A handle on one host; see :class:`protocols.Session`.

    *connect* returns a connection that is logged in, and the stream below it.
    """

    def __init__(
        self, host: Host, connect: Callable[[], Awaitable[_Connection]]
    ) -> None:
        self.host = host
        self._connect = connect
        self._connection: _Connection | None = None
        self._opening = anyio.Lock()
        self._channels: list[SshChannel] = []

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as this side has noticed."""
        return self._connection is not None and not self._connection[1].lost

    @property
    def key(self) -> str:
        """The key that logged in, by its fingerprint, or the Kerberos principal."""
        if self._connection is None:
            return ""
        key: str = self._connection[0].get_extra_info("key", "")
        return key

    async def open(self) -> None:
        """Connect and log in, once; where the connection has died, again."""
        # Of two tasks that open at once the second finds the session open.
        async with self._opening:
            if not self.is_open:
                self._connection = await self._connect()
                self._channels = []

    async def execute(
        self, command: str, *, output: OnOutput, errors: OnOutput
    ) -> SshChannel:
        """
        Start *command* through the login shell.

        Raises:
            ConnectionDied: The connection is gone, or takes no further command.
        """
        await self._room()
        abandoned = any(channel.abandoned for channel in self._channels)
        for pause in ROOM_PAUSES if abandoned else ROOM_PAUSES[:2]:
            try:
                return await self._start(command, output, errors)
            except _NoRoom:
                await anyio.sleep(pause)
        return await self._start(command, output, errors)

    async def _room(self) -> None:
        """Wait until the channels that were dropped are closed, if not for ever."""
        # sshd counts a channel in MaxSessions, and others may take no new one, until
        # both sides have closed it.
        with anyio.move_on_after(CLOSE_SECONDS):
            for channel in self._channels:
                if channel.dropped:
                    await channel.wait_closed()
        # A host that hangs is waited for once.
        self._channels = [
            one for one in self._channels if one.abandoned or not one.dropped
        ]

    async def _start(
        self, command: str, output: OnOutput, errors: OnOutput
    ) -> SshChannel:
        connection, stream = self._alive()
        channel = SshChannel(self.host.name, stream, output, errors)
        self._channels.append(channel)
        try:
            # A pty would change bytes of stdin and merge stderr into stdout.
            await connection.create_session(
                lambda: channel, command, encoding=None, request_pty=False
            )
        except (OSError, asyncssh.Error) as exc:
            channel.abort()
            text = "the connection died" if stream.lost else not_opened(exc)
            full = isinstance(exc, asyncssh.ChannelOpenError) and not stream.lost
            error = _NoRoom if full else ConnectionDied
            raise error(self.host.name, text) from exc
        except BaseException:
            # A request that is cancelled while it waits for sshd leaves a channel on
            # which nobody would listen.
            channel.abort()
            raise
        return channel

    async def tunnel(self, endpoint: Endpoint) -> Stream:
        """
        Open a TCP connection from this host to *endpoint*.

        Raises:
            Unreachable: This host may not do that, or is gone.
            OSError: This host cannot reach the endpoint.
        """
        tunnelled = Tunnelled()
        try:
            connection, _ = self._alive()
            await connection.create_connection(
                lambda: tunnelled, endpoint.address, endpoint.port
            )
        except (ConnectionDied, asyncssh.Error) as exc:
            # A jump host that died took this host with it through no fault of the host,
            # which tries again through the next connection.
            if not self.is_open:
                raise TryLater(self.host.name, "the connection died") from exc
            raise not_forwarded(self.host.name, endpoint, exc) from exc
        return tunnelled.stream

    def abort(self) -> None:
        """Drop the connection now."""
        if self._connection is not None:
            connection, stream = self._connection
            connection.abort()
            stream.abort()

    async def close(self) -> None:
        """Close the connection in an orderly way."""
        if self._connection is None:
            return
        connection, stream = self._connection
        connection.close()
        # A stuck proxy command never ends by itself, so the wait has a bound; a shield
        # lets a cancelled run say goodbye too.
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            await connection.wait_closed()
            await stream.gone.wait()
        stream.abort()

    def _alive(self) -> _Connection:
        if self._connection is None or self._connection[1].lost:
            raise ConnectionDied(self.host.name, "the connection is gone")
        return self._connection
