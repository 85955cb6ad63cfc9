"""
The values of a deployment: its plan, and the report of its outcome.

Everything here is frozen and does no I/O. The fields of :class:`Plan` and of all
values in it are the keys of ``ghostasync.toml``, their defaults the file's defaults.
The docstrings of these fields, and those of states, outcomes and exit statuses, are
what ``ghostasync explain`` says; the first line of each is a sentence of its own.

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
    "ExitStatus",
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
    "Signing",
    "Source",
    "Ssh",
    "State",
    "StoreSettings",
    "Submodules",
    "Transfer",
    "Verify",
]

NAME_PATTERN: Final = r"[A-Za-z0-9][A-Za-z0-9._-]*"
"""
Pattern of the names of app, env, role, color and modules.

These names become folders on hosts and parts of URLs in the store, so nothing in them
can lead out of a folder or be taken for an option.
"""


class State(enum.Enum):
    """Place of one host on its way; the transitions are in ``machine``."""

    CONNECTING = "CONNECTING"
    """The host is called, and logged into."""

    CHECKING = "CHECKING"
    """
    The host is locked for this run, and looked at without changing anything.

    What serves there is read, what a killed run has left, and whether there is all that
    a release needs: room, rights, tools.
    """

    UPLOADING = "UPLOADING"
    """
    The packages are sent, extracted beside the live release, and verified.

    It also waits here for the build, which goes on while hosts are looked at.
    """

    PREPARING = "PREPARING"
    """The pre_deploy of each module runs while the old release serves."""

    READY = "READY"
    """
    The host has all that it needs, and waits for the fleet and for its wave.

    No link moves before every host is here, or has failed within the budget.
    """

    DRAINING = "DRAINING"
    """The host is taken out of its balancers. From here on a failure is undone."""

    SWITCHING = "SWITCHING"
    """The links of all modules are moved to the new releases, back to back."""

    ACTIVATING = "ACTIVATING"
    """The post_deploy of each module runs, through the link that was moved."""

    VERIFYING = "VERIFYING"
    """The host's health is tried again and again, until it is good or time is up."""

    UNDRAINING = "UNDRAINING"
    """The host is put back into its balancers."""

    LIVE = "LIVE"
    """
    The host serves the new release, healthy and in its balancers.

    It still goes back where the fleet does, until the whole run is live.
    """

    UNCHANGED = "UNCHANGED"
    """
    There was nothing to do: the host serves what it should, and is left alone.

    For exec: its script exited 0.
    """

    HALTED = "HALTED"
    """
    The host was stopped because of others, before its link moved.

    Nothing of its own went wrong: it serves what it served, and counts as neither live
    nor failed. So does a host that was terminated on its way.
    """

    FAILED = "FAILED"
    """The host's own work failed before its link moved: it serves what it served."""

    ROLLING_BACK = "ROLLING_BACK"
    """
    The links go back to what the host served before.

    Where they had moved, the old release's own post_deploy runs with its own
    environment, and its health is proven.
    """

    ROLLED_BACK = "ROLLED_BACK"
    """The host serves again what it served before the run, and that was verified."""

    STRANDED = "STRANDED"
    """
    The way back failed: a person must look at this host.

    It may serve the new release, or the old one without its post_deploy; its reason
    says how far it came.
    """


class Outcome(enum.Enum):
    """End of a run; ``EXIT_STATUS`` in ``_run.report`` maps it to a number."""

    LIVE = "live"
    """Every chosen host serves the release; or serves again what was asked for."""

    UNCHANGED = "unchanged"
    """
    Every chosen host served it already; nothing was moved.

    For exec: its script exited 0 on every chosen host.
    """

    PARTIAL = "partial"
    """
    Live, but for hosts that failed within the budget, or with work that was left.

    The exit status is 0, and 1 where links that were to go are left on hosts.
    """

    MIXED = "mixed"
    """Old and new releases are both live, each host serving one whole release."""

    FAILED = "failed"
    """It came to nothing: every host that answers serves what it served before."""

    STRANDED = "stranded"
    """A person must look: a host could not be put back, or was lost on its way."""

    INTERRUPTED = "interrupted"
    """A person or a signal stopped it, and every link is as it was before."""

    LOCKED = "locked"
    """Another run has a host; what this run had begun was given up."""


class ExitStatus(enum.IntEnum):
    """
    Exit status of the command: of those that apply, the first one here counts.

    Scripts of users go by these numbers.
    """

    STRANDED = 3
    """
    A person must look.

    A host could not be put back, or was lost after its link may have moved. For status:
    a host is stranded.
    """

    MIXED = 5
    """
    Stopped with old and new releases both live, each host serving one whole release.

    So it ends with on_failure = "rollback-host", and where a resumption stops early.
    """

    INTERRUPTED = 130
    """Ctrl-C or SIGTERM: every link is as it was before."""

    LOCKED = 4
    """
    Another run has a host, or a person has frozen the app.

    Which run, or who and why, is said. --wait SECONDS waits for a run; unlock ends a
    freeze. A rollback is carried out all the same while the app is frozen.
    """

    REFUSED = 2
    """
    Refused as asked, and nothing was changed.

    A mistake in what was typed or in ghostasync.toml, an unknown revision, a --limit
    that leaves nobody, nothing to go back to, an older commit without --back, an
    inventory that shrank. Standard output is empty. A resume that finds nothing left to
    do exits with 0.
    """

    DRIFT = 6
    """
    For status alone: what hosts serve is not what MANIFEST says, or is not known.

    A host serves something else, does not answer, or a killed run is unfinished.
    """

    AFTER_ALL_FAILED = 7
    """Live, and stays so, but after_all_deploy failed or was interrupted."""

    DONE = 0
    """
    Done: every chosen host is LIVE or UNCHANGED, or failed within max_failures.

    For commands that only look: nothing was found that stands in the way.
    """

    FAILED = 1
    """
    Anything else that failed; every host that answers serves what it served before.

    A source, a build, the store, hosts that cannot be reached or refuse, more failures
    than the budget allows. For check: there are findings.
    """


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
    EXEC = "exec"
    SWAP = "swap"


@attrs.frozen
class App:
    """One application in one environment and role, and perhaps color."""

    name: str
    """
    The application; on a host all of it lies under <root>/<name>/<env>/<role>.

    Where color is set, that is one more folder.
    """

    env: str
    """The environment, such as prod or staging."""

    role: str
    """What hosts of this file do, such as web or worker."""

    color: str = ""
    """Which of two fleets that take turns this one is; empty: there is one fleet."""

    active_color: str = ""
    """
    Which of the two serves visitors, as long as no swap has said so.

    swap puts it on record in the store, and the record counts. Then hosts of the other
    one get no visitors by a deploy: rollout.drain, undrain and balancer are not asked.
    """

    env_vars: Mapping[str, str] = attrs.field(factory=dict)
    """Variables that all scripts and commands see, as names and values."""

    secrets: tuple[str, ...] = ()
    """
    Names of variables whose values come from ghostasync's own environment.

    Scripts see them like env_vars. They are never in a package, and are blotted out
    wherever output is shown or kept; a value of under 8 characters is not, and its name
    is warned of. A deploy is refused where one is not set.
    """


Checksums = Literal["when_supported", "when_required"]
"""Where requests to S3 carry a checksum: wherever one can stand, or must stand."""


@attrs.frozen
class Signing:
    """Way to sign; at most one of *key* and *command* is set."""

    key: str = ""
    """
    A private key file.

    With a passphrase, or where the public half is named, the agent signs.
    """

    command: str = ""
    """
    A command that signs what it reads, in the namespace "ghostasync".

    It prints what `ssh-keygen -Y sign` prints.
    """

    def __bool__(self) -> bool:
        return bool(self.key or self.command)


@attrs.frozen
class StoreSettings:
    """Place of packages, MANIFEST and runs."""

    url: str = "$XDG_STATE_HOME/ghostasync"
    """
    A folder that packages, MANIFEST and runs are in; a team shares one.

    Without XDG_STATE_HOME that is ~/.local/state. Nobody but you and root may own the
    folder, or write to it; save a group that it was given to, by chgrp and chmod g+ws.
    "s3://bucket/prefix" needs the extra s3, and credentials where the AWS command line
    would find them.
    """

    keep: int = 42
    """
    Packages of each module that stay, the newest ones.

    Besides them stay all that MANIFEST, live links and unfinished runs name.
    """

    keep_runs: str = "2y"
    """
    Age at which the records of runs go: days, weeks or years; empty: they stay.

    Such as "90d", "12w" or "2y". Records are journals, reports and logs. Those of the
    newest 20 runs stay in any case, and what MANIFEST names or has not ended.
    """

    sign: Signing = Signing()
    """The key that packages, environments and MANIFEST are signed with."""

    signers: str = ""
    """
    A file of allowed signers, as ssh-keygen has it; nobody else's word counts.

    What none of them has signed is refused, in a store and on hosts that boot.
    """

    endpoint_url: str = ""
    """
    For S3: another server than Amazon's.

    This and the next keys are for sources in S3 as well, wherever the store is.
    """

    region: str = ""
    """For S3: its region; empty: what the environment says."""

    path_style: bool = False
    """For S3: address a bucket by a path, and not by a host name of its own."""

    sse: str = ""
    """For S3: how the server encrypts, "AES256" or "aws:kms"; empty: its own way."""

    sse_key: str = ""
    """For S3: the KMS key that the server encrypts with."""

    checksums: Checksums = "when_supported"
    """For S3: which requests carry checksums; some servers need "when_required"."""


HostKeys = Literal["strict", "accept-new", "insecure"]
"""
Host keys that are believed: those on record, those of hosts without one as well, or
any key at all.
"""


@attrs.frozen
class Ssh:
    """Way to the hosts. Empty strings mean what ssh itself would do."""

    user: str = ""
    """The user who logs in; empty: the one that ssh would take."""

    port: int = 22
    """The port of hosts that say none themselves."""

    identity: str = ""
    """
    A private key file; empty: the agent, and what ssh itself would use.

    An OpenSSH certificate beside it is used. As with ssh, nobody else may read it. A
    `.pub` names a key that the agent has. One that has to be touched is used for jump
    hosts, and for three hosts of a run at most. Jump hosts are offered what ssh itself
    would use as well.
    """

    known_hosts: str = "~/.ssh/known_hosts"
    """The keys that hosts are known by, read as ssh does; @cert-authority works too."""

    host_keys: HostKeys = "strict"
    """
    Which host keys are believed: those in known_hosts, or others too.

    "accept-new" trusts a host at first sight, "insecure" trusts anybody.
    """

    config: str | bool = "~/.ssh/config"
    """
    Settings of ssh, which says itself what they come to; false: none.

    `ssh -G` is asked once a run for each host. As with ssh, /etc/ssh/ssh_config counts
    as well, unless another file than ~/.ssh/config is named. What counts: HostName,
    Port, User, ProxyJump, ProxyCommand, HostKeyAlias, IdentityFile, CertificateFile,
    IdentitiesOnly, IdentityAgent, AddressFamily, and all that these depend on (Host,
    Match, Include, CanonicalizeHostname, tokens, variables). Where ssh shares a
    connection to a jump host (ControlPath), that is used. GSSAPIAuthentication and
    GSSAPIDelegateCredentials count with the extra gssapi (Kerberos tickets), which pip
    builds with a C compiler and libkrb5-dev: the host is then asked to take a ticket
    before keys are offered.

    What does not: UserKnownHostsFile, GlobalKnownHostsFile, StrictHostKeyChecking and
    VerifyHostKeyDNS (`known_hosts`, `host_keys`), ConnectTimeout (`deadlines.connect`),
    Ciphers and other algorithms, PKCS11Provider, SecurityKeyProvider, BindAddress,
    BindInterface, further methods, and all that is about a session.
    ProxyUseFdpass is refused. Where there is no ssh, the files are read without it, and
    what only ssh can tell is refused.
    """

    jump: str = ""
    """
    A bastion that all hosts are reached through, [user@]host[:port].

    Its user, where none is said, is `user`; its port is not `port`, but its own.
    """

    proxy_command: str = ""
    """A command that connects to a host, in place of jump."""

    sudo: bool | str = False
    """
    true: work as root on hosts, by sudo -n. The name of a user: work as that one.

    Scripts run as that user, and everything on hosts belongs to it, whoever logs in:
    "deploy" is for teams whose people log in as themselves. A host whose records
    another user has made is refused, with what cures it.
    """

    connects: int = 0
    """Logins at once; 0: what the cores here can take, fewer through a bastion."""

    @property
    def sudo_user(self) -> str:
        """The user that commands run as by sudo; empty: the one who logs in."""
        return "root" if self.sudo is True else self.sudo or ""


Proof = Literal["metadata", "content"]
"""
Comparison on the host besides the checksum of the stream: of kind, mode, size, link
target and mtime of every path, or of every byte as well.
"""


@attrs.frozen
class Layout:
    """Place of releases on a host."""

    root: str = "/ghost"
    """
    The folder on hosts that releases are in.

    "~/ghost" is in the home of the user who logs in.
    """

    trusted: tuple[str, ...] = ()
    """
    Users, and groups as "@deploy", that may own or change folders on the way.

    The way is that to `root` and to the folder of each module's path. Others than root,
    the login and the user who works there could have something else served or run:
    where root works they are refused, elsewhere told.
    """

    proof: Proof = "metadata"
    """
    What a host compares besides the stream's checksum before a release is whole.

    "metadata": of every path its kind, mode, size, time and where links lead.
    "content": every byte as well, which takes several times the CPU.
    """

    keep: int = 5
    """
    Releases of each module that stay on a host, of those that were live.

    The current and the previous one are among them. The last one that failed stays too,
    and what any link still names.
    """


@attrs.frozen
class Deadlines:
    """
    Longest time of each state, in seconds, counted from when its work starts.

    A host that waits for its turn or for a slot uses up no deadline, so that a slow
    host costs its own time only.
    """

    source: float = 600
    """Seconds to ask for a revision, and again to fetch its tree with submodules."""

    build: float = 3600
    """Seconds for a buildpack, here."""

    connect: float = 30
    """Seconds until a host has answered and accepted the login."""

    check: float = 30
    """Seconds to look at a host."""

    upload: float = 900
    """Seconds to send, extract and verify the packages of a host."""

    seed: float = 300
    """Seconds to copy what a release shares from now on, all modules of a host."""

    pre_deploy: float = 600
    """Seconds for each pre_deploy."""

    before_switch: float = 0
    """
    Seconds that a run waits for each before_switch; 0: to its end.

    It goes on in either case, and the next run waits for it.
    """

    drain: float = 0
    """
    Seconds to take a host out of its balancers; 0: what they say, else 60.

    A balancer that knows how long its visitors may take refuses less.
    """

    switch: float = 30
    """Seconds to move the links of a host."""

    post_deploy: float = 600
    """Seconds for each post_deploy, on the way back too, and for a script of exec."""

    verify: float = 60
    """Seconds in which a health check has to pass once."""

    undrain: float = 0
    """Seconds to put a host back into its balancers; 0: as for drain."""

    after_wave: float = 600
    """Seconds for after_wave, here."""

    rollback: float = 60
    """Seconds to put the links of a host back."""

    after_all_deploy: float = 600
    """Seconds for each after_all_deploy, here."""

    stall: float = 60
    """Seconds that an upload may stand still."""

    settle: float = 30
    """
    Seconds for checks and pre_deploys at work to end where a run stops early.

    That is before any link has moved: every host that fails is told then, not only the
    first.
    """


HookPlace = Literal["controller", "host"]
"""Place where the command of a hook runs: this machine, or the host that it is for."""


@attrs.frozen
class Hook:
    """A command for one host, such as the one that drains it."""

    run: str = ""
    """
    The command, for sh; here it may begin with #! too. Empty: nothing to do.

    It sees the environment of scripts, with GHOST_HOST, GHOST_HOST_ADDRESS and
    GHOST_HOST_LABELS. A host that could not be taken back stays drained.
    """

    on: HookPlace = "controller"
    """Where it runs: on this machine, or on the host that it is about."""

    def __bool__(self) -> bool:
        return bool(self.run)


@attrs.frozen
class BalancerSettings:
    """
    The plug-in that takes hosts out of a balancer; an empty *kind*: the two hooks.

    *options* are the other keys of the table: the plug-in knows what they mean.
    """

    kind: str = ""
    """
    A plug-in: "haproxy", "alb", "clb" or another. Empty: drain and undrain.

    Others are what distributions register under "ghostasync.balancers". The other keys
    of the table are for the plug-in; those of ours are in docs/balancers.md.
    """

    options: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen
class Gate:
    """A command on the controller that a rollout has to pass; as in :class:`Hook`."""

    run: str = ""
    """
    The command, run here, for sh, unless it begins with #!. Empty: no gate.

    It sees GHOST_WAVE, GHOST_WAVES, GHOST_WAVE_HOSTS and GHOST_WAVE_HOSTS_FILE. Where
    it fails, the run stops as when a host does.
    """

    def __bool__(self) -> bool:
        return bool(self.run)


OnFailure = Literal["rollback-fleet", "rollback-host"]
"""
Hosts that go back where the budget breaks: all that may have changed, or only those
that failed, while live hosts stay live and later waves do not start.
"""


Transfer = Literal["push", "pull", "auto"]
"""Ways in which releases get to hosts."""


@attrs.frozen
class Rollout:
    """Way of a fleet to the new release: waves, budgets, gates and deadlines."""

    waves: tuple[int | str, ...] | str = ("100%",)
    """
    Sizes of waves, in hosts or percent of the chosen fleet; the last repeats.

    [1, "25%"] is a canary, then a quarter at a time, rounded up. As the whole value,
    Ghost's words for its stripes: "1by1", "1/3", "25%", "50%".
    """

    spread_by: str = ""
    """
    A label of hosts: each wave takes its share of every value of it.

    Such as the availability zone.
    """

    min_serving: int | str = 0
    """
    Hosts, or percent rounded up, that serve at any moment; others of a wave wait.

    A host does not serve from when it is drained until it is live, or back. Under
    --limit the fleet is the whole inventory, and hosts that are left out count as
    serving.
    """

    drain: Hook = Hook()
    """
    A command that takes a host out of its balancers before its links move.

    A host that goes back is drained first, too.
    """

    undrain: Hook = Hook()
    """A command that puts a host back when it is verified, or back and verified."""

    balancer: BalancerSettings = BalancerSettings()
    """A balancer by its kind, such as "haproxy", in place of drain and undrain."""

    soak: float = 0
    """Seconds to wait after a wave; at their end it is verified once more."""

    after_wave: Gate = Gate()
    """A command that each wave must pass here, when it has soaked."""

    max_failures: int | str = 0
    """
    Hosts, or percent of the chosen ones rounded down, that may fail.

    One more, and the run stops. With several waves, any failure after the switch in the
    first one stops it as well, and so does a wave in which every host failed.
    """

    max_unreachable: int | str = ""
    """A budget for hosts that never connected; empty: they count in max_failures."""

    on_failure: OnFailure = "rollback-fleet"
    """
    What goes back where the run stops: the fleet, or hosts that failed.

    "rollback-host": hosts that fail go back, those that are live stay, and later waves
    do not start.
    """

    concurrency: int = 256
    """Hosts that transfer or run a script at once; others stay connected and wait."""

    transfer: Transfer = "push"
    """
    How releases get to hosts: "push" sends them from here.

    With "pull" each host fetches them from the store, which has to be in S3, by an
    address that is good for a while. With "auto" hosts that cannot are sent to.
    """

    max_push: int = 50
    """With transfer = "auto": the most hosts that are sent to."""

    confirm: float = 0
    """
    Seconds of silence after which a switched host goes back by itself; 0: never.

    It puts its links back and runs the old post_deploy where it hears nothing of its
    run for so long and is not live yet.
    """

    deadlines: Deadlines = Deadlines()
    """The longest time of each step."""


@attrs.frozen
class Host:
    """One machine."""

    name: str
    """The host's name, in every list and report; web[001-300] are 300 hosts."""

    address: str = ""
    """Where it is reached; empty: by its name."""

    port: int = 0
    """Its port; 0: what ssh.port says."""

    user: str = ""
    """The user who logs in there; empty: what ssh.user says."""

    labels: Mapping[str, str] = attrs.field(factory=dict)
    """Names and values that --limit, modules.hosts and rollout.spread_by go by."""

    host_key_alias: str = ""
    """
    What it is called in ssh.known_hosts; empty: by its address.

    For hosts whose address is given to another one later, such as instances in a cloud.
    """

    host_keys: tuple[str, ...] = ()
    """
    Its public keys, while ssh.known_hosts has none: "ssh-ed25519 AAAA…".

    At the first login one of them is believed, no other, and written to known_hosts.
    """


@attrs.frozen
class InventorySettings:
    """
    Command or plug-in that is asked for the hosts when a run is planned.

    Without either the plan lists its hosts itself. *options* are the other keys of the
    table: the plug-in knows what they mean.
    """

    command: str = ""
    """
    A command that prints the hosts, in place of hosts: a JSON array of such rows.

    It runs here, in the folder of this file, for sh, unless it begins with #!. It has
    60 seconds.
    """

    plugin: str = ""
    """
    A plug-in that names the hosts: "ec2", or another one by its name.

    Others are what distributions register under "ghostasync.inventories". Further keys
    of the table are for the plug-in; those of ec2 are in docs/aws.md.
    """

    options: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen
class GitSource:
    """A git repository; an empty *rev* means its default branch."""

    git: str
    """A git repository, by its URL or path."""

    rev: str = ""
    """
    A branch, tag or commit of it; empty: its default branch.

    Where a branch and a tag have one name: refs/heads/NAME or refs/tags/NAME.
    """


@attrs.frozen
class DirectorySource:
    """A folder on this machine; it is copied first and never built in place."""

    dir: str
    """A folder on this machine; it is copied, and never built in place."""


@attrs.frozen
class S3Source:
    """One object of S3, or all objects of a prefix."""

    s3: str
    """
    An object in S3, "s3://bucket/site.zip", or a prefix, "s3://bucket/site/".

    An archive is unpacked as it is: .tar, .tar.gz, .tgz, .tar.bz2, .tbz2, .tar.xz,
    .txz, .tar.zst or .zip. Another object is a tree of that one file. Of a prefix all
    objects below it are the tree. What [store] says of S3 holds here, too.
    """

    version: str = ""
    """The version of the object, where its bucket keeps any; empty: the newest."""

    @property
    def is_prefix(self) -> bool:
        """Whether it can be no object; one without a slash at its end may be both."""
        key = self.s3.removeprefix("s3://").partition("/")[2]
        return not key or key.endswith("/")


Source = GitSource | DirectorySource | S3Source

Submodules = tuple[str, ...] | str
"""Submodules that belong to a tree: "all", "none", or their paths."""


@attrs.frozen
class Script:
    """One script of a module; at most one of *path*, *inline* and *file* is set."""

    path: str = ""
    """A path in the source tree, which is read when the buildpack is done."""

    inline: str = ""
    """The script itself."""

    file: str = ""
    """A file here, beside ghostasync.toml."""

    run_as: str = ""
    """
    The user of the host that it runs as; empty: the login user, root with sudo.

    Root does that by itself, another login by sudo -n. What runs here takes none.
    """

    no_return: bool = False
    """
    Of a before_switch: older releases cannot work with what it leaves.

    Then a rollback past it is refused without --force. A run that fails goes back even
    so: its own hosts served the older release until then.
    """

    def __bool__(self) -> bool:
        return bool(self.path or self.inline or self.file)


@attrs.frozen
class Verify:
    """
    Proof of a host's health; *interval* and *attempt_timeout* in seconds.

    Either way is tried again until ``deadlines.verify`` is over.
    """

    command: str = ""
    """A command that exits with 0 on a healthy host; it runs there like post_deploy."""

    url: str = ""
    """A URL that is fetched from the host, and has to answer well."""

    run_as: str = ""
    """The user of the host that command runs as; empty: as scripts do."""

    interval: float = 2
    """Seconds between two attempts."""

    attempt_timeout: float = 5
    """Seconds for each attempt."""

    def __bool__(self) -> bool:
        return bool(self.command or self.url)


AttributesKept = Literal["warn", "refuse", "keep"]


@attrs.frozen
class Module:
    """One deployable tree, served from the symlink at *path*."""

    name: str
    """The module's name; no two have the same."""

    path: str
    """What becomes a symlink to the release that is served; or "~/site"."""

    source: Source
    """What is deployed: a git repository, or a folder here."""

    buildpack: Script = Script()
    """Runs here, once, in a copy of the source; what it leaves is packaged."""

    pre_deploy: Script = Script()
    """
    Runs on each host before any link moves, while the old release serves.

    Its folder is that of the new release.
    """

    before_switch: Script = Script()
    """
    Runs once for the fleet, before any link moves: migrations.

    On the first host that is ready, when all are. Never for rollback and converge,
    whose releases have passed it.
    """

    post_deploy: Script = Script()
    """Runs on each host when its link has moved, in the folder behind the link."""

    after_all_deploy: Script = Script()
    """
    Runs here, once, when every host is live.

    Its folder is that of the build. Where it fails, the fleet stays live, and the exit
    status is 7.
    """

    build_at_target: bool = False
    """
    Build at the path that will be served, as if the link were the build folder.

    What a build writes down of its place is right then, as in a virtual environment of
    Python. It takes an absolute path, and mounts of its own, seen by the buildpack
    alone: root, or a system where users may have namespaces.
    """

    uid: int = -1
    """Who owns the release, by number; -1: the user who logs in, root with sudo."""

    gid: int = -1
    """Which group owns the release, by number; -1: that of the user who logs in."""

    submodules: Submodules = "all"
    """
    Which submodules of a git repository are a part of the tree.

    "all", "none", or an array of their paths; those within a named one come along.
    """

    exclude: tuple[str, ...] = (".git",)
    """
    Paths of the source that are not packaged; of a folder, not copied either.

    A pattern without a slash is compared with every name, one with a slash with the
    whole path.
    """

    shared_dirs: tuple[str, ...] = ()
    """
    Folders that outlive releases: a release gets a link to them.

    The first one is copied from the live release where it has it, else from the
    package.
    """

    shared_files: tuple[str, ...] = ()
    """Files that outlive releases, as shared_dirs."""

    allow_empty: bool = False
    """Deploy a tree without any file; otherwise that is an error of the build."""

    attributes: AttributesKept = "warn"
    """
    What becomes of capabilities, ACLs and extended attributes in the tree.

    "warn" leaves them behind, and says so; a file with an ACL gets a mode that gives
    nobody more. "refuse" ends the deploy. "keep" sets them on hosts, which need
    setfattr or python3 for that, and for capabilities root.
    """

    adopt: bool = False
    """
    Move aside what stands at path now, and take it for what to go back to.

    Otherwise a path that is no link of this module's fails the host.
    """

    hosts: tuple[str, ...] | str = ""
    """
    Which hosts get it, in the words of --limit; empty: all.

    "role=web", "web*,!web3", or an array of such expressions. A host without any module
    is left alone.
    """

    verify: Verify = Verify()
    """How a host proves its health: a command, a URL, or both."""

    @property
    def scripts(self) -> dict[str, Script]:
        """All its scripts by key, set or not, in the order in which they run."""
        return {
            "buildpack": self.buildpack,
            "pre_deploy": self.pre_deploy,
            "before_switch": self.before_switch,
            "post_deploy": self.post_deploy,
            "after_all_deploy": self.after_all_deploy,
        }

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
    *base* is the folder that relative paths of the configuration are relative to, and
    *file* the configuration, where it was read from one.
    *checked* is set by the reader of a file that found nothing wrong with the plan; a
    copy that was changed since is unchecked again.
    """

    app: App
    """What is deployed, and what its scripts see."""

    modules: tuple[Module, ...]
    """What a host serves: one [[modules]] for each tree, in order."""

    hosts: tuple[Host, ...] = ()
    """
    The hosts: names with ranges, or tables for those that need more than a name.

    "web[001-300].example.com" are 300 hosts. A table may have a range too, and gives
    its labels to all.
    """

    inventory: InventorySettings = InventorySettings()
    """The fleet: the hosts themselves, or who is asked for them."""

    store: StoreSettings = StoreSettings()
    """Where packages, MANIFEST and runs are kept."""

    ssh: Ssh = Ssh()
    """How hosts are reached."""

    layout: Layout = Layout()
    """Where releases go on a host."""

    rollout: Rollout = Rollout()
    """How the fleet is taken to the new release."""

    base: Path = attrs.field(factory=Path.cwd)
    file: Path | None = attrs.field(default=None, eq=False)
    checked: bool = attrs.field(default=False, init=False, eq=False, repr=False)


@attrs.frozen
class Revision:
    """
    Commit, or other state, that a source resolved to.

    *commit* is 40 hex digits, of objects in S3 a digest of what they are, or empty
    where the source has no commits; *message* is the whole commit message without final
    newlines, undecodable bytes kept as surrogate escapes; *repo* never holds
    credentials; *epoch* is the time of the commit in POSIX seconds, 0 where there is
    none.
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
    *unpacked* and *entries* say what a host must have room for, *manifest* is the
    sha256 of the list that a host compares the release with. *settings* map the names
    of settings and scripts that *content* covers to short digests.
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
    manifest: str = ""
    settings: Mapping[str, str] = attrs.field(factory=dict)


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
    link of the widest wave, *nbytes* the package bytes sent, summed over hosts, and
    *fetched* those that hosts took from the store by themselves.
    *waves* are host names in the order they were switched; *action* is what the run
    was for.
    """

    run: str
    outcome: Outcome
    exit_status: int
    releases: Mapping[str, str]
    hosts: Mapping[str, HostReport]
    waves: tuple[tuple[str, ...], ...] = ()
    nbytes: int = 0
    fetched: int = 0
    skew: float = 0.0
    seconds: float = 0.0
    log: str = ""
    reason: str = ""
    action: str = ""

    def to_json(self) -> str:
        """Return the report as one JSON object; enums are their values."""
        plain = attrs.asdict(self, value_serializer=_plain)
        return json.dumps(plain, indent=2, sort_keys=True)


def _plain(_: object, __: object, value: object) -> object:
    return value.value if isinstance(value, enum.Enum) else value
