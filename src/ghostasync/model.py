"""
The values of a deployment: its plan, and the report of its outcome.

Everything here is frozen and does no I/O. The fields of :class:`Plan` and of all
values in it are the keys of ``ghostasync.toml``, their defaults the file's defaults.

One file, though long: read from top to bottom it is the configuration.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import attrs

__all__ = [
    "Action",
    "App",
    "BalancerSettings",
    "Deadlines",
    "DirectorySource",
    "Gate",
    "GitSource",
    "Hook",
    "HookPlace",
    "Host",
    "HostKeys",
    "HostReport",
    "InventorySettings",
    "Layout",
    "Module",
    "OnFailure",
    "Outcome",
    "Package",
    "Plan",
    "Proof",
    "Report",
    "Revision",
    "Rollout",
    "S3Source",
    "Script",
    "Source",
    "Ssh",
    "State",
    "StoreSettings",
    "Verify",
]

NAME_PATTERN: Final = r"[A-Za-z0-9][A-Za-z0-9._-]*"
"""
Pattern of the names of app, env, role, color and modules.

These names become folders on hosts and parts of URLs in the store, so nothing in them
can lead out of a folder or be taken for an option.
"""


class State(enum.Enum):
    """
    Place of one host on its way; the transitions are in ``machine``.

    FAILED: the host's own work failed. HALTED: the host was stopped because of others,
    before its link moved; nothing of its own went wrong, and it counts apart.
    """

    CONNECTING = "CONNECTING"
    CHECKING = "CHECKING"
    UPLOADING = "UPLOADING"
    PREPARING = "PREPARING"
    READY = "READY"
    DRAINING = "DRAINING"
    SWITCHING = "SWITCHING"
    ACTIVATING = "ACTIVATING"
    VERIFYING = "VERIFYING"
    UNDRAINING = "UNDRAINING"
    LIVE = "LIVE"
    UNCHANGED = "UNCHANGED"
    HALTED = "HALTED"
    FAILED = "FAILED"
    ROLLING_BACK = "ROLLING_BACK"
    ROLLED_BACK = "ROLLED_BACK"
    STRANDED = "STRANDED"


class Outcome(enum.Enum):
    """
    End of a run; ``EXIT_STATUS`` in ``_run.report`` maps it to a number.

    PARTIAL: live but for hosts that the budget covers. MIXED: old and new releases are
    both live, each host serving one whole release. STRANDED: a person must look.
    """

    LIVE = "live"
    UNCHANGED = "unchanged"
    PARTIAL = "partial"
    MIXED = "mixed"
    FAILED = "failed"
    STRANDED = "stranded"
    INTERRUPTED = "interrupted"
    LOCKED = "locked"


class Action(enum.Enum):
    """
    Purpose of a run in one word; scripts see it as ``GHOST_ACTION``.

    The engine goes by the goal, see ``goal``; several goals share one action.
    """

    DEPLOY = "deploy"
    REDEPLOY = "redeploy"
    ROLLBACK = "rollback"
    RESUME = "resume"
    CONVERGE = "converge"
    BOOT = "boot"


@attrs.frozen
class App:
    """
    One application in one environment and role, and perhaps color.

    *env_vars* and the *secrets* of these names, whose values come from the controller's
    environment, are what scripts see besides ``GHOST_*``.
    """

    name: str
    env: str
    role: str
    color: str = ""
    active_color: str = ""
    env_vars: Mapping[str, str] = attrs.field(factory=dict)
    secrets: tuple[str, ...] = ()


@attrs.frozen
class StoreSettings:
    """
    Place of packages, MANIFEST and runs.

    The newest *keep* packages of each module stay, besides those that are in use.
    *region* and *endpoint_url* are for stores in S3.
    """

    url: str = "$XDG_STATE_HOME/ghostasync"
    keep: int = 42
    endpoint_url: str = ""
    region: str = ""


HostKeys = Literal["strict", "accept-new", "insecure"]
"""
Host keys that are believed: those on record, those of hosts without one as well, or
any key at all.
"""


@attrs.frozen
class Ssh:
    """
    Way to the hosts. Empty strings mean what ssh itself would do.

    *connects* is the number of handshakes at once; 0: from the number of cores, and
    fewer to one bastion.
    """

    user: str = ""
    port: int = 22
    identity: str = ""
    known_hosts: str = "~/.ssh/known_hosts"
    host_keys: HostKeys = "strict"
    config: str | bool = "~/.ssh/config"
    jump: str = ""
    proxy_command: str = ""
    sudo: bool = False
    connects: int = 0


Proof = Literal["metadata", "content"]
"""
Comparison on the host besides the checksum of the stream: of kind, mode, size, link
target and mtime of every path, or of every byte as well.
"""


@attrs.frozen
class Layout:
    """
    Releases on a host: their *root*, their *proof*, and how many *keep* their place.

    Kept are the last *keep* that were live, and the last one that failed.
    """

    root: str = "/ghost"
    proof: Proof = "metadata"
    keep: int = 5


@attrs.frozen
class Deadlines:
    """
    Longest time of each state, in seconds, counted from when its work starts.

    A host that waits for its turn or for a slot uses up no deadline, so that a slow
    host costs its own time only. *before_switch* is how long a run waits for it, 0: to
    its end; it goes on in either case.
    """

    build: float = 3600
    connect: float = 30
    check: float = 30
    upload: float = 900
    pre_deploy: float = 600
    before_switch: float = 0
    drain: float = 60
    switch: float = 30
    post_deploy: float = 600
    verify: float = 60
    undrain: float = 60
    after_wave: float = 600
    rollback: float = 60
    after_all_deploy: float = 600
    stall: float = 60
    settle: float = 30


HookPlace = Literal["controller", "host"]
"""Place where the command of a hook runs: this machine, or the host that it is for."""


@attrs.frozen
class Hook:
    """
    A command for one host, such as the one that drains it.

    *run* is a script for sh; on the controller it may begin with ``#!`` and be any
    other. Empty: nothing to do.
    """

    run: str = ""
    on: HookPlace = "controller"

    def __bool__(self) -> bool:
        return bool(self.run)


@attrs.frozen
class BalancerSettings:
    """
    The plug-in that takes hosts out of a balancer; an empty *kind*: the two hooks.

    *options* are the other keys of the table: the plug-in knows what they mean.
    """

    kind: str = ""
    options: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen
class Gate:
    """A command on the controller that a rollout has to pass; as in :class:`Hook`."""

    run: str = ""

    def __bool__(self) -> bool:
        return bool(self.run)


OnFailure = Literal["rollback-fleet", "rollback-host"]
"""
Hosts that go back where the budget breaks: all that may have changed, or only those
that failed, while live hosts stay live and later waves do not start.
"""


@attrs.frozen
class Rollout:
    """
    Way of a fleet to the new release: waves, budgets, gates and deadlines.

    *waves* holds sizes in hosts (``int``) or percent of the selected fleet
    (``"25%"``), the last one repeating; or, as one ``str``, Ghost's own words.
    *soak* and *confirm* are in seconds. An empty *max_unreachable* means that
    hosts which never connected count in *max_failures*. *min_serving* is how many of
    the fleet, in hosts or percent, serve at any moment; under ``--limit`` the fleet is
    the whole inventory, and its other hosts count as serving.
    """

    waves: tuple[int | str, ...] | str = ("100%",)
    spread_by: str = ""
    min_serving: int | str = 0
    drain: Hook = Hook()
    undrain: Hook = Hook()
    balancer: BalancerSettings = BalancerSettings()
    soak: float = 0
    after_wave: Gate = Gate()
    max_failures: int | str = 0
    max_unreachable: int | str = ""
    on_failure: OnFailure = "rollback-fleet"
    concurrency: int = 256
    confirm: float = 0
    deadlines: Deadlines = Deadlines()


@attrs.frozen
class Host:
    """One machine. *name* is unique in the plan and the same in every report."""

    name: str
    address: str = ""
    port: int = 0
    user: str = ""
    labels: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class InventorySettings:
    """
    Command or plug-in that is asked for the hosts when a run is planned.

    Without either the plan lists its hosts itself. *options* are the other keys of the
    table: the plug-in knows what they mean.
    """

    command: str = ""
    plugin: str = ""
    options: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen
class GitSource:
    """A git repository; an empty *rev* means its default branch."""

    git: str
    rev: str = ""


@attrs.frozen
class DirectorySource:
    """A folder on this machine; it is copied first and never built in place."""

    dir: str


@attrs.frozen
class S3Source:
    """Objects under an ``s3://`` URL."""

    s3: str


Source = GitSource | DirectorySource | S3Source


@attrs.frozen
class Script:
    """
    One script of a module; at most one of *path*, *inline* and *file* is set.

    *path* lies in the source tree and is read after the buildpack, *inline* is the
    text itself, *file* lies beside the configuration. *run_as* is the user that it
    runs as on a host; empty: the login user, root with sudo.
    """

    path: str = ""
    inline: str = ""
    file: str = ""
    run_as: str = ""

    def __bool__(self) -> bool:
        return bool(self.path or self.inline or self.file)


@attrs.frozen
class Verify:
    """
    Proof of a host's health; *interval* and *attempt_timeout* in seconds.

    *command* runs on the host as the user *run_as*, empty: as scripts do; *url* is
    fetched from the host. Either is tried again until ``deadlines.verify`` is over.
    """

    command: str = ""
    url: str = ""
    run_as: str = ""
    interval: float = 2
    attempt_timeout: float = 5

    def __bool__(self) -> bool:
        return bool(self.command or self.url)


@attrs.frozen
class Module:
    """
    One deployable tree, served from the symlink at *path*.

    *hosts* chooses the hosts that get it, in the words of ``--limit``; empty: all.
    """

    name: str
    path: str
    source: Source
    buildpack: Script = Script()
    pre_deploy: Script = Script()
    before_switch: Script = Script()
    post_deploy: Script = Script()
    after_all_deploy: Script = Script()
    uid: int = -1
    gid: int = -1
    exclude: tuple[str, ...] = (".git",)
    shared_dirs: tuple[str, ...] = ()
    shared_files: tuple[str, ...] = ()
    adopt: bool = False
    hosts: tuple[str, ...] | str = ""
    verify: Verify = Verify()

    @property
    def users(self) -> frozenset[str]:
        """Users that its scripts run as on hosts, besides the login user."""
        scripts = (self.pre_deploy, self.before_switch, self.post_deploy, self.verify)
        return frozenset(script.run_as for script in scripts if script.run_as)

    @property
    def selectors(self) -> tuple[str, ...]:
        """*hosts* as a list of expressions; none: all hosts."""
        if isinstance(self.hosts, str):
            return (self.hosts,) if self.hosts else ()
        return self.hosts


@attrs.frozen
class Plan:
    """
    Everything a run needs to know, in the order a person would say it.

    *hosts* are all hosts of the inventory, none yet where *inventory* has to be asked;
    *base* is the folder that relative paths of the configuration are relative to.
    *checked* is set by the reader of a file that found nothing wrong with the plan; a
    copy that was changed since is unchecked again.
    """

    app: App
    modules: tuple[Module, ...]
    hosts: tuple[Host, ...] = ()
    inventory: InventorySettings = InventorySettings()
    store: StoreSettings = StoreSettings()
    ssh: Ssh = Ssh()
    layout: Layout = Layout()
    rollout: Rollout = Rollout()
    base: Path = attrs.field(factory=Path.cwd)
    checked: bool = attrs.field(default=False, init=False, eq=False, repr=False)


@attrs.frozen
class Revision:
    """
    Commit, or other state, that a source resolved to.

    *commit* is 40 hex digits, or empty where the source has no commits; *message* is
    the whole commit message without final newlines, undecodable bytes kept as
    surrogate escapes; *repo* never holds credentials; *epoch* is the time of the commit
    in POSIX seconds, 0 where there is none.
    """

    repo: str = ""
    rev: str = ""
    commit: str = ""
    message: str = ""
    epoch: int = 0


@attrs.frozen
class Package:
    """
    A built archive. Sizes are in bytes.

    *sha256* is that of the archive, *content* a digest of tree, modes, scripts and
    the module's settings that does not see mtimes: equal content deploys equally.
    *unpacked* and *entries* say what a host must have room for.
    """

    id: str
    module: str
    revision: Revision
    sha256: str
    content: str
    nbytes: int
    unpacked: int
    entries: int
    scripts: tuple[str, ...] = ()


@attrs.frozen
class HostReport:
    """
    End of one host.

    *stage* is the state in which the host failed by itself, None for a host that is
    HALTED or was taken back because of others; *exit_status* is that of the script
    which failed; *log* is the path of its log here, *seconds* the time from first to
    last event.
    """

    state: State
    stage: State | None = None
    reason: str = ""
    exit_status: int | None = None
    seconds: float = 0.0
    log: str = ""


@attrs.frozen
class Report:
    """
    The outcome of a run.

    Times in seconds, sizes in bytes; *skew* is the time from the first to the last
    link of the widest wave, *nbytes* the package bytes sent, summed over hosts.
    *waves* are host names in the order they were switched.
    """

    run: str
    outcome: Outcome
    exit_status: int
    releases: Mapping[str, str]
    hosts: Mapping[str, HostReport]
    waves: tuple[tuple[str, ...], ...] = ()
    nbytes: int = 0
    skew: float = 0.0
    seconds: float = 0.0
    log: str = ""
    reason: str = ""

    def to_json(self) -> str:
        """Return the report as one JSON object; enums are their values."""
        plain = attrs.asdict(self, value_serializer=_plain)
        return json.dumps(plain, indent=2, sort_keys=True)


def _plain(_: object, __: object, value: object) -> object:
    return value.value if isinstance(value, enum.Enum) else value
