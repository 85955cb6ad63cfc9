"""What a stage is given: the run, and one host in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, Protocol

import anyio
import attrs

from .._build.release import Release
from .._local.paths import HostPaths
from .._local.redact import Redactor
from .._remote.facts import Facts, Identity
from .._remote.fence import FencedSession
from ..events import Event, HostWarned
from ..fold import HostState, RunState
from ..goal import Goal
from ..history.past_run import PastRun
from ..model import Deadlines, Host, Module, Plan, State
from ..protocols import Balancer, Channel, Sparing
from .spec import RunSpec

__all__ = ["Attempt", "HostRun", "Logs", "Move", "RunContext", "Undo"]


class Logs(Protocol):
    """Where the full output of scripts goes."""

    def write(self, host: str, data: bytes) -> None:
        """Append to the log of *host*; never raises."""


@attrs.frozen
class Move:
    """
    One link of one host: what it said, what it will say.

    *previous* is the text of the link before, empty where there was none; *aside* is
    where an adopted directory or file goes, empty otherwise.
    """

    module: str
    folder: str
    target: str
    previous: str
    new: str
    aside: str = ""

    @property
    def args(self) -> tuple[str, ...]:
        """The move as ``switch.sh`` and ``restore.sh`` take it."""
        return (self.folder, self.target, self.previous, self.new, self.aside)


@attrs.frozen
class Undo:
    """
    What this run would have to undo on one host; a new one replaces the last.

    *moves* are the links in question, *link_may_have_moved* is whether one of them may
    lead to the new release: by this run, or by the killed run that this one takes up.
    *timer* is whether the host counts down to putting them back by itself, *drained*
    whether its balancers may have been told to send it no work.
    """

    moves: tuple[Move, ...] = ()
    link_may_have_moved: bool = False
    timer: bool = False
    drained: bool = False


@attrs.define(eq=False)
class RunContext:
    """
    What all hosts of a run share: its *spec*, and what comes while it runs.

    *state* is what the events of the run add up to; :attr:`note` adds one.
    *releases* is empty until *built* is set; *variables* are what commands see that
    belong to no module.
    """

    spec: RunSpec
    redactor: Redactor
    logs: Logs
    work_slots: anyio.CapacityLimiter
    note: Callable[[Event], None]
    state: RunState[HostState]
    protected: Mapping[str, frozenset[str]] = attrs.field(factory=dict)
    releases: tuple[Release, ...] = ()
    built: anyio.Event = attrs.field(factory=anyio.Event)
    variables: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    waves: int = 0
    modules: tuple[Module, ...] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.modules = tuple(chosen.module for chosen in self.spec.modules)

    @property
    def id(self) -> str:
        """The run's id."""
        return self.spec.id

    @property
    def goal(self) -> Goal:
        """What the run is for."""
        return self.spec.goal

    @property
    def plan(self) -> Plan:
        """What goes where."""
        return self.spec.plan

    @property
    def killed(self) -> PastRun | None:
        """The killed run that this one takes up; None where it is a new one."""
        return self.spec.killed

    @property
    def balancer(self) -> Balancer | None:
        """Who sends visitors to hosts; None where nobody is told of a deploy."""
        return self.spec.balancer

    def balances(self, key: Literal["drain", "undrain"]) -> bool:
        """Tell whether a balancer has anything to do when hosts leave or come back."""
        balancer = self.balancer
        return balancer is not None and (
            not isinstance(balancer, Sparing) or balancer.has_work(key)
        )

    @property
    def deadlines(self) -> Deadlines:
        """Seconds for each kind of work."""
        return self.plan.rollout.deadlines


@attrs.define(eq=False)
class Attempt:
    """
    What one try to get a host through the run has found out and done.

    A run that waited for a lock starts over with a new attempt. *had_lock* is whether
    this attempt held the host's lock once; *to_deploy* are the releases that the host
    needs; *undo* is what would have to be undone, *links_put_back* are the targets that
    are back already. *reconnections* counts connections that died since the last
    change of direction; *sent* is in bytes.
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


@attrs.define(eq=False)
class HostRun:
    """
    One host of a run: a session with it, and the attempt that is under way.

    Times are those of the event loop's clock, in seconds.
    """

    host: Host
    session: FencedSession
    run: RunContext
    wave: int = 0
    attempt: Attempt = attrs.field(factory=Attempt)
    began_at: float = 0.0
    ended_at: float = 0.0
    switched_at: float = 0.0

    @property
    def name(self) -> str:
        """The host's name in reports."""
        return self.host.name

    @property
    def book(self) -> HostState:
        """What the events of the run say of the host."""
        return self.run.state.host(self.name)

    @property
    def state(self) -> State:
        """Where the host is in the table."""
        return self.book.state

    @property
    def undo(self) -> Undo:
        """What would have to be undone on the host."""
        return self.attempt.undo

    @undo.setter
    def undo(self, undo: Undo) -> None:
        self.attempt.undo = undo

    @property
    def modules(self) -> tuple[Module, ...]:
        """The modules of the run that this host gets, in app order."""
        places, name = self.run.spec.hosts_of_module, self.host.name
        return tuple(
            module
            for module in self.run.modules
            if module.name not in places or name in places[module.name]
        )

    @property
    def known(self) -> Facts:
        """The host's facts; CHECKING found them out."""
        if self.attempt.facts is None:
            raise RuntimeError("facts are asked for before CHECKING")
        return self.attempt.facts

    @property
    def sudo(self) -> bool:
        """Whether commands go through sudo: as configured, unless we are root."""
        identity = self.attempt.identity
        return self.run.plan.ssh.sudo and (identity is None or identity.uid != 0)

    @property
    def login(self) -> str:
        """Who runs commands on the host."""
        identity = self.attempt.identity
        return "root" if self.sudo or not identity else identity.user

    @property
    def paths(self) -> HostPaths:
        """Where things are on the host, ``~`` resolved."""
        home = self.attempt.identity.home if self.attempt.identity else "~"
        return HostPaths(self.run.plan.layout.root, self.run.plan.app, home=home)

    @property
    def busy_file(self) -> str:
        """Where a switch that is on its way leaves its process id."""
        return f"{self.paths.app_meta}/switching"

    def target(self, module: Module) -> str:
        """Return the symlink that *module* is served from, ``~`` resolved."""
        return self.paths.target(module.path)

    def disconnect(self) -> None:
        """Forget a connection that died, and the lock with it."""
        self.session.abort()
        self.attempt.lock = None

    def start_over(self) -> None:
        """Forget all that was found out, and wait to be connected."""
        self.disconnect()
        self.attempt = Attempt()

    def warn(self, text: str) -> None:
        """Say what asks for attention on the host and does not stop the run."""
        self.run.note(HostWarned(self.name, text))
