"""
The seams: what a transport, store, source, inventory, balancer, notifier or observer
must offer.

Each is a :class:`typing.Protocol` of a few methods; there are no base classes. The
engine never imports an implementation, ``_api`` hands them in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import attrs

from .events import Record
from .model import Host, Package, Report, Revision

__all__ = [
    "Balancer",
    "Channel",
    "Environment",
    "HostAccess",
    "Inventory",
    "ManifestLine",
    "Notifier",
    "Observer",
    "OnOutput",
    "Session",
    "Source",
    "Store",
    "Transport",
]

Observer = Callable[[Record], None]
"""Called with every record, in order, on the event loop. Must not block."""

OnOutput = Callable[[bytes], None]
"""Called with bytes as they arrive, on the event loop. Must not block."""


class Channel(Protocol):
    """One command that runs on a host."""

    async def write(self, data: bytes | memoryview) -> None:
        """
        Send *data* to the command's stdin; return when there is room for more.

        Yields to other tasks now and then, however fast the peer is.

        Raises:
            ConnectionDied: The connection is gone.
            BrokenPipeError: The command stopped reading; its status tells why.
        """

    def write_eof(self) -> None:
        """Close the command's stdin. Never raises."""

    async def wait(self) -> int | None:
        """
        Wait for the command to end and return its exit status.

        None: it was killed by a signal, or the connection died. Output that arrived
        before has been handed out.
        """

    def abort(self) -> None:
        """Drop the channel now, unsent data included. Never raises."""


class Session(Protocol):
    """A handle on one host: at most one connection, opened when asked for."""

    @property
    def host(self) -> Host:
        """The host this is a handle on."""

    async def open(self) -> None:
        """
        Connect and log in, once; where the connection has died, again.

        Raises:
            Unreachable: No connection, login refused, or the wrong host key.
        """

    async def execute(
        self, command: str, *, output: OnOutput, errors: OnOutput
    ) -> Channel:
        """
        Start *command* through the login shell.

        Args:
            command: Safe in any login shell: no quote, newline, backslash or ``!``
                inside its single-quoted part.

            output: Gets what the command writes to stdout.

            errors: Gets what it writes to stderr.

        Raises:
            ConnectionDied: The connection is gone, or takes no further command.
        """

    def abort(self) -> None:
        """Drop the connection now. Never raises."""

    async def close(self) -> None:
        """Close the connection in an orderly way; bounded in time, never raises."""


class Transport(Protocol):
    """Who reaches hosts."""

    def session(self, host: Host) -> Session:
        """Return a handle on *host*; nothing is contacted yet."""

    async def aclose(self) -> None:
        """Give back what sessions share; bounded in time."""


class Source(Protocol):
    """Where a module's tree comes from."""

    async def resolve(self) -> Revision:
        """
        Find out what the wanted revision is now; contacts the source, not hosts.

        Raises:
            UnknownRevision: There is no such branch, tag or commit.
            SourceError: The source could not be asked.
        """

    async def fetch(self, revision: Revision, into: Path, output: OnOutput) -> None:
        """
        Put the tree of *revision* into the empty folder *into*.

        Raises:
            SourceError: It could not be fetched.
        """


@attrs.frozen
class ManifestLine:
    """One line of MANIFEST: what a booting instance gets for one module."""

    module: str
    package: str
    path: str
    sha256: str


@attrs.frozen
class Environment:
    """
    What a run added to a package: the environment its scripts saw.

    *variables* hold secrets too, so a store keeps it as secret as it can; *digest*
    is what tells one environment from another.
    """

    package: str
    variables: Mapping[str, str] = attrs.field(repr=False)
    digest: str = ""


class Store(Protocol):
    """
    Packages, MANIFEST and runs of one app, env, role and color.

    All methods raise StoreError. Writes are conditional or atomic: no partial object
    is ever visible.
    """

    @property
    def url(self) -> str:
        """Where the store is, for people."""

    async def reserve(self, module: str, commit: str) -> str:
        """Return a package id that nobody has, and keep others from taking it."""

    async def publish(self, package: Package, archive: Path, manifest: Path) -> None:
        """Add a package; *archive* and *manifest* may be moved away."""

    async def package(self, package_id: str) -> Package:
        """Return what is known of a package."""

    async def packages(self, module: str) -> Sequence[str]:
        """Return the ids of a module's packages, oldest first."""

    async def archive(self, package_id: str) -> Path:
        """Return a local, verified copy of a package's archive."""

    async def manifest(self) -> tuple[ManifestLine, ...]:
        """Return MANIFEST; empty where there is none yet."""

    async def move_manifest(
        self,
        lines: Sequence[ManifestLine],
        environments: Sequence[Environment],
        order: Sequence[str],
    ) -> None:
        """
        Replace or add the given modules' lines, and their environments, at once.

        Lines are kept in *order* (module names in app order); other modules keep
        theirs.
        """

    async def environment(self, package_id: str) -> Environment | None:
        """Return the environment kept with a package that MANIFEST names."""

    async def prune(self, module: str, keep: int, protected: frozenset[str]) -> int:
        """Remove all but the *keep* newest packages; return how many went."""

    async def save(self, run: str, name: str, data: bytes) -> None:
        """Keep a file of a run (journal, report, a host's log)."""

    async def load(self, run: str, name: str) -> bytes:
        """Return a file of a run."""

    async def runs(self) -> Sequence[str]:
        """Return the ids of known runs, oldest first."""


@runtime_checkable
class Inventory(Protocol):
    """Where hosts come from."""

    async def hosts(self) -> Sequence[Host]:
        """
        Return all hosts of the app, in a stable order: as they are now.

        Asked when a run is planned, and again when MANIFEST has moved. It need not
        bound its time.

        Raises:
            PlanError: The hosts cannot be found out; one line that says why.
        """


class HostAccess(Protocol):
    """One host on its way, for its balancer: who it is, and what may be run for it."""

    @property
    def host(self) -> Host:
        """The host."""

    @property
    def variables(self) -> Mapping[str, str]:
        """What commands see: the app's variables, secrets and ``GHOST_*``."""

    async def run(self, text: str, *, on: Literal["controller", "host"]) -> None:
        """
        Run a script here or on the host; its output goes to the host's log.

        Without ``#!`` it is for ``/bin/sh``. It is ended at its deadline,
        ``rollout.deadlines.drain`` or ``undrain``, with all that it has started.

        Raises:
            HostError: It failed, took too long, or the connection died.
        """


@runtime_checkable
class Balancer(Protocol):
    """Who sends visitors to hosts."""

    async def drain(self, access: HostAccess) -> None:
        """
        Take a host out, and return when no visitor is at work on it any more.

        Raises:
            HostError: It could not be done. It may be half done: the host is put back.
        """

    async def undrain(self, access: HostAccess) -> None:
        """
        Put a host back that has proven its health, and return when it is in.

        Also called for a host that is in already, after a drain that failed.

        Raises:
            HostError: It could not be done.
        """


@runtime_checkable
class Notifier(Protocol):
    """
    Told what came of a run. A notifier that can be called is an :data:`Observer` too.

    Neither its errors nor its slowness touch the run: it is told when the run is over
    and has given its hosts back, has a few seconds, and what it raises is logged.
    """

    async def notify(self, report: Report) -> None:
        """Tell somebody of *report*."""
