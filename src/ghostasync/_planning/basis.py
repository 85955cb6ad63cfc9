"""What every plan of a run stands on, and the spec of a run that only looks."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import attrs

from .._engine.spec import ModuleToDeploy, RunSpec
from .._local.paths import app_path, local_runs, run_id, store_url
from ..config import check_plan, unsupported
from ..errors import ConfigError
from ..goal import Converge, Goal
from ..history._leftovers import hand_in_killed
from ..history.past_run import PastRun
from ..model import Host, Module, Plan
from ..protocols import Inventory, ManifestLine, Store
from ..stores.directory import DirectoryStore
from .hosts import hosts_of_module
from .inventory import with_hosts

__all__ = ["Basis", "Task", "begin", "spec_of_look", "this_user"]


@attrs.frozen(kw_only=True)
class Basis:
    """
    What is known before a goal is looked at: the plan with all its hosts, the
    *inventory* that named them, this process, store, MANIFEST.

    *id* is that of the run to be; the environment is read here, once.
    """

    id: str
    plan: Plan
    environ: Mapping[str, str] = attrs.field(repr=False)
    store: Store
    store_url: str
    folder: Path
    manifest: tuple[ManifestLine, ...]
    hosts_of_module: Mapping[str, frozenset[str]]
    inventory: Inventory
    warnings: tuple[str, ...] = ()

    def holder(self, actor: str) -> str:
        """Return what a run that finds a host locked is told of this one."""
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        where = f"{socket.gethostname()} (pid {os.getpid()})"
        # One line, for it is the first of a file.
        return " ".join(f"run {self.id} by {actor} on {where} since {now}".split())


@attrs.frozen(kw_only=True)
class Task:
    """
    What a goal comes to on this plan; the fields are those of a spec.

    A resumption's goal says here which run it takes up, and what that was for.
    """

    goal: Goal
    hosts: tuple[Host, ...]
    modules: tuple[ModuleToDeploy, ...]
    limited: bool
    follows: str = ""
    killed: PastRun | None = None
    warnings: tuple[str, ...] = ()


async def begin(
    plan: Plan, inventory: Inventory | None = None, store: Store | None = None
) -> Basis:
    """
    Check the plan, find out its hosts, and open its store.

    Args:
        plan: What goes where.

        inventory: Who names the hosts; whom the plan names by default.

        store: Where packages, MANIFEST and runs are kept; the plan's by default.

    Raises:
        ConfigError: The plan is wrong or asks for what this version cannot do.
        PlanError: The inventory cannot be asked, or names no host.
        StoreError: The store cannot be read.
    """
    environ = dict(os.environ)
    if problems := check_plan(plan, environ) + unsupported(plan):
        raise ConfigError(problems)
    plan, asked = await with_hosts(plan, inventory, environ)
    if store is None:
        url = store_url(plan.store, environ, plan.base)
        store = DirectoryStore(Path(url) / app_path(plan.app))
    else:
        url = store.url
    now = datetime.now(UTC)
    # Runs of the same second sort by time, too.
    token = f"{now.microsecond // 1000:03x}{secrets.token_hex(2)[:3]}"
    run = run_id(now, token)
    folder, warnings = await _place(store, run, environ)
    return Basis(
        id=run,
        plan=plan,
        environ=environ,
        store=store,
        store_url=url,
        folder=folder,
        warnings=warnings,
        manifest=await store.manifest.read(),
        hosts_of_module=hosts_of_module(plan),
        inventory=asked,
    )


async def _place(
    store: Store, run: str, environ: Mapping[str, str]
) -> tuple[Path, tuple[str, ...]]:
    """
    Return where the files of *run* are written here, and warnings.

    Where the store keeps them elsewhere, what a killed run on this machine has not
    handed in is, so that all that is known is read from the store.
    """
    if folder := store.runs.folder(run):
        return folder, ()
    here = local_runs(environ, store.url)
    return here / run, await hand_in_killed(store.runs, here)


def spec_of_look(
    basis: Basis, hosts: tuple[Host, ...], modules: tuple[Module, ...], *, limited: bool
) -> RunSpec:
    """
    Return the spec of a run that looks at *hosts*, and ends before it changes anything.

    A look asks what a converge would find to do; it has no secrets and keeps no record.
    """
    actor = this_user()
    return RunSpec(
        id=basis.id,
        goal=Converge(),
        plan=basis.plan,
        environ=basis.environ,
        store=basis.store,
        store_url=basis.store_url,
        manifest=basis.manifest,
        folder=basis.folder,
        modules=tuple(map(ModuleToDeploy, modules)),
        hosts=hosts,
        hosts_of_module=basis.hosts_of_module,
        limited=limited,
        wait=0.0,
        break_lock=False,
        actor=actor,
        reason="",
        holder=basis.holder(actor),
        secrets={},
        old_secrets=(),
        follows="",
        killed=None,
        warnings=(),
        stranded=frozenset(),
        inventory=basis.inventory,
        balancer=None,
    )


def this_user() -> str:
    """Return who runs this; a container's uid need not have a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
