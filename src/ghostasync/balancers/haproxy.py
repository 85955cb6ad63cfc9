"""
HAProxy, one or several, by the admin socket of each.

How it works. A server is drained and not put into maintenance, because HAProxy goes on
checking a server that it drains: it is made ready again once these checks pass, so that
no visitor meets an application that is still starting. All HAProxies are looked at
before one of them is told anything. What they are told lives in their processes alone:
a restart or reload forgets it, unless they are configured to load their servers' state.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

import anyio
import anyio.abc
import attrs

from ..config._options import Rule, listed, options_of
from ..errors import HostError, PlanError
from ..model import Host, Plan
from ..protocols import HostAccess

__all__ = ["HAProxy"]

_WHERE: Final = "rollout.balancer"
_TCP: Final = re.compile(r"tcp://\[?([^\s\[\]/]+?)\]?:([0-9]{1,5})")
_LAST_PORT: Final = 65535
_PATH: Final = re.compile(r"[^\x00-\x1f\x7f]+")
_FIELD: Final = re.compile(r"\{([^{}]*)\}")
# A blank, a semicolon or a line's end would begin another word or command.
_SAFE: Final = re.compile(r"[A-Za-z0-9_.:-]+")

_ANSWER_SECONDS: Final = 5.0
"""Seconds for one answer: it comes from memory, but visitors may come in a burst."""

_POLL_EVERY: Final = 0.25
_LAST_WORDS: Final = 2.0
"""Seconds until sessions that were shut down are gone."""

_DRAIN: Final = ("set server", "state drain")
_READY: Final = ("set server", "state ready")

_COLUMNS: Final = {
    *("pxname", "svname", "iid", "sid", "scur", "qcur", "status", "act", "weight")
}

Row = Mapping[str, str]
"""A server in the statistics, by the names of their columns."""


def _is_socket(text: str) -> bool:
    if to := _TCP.fullmatch(text):
        return 0 < int(to[2]) <= _LAST_PORT
    return _PATH.fullmatch(text) is not None and "://" not in text


@attrs.frozen
class _Options:
    socket: tuple[str, ...] | str
    backend: tuple[str, ...] | str
    server: str = "{name}"
    force: bool = False


_RULES: Final = {
    "socket": Rule(
        'a path or "tcp://host:port", or an array of them',
        _is_socket,
    ),
    "backend": Rule(
        "the name of a backend, or an array of them",
        lambda value: _SAFE.fullmatch(value) is not None,
    ),
    "server": Rule(
        'a name such as "{name}", with {name}, {address} or labels of hosts in it',
        bool,
    ),
}


@attrs.frozen
class _Server:
    """A host's server in one backend of one HAProxy. All methods raise HostError."""

    host: str
    socket: str
    backend: str
    name: str

    async def among_others(self) -> tuple[Row, list[Row]]:
        """Return the server as it is now, and the others of its backend."""
        # All backends are asked for: by a name HAProxy may find a frontend.
        rows = await self._rows("-1 4 -1")
        rows = [row for row in rows if row["pxname"] == self.backend]
        mine = [row for row in rows if row["svname"] == self.name]
        if not mine:
            text = "the backend has no such server" if rows else "no such backend"
            raise self.wrong(f"{text} ({_WHERE})")
        return mine[0], [row for row in rows if row is not mine[0]]

    async def after(self, row: Row) -> Row:
        """Return the server as it is now, of which *row* was told earlier."""
        # One row of many: hundreds of hosts may be waiting, several times a second.
        # After a reload the numbers may be another server's.
        for now in await self._rows(f"{row['iid']} 4 {row['sid']}"):
            if (now["pxname"], now["svname"]) == (self.backend, self.name):
                return now
        return (await self.among_others())[0]

    async def tell(self, verb: str, rest: str = "") -> None:
        """Have HAProxy do something about the server: its silence is consent."""
        command = f"{verb} {self.backend}/{self.name} {rest}".rstrip()
        if said := (await self._ask(command)).split():
            raise self.wrong(" ".join(said))

    def wrong(self, text: str) -> HostError:
        """Return the error that *text* is."""
        where = f"{self.backend}/{self.name} on {self.socket}"
        return HostError(self.host, f"{where}: {text}")

    async def _rows(self, which: str) -> list[Row]:
        text = await self._ask(f"show stat {which}")
        if not text.startswith("# "):
            raise self.wrong(" ".join(text.split()) or "no statistics")
        rows: list[Row] = list(
            csv.DictReader(text.removeprefix("# ").strip().splitlines())
        )
        if rows and not rows[0].keys() >= _COLUMNS:
            raise self.wrong("these are not the statistics of an HAProxy")
        return rows

    async def _ask(self, command: str) -> str:
        try:
            with anyio.fail_after(_ANSWER_SECONDS):
                return await _answer(self.socket, command)
        except TimeoutError:
            raise self.wrong(f"no answer within {_ANSWER_SECONDS:g} s") from None
        except (OSError, anyio.BrokenResourceError, UnicodeDecodeError) as exc:
            why = getattr(exc, "strerror", None) or str(exc) or "it hung up"
            text = f"cannot be asked: {why} ({_WHERE}.socket)"
            raise self.wrong(text) from exc


class HAProxy:
    """
    The balancer ``haproxy``.

    Options: *socket*, the admin socket of each HAProxy (a path, or ``tcp://host:port``;
    one or a list); *backend*, one or a list, each in every HAProxy; *server*, the name
    of a host's server there, in which ``{name}``, ``{address}`` and ``{label}`` stand
    for what the host has; *force* ends the sessions that are left at the deadline.

    A server that somebody has put into maintenance stays there, and the last server
    that takes visitors is never drained.

    Raises:
        PlanError: The options are wrong, or name a server as none can be called.
    """

    def __init__(self, options: Mapping[str, object], plan: Plan) -> None:
        read = options_of(_Options, options, _WHERE, _RULES)
        self._sockets = [
            socket if "://" in socket else str(plan.base / socket)
            for socket in listed(read.socket)
        ]
        self._backends = listed(read.backend)
        self._server, self._force = read.server, read.force
        # Two hosts that look at the same time would each take the other for the one
        # that stays.
        self._turn = anyio.Lock()
        self._untold: set[str] = set()
        taken: dict[str, str] = {}
        for host in plan.hosts:
            try:
                name = self._servers(host)[0].name
            except HostError as exc:
                raise PlanError(f"{host.name}: {exc}") from None
            # One of them would be drained for the other.
            if taken.setdefault(name, host.name) != host.name:
                text = (
                    f"is the server {name}, and so is {taken[name]} ({_WHERE}.server)"
                )
                raise PlanError(f"{host.name}: {text}")

    async def drain(self, access: HostAccess) -> None:
        """
        Have every HAProxy send the host no visitors, and wait for the last one to go.

        Raises:
            HostError: An HAProxy cannot be asked, no other server would be left, or
                visitors are still there at the deadline.
        """
        servers = self._servers(access.host)
        async with self._turn:
            drained = await self._start_to_drain(servers)
        with anyio.move_on_after(access.seconds) as scope:
            for server, row in drained.items():
                await self._until_alone(server, row)
        if not scope.cancelled_caught:
            return
        if not self._force:
            raise HostError(
                access.host.name,
                f"visitors are still there after {access.seconds:g} s (rollout."
                f"deadlines.drain); {_WHERE}.force = true ends their sessions",
            )
        for server, row in drained.items():
            await server.tell("shutdown sessions server")
            with anyio.move_on_after(_LAST_WORDS) as scope:
                await self._until_alone(server, row)
            if scope.cancelled_caught:
                raise server.wrong("its sessions were shut down, and go on")

    async def undrain(self, access: HostAccess) -> None:
        """
        Wait until the host passes the checks of every HAProxy, then have it used again.

        Raises:
            HostError: An HAProxy cannot be asked, or its checks did not pass in time.
        """
        # A host that no HAProxy was told about need not be put back, and the HAProxy
        # that did not answer then may be away for good.
        untold = access.host.name in self._untold
        self._untold.discard(access.host.name)
        failures: list[HostError] = []

        # At the same time: one HAProxy whose checks do not pass keeps no other.
        async def use(server: _Server) -> None:
            try:
                await _until_used(server)
            except HostError as exc:
                failures.append(exc)

        with anyio.move_on_after(access.seconds) as scope:
            async with anyio.create_task_group() as tasks:
                for server in self._servers(access.host):
                    tasks.start_soon(use, server)
        if failures and not untold:
            raise failures[0]
        if scope.cancelled_caught:
            raise HostError(
                access.host.name,
                f"HAProxy's own checks of it do not pass within {access.seconds:g} s"
                " (rollout.deadlines.undrain)",
            )

    async def _start_to_drain(self, servers: Sequence[_Server]) -> dict[_Server, Row]:
        """Look at all *servers*, then drain all; return those that were drained."""
        found: dict[_Server, Row] = {}
        try:
            for server in servers:
                mine = await _require_others(server)
                if not _rests(mine):
                    found[server] = mine
        except HostError as exc:
            self._untold.add(exc.host)
            raise
        told: list[_Server] = []
        try:
            for server in found:
                told.append(server)
                await server.tell(*_DRAIN)
        except HostError:
            # The run puts the host back as well, once the HAProxy answers again; those
            # that do answer should not have to wait for that.
            for server in told:
                with suppress(HostError):
                    await server.tell(*_READY)
            raise
        return found

    async def _until_alone(self, server: _Server, row: Row) -> None:
        """Wait until no visitor is at work on a drained server, or waits for it."""
        while True:
            row = await server.after(row)
            if _serves(row):
                # HAProxy was reloaded, and has forgotten what it was told.
                async with self._turn:
                    await _require_others(server)
                    await server.tell(*_DRAIN)
            elif row["scur"] == row["qcur"] == "0":
                return
            await anyio.sleep(_POLL_EVERY)

    def _servers(self, host: Host) -> list[_Server]:
        """Return what *host* is in each HAProxy; HostError where it can be nothing."""
        values = {
            **host.labels,
            "address": host.address or host.name,
            "name": host.name,
        }

        def value(field: re.Match[str]) -> str:
            if field[1] not in values:
                text = f"the host has no label {field[1]} ({_WHERE}.server)"
                raise HostError(host.name, text)
            return values[field[1]]

        name = _FIELD.sub(value, self._server)
        if _SAFE.fullmatch(name) is None:
            text = f"no server of HAProxy can be called {name!r} ({_WHERE}.server)"
            raise HostError(host.name, text)
        return [
            _Server(host.name, socket, backend, name)
            for socket in self._sockets
            for backend in self._backends
        ]


async def _require_others(server: _Server) -> Row:
    """Return a server as it is now, unless nobody else would take visitors."""
    mine, others = await server.among_others()
    if _serves(mine) and not any(map(_is_left, others)):
        raise server.wrong("is the last server that takes visitors")
    return mine


async def _until_used(server: _Server) -> None:
    """Have a server used once it passes its checks, and see that it is."""
    row, _ = await server.among_others()
    while not (_serves(row) or _rests(row)):
        # One that fails its checks is "DRAIN 1/2", then "DOWN".
        if row["status"] == "DRAIN":
            await server.tell(*_READY)
        await anyio.sleep(_POLL_EVERY)
        row = await server.after(row)


def _serves(row: Row) -> bool:
    """Tell whether new visitors are sent to a server."""
    return row["status"].startswith(("UP", "no check"))


def _is_left(row: Row) -> bool:
    """Tell whether a server is one for visitors when another one is drained."""
    # A backup server may merely say that nobody is there.
    return _serves(row) and row["act"] == "1" and row["weight"] != "0"


def _rests(row: Row) -> bool:
    """Tell whether a server is in maintenance, which is a person's word."""
    return row["status"].startswith("MAINT")


async def _answer(socket: str, command: str) -> str:
    """Return what HAProxy says to *command*; it hangs up after one."""
    stream: anyio.abc.ByteStream
    if to := _TCP.fullmatch(socket):
        stream = await anyio.connect_tcp(to[1], int(to[2]))
    else:
        stream = await anyio.connect_unix(socket)
    async with stream:
        await stream.send(f"{command}\n".encode())
        return b"".join([part async for part in stream]).decode()
