"""
The run, and one host in it, as every stage gets them.

How it works. A :class:`RunContext` is shared by all hosts of a run. A :class:`HostRun`
is one host in it; its *attempt* holds all that was found out and done since the host
was first connected. Starting over, after a wait for a lock, is a new attempt, so no
field has to be reset. An attempt's *undo* is all that a way back needs to know.
"""

from __future__ import annotations

import contextlib
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from typing import Final, Literal, Protocol

import anyio
import anyio.lowlevel
import attrs

from .._build.release import Release
from .._local.paths import HostPaths
from .._local.redact import Redactor
from .._remote.facts import Facts, Identity
from .._remote.fence import FencedSession
from ..errors import DeadlinePassed
from ..events import Event, HostWarned
from ..fold import HostState, RunState
from ..goal import Goal
from ..history.past_run import PastRun
from ..model import Deadlines, Host, Module, Plan, State
from ..protocols import Balancer, Channel, ManifestLine, PartialBalancer
from .spec import RunSpec, WayBack

__all__ = ["GONE", "Attempt", "HostRun", "Logs", "Move", "RunContext", "Undo"]


GONE: Final = "is not in the inventory any more"
"""Why a host that was lost counts nowhere."""


class Logs(Protocol):
    """The files that keep the full output of scripts, one for each host."""

    def write(self, host: str, data: bytes) -> None:
        """Append to the log of *host*; never raises."""


@attrs.frozen
class Move:
    """
    The move of one link of one host, from its old text to its new one.

    *folder* is the module's folder on the host and *target* the link. *previous* is the
    text of the link before, empty where there was none, and *new* the text after.
    *aside* is the path that an adopted directory or file goes to, empty without one.
    *generation* is the number of its record on the host; 0 before it has one.
    """

    module: str
    folder: str
    target: str
    previous: str
    new: str
    aside: str = ""
    generation: int = 0

    @property
    def args(self) -> tuple[str, ...]:
        """The move as ``switch.sh`` and ``restore.sh`` take it."""
        links = (self.folder, self.target, self.previous, self.new, self.aside)
        return (*links, str(self.generation))


@attrs.frozen
class Undo:
    """
    The effects of this run on one host that a way back has to undo.

    *moves* are the links in question, *link_may_have_moved* is whether one of them may
    lead to the new release: by this run, or by the killed run that this one takes up.
    *timer* is whether the host counts down to putting them back by itself, *drained*
    whether its balancers may have been told to send it no work.
    """

    moves: tuple[Move, ...] = ()
    link_may_have_moved: bool = False
    timer: bool = False
    drained: bool = False


async def _nobody_is_asked() -> None:
    """Say nothing: the hosts of the plan were written there by a person."""


@attrs.define(eq=False)
class RunContext:
    """
    The part of a run that all its hosts share: its *spec*, and all that changes.

    *state* is the sum of the run's events; :attr:`note` adds one. *releases* is empty
    until *built* is set, *fetched* is set once all sources are here, or have to be
    waited for. *work_slots* bounds the hosts that transfer or run a script at once.
    *protected* are packages that no prune removes, by module name. *variables* are the
    environment of commands that belong to no module; *waves* is how many waves there
    are. *generation* is the run's number, *store_id* tells its store from others, and
    *manifest* is what MANIFEST said, once *numbered* is set; *implausible* are hosts
    whose own numbers cannot be right; *numbering* is whether the number is asked for by
    now. *records* is how many activation records each host is asked for. *overtaken*
    are modules that a run later than the killed one has moved on some host. *refused*
    is why the run is not carried out as asked; *links_left* are hosts on which a link
    that was to go is left, or that a swap could not take out of their balancers;
    *pushed* are hosts that cannot fetch from the store, though others do. *named*
    returns the hosts that the inventory names now, None where it cannot say.
    """

    spec: RunSpec
    redactor: Redactor
    logs: Logs
    work_slots: anyio.CapacityLimiter
    note: Callable[[Event], None]
    state: RunState[HostState]
    protected: Mapping[str, frozenset[str]] = attrs.field(factory=dict)
    releases: tuple[Release, ...] = ()
    fetched: anyio.Event = attrs.field(factory=anyio.Event)
    built: anyio.Event = attrs.field(factory=anyio.Event)
    variables: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    waves: int = 0
    generation: int = 0
    store_id: str = ""
    manifest: tuple[ManifestLine, ...] = ()
    implausible: frozenset[str] = frozenset()
    numbering: bool = False
    begins_again: bool = False
    numbered: anyio.Event = attrs.field(factory=anyio.Event)
    records: int = 1
    overtaken: set[str] = attrs.field(factory=set)
    refused: str = ""
    links_left: list[str] = attrs.field(factory=list)
    pushed: set[str] = attrs.field(factory=set)
    named: Callable[[], Awaitable[frozenset[str] | None]] = _nobody_is_asked
    modules: tuple[Module, ...] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        # A rollback may take hosts to different releases of one module.
        modules = {chosen.module.name: chosen.module for chosen in self.spec.modules}
        self.modules = tuple(modules.values())

    @property
    def id(self) -> str:
        """The run's id."""
        return self.spec.id

    @property
    def goal(self) -> Goal:
        """The run's goal."""
        return self.spec.goal

    @property
    def plan(self) -> Plan:
        """The plan: which module goes to which hosts, and how."""
        return self.spec.plan

    @property
    def killed(self) -> PastRun | None:
        """The killed run that this one takes up; None where it is a new one."""
        return self.spec.killed

    @property
    def balancer(self) -> Balancer | None:
        """The balancer that sends visitors to hosts; None without one."""
        return self.spec.balancer

    def balances(self, key: Literal["drain", "undrain"]) -> bool:
        """Tell whether a balancer has anything to do when hosts leave or come back."""
        # Hosts of the color that is not active get visitors by a swap alone.
        if self.spec.is_idle:
            return False
        balancer = self.balancer
        return balancer is not None and (
            not isinstance(balancer, PartialBalancer) or balancer.has_work(key)
        )

    @property
    def deadlines(self) -> Deadlines:
        """Seconds for each kind of work."""
        return self.plan.rollout.deadlines


@attrs.define(eq=False)
class Attempt:
    """
    One try to get a host through the run: all that it has found out and done.

    A run that waited for a lock starts over with a new attempt. *had_lock* is whether
    this attempt held the host's lock once; *to_deploy* are the releases that the host
    needs; *undo* is for the way back, *links_put_back* are the targets that are back
    already. *reconnections* counts connections that died since the host last changed
    direction, forward or back; *sent* and *fetched* are in bytes. *delivered* are the
    ids of releases that the host lacked.
    """

    identity: Identity | None = None
    facts: Facts | None = None
    lock: Channel | None = None
    had_lock: bool = False
    to_deploy: tuple[Release, ...] = ()
    undo: Undo = Undo()
    links_put_back: frozenset[str] = frozenset()
    reconnections: int = 0
    sent: int = 0
    fetched: int = 0
    delivered: frozenset[str] = frozenset()


@attrs.define(eq=False)
class HostRun:
    """
    One host of a run: a session with it, and the attempt that is under way.

    *wave* is the number of its wave, counted from 1; 0 where hosts are only looked at,
    or have joined later.
    *at_work* is whether a step is under way, and not waiting for its turn; *scope* is
    that of the way to READY. Times are those of the event loop's clock, in seconds, and
    0 before the moment.
    """

    host: Host
    session: FencedSession
    run: RunContext
    wave: int = 0
    attempt: Attempt = attrs.field(factory=Attempt)
    began_at: float = 0.0
    ended_at: float = 0.0
    switched_at: float = 0.0
    at_work: bool = False
    _redactor: Redactor | None = None
    scope: anyio.CancelScope = attrs.field(factory=anyio.CancelScope)

    @property
    def name(self) -> str:
        """The host's name in reports."""
        return self.host.name

    @property
    def redactor(self) -> Redactor:
        """The redactor of what the host writes: it knows the host's own secrets too."""
        return self._redactor or self.run.redactor

    def hide(self, secrets: Iterable[str]) -> None:
        """Take more *secrets* out of what the host writes from now on."""
        self._redactor = self.redactor.knowing(secrets)

    @property
    def book(self) -> HostState:
        """The host as the events of the run tell it."""
        return self.run.state.host(self.name)

    @property
    def state(self) -> State:
        """The host's place in the table."""
        return self.book.state

    @property
    def undo(self) -> Undo:
        """The effects on the host that a way back has to undo."""
        return self.attempt.undo

    @undo.setter
    def undo(self, undo: Undo) -> None:
        self.attempt.undo = undo

    @property
    def modules(self) -> tuple[Module, ...]:
        """The modules of the run that this host gets, in app order."""
        # A module that every host gets is not in the mapping.
        chosen, name = self.run.spec.hosts_of_module, self.host.name
        if (back := self.run.spec.way_back) is not None:
            return tuple(m for m in self.run.modules if m.name in back.to.get(name, ()))
        return tuple(
            module
            for module in self.run.modules
            if module.name not in chosen or name in chosen[module.name]
        )

    @property
    def releases(self) -> tuple[Release, ...]:
        """The releases of the run that this host gets, once they are built."""
        names = {module.name for module in self.modules}
        mine = tuple(r for r in self.run.releases if r.module.name in names)
        if (back := self.run.spec.way_back) is not None:
            ids = back.to.get(self.name, {}).values()
            return tuple(r for r in mine if r.id in ids and self._leaves(back, r))
        return mine

    def _leaves(self, back: WayBack, release: Release) -> bool:
        """Tell whether a host that was silent at first serves what is to be left."""
        name = release.module.name
        brought, facts = back.brought.get(name), self.attempt.facts
        if brought is None or facts is None or self.name in back.serves:
            return True
        return facts.targets[name].live == brought

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Have one of ``rollout.concurrency`` slots, unless the run stops before."""
        async with self.run.work_slots:
            # A slot may be handed over by the very host whose failure stops the run.
            await anyio.lowlevel.checkpoint_if_cancelled()
            self.at_work = True
            try:
                yield
            finally:
                self.at_work = False

    @contextlib.contextmanager
    def in_time(self, key: str) -> Iterator[None]:
        """
        Bound what is done on the host by the deadline *key*.

        Raises:
            DeadlinePassed: It was not done by then.
        """
        seconds = getattr(self.run.deadlines, key)
        with anyio.move_on_after(seconds) as patience:
            yield
        if patience.cancelled_caught:
            raise DeadlinePassed(self.name, key, seconds)

    @property
    def known(self) -> Facts:
        """
        The host's facts, as CHECKING found them.

        Raises:
            RuntimeError: The host was not checked yet; a bug.
        """
        if self.attempt.facts is None:
            raise RuntimeError("facts are asked for before CHECKING")
        return self.attempt.facts

    @property
    def sudo(self) -> str:
        """The user that commands run as by sudo; empty where the login is that user."""
        # A root login needs no sudo for root, and the host need not have it installed.
        user, identity = self.run.plan.ssh.sudo_user, self.attempt.identity
        if identity is None:
            return user
        same = identity.uid == 0 if user == "root" else identity.user == user
        return "" if same else user

    @property
    def login(self) -> str:
        """The name of the user that runs commands on the host."""
        identity = self.attempt.identity
        return self.sudo or (identity.user if identity else "root")

    @property
    def paths(self) -> HostPaths:
        """The paths of the app on the host, ``~`` resolved."""
        home = self.attempt.identity.home if self.attempt.identity else "~"
        return HostPaths(self.run.plan.layout.root, self.run.plan.app, home=home)

    @property
    def trusted(self) -> str:
        """Who else may change folders on the way, as ``parts/owners.sh`` takes it."""
        return " ".join(self.run.plan.layout.trusted)

    @property
    def busy_file(self) -> str:
        """The file in which a switch that is at work leaves its process id."""
        return f"{self.paths.app_meta}/switching"

    def target(self, module: Module) -> str:
        """Return the symlink that *module* is served from, ``~`` resolved."""
        return self.paths.target(module.path)

    def has_served(self, release: Release) -> bool:
        """Tell whether a release has served here, and has its environment of then."""
        target = self.known.targets[release.module.name]
        return "environment" in target.scripts.get(release.id, ())

    def serving(self, module: Module) -> str:
        """Return the folder that *module* is served from now; empty without one."""
        target = self.known.targets[module.name]
        if target.kind == "directory":
            return self.target(module)  # to be adopted
        return target.link if target.live and not target.dangling else ""

    def disconnect(self) -> None:
        """Forget a connection that died, and the lock with it."""
        # The lock is held by a process whose stdin is this connection (lock.sh), so it
        # has ended, or will.
        self.session.abort()
        self.attempt.lock = None

    def start_over(self) -> None:
        """Forget all that was found out and done; the host is to be connected again."""
        self.disconnect()
        self.attempt = Attempt()

    def warn(self, text: str) -> None:
        """Tell of something on the host that a person should see; the run goes on."""
        self.run.note(HostWarned(self.name, self.redactor.text(text)))
