"""What a stage is given: the run, and one host in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import anyio
import attrs

from .._build.release import Release
from .._local.paths import HostPaths
from .._local.redact import Redactor
from .._remote.facts import Facts, Identity
from .._remote.fence import Guarded
from ..events import Event, Failed
from ..goal import Goal
from ..history.replay import PastRun
from ..machine import HostMachine
from ..model import Deadlines, Host, Module, Plan
from ..protocols import Balancer, Channel
from .serving import Serving
from .spec import RunSpec

__all__ = ["Context", "Logs", "Move", "RunContext"]


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


@attrs.define(eq=False)
class RunContext:
    """
    What all hosts of a run share: its *spec*, and what comes while it runs.

    *releases* is empty until *built* is set; *variables* are what commands see that
    belong to no module.
    """

    spec: RunSpec
    redactor: Redactor
    logs: Logs
    work: anyio.CapacityLimiter
    note: Callable[[Event, HostMachine | None], None]
    protected: Mapping[str, frozenset[str]]
    releases: tuple[Release, ...] = ()
    built: anyio.Event = attrs.field(factory=anyio.Event)
    stopping: str = ""
    variables: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    waves: int = 0
    serving: Serving = attrs.field(factory=Serving)
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
    def past(self) -> PastRun | None:
        """The run that this one takes up; None where it is a new one."""
        return self.spec.killed

    @property
    def balancer(self) -> Balancer | None:
        """Who sends visitors to hosts; None where nobody is told of a deploy."""
        return self.spec.balancer

    @property
    def deadlines(self) -> Deadlines:
        """Seconds for each kind of work."""
        return self.plan.rollout.deadlines


@attrs.define(eq=False)
class Context:
    """
    One host of a run, and all that is known of it.

    *moved* is whether a run that was killed had moved a link of it already.
    """

    host: Host
    session: Guarded
    run: RunContext
    wave: int = 0
    machine: HostMachine = attrs.field(factory=HostMachine)
    identity: Identity | None = None
    facts: Facts | None = None
    lock: Channel | None = None
    work: tuple[Release, ...] = ()
    moves: tuple[Move, ...] = ()
    moved: bool = False
    failure: Failed | None = None
    switching: bool = False
    drained: bool = False
    began_at: float = 0.0
    ended_at: float = 0.0
    switched_at: float = 0.0
    sent: int = 0
    losses: int = 0
    had_lock: bool = False
    timed: bool = False
    undone: set[str] = attrs.field(factory=set)

    @property
    def name(self) -> str:
        """The host's name in reports."""
        return self.host.name

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
        if self.facts is None:
            raise RuntimeError("facts are asked for before CHECKING")
        return self.facts

    @property
    def sudo(self) -> bool:
        """Whether commands go through sudo: as configured, unless we are root."""
        wanted = self.run.plan.ssh.sudo
        return wanted and (self.identity is None or self.identity.uid != 0)

    @property
    def login(self) -> str:
        """Who runs commands on the host."""
        return "root" if self.sudo or not self.identity else self.identity.user

    @property
    def paths(self) -> HostPaths:
        """Where things are on the host, ``~`` resolved."""
        home = self.identity.home if self.identity else "~"
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
        self.lock = None

    def start_over(self) -> None:
        """Forget all that was found out, and wait to be connected."""
        self.disconnect()
        self.machine = HostMachine()
        self.facts = self.identity = self.failure = None
        self.had_lock = self.timed = self.drained = False
        self.losses = 0
        self.undone.clear()
        self.run.serving.back(self.name)
        self.work, self.moves, self.sent = (), (), 0
        self.moved = self.switching = False

    def note(self, event: Event) -> None:
        """Take note of an event that does not change the host's state."""
        self.run.note(event, self.machine)
