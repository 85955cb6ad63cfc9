"""
Put a run together: from a plan and a selection to the parts that carry it out.

Everything that can be refused is refused here, before any host is contacted.
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
import socket
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import attrs

from ._paths import (
    app_path,
    build_dir,
    cache_home,
    git_url,
    local_path,
    parse_package_id,
    run_id,
    store_url,
)
from ._select import select
from .config import check_plan, check_secrets, unsupported
from .errors import ConfigError, PlanError, SourceError, StoreError
from .inventories.static import Static
from .model import (
    Action,
    DirectorySource,
    GitSource,
    Host,
    Module,
    Plan,
    Revision,
    State,
)
from .protocols import ManifestLine, Source, Store, Transport
from .sources.directory import Directory
from .sources.git import Git
from .stores.directory import DirectoryStore

__all__ = [
    "Assembly",
    "Job",
    "Selection",
    "assemble",
    "last_states",
    "open_transport",
    "survey",
]

_RUNS = 50
"""How many runs are looked at for what became of a host last."""


@attrs.frozen
class Selection:
    """
    What of the plan a run is about; the default is all of it.

    *modules* are names, or ``name@rev``; *rev* applies where the run has one repository
    only; *packages* are ids of stored packages to take instead of building; *limit* are
    expressions over hosts; *force* deploys what is live already. *wait* is how many
    seconds a lock of another run is waited for; *break_lock* takes it over at once, and
    ends what that run has running.
    """

    modules: tuple[str, ...] = ()
    rev: str = ""
    packages: tuple[str, ...] = ()
    limit: tuple[str, ...] = ()
    force: bool = False
    wait: float = 0.0
    break_lock: bool = False


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
    whether the run is about chosen hosts.
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
    wait: float = 0.0
    break_lock: bool = False

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


async def assemble(
    plan: Plan,
    selection: Selection,
    *,
    action: Action,
    actor: str = "",
    reason: str = "",
    hosts: Sequence[str] = (),
) -> Assembly:
    """
    Check the plan, choose hosts and modules, and resolve every revision.

    Raises:
        ConfigError: The plan is wrong or asks for what this version cannot do.
        UnknownRevision: A source has no such revision.
        PlanError: The selection is empty or names what is not there.
        StoreError: The store cannot be read.
    """
    if problems := check_secrets(plan, os.environ):
        raise ConfigError(problems)
    limit = (*selection.limit, *hosts)
    parts = await survey(plan, attrs.evolve(selection, limit=limit))
    if action is Action.CONVERGE:
        jobs = _manifest_jobs(plan, parts.manifest)
    else:
        wanted = _wanted(plan, selection)
        jobs = [await _job(plan, parts.store, module, p) for module, p in wanted]
    return attrs.evolve(
        parts,
        action=action,
        jobs=tuple(jobs),
        actor=actor or getpass.getuser(),
        reason=reason,
        secrets={name: os.environ[name] for name in plan.app.secrets},
        hidden=await _kept_secrets(plan, parts),
    )


async def survey(plan: Plan, selection: Selection) -> Assembly:
    """
    Put together what it takes to look at a fleet: no source is asked.

    Raises:
        ConfigError: The plan is wrong or asks for what this version cannot do.
        PlanError: The selection is empty or names what is not there.
        StoreError: The store cannot be read.
    """
    if problems := check_plan(plan) + unsupported(plan):
        raise ConfigError(problems)
    url = store_url(plan.store, os.environ, plan.base)
    store = DirectoryStore(Path(url) / app_path(plan.app))
    run = run_id(datetime.now(UTC), secrets.token_hex(3))
    return Assembly(
        id=run,
        plan=plan,
        jobs=tuple(Job(module) for module, _ in _wanted(plan, selection)),
        hosts=await _hosts(plan, store, selection.limit),
        store=store,
        store_url=url,
        manifest=await store.manifest(),
        folder=Path(url) / app_path(plan.app) / "runs" / run,
        force=selection.force,
        limited=bool(selection.limit),
        wait=selection.wait,
        break_lock=selection.break_lock,
    )


async def _kept_secrets(plan: Plan, parts: Assembly) -> tuple[str, ...]:
    """Return the secrets of the releases in MANIFEST: their scripts may run again."""
    hidden: list[str] = []
    for line in parts.manifest:
        kept = await parts.store.environment(line.package)
        if kept is not None:
            hidden += [kept.variables.get(name, "") for name in plan.app.secrets]
    return tuple(hidden)


def open_transport(plan: Plan) -> Transport:
    """Return what reaches the plan's hosts."""
    # Parsing keys and importing asyncssh take a quarter of a second: only when needed.
    from .transports.ssh import SshTransport

    return SshTransport(plan.ssh, login_seconds=plan.rollout.deadlines.connect)


async def _hosts(plan: Plan, store: Store, limit: Sequence[str]) -> tuple[Host, ...]:
    inventory = await Static(plan.hosts).hosts()
    asked = any("@failed" in expression for expression in limit)
    last = await last_states(store) if asked else {}
    fine = {State.LIVE.value, State.UNCHANGED.value}
    failed = {name for name, state in last.items() if state not in fine}
    return select(inventory, limit, failed)


async def last_states(store: Store) -> dict[str, str]:
    """Return how each host's last run ended; a run of few hosts hides no other."""
    states: dict[str, str] = {}
    for run in list(await store.runs())[-_RUNS:]:
        try:
            text = await store.load(run, "report.json")
        except StoreError:
            continue  # a run that is going on, or was killed
        hosts = json.loads(text)["hosts"]
        states |= {name: host["state"] for name, host in hosts.items()}
    return states


def _wanted(plan: Plan, selection: Selection) -> list[tuple[Module, str]]:
    """Return the chosen modules in app order, each with a package id or none."""
    known = {module.name: module for module in plan.modules}
    revs = dict(word.partition("@")[::2] for word in selection.modules)
    packages = {parse_package_id(p).module: p for p in selection.packages}
    for name in (*revs, *packages):
        if name not in known:
            raise PlanError(
                f"there is no module {name!r}; modules: {', '.join(known) or 'none'}"
            )
    names = {*revs, *packages} or set(known)
    chosen = [module for module in plan.modules if module.name in names]
    if not chosen:
        raise PlanError("modules: there is nothing to deploy")
    if selection.rev:
        repositories = {m.source for m in chosen if isinstance(m.source, GitSource)}
        if len({source.git for source in repositories}) != 1:
            raise PlanError(
                "--rev needs modules of one repository; give each its own: NAME@REV"
            )
    return [
        (_at(m, revs.get(m.name) or selection.rev), packages.get(m.name, ""))
        for m in chosen
    ]


def _at(module: Module, rev: str) -> Module:
    if not rev:
        return module
    if not isinstance(module.source, GitSource):
        raise PlanError(f"{module.name}: its source has no revisions")
    return attrs.evolve(module, source=attrs.evolve(module.source, rev=rev))


async def _job(plan: Plan, store: Store, module: Module, package: str) -> Job:
    if package:
        try:
            await store.package(package)
        except StoreError as exc:
            raise PlanError(f"--package {package}: {exc}") from exc
        return Job(module, package=package)
    source = _source(plan, module)
    try:
        return Job(module, source, await source.resolve())
    except SourceError as exc:
        # The run tells it, with its log and its exit status.
        return Job(module, source, error=exc)


def _manifest_jobs(plan: Plan, manifest: Sequence[ManifestLine]) -> list[Job]:
    lines = {line.module: line.package for line in manifest}
    jobs = [Job(m, package=lines[m.name]) for m in plan.modules if m.name in lines]
    if not jobs:
        raise PlanError(
            "MANIFEST names no module of this app yet: `ghostasync deploy` first"
        )
    return jobs


def _source(plan: Plan, module: Module) -> Source:
    match module.source:
        case GitSource() as git:
            return Git(
                module.name,
                attrs.evolve(git, git=git_url(git.git, plan.base, os.environ)),
                cache=cache_home(os.environ),
                base=plan.base,
                keep_git=".git" not in module.exclude,
            )
        case DirectorySource(dir=folder):
            return Directory(module.name, local_path(folder, plan.base, os.environ))
        case _:
            raise PlanError(f"{module.name}: this version fetches from git and dir")
