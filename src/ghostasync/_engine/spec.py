"""What a run is: complete before anything is contacted but sources and the store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from .._local.paths import build_dir, cache_home
from ..errors import SourceError
from ..goal import Goal
from ..history.past_run import PastRun
from ..model import Host, Module, Plan, Revision
from ..protocols import Balancer, Inventory, ManifestLine, Source, Store

__all__ = ["ModuleToDeploy", "RunSpec"]


@attrs.frozen
class ModuleToDeploy:
    """
    One module of a run: built from *source* at *revision*, or taken as *package*.

    *error* is why the source could not say its revision; the run tells it, in its log
    and with its exit status.
    """

    module: Module
    source: Source | None = None
    revision: Revision = Revision()
    package: str = ""
    error: SourceError | None = None


@attrs.frozen(eq=False, kw_only=True)
class RunSpec:
    """
    One run, described once. No field has a default: a spec is whole, or is not made.

    *hosts* are the chosen ones, and the run is *limited* where these are not all;
    *hosts_of_module* names the hosts of each module that not all hosts get. *environ*
    is the environment of this process, read once. *old_secrets* are those of earlier
    runs that scripts of this one may print. *follows* is the id of the run that this
    one resumes, takes back or goes back from; *killed* is all that is known of it where
    this one takes it up. *holder* is what others are told who find a host locked.
    *warnings* are for whoever follows the run; *stranded* are hosts that an earlier run
    left so: they have to prove themselves, whatever they serve. *inventory* named the
    hosts and can be asked again; without a *balancer* nobody is told of a deploy.
    """

    id: str
    goal: Goal
    plan: Plan
    environ: Mapping[str, str] = attrs.field(repr=False)
    store: Store
    store_url: str
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
    balancer: Balancer | None

    @property
    def fleet(self) -> tuple[Host, ...]:
        """The hosts of which some must serve: those beside chosen ones count, too."""
        return self.plan.hosts if self.limited else self.hosts

    def build_folder(self, module: str) -> Path:
        """Return where *module* is built."""
        return build_dir(cache_home(self.environ), self.plan.app, module)
