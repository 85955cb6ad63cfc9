"""A run's spec: whole before anything but sources, inventory and store is contacted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from .._local.paths import build_dir, cache_home
from .._local.redact import Redactor
from ..errors import SourceError
from ..goal import Goal
from ..history.past_run import PastRun
from ..model import Host, Module, Package, Plan, Revision
from ..protocols import (
    ActiveColor,
    Balancer,
    Inventory,
    Lineage,
    ManifestLine,
    Source,
    Store,
)

__all__ = ["ModuleToDeploy", "PastRelease", "RunSpec", "WayBack"]


@attrs.frozen
class PastRelease:
    """
    A release that hosts have on record, and the run that brought it last.

    *hosts* are those that it serves on now. *at* is in POSIX seconds, by the clock of
    that run; 0 where the clocks of these runs contradict their order.
    """

    release: str
    commit: str = ""
    subject: str = ""
    actor: str = ""
    at: float = 0.0
    hosts: tuple[str, ...] = ()


@attrs.frozen
class WayBack:
    """
    The plan of a rollback, host by host.

    *to* maps hosts to modules to the releases that they go to, empty where the link is
    removed; *serves* is what they served when the rollback was planned. *manifest* are
    the modules whose lines in MANIFEST go back as well. *brought* maps modules to what
    the undone run had brought; a host that was silent when the rollback was planned
    goes back only from that. *partly* is whether a host has to stay, as nobody has the
    release that it would go to. *releases* are those on record, by module, for people.
    """

    to: Mapping[str, Mapping[str, str]]
    serves: Mapping[str, Mapping[str, str]]
    manifest: frozenset[str]
    brought: Mapping[str, str] = attrs.field(factory=dict)
    partly: bool = False
    releases: Mapping[str, tuple[PastRelease, ...]] = attrs.field(factory=dict)

    @property
    def removed(self) -> frozenset[str]:
        """The modules whose links are removed."""
        pairs = (pair for modules in self.to.values() for pair in modules.items())
        return frozenset(module for module, release in pairs if not release)

    @property
    def is_uniform(self) -> bool:
        """Whether all hosts go to the same releases, and no link is removed."""
        first = next(iter(self.to.values()), {})
        return all(first.values()) and all(to == first for to in self.to.values())


@attrs.frozen
class ModuleToDeploy:
    """
    One module of a run: built from *source* at *revision*, or taken as *package*.

    *held* describes a package that hosts have and the store may have lost. Without
    package and source the module's link is removed. *error* is why the source could not
    say its revision. The run raises it when it builds, so that the failure is on record
    and has the exit status of a failed run. *lineage* knows which commits are older.
    """

    module: Module
    source: Source | None = None
    revision: Revision = Revision()
    package: str = ""
    held: Package | None = None
    error: SourceError | None = None
    lineage: Lineage | None = None


@attrs.frozen(eq=False, kw_only=True)
class RunSpec:
    """
    One run, described once. No field has a default: a spec is whole, or is not made.

    *hosts* are the chosen ones, and the run is *limited* where these are not all;
    *hosts_of_module* names the hosts of each module that not all hosts get. *environ*
    is the environment of this process, read once. *old_secrets* are those of earlier
    runs that scripts of this one may print, so they are redacted too. *follows* is the
    id of the run that this one resumes, takes back or goes back from; *killed* is all
    that is known of it where this one takes it up. *wait* is how long locks are waited
    for, in seconds. *holder* is the line that another run reads when it finds a host
    locked. *warnings* are told when the run starts; *stranded* are hosts that an
    earlier run left so: they have to prove themselves, whatever they serve. *inventory*
    named the hosts and can be asked again; *active* is the record of the active color,
    None where there is none; *joined* are hosts of the plan that have
    joined since the run began that this one resumes; *balancer* is None without one,
    *balancer_seconds* are the deadlines that it has by its own settings, if any.
    *partner* is the other color's part of a swap, with its own plan, hosts and
    balancer; None in all other runs. *way_back* is there for a rollback; *store_id* is
    the store's word, empty before it has one.
    """

    id: str
    goal: Goal
    plan: Plan
    environ: Mapping[str, str] = attrs.field(repr=False)
    store: Store
    store_url: str
    store_id: str
    manifest: tuple[ManifestLine, ...]
    folder: Path
    modules: tuple[ModuleToDeploy, ...]
    hosts: tuple[Host, ...]
    hosts_of_module: Mapping[str, frozenset[str]]
    limited: bool
    wait: float
    break_lock: bool
    actor: str
    reason: str
    holder: str
    secrets: Mapping[str, str] = attrs.field(repr=False)
    old_secrets: tuple[str, ...] = attrs.field(repr=False)
    follows: str
    killed: PastRun | None
    warnings: tuple[str, ...]
    stranded: frozenset[str]
    inventory: Inventory
    active: ActiveColor | None
    joined: frozenset[str]
    balancer: Balancer | None
    balancer_seconds: Mapping[str, float]
    way_back: WayBack | None
    partner: RunSpec | None

    @property
    def secret_values(self) -> frozenset[str]:
        """The secrets that scripts of this run may print, of this run and earlier."""
        return frozenset((*self.secrets.values(), *self.old_secrets)) - {""}

    @property
    def redactor(self) -> Redactor:
        """A redactor that knows them all; a run makes one, and keeps it."""
        partner = self.partner.secret_values if self.partner else frozenset()
        return Redactor(self.secret_values | partner)

    def secrets_of(self, variables: Mapping[str, str]) -> tuple[str, ...]:
        """Return the names of those of *variables* that are secret."""
        # Those of a stored package may have had other names in its day.
        names, values = {*self.plan.app.secrets}, self.secret_values
        return tuple(n for n, v in variables.items() if n in names or v in values)

    @property
    def gets_visitors(self) -> bool:
        """Whether these are hosts of the color that a swap goes to."""
        to = self.goal.active_color
        return bool(to) and self.plan.app.color == to

    @property
    def is_idle(self) -> bool:
        """Whether visitors get the other color, and this run lets them."""
        other = self.active is not None and self.active.color != self.plan.app.color
        return other and not self.goal.active_color

    @property
    def fleet(self) -> tuple[Host, ...]:
        """The hosts that ``min_serving`` is about: under a limit, all of the plan."""
        return self.plan.hosts if self.limited else self.hosts

    def build_folder(self, module: str) -> Path:
        """Return the folder that *module* is built in, the same for every run."""
        return build_dir(cache_home(self.environ), self.plan.app, module)
