"""What a run is: complete before anything is contacted but sources and the store."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import attrs

from .._local.paths import build_dir, cache_home
from ..errors import SourceError
from ..history.replay import Past
from ..model import Action, Host, Module, Plan, Revision
from ..protocols import ManifestLine, Source, Store

__all__ = ["Assembly", "Job"]


@attrs.frozen
class Job:
    """One module of a run: built from *source* at *revision*, or taken as *package*."""

    module: Module
    source: Source | None = None
    revision: Revision = Revision()
    package: str = ""
    error: SourceError | None = None


@attrs.frozen(eq=False)
class Assembly:
    """
    The parts of a run; nothing has been contacted but sources and the store.

    *hidden* are secrets of earlier runs that scripts of this one will see; *limited* is
    whether the run is about chosen hosts; *places* names the hosts of each module that
    not all hosts get. *of* is the run that this one goes back from, *past* the one that
    it takes up; where it has to *revert* that, hosts only go back. *warnings* are for
    whoever follows the run; *stranded* are hosts that an earlier run left so.
    """

    id: str
    plan: Plan
    jobs: tuple[Job, ...]
    hosts: tuple[Host, ...]
    store: Store
    store_url: str
    manifest: tuple[ManifestLine, ...]
    folder: Path
    force: bool = False
    action: Action = Action.DEPLOY
    actor: str = ""
    reason: str = ""
    secrets: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    hidden: tuple[str, ...] = attrs.field(default=(), repr=False)
    limited: bool = False
    places: Mapping[str, frozenset[str]] = attrs.field(factory=dict)
    wait: float = 0.0
    break_lock: bool = False
    of: str = ""
    past: Past | None = None
    revert: bool = False
    warnings: tuple[str, ...] = ()
    stranded: frozenset[str] = frozenset()

    @property
    def fleet(self) -> tuple[Host, ...]:
        """The hosts of which some must serve: those beside chosen ones count, too."""
        return self.plan.hosts if self.limited else self.hosts

    @property
    def holder(self) -> str:
        """What a run that finds a host locked is told of this one."""
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        where = f"{socket.gethostname()} (pid {os.getpid()})"
        # One line, for it is the first of a file.
        return " ".join(f"run {self.id} by {self.actor} on {where} since {now}".split())

    def build_folder(self, module: str) -> Path:
        """Return where *module* is built."""
        return build_dir(cache_home(os.environ), self.plan.app, module)
