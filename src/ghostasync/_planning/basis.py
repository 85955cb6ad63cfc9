"""The basis that every run is planned on, and the spec of a run that only looks."""

from __future__ import annotations

import getpass
import os
import pwd
import secrets
import socket
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from .._engine.spec import ModuleToDeploy, RunSpec, WayBack
from .._local.owners import trespass
from .._local.paths import (
    app_path,
    cache_home,
    local_runs,
    run_id,
    state_home,
    store_url,
)
from .._local.redact import Redactor
from .._local.scripts import Tail
from ..config import check_plan
from ..errors import ConfigError, PlanError
from ..events import BuildOutput, Record
from ..goal import Converge, Goal
from ..history._leftovers import hand_in_killed
from ..history.past_run import PastRun
from ..model import Host, Module, Plan
from ..protocols import (
    ActiveColor,
    ColorStore,
    Inventory,
    ManifestLine,
    Observer,
    OnOutput,
    SignedStore,
    Store,
    TestableStore,
)
from ..stores import DirectoryStore
from .ci import in_job
from .hosts import hosts_of_module
from .inventory import with_hosts

if TYPE_CHECKING:
    from ..stores.trust import Trust

__all__ = [
    "Basis",
    "Task",
    "begin",
    "open_store",
    "require_signing",
    "require_writable",
    "spec_of_look",
    "this_user",
]


@attrs.frozen(kw_only=True)
class Basis:
    """
    All that is known before the goal counts: plan, hosts, store, MANIFEST, environment.

    *id* is that of the run to be, *folder* is where it writes on this machine. *plan*
    has all its hosts, *inventory* is what named them. *environ* is the environment of
    this process, read once: what a run sees must not change while it goes on. *active*
    is the record of the active color, which the plan's ``active_color`` follows.
    *observe* is shown what goes on before the run begins.
    """

    id: str
    plan: Plan
    environ: Mapping[str, str] = attrs.field(repr=False)
    store: Store
    store_url: str
    store_id: str
    folder: Path
    manifest: tuple[ManifestLine, ...]
    hosts_of_module: Mapping[str, frozenset[str]]
    inventory: Inventory
    active: ActiveColor | None
    warnings: tuple[str, ...] = ()
    observe: Observer | None = None

    def listener(self, module: str) -> OnOutput | None:
        """Return what shows the output of a source that is asked before the run."""
        if (observe := self.observe) is None:
            return None
        names = self.plan.app.secrets
        redactor = Redactor(self.environ[n] for n in names if n in self.environ)
        tail = Tail()

        def show(data: bytes) -> None:
            tail.feed(data)
            text = redactor.text(tail.text())
            event = BuildOutput(module, "source", text, final=False)
            # One that raises is dropped, and logged, when it does so in the run.
            with suppress(Exception):
                observe(Record(0, time.time(), self.id, event))

        return show

    def holder(self, actor: str) -> str:
        """Return the line that another run reads when it finds a host locked."""
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        where = f"{socket.gethostname()} (pid {os.getpid()})"
        # One line, whatever the actor's name holds: lock.sh reads the first of a file.
        return " ".join(f"run {self.id} by {actor} on {where} since {now}".split())


@attrs.frozen(kw_only=True)
class Task:
    """
    The part of a spec that a goal decides; the fields are those of the spec.

    *goal* is whole here: a resumption's names the killed run, and what that was for.
    """

    goal: Goal
    hosts: tuple[Host, ...]
    modules: tuple[ModuleToDeploy, ...]
    limited: bool
    follows: str = ""
    killed: PastRun | None = None
    way_back: WayBack | None = None
    joined: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()


async def begin(
    plan: Plan,
    inventory: Inventory | None = None,
    store: Store | None = None,
    observe: Observer | None = None,
) -> Basis:
    """
    Check the plan, find out its hosts, and open its store.

    Args:
        plan: The plan; its hosts may still have to be asked for.

        inventory: Names the hosts; by default the plan's.

        store: Keeps packages, MANIFEST and runs; by default the plan's.

        observe: Shown what goes on before the run begins.

    Raises:
        ConfigError: The plan is wrong.
        PlanError: The inventory cannot be asked, or names no host; or the store does
            not ask for the signatures that the plan asks for.
        StoreError: The store cannot be read.
    """
    environ = dict(os.environ)
    if problems := check_plan(plan, environ):
        raise ConfigError(problems)
    store, url = open_store(plan, environ, store)
    if plan.store.signers and not (
        isinstance(store, SignedStore) and store.asks_for_signatures
    ):
        text = "store.signers: the store that was handed in asks for no signatures"
        raise PlanError(f"{text}; give it a Trust")
    # Before hosts are asked for: the command of an inventory may go by the color.
    active = await _active_color(plan, store)
    plan, told = _with_active(plan, active)
    plan, asked = await with_hosts(plan, inventory, environ)
    now = datetime.now(UTC)
    # Milliseconds, then chance: runs of the same second sort by time, too.
    token = f"{now.microsecond // 1000:03x}{secrets.token_hex(2)[:3]}"
    # Behind all that the store knows: its runs sort in the order in which they began,
    # whatever the clocks of the machines say that they ran on.
    run = run_id(now, token, await store.runs.ids())
    folder, warnings = await _place(store, run, environ)
    return Basis(
        id=run,
        plan=plan,
        environ=environ,
        store=store,
        store_url=url,
        store_id=await store.identity(),
        folder=folder,
        active=active,
        warnings=(*told, *warnings),
        manifest=await store.manifest.read(),
        hosts_of_module=hosts_of_module(plan),
        inventory=asked,
        observe=observe,
    )


def open_store(
    plan: Plan, environ: Mapping[str, str], store: Store | None = None
) -> tuple[Store, str]:
    """
    Return *store*, else the plan's, and its address for people.

    Raises:
        PlanError: Somebody else could change what is in it, or in our own folders.
    """
    _require_ours(state_home(environ) / "ghostasync", "XDG_STATE_HOME")
    _require_ours(cache_home(environ), "XDG_CACHE_HOME")
    if store is not None:
        return store, store.url
    url, trust = store_url(plan.store, environ, plan.base), _trust_of(plan, environ)
    if url.startswith("s3://"):
        from ..stores.s3 import S3Store

        return S3Store(f"{url}/{app_path(plan.app)}", plan.store, trust), url
    root = Path(url) / app_path(plan.app)
    # What lies in it counts as well: the folder may be open to all, who come to those.
    for path in (Path(url), root, *sorted(root.glob("*"))):
        _require_ours(path, "store.url", shared=True)
    return DirectoryStore(root, trust), url


def _require_ours(path: Path, key: str, *, shared: bool = False) -> None:
    if why := trespass(path, shared=shared):
        raise PlanError(f"{key}: {why}")


async def _active_color(plan: Plan, store: Store) -> ActiveColor | None:
    """Return the record of the active color; None without colors."""
    if plan.app.color and isinstance(store, ColorStore):
        return await store.active_color()
    return None


def _with_active(
    plan: Plan, active: ActiveColor | None
) -> tuple[Plan, tuple[str, ...]]:
    """Return the plan with the active color on record, and what it says otherwise."""
    app = plan.app
    if active is None or app.active_color == active.color:
        return plan, ()
    said = app.active_color
    text = f'app.active_color says "{said}", but the store says {active.text}'
    plan = attrs.evolve(plan, app=attrs.evolve(app, active_color=active.color))
    return plan, (f"{text}; the store counts, so leave the key out",) if said else ()


def _trust_of(plan: Plan, environ: Mapping[str, str]) -> Trust | None:
    if plan.store.sign or plan.store.signers:
        from ..stores.trust import Trust

        trust = Trust(plan.app, plan.store, plan.base, environ)
        trust.require_signers()
        return trust
    return None


async def require_signing(store: Store) -> None:
    """
    Do nothing, unless *store* would refuse what a run puts in and takes out again.

    Raises:
        PlanError: No key of the plan signs as its signers ask.
    """
    if isinstance(store, SignedStore):
        await store.require_key()


async def require_writable(store: Store) -> None:
    """
    Do nothing, unless it can be told beforehand that *store* takes no package.

    Raises:
        StoreError: The store cannot be written; the text says what to do.
    """
    if isinstance(store, TestableStore):
        await store.require_writable()


async def _place(
    store: Store, run: str, environ: Mapping[str, str]
) -> tuple[Path, tuple[str, ...]]:
    """Return the folder on this machine for the files of *run*, and warnings."""
    if folder := store.runs.folder(run):
        return folder, _lost_later(folder)
    # The store is elsewhere. Files that a killed run on this machine has left are
    # handed in first, so that planning reads all there is to know from the store.
    here = local_runs(environ, store.url)
    return here / run, await hand_in_killed(store.runs, here)


def _lost_later(folder: Path) -> tuple[str, ...]:
    """Return the warning where *folder* of a run will not be there for the next one."""
    # In a container whoever runs this may have no name, and so no home folder.
    with suppress(KeyError):
        pwd.getpwuid(os.geteuid())
        return ()
    if not folder.is_relative_to(tempfile.gettempdir()):
        return ()
    text = "who runs this has no home folder, so the store is among temporary files"
    return (f"{text}, and MANIFEST and journals are lost with them: set store.url",)


def spec_of_look(
    basis: Basis, hosts: tuple[Host, ...], modules: tuple[Module, ...], *, limited: bool
) -> RunSpec:
    """
    Return the spec of a run that looks at *hosts*, and ends before it changes anything.

    Its goal is a converge, which asks no source. A look has no secrets and keeps no
    record.
    """
    actor = this_user(basis.environ)
    return RunSpec(
        id=basis.id,
        goal=Converge(),
        plan=basis.plan,
        environ=basis.environ,
        store=basis.store,
        store_url=basis.store_url,
        store_id=basis.store_id,
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
        active=basis.active,
        joined=frozenset(),
        balancer=None,
        balancer_seconds={},
        way_back=None,
        partner=None,
    )


def this_user(environ: Mapping[str, str]) -> str:
    """
    Return the user's name, in a CI job who started it, and where.

    In a container a user need not have a name, but has a uid.
    """
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid {os.getuid()}"
    return in_job(user, environ)
