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
    "Manifest",
    "ManifestLine",
    "Notifier",
    "Observer",
    "OnOutput",
    "Packages",
    "RunLog",
    "Session",
    "Source",
    "Sparing",
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


class Packages(Protocol):
    """
    The packages of one app, env, role and color.

    A package is there whole or not at all, and never replaced. All methods raise
    StoreError; NotInStore where the store could be read and lacks what is asked for.
    """

    async def reserve(self, module: str, commit: str) -> str:
        """
        Return a package id that nobody has, and keep others from taking it.

        Its epoch is now, or the first second after that which is free: a store creates
        the reservation only where there is none, and tries the next second else.

        Raises:
            StoreError: *module* and *commit* make no id, or the store failed.
        """

    async def publish(self, package: Package, archive: Path, manifest: Path) -> None:
        """
        Add a package, its archive and its manifest, in one step for those who read.

        *archive* and *manifest* may be moved away; the reservation of the id ends.

        Raises:
            StoreError: There is such a package already, and it stays as it is; or the
                store failed, and there is no such package.
        """

    async def package(self, package_id: str) -> Package:
        """
        Return what is known of a package.

        Raises:
            NotInStore: There is no such package.
            StoreError: This is no id, or what is known of it is damaged.
        """

    async def ids(self, module: str) -> Sequence[str]:
        """Return the ids of a module's packages, oldest first."""

    async def archive(self, package_id: str, into: Path) -> Path:
        """
        Return a file on this machine: the archive of a package, its digest checked.

        A store that is no folder here puts a copy into the folder *into*, as
        ``<id>.tar.zst`` and in one step, and takes one for it that is there and right.

        Raises:
            NotInStore: There is no such package.
            StoreError: The archive is not what was published, or cannot be had.
        """

    async def prune(self, module: str, keep: int, protected: frozenset[str]) -> int:
        """
        Remove all but the *keep* newest packages; return how many went.

        Those that MANIFEST or *protected* names stay; where MANIFEST cannot be read,
        all do. An interrupted prune leaves whole packages only.
        """


class Manifest(Protocol):
    """
    MANIFEST: the package of each module that a booting instance gets.

    The environments of its packages are kept with it, as secret as the store can. All
    methods raise StoreError.
    """

    async def read(self) -> tuple[ManifestLine, ...]:
        """
        Return the lines, in app order; none where it has not been written yet.

        Raises:
            StoreError: A line, named by number, is damaged.
        """

    async def move(
        self,
        lines: Sequence[ManifestLine],
        environments: Sequence[Environment],
        order: Sequence[str],
    ) -> None:
        """
        Replace or add the given modules' lines, and their environments, at once.

        Lines are kept in *order* (module names in app order); other modules keep
        theirs, those that other writers move at the same time too. Environments stay
        of the packages that MANIFEST names, and of those that it named before the
        modules' packages changed: the way back runs scripts that see them.

        Raises:
            StoreError: A package is not in the store or is another one, or the store
                failed. MANIFEST is as it was.
        """

    async def environment(self, package_id: str) -> Environment | None:
        """Return the environment of a package that MANIFEST names or named."""


class RunLog(Protocol):
    """
    The files that runs leave: journal, report, output of hosts and builds.

    A name may hold ``/``; whatever it holds, it stays within its run. All methods but
    :meth:`folder` raise StoreError; NotInStore as in :class:`Packages`.
    """

    def folder(self, run: str) -> Path | None:
        """
        Return the folder here that *is* the store's for the files of a run.

        A run writes its files there and then has nothing to hand in. None where the
        store keeps them elsewhere: the run writes to a folder of its own, and hands in
        through :meth:`append`. Nothing is made or contacted.
        """

    async def append(self, run: str, name: str, at: int, data: bytes) -> None:
        """
        Add a part of a file that grows; when this returns, the store has it.

        Parts are numbered by the byte *at* which they begin, each once and in order.
        The same part again is no error: its first answer may have been lost.

        Raises:
            StoreError: There is another part at that place, or none before it; or the
                store failed, and has the whole part or nothing of it.
        """

    async def save(self, run: str, name: str, data: bytes) -> None:
        """Keep a small file whole, in one step, in place of the one before."""

    async def load(self, run: str, name: str) -> bytes:
        """
        Return a file of a run: all its parts, or what was saved.

        Raises:
            NotInStore: The run has no such file.
            StoreError: The store failed, or a part is missing in between.
        """

    async def ids(self) -> Sequence[str]:
        """Return the ids of known runs, oldest first."""


class Store(Protocol):
    """Packages, MANIFEST and runs of one app, env, role and color."""

    @property
    def url(self) -> str:
        """Where the store is, for people; no two stores have the same."""

    @property
    def packages(self) -> Packages:
        """What was built."""

    @property
    def manifest(self) -> Manifest:
        """What a new host gets."""

    @property
    def runs(self) -> RunLog:
        """What was done."""


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
class Sparing(Protocol):
    """
    A :class:`Balancer` that may have nothing to do; then nobody asks the host either.

    Without this every host is asked first whether it is the run's still, and one that
    is out of reach cannot go back to its balancer.
    """

    def has_work(self, key: Literal["drain", "undrain"]) -> bool:
        """Tell whether the method of this name does anything at all."""


@runtime_checkable
class Notifier(Protocol):
    """
    Told what came of a run. A notifier that can be called is an :data:`Observer` too.

    Neither its errors nor its slowness touch the run: it is told when the run is over
    and has given its hosts back, has a few seconds, and what it raises is logged.
    """

    async def notify(self, report: Report) -> None:
        """Tell somebody of *report*."""
