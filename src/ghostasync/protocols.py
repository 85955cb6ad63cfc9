"""
The protocols: the seams at which parts are handed in and can be replaced.

A transport, source, store, inventory, balancer or notifier is any object with the
methods of its :class:`typing.Protocol`; there are no base classes. The engine imports
no implementation, ``_api`` hands them in. The errors that a method may raise are in its
docstring; any other exception is a bug of the implementation.

One file, though long: half of it says what an implementation has to hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, Protocol, runtime_checkable

import attrs

from .events import Record
from .model import Host, Package, Report, Revision

__all__ = [
    "ActiveColor",
    "AddressedPackages",
    "AudibleSource",
    "Balancer",
    "BootStore",
    "Channel",
    "ColorStore",
    "Environment",
    "Freeze",
    "GzipPackages",
    "HostAccess",
    "Inventory",
    "Lineage",
    "Manifest",
    "ManifestLine",
    "Notifier",
    "Observer",
    "OnOutput",
    "Packages",
    "PartialBalancer",
    "PartialSource",
    "RunLog",
    "Session",
    "SignedStore",
    "Source",
    "Store",
    "SuspendableInventory",
    "TestableStore",
    "TimedBalancer",
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

        Other tasks get their turn now and then, however fast the host is: a fleet
        shares one event loop.

        Raises:
            ConnectionDied: The connection is gone.
            BrokenPipeError: The command stopped reading; its status tells why.
        """

    def write_eof(self) -> None:
        """Close the command's stdin. Never raises."""

    async def wait(self) -> int | None:
        """
        Wait for the command to end and return its exit status.

        None: a signal killed the command, or the connection died. Output that arrived
        before has been handed out. A command has ended when its process has, though
        children may still hold its output.
        """

    def abort(self) -> None:
        """Drop the channel now, unsent data included. Never raises."""


class Session(Protocol):
    """A handle on one host: at most one connection, opened when asked for."""

    @property
    def host(self) -> Host:
        """The host that the session is a handle on."""

    @property
    def key(self) -> str:
        """The fingerprint of the ssh key that logged in; empty where none did."""

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

            output: Called with the command's stdout.

            errors: Called with the command's stderr.

        Raises:
            ConnectionDied: The connection is gone, or takes no further command.
        """

    def abort(self) -> None:
        """Drop the connection now. Never raises."""

    async def close(self) -> None:
        """Close the connection in an orderly way; bounded in time, never raises."""


class Transport(Protocol):
    """A way to reach hosts."""

    def session(self, host: Host) -> Session:
        """Return a handle on *host*; nothing is contacted yet."""

    async def aclose(self) -> None:
        """Give back the resources that sessions share; bounded in time."""


class Source(Protocol):
    """The origin of a module's tree."""

    async def resolve(self) -> Revision:
        """
        Find out which revision the wanted one is now; no host is contacted.

        Raises:
            UnknownRevision: There is no such branch, tag, commit, object or version.
            AmbiguousRevision: There are several, and they differ.
            SourceError: The source could not be asked.
        """

    async def fetch(self, revision: Revision, into: Path, output: OnOutput) -> None:
        """
        Put the tree of *revision* into the empty folder *into*.

        Raises:
            SourceError: The tree could not be fetched.
        """


@runtime_checkable
class Lineage(Protocol):
    """A :class:`Source` that knows which of two commits came later. Never raises."""

    async def distance(self, commit: str, other: str) -> tuple[int, int] | None:
        """
        Return how many commits *commit* is ahead of *other*, and how many behind.

        None where the source does not know both of them.
        """

    async def subjects(self, commit: str, other: str, count: int) -> tuple[str, ...]:
        """
        Return the newest *count* commits that *commit* has and *other* has not.

        Of each come an abbreviated id and the first line of its message; none where the
        source does not know both.
        """


@runtime_checkable
class AudibleSource(Protocol):
    """
    A :class:`Source` whose programs print something before there is a log for it.

    *said* is what they printed outside of ``fetch``, which gets an output.
    """

    @property
    def said(self) -> bytes:
        """What was printed, as it was."""


@runtime_checkable
class PartialSource(Protocol):
    """
    A :class:`Source` that may have to leave something behind.

    *left_behind* names paths and attributes that the last fetch could not keep.
    """

    left_behind: str


@attrs.frozen
class ManifestLine:
    """
    One line of MANIFEST: the package that a booting instance gets for one module.

    *generation* is the number of the run that wrote the line.
    """

    module: str
    package: str
    path: str
    sha256: str
    generation: int = 0


@attrs.frozen
class Environment:
    """
    The environment that a run added to a package, as its scripts saw it.

    *variables* hold secrets too, so a store keeps them as secret as it can. *secrets*
    are the names of these, None where nobody has said.
    """

    package: str
    variables: Mapping[str, str] = attrs.field(repr=False)
    secrets: tuple[str, ...] | None = None


_LATEST: Final = datetime(9999, 12, 31, tzinfo=UTC).timestamp()


def _in_calendar(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not 0 <= value <= _LATEST:
        raise ValueError(f"{attribute.name} is no time between 1970 and 9999")


@attrs.frozen
class Freeze:
    """
    A person's word that nothing is to be deployed; *since* and *until* are POSIX times.

    *where* is the machine on which it was said; *until* is 0 for a freeze without end.
    """

    actor: str
    where: str
    reason: str
    since: float = attrs.field(validator=_in_calendar)
    until: float = attrs.field(default=0.0, validator=_in_calendar)

    @property
    def text(self) -> str:
        """Who has frozen the app, from where, since when, why and for how long."""
        ends = _utc(self.until) if self.until else "somebody unlocks it"
        who = f"frozen by {self.actor} on {self.where} since {_utc(self.since)}"
        words = f"{who}, until {ends}: {self.reason}"
        return " ".join(words.split())


@attrs.frozen
class ActiveColor:
    """
    The color that serves visitors, as the stores of both colors have it on record.

    *number* counts the moves, since clocks order nothing; *run* has made the last one,
    *at* in POSIX seconds.
    """

    color: str = attrs.field(validator=attrs.validators.in_(("blue", "green")))
    number: int
    run: str
    actor: str
    reason: str
    at: float = attrs.field(validator=_in_calendar)

    @property
    def text(self) -> str:
        """Which color is active since when, by whom, and why."""
        why = f": {self.reason}" if self.reason else ""
        words = f"{self.color} since {_utc(self.at)}, by {self.actor}{why}"
        return " ".join(words.split())


def _utc(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M UTC}"


class Packages(Protocol):
    """
    The packages of one app, env, role and color.

    A package is there whole or not at all, and never replaced. All methods raise
    StoreError; NotInStore where the store could be read and has no such package.
    """

    # The two errors must be kept apart: a package that was pruned will never come back,
    # while a store that cannot be read may answer the next run.

    @property
    def are_here(self) -> bool:
        """Whether archives are files of this machine: then to publish is to move."""

    async def reserve(self, module: str, commit: str) -> str:
        """
        Return a package id that nobody has, and keep others from taking it.

        The epoch of the id is now, or later: the first second after those of all
        packages of the module. So ids sort in the order in which they were reserved,
        whatever the clocks of the machines say that reserved them.

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
        Return a package as a value.

        Raises:
            NotInStore: There is no such package.
            StoreError: The text is no id, or the store's description is damaged.
        """

    async def ids(self, module: str) -> Sequence[str]:
        """Return the ids of a module's packages, oldest first."""

    async def archive(self, package_id: str, into: Path) -> Path:
        """
        Return a file on this machine: the archive of a package, its digest checked.

        A store that is no folder here puts a copy into the folder *into*, as
        ``<id>.tar.zst`` and in one step. A copy that is there with the right digest is
        used again.

        Raises:
            NotInStore: There is no such package.
            StoreError: The archive is not what was published, or cannot be had.
        """

    async def listing(self, package_id: str) -> bytes:
        """
        Return the manifest of a package, its digest checked.

        Raises:
            NotInStore: There is no such package.
            StoreError: The manifest is not what was published, or cannot be had.
        """

    async def prune(self, module: str, keep: int, protected: frozenset[str]) -> int:
        """
        Remove all but the *keep* newest packages; return how many went.

        Packages that MANIFEST or *protected* names stay; where MANIFEST cannot be read,
        all packages stay. An interrupted prune leaves whole packages only.
        """


@runtime_checkable
class AddressedPackages(Protocol):
    """:class:`Packages` that hosts can fetch by themselves, by an address."""

    async def address(self, package: Package | None, seconds: float) -> str:
        """
        Return the URL by which whoever has it can fetch an archive for *seconds*.

        It may be good for longer, has no quote in it, and is as secret as the package.
        Without a package, it is that of something small, for a trial.

        Raises:
            StoreError: The store gives none.
        """


@runtime_checkable
class GzipPackages(Protocol):
    """:class:`Packages` that keep archives as gzip, too, for hosts that lack zstd."""

    async def publish_gzip(self, package: Package, archive: Path) -> None:
        """
        Keep *archive*, that of a published package as gzip; it may be moved away.

        Raises:
            StoreError: The store failed.
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
        expected: Sequence[ManifestLine] | None = None,
        drop: Sequence[str] = (),
    ) -> None:
        """
        Replace or add the given modules' lines, and their environments, at once.

        With *expected*, all lines as they were read earlier, nothing is done where the
        line of one of these modules is another one by now. The lines of the modules
        *drop* are removed.

        Lines are kept in *order* (module names in app order). Other modules keep their
        lines, also where another writer moves them at the same time. An environment
        stays for as long as its package: a rollback runs scripts that see it.

        Raises:
            StoreError: A package is not in the store or is another one, a line is not
                what was *expected*, or the store failed. MANIFEST is as it was.
        """

    async def environment(self, package_id: str) -> Environment | None:
        """Return the environment of a package that MANIFEST names or named."""


class RunLog(Protocol):
    """
    The files that runs leave: journal, report, output of hosts and builds.

    A name may hold ``/``; whatever a name holds, its file stays within its run. All
    methods but :meth:`folder` raise StoreError; NotInStore as in :class:`Packages`.
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
        The same part again is no error: the answer to the first try may have been lost.

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
        """Return the ids of known runs, in alphabetical order."""

    async def reserve(self, run: str, lowest: int) -> int:
        """
        Return a generation that no run of this store has, and keep it for *run*.

        It is *lowest*, or the next one after it that is free. Generations begin at 1.
        """

    async def generations(self) -> Mapping[str, int]:
        """Return the generation of each run that has reserved one; its last."""

    async def remove(self, run: str) -> None:
        """
        Remove the files of a run, which no id and no generation names any more.

        Its generation stays reserved. A run that is not there is none.
        """


class Store(Protocol):
    """Packages, MANIFEST and runs of one app, env, role and color."""

    async def identity(self, *, make: bool = False) -> str:
        """
        Return the word that tells this store from all others.

        A copy of a store has the same word: it knows the same runs. A store gets its
        word once, when it is first asked to *make* one; it is empty before that.

        Raises:
            StoreError: The store failed.
        """

    async def frozen(self) -> Freeze | None:
        """
        Return the freeze that was kept last; None where there is none.

        Raises:
            StoreError: The store failed, or what it has is damaged.
        """

    async def freeze(self, freeze: Freeze | None) -> None:
        """
        Keep a freeze in place of the one before, or forget it.

        Raises:
            StoreError: The store failed.
        """

    @property
    def url(self) -> str:
        """The address of the store, for people; no two stores have the same."""

    @property
    def packages(self) -> Packages:
        """The packages that were built."""

    @property
    def manifest(self) -> Manifest:
        """MANIFEST, by which a new host is set up."""

    @property
    def runs(self) -> RunLog:
        """The records of runs."""


@runtime_checkable
class ColorStore(Protocol):
    """
    A :class:`Store` of one color, which has one word with that of the other color.

    Both keep it where both find it. All methods raise StoreError.
    """

    async def active_color(self) -> ActiveColor | None:
        """
        Return the color that was moved to last; None where none ever was.

        Raises:
            StoreError: What the store has is damaged.
        """

    async def move_active_color(
        self, moved: ActiveColor, expected: ActiveColor | None
    ) -> None:
        """
        Have another color be the active one.

        *expected* is what was read earlier; of several that move from it, one does.

        Raises:
            StoreError: What the store has is not what was *expected*, and stays; or
                the store failed.
        """


@runtime_checkable
class BootStore(Protocol):
    """A :class:`Store` from which hosts that boot get their script."""

    async def keep_boot(self, script: bytes) -> str:
        """
        Keep a script as ``boot/<sha256>``, and return its sha256 in hex.

        Raises:
            StoreError: The store failed.
        """


@runtime_checkable
class SignedStore(Protocol):
    """A :class:`Store` that may sign what is put in, and ask for signatures."""

    @property
    def asks_for_signatures(self) -> bool:
        """Whether what is not signed is refused."""

    async def require_key(self) -> None:
        """
        Do nothing, unless what a run puts in could not be signed as it has to be.

        Raises:
            PlanError: No key signs, or none that counts; the text names the setting.
        """


@runtime_checkable
class TestableStore(Protocol):
    """A :class:`Store` that can tell beforehand whether it can be written to."""

    async def require_writable(self) -> None:
        """
        Do nothing, unless what a run writes could not be kept; nothing is left behind.

        Raises:
            StoreError: The store cannot be written; the text says what to do.
        """


@runtime_checkable
class Inventory(Protocol):
    """The list of an app's hosts, which may change at any time."""

    # A run asks when it is planned, and again before MANIFEST moves and after: a host
    # that joined in between booted with the package before, and is brought along.

    async def hosts(self) -> Sequence[Host]:
        """
        Return all hosts of the app, in a stable order: as they are now.

        The caller bounds the time.

        Raises:
            PlanError: The hosts cannot be found out; one line that says why.
        """


@runtime_checkable
class SuspendableInventory(Protocol):
    """
    An :class:`Inventory` whose hosts something may end or replace, unless it is told.

    *Processes* are what does that: names, by the groups of hosts that they work on. A
    run has them suspended while its links move, and resumed at its end, or at the end
    of the next run where it was killed. All methods raise PlanError.
    """

    async def processes(self) -> Mapping[str, Sequence[str]]:
        """Return those that are at work and are to be suspended while links move."""

    async def suspend(self, processes: Mapping[str, Sequence[str]]) -> None:
        """Suspend processes, and return when they are."""

    async def resume(self, processes: Mapping[str, Sequence[str]]) -> None:
        """Resume processes; no error where they are at work, or a group is gone."""


class HostAccess(Protocol):
    """
    One host of a run, as its balancer sees it: facts, and a way to run scripts.

    The run makes one for each call of a balancer.
    """

    @property
    def host(self) -> Host:
        """The host."""

    @property
    def variables(self) -> Mapping[str, str]:
        """The environment of scripts: the app's variables, secrets and ``GHOST_*``."""

    @property
    def seconds(self) -> float:
        """The deadline of this call, ``rollout.deadlines.drain`` or ``undrain``."""

    async def run(self, text: str, *, on: Literal["controller", "host"]) -> None:
        """
        Run a script here or on the host; its output goes to the host's log.

        A script without ``#!`` is for ``/bin/sh``. At its deadline,
        ``rollout.deadlines.drain`` or ``undrain``, a script is ended with all that it
        has started.

        Raises:
            HostError: The script failed or took too long, or the connection died.
        """


@runtime_checkable
class Balancer(Protocol):
    """The sender of visitors to hosts."""

    # A host is drained right before its links move, and put back once it has proven its
    # health, on the way back too. A host that a killed run has drained is put back by
    # the run that resumes it.

    async def drain(self, access: HostAccess) -> None:
        """
        Take a host out, and return when no visitor is at work on it any more.

        Raises:
            HostError: The host is not out, or half out: it is put back.
        """

    async def undrain(self, access: HostAccess) -> None:
        """
        Put a host back that has proven its health, and return when it is in.

        The host may be in already, after a drain that failed.

        Raises:
            HostError: The host is not in.
        """


@runtime_checkable
class PartialBalancer(Protocol):
    """
    A :class:`Balancer` that says beforehand which of its two methods does anything.

    The run does not call one that does nothing. Before it calls any other, it asks the
    host whether it is the run's still; so a host that is out of reach is not called.
    """

    def has_work(self, key: Literal["drain", "undrain"]) -> bool:
        """Tell whether the method called *key* does anything at all."""


@runtime_checkable
class TimedBalancer(Protocol):
    """
    A :class:`Balancer` whose own settings say how long its two methods may take.

    These are the deadlines where the plan gives none; shorter ones are refused.
    """

    async def seconds(self) -> tuple[float, float]:
        """
        Return the seconds in which each drain, and each undrain, is over.

        Asked once, when a run is planned; the caller bounds the time.

        Raises:
            PlanError: The settings cannot be read; one line that says why.
        """


@runtime_checkable
class Notifier(Protocol):
    """
    A listener to the outcome of runs; a callable one is an :data:`Observer` too.

    Neither the errors of a notifier nor its slowness touch the run: a notifier is
    called when the run is over and has given its hosts back, has a few seconds, and its
    exceptions are logged.
    """

    async def notify(self, report: Report) -> None:
        """Tell somebody of *report*."""
