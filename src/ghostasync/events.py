"""
Events of a run: frozen facts in the past tense.

The same events drive each host's state machine, the policy, the screen, the journal and
user code. Events carry no time and no number: a :class:`Record` wraps an event with
those when the run takes note of it, so that events stay comparable. Sizes are in bytes
and durations in seconds; releases and links are mapped from module names.

One file, though long: it is the list of all that can happen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs

from .model import Revision, State

__all__ = [
    "Activated",
    "Admitted",
    "AfterAllFailed",
    "AfterWaveFailed",
    "AfterWavePassed",
    "AfterWaveStarted",
    "BeforeSwitchFailed",
    "BeforeSwitchPassed",
    "BeforeSwitchStarted",
    "BuildFailed",
    "BuildOutput",
    "BuildStarted",
    "Cause",
    "Checked",
    "ColorMoved",
    "Committed",
    "Connected",
    "Differs",
    "Disconnected",
    "Drained",
    "Event",
    "Failed",
    "Finished",
    "FleetRollbackStarted",
    "Gone",
    "Halted",
    "HostEvent",
    "HostWarned",
    "Joined",
    "Judged",
    "KilledRunFound",
    "LockAwaited",
    "ManifestMoved",
    "Numbered",
    "Output",
    "Packaged",
    "Prepared",
    "Progressed",
    "Reconnected",
    "Record",
    "Resolved",
    "Resumed",
    "RollbackRequested",
    "RolledBack",
    "RunEvent",
    "RunsRemoved",
    "ScalingResumed",
    "ScalingSuspended",
    "Soaked",
    "Started",
    "Stopped",
    "Switched",
    "Unchanged",
    "Undrained",
    "Uploaded",
    "Verified",
    "Warned",
    "WaveFinished",
    "WaveStarted",
    "is_passing",
]

# --- Hosts ---------------------------------------------------------------------


@attrs.frozen
class HostEvent:
    """Something became true of one host."""

    host: str


@attrs.frozen
class Connected(HostEvent):
    """
    The host answered, accepted the login and ran a command as asked.

    *key* is the fingerprint of the ssh key that logged in, empty where none did.
    """

    seconds: float = 0.0
    key: str = ""


@attrs.frozen
class Checked(HostEvent):
    """The host has what a release needs, and this run holds its lock."""

    live: Mapping[str, str] = attrs.field(factory=dict)
    """Module name to the release id that is live now; empty where there is none."""


@attrs.frozen
class Unchanged(HostEvent):
    """
    Nothing is to be done on the host.

    Every module of the run is live there already, as built. For a run that only takes
    hosts back: no link of the host says otherwise than it should. For exec: its script
    exited 0.
    """


@attrs.frozen
class Resumed(HostEvent):
    """The run that this one resumes brought the host live already; it is left alone."""

    previous: Mapping[str, str] = attrs.field(factory=dict)
    """Module name to the text of its link before that run: a rollback restores it."""


@attrs.frozen
class Uploaded(HostEvent):
    """All packages are on the host, whole by their manifests and flushed to disk."""

    nbytes: int = 0
    seconds: float = 0.0
    fetched: int = 0
    """Bytes that the host took from the store by itself; *nbytes* were sent to it."""


@attrs.frozen
class Prepared(HostEvent):
    """Every pre-deploy exited 0; the old release still serves."""

    previous: Mapping[str, str] = attrs.field(factory=dict)
    """Module name to the text of its link now, which a rollback restores."""


@attrs.frozen
class Admitted(HostEvent):
    """The host's wave has started; from here on the host may change."""

    wave: int


@attrs.frozen
class Drained(HostEvent):
    """
    No balancer sends the host new work.

    *seconds* is how long the command for it took, 0 where there is none.
    """

    seconds: float = 0.0


@attrs.frozen
class Switched(HostEvent):
    """Every link of the host points at its new release."""


@attrs.frozen
class Activated(HostEvent):
    """Every post-deploy exited 0."""


@attrs.frozen
class Verified(HostEvent):
    """Every health check passed."""


@attrs.frozen
class Undrained(HostEvent):
    """The balancers send the host work again: it is live. *seconds* as for Drained."""

    seconds: float = 0.0


@attrs.frozen
class Failed(HostEvent):
    """
    The host could not do what its state asked for.

    *stage* is the state it was in, *tail* the last output of the script in question,
    *exit_status* that script's, *unreachable* whether the host never connected,
    *locked* whether another run holds it, and *denied* whether it refused the login.
    """

    reason: str
    stage: State
    exit_status: int | None = None
    tail: str = ""
    unreachable: bool = False
    locked: bool = False
    denied: bool = False


@attrs.frozen
class Halted(HostEvent):
    """The run stopped before the host's link moved, through no fault of the host."""

    reason: str


@attrs.frozen
class Gone(HostEvent):
    """
    The host was lost, and the inventory does not name it any more: it was terminated.

    It counts in no budget, and is nobody's to look after.
    """

    reason: str


@attrs.frozen
class RollbackRequested(HostEvent):
    """The fleet goes back, and the host with it."""

    reason: str


@attrs.frozen
class RolledBack(HostEvent):
    """Every link is as it was before the run, and the old release is verified."""

    to: Mapping[str, str] = attrs.field(factory=dict)
    """Module name to the release id served again; empty where there was none."""


@attrs.frozen
class Output(HostEvent):
    """
    The last output of a script on the host: a bounded tail, secrets redacted.

    *final* once the script has ended; samples before that are for screens only.
    """

    module: str
    script: str
    text: str
    final: bool = True


@attrs.frozen
class Disconnected(HostEvent):
    """The connection to the host died; until it is back no other host waits for it."""

    reason: str


@attrs.frozen
class Reconnected(HostEvent):
    """The host answers again, *seconds* after its connection was given up."""

    seconds: float


@attrs.frozen
class KilledRunFound(HostEvent):
    """
    The host's own records tell what a killed run, which this one takes up, did there.

    *moved* is whether the killed run had moved a link, *drained* whether it may have
    left the host out of its balancers. Either has to be taken back where this run goes
    back.
    """

    moved: bool = False
    drained: bool = False


@attrs.frozen
class HostWarned(HostEvent):
    """Something on the host asks for attention and does not stop the run."""

    text: str


# --- The run -------------------------------------------------------------------


@attrs.frozen
class RunEvent:
    """Something became true of the run as a whole."""


@attrs.frozen
class Started(RunEvent):
    """
    The run has an id and a journal. *hosts* are the selected ones, in order.

    *manifest* is what MANIFEST named for the modules; a run that is *limited* will not
    move it. *packages* are stored ones that the run takes as they are (module to id).
    *of* is the run that this one resumes, takes back or rolls back: where it has to
    *revert*, no release is made and hosts only go back. *leads* are the modules whose
    lines a rollback moves before the fleet; *to* maps hosts to modules to releases
    where not all hosts go to the same, empty where the link is removed;
    *recorded_secrets* is as in :class:`goal.Rollback`. *addresses* maps hosts to where
    the plan says they are, with a port, where that is not their name. *script* is what
    exec runs, secrets redacted; *color* is what swap goes to. *balancer_seconds* is how
    long each drain and undrain may take by the balancer's own settings; empty where it
    has none.
    """

    action: str
    app: str
    modules: tuple[str, ...]
    hosts: tuple[str, ...]
    actor: str = ""
    reason: str = ""
    manifest: Mapping[str, str] = attrs.field(factory=dict)
    limited: bool = False
    force: bool = False
    of: str = ""
    revert: bool = False
    packages: Mapping[str, str] = attrs.field(factory=dict)
    leads: tuple[str, ...] = ()
    to: Mapping[str, Mapping[str, str]] = attrs.field(factory=dict)
    recorded_secrets: bool = False
    addresses: Mapping[str, str] = attrs.field(factory=dict)
    script: str = ""
    balancer_seconds: Mapping[str, float] = attrs.field(factory=dict)
    color: str = ""


@attrs.frozen
class Resolved(RunEvent):
    """A module's source is known to the commit."""

    module: str
    revision: Revision


@attrs.frozen
class BuildStarted(RunEvent):
    """A module's tree is in place and its buildpack begins."""

    module: str


@attrs.frozen
class BuildOutput(RunEvent):
    """
    The last output of a script on this machine, as :class:`Output`.

    *module* is empty for after_wave, which belongs to none.
    """

    module: str
    script: str
    text: str
    final: bool = True


@attrs.frozen
class Packaged(RunEvent):
    """A module's package is in the store. Sizes in bytes, time in seconds."""

    module: str
    package: str
    nbytes: int
    unpacked: int
    entries: int
    seconds: float = 0.0
    reused: bool = False


@attrs.frozen
class Differs(RunEvent):
    """
    Why *hosts* are not left alone, of a run that was asked to say so.

    They serve the release *live*, and *package* comes. *reason* says it in words where
    no difference between the two does. *files* counts what was ``added``, ``changed``
    and ``gone``, *paths* name some of them and what about them changed; *settings* of
    the module and *variables* of its scripts are names.
    """

    module: str
    package: str
    live: str
    hosts: tuple[str, ...]
    reason: str = ""
    files: Mapping[str, int] = attrs.field(factory=dict)
    paths: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()


@attrs.frozen
class BuildFailed(RunEvent):
    """A module could not be built; no host was changed."""

    reason: str
    module: str = ""
    exit_status: int | None = None
    tail: str = ""


@attrs.frozen
class LockAwaited(RunEvent):
    """
    Another run holds *host*; *holder* says which.

    The run gives back what it has and begins again with *hosts* once that one is free,
    for up to *seconds*. A host that failed by itself is not tried again.
    """

    host: str
    holder: str
    seconds: float
    hosts: tuple[str, ...] = ()


@attrs.frozen
class Numbered(RunEvent):
    """
    The run has its number, above those of all runs that its hosts and MANIFEST know.

    It has one before any host is told of the run's moves, and another one after a wait
    for a lock. *after* is the run that had the highest number in the store, empty where
    there was none or the store did not say; *nbytes* of its journal had the SHA-256
    *digest*, in hex.
    """

    generation: int
    after: str = ""
    nbytes: int = 0
    digest: str = ""


@attrs.frozen
class Judged(RunEvent):
    """Every host is ready, unchanged or failed, and the budget allows to go on."""

    ready: int
    failed: int
    allowed: int


@attrs.frozen
class BeforeSwitchStarted(RunEvent):
    """
    A module's before_switch runs, once for the fleet, on *host*.

    *begun_by* is the killed run that started it, empty where this one does.
    """

    module: str
    host: str
    begun_by: str = ""


@attrs.frozen
class BeforeSwitchPassed(RunEvent):
    """A module's before_switch exited 0; it is not run again for this release."""

    module: str
    host: str
    seconds: float = 0.0


@attrs.frozen
class BeforeSwitchFailed(RunEvent):
    """A module's before_switch failed; no link was moved, and none will be."""

    module: str
    host: str
    reason: str
    exit_status: int | None = None
    tail: str = ""


@attrs.frozen
class WaveStarted(RunEvent):
    """A wave begins; waves are counted from 1."""

    wave: int
    waves: int
    hosts: tuple[str, ...]


@attrs.frozen
class WaveFinished(RunEvent):
    """
    A wave is live or has failed. *skew*: first to last link, in seconds.

    Hosts that were stopped because others failed are neither *live* nor *failed*. For
    exec *live* are those whose script exited 0.
    """

    wave: int
    live: int
    failed: int
    skew: float = 0.0


@attrs.frozen
class Soaked(RunEvent):
    """A wave was watched for *seconds* and still verifies."""

    wave: int
    seconds: float


@attrs.frozen
class AfterWaveStarted(RunEvent):
    """A wave is live and has soaked; after_wave decides whether the run goes on."""

    wave: int


@attrs.frozen
class AfterWavePassed(RunEvent):
    """The run may go on after this wave."""

    wave: int
    seconds: float = 0.0


@attrs.frozen
class AfterWaveFailed(RunEvent):
    """The run must not go on after this wave."""

    wave: int
    reason: str
    exit_status: int | None = None
    tail: str = ""


Cause = Literal["policy", "locked", "interrupted", "abandoned"]
"""Why a run stops: its own rules, another run's lock, a person, or a fault here."""


@attrs.frozen
class Stopped(RunEvent):
    """
    The run goes no further; what follows only cleans up.

    Where *cause* is a person or a fault on this machine, every host goes back, whatever
    ``on_failure`` says: nobody decided that the new release is good enough.
    """

    reason: str
    cause: Cause = "policy"


@attrs.frozen
class FleetRollbackStarted(RunEvent):
    """*hosts* go back to what they served before, in this order."""

    reason: str
    hosts: tuple[str, ...]


@attrs.frozen
class Committed(RunEvent):
    """Every wave is live within the budget: from here on nothing is taken back."""


@attrs.frozen
class ManifestMoved(RunEvent):
    """A booting instance now gets *releases* (module name to package id)."""

    releases: Mapping[str, str]


@attrs.frozen
class ColorMoved(RunEvent):
    """*color* is the active one now, for both colors; nothing is taken back."""

    color: str


@attrs.frozen
class Joined(RunEvent):
    """
    *hosts* have joined since the run was planned, and are brought along.

    The run is live by now. Each of them is taken to what MANIFEST names, as by a
    converge, or goes back by itself; the outcome of the run is that of the others.
    """

    hosts: tuple[str, ...]


@attrs.frozen
class ScalingSuspended(RunEvent):
    """
    *processes*, by groups of hosts, are about to be at rest while links move.

    They are those that this run resumes, a killed run's among them.
    """

    processes: Mapping[str, tuple[str, ...]]


@attrs.frozen
class ScalingResumed(RunEvent):
    """*processes* that were suspended, by groups of hosts, are at work again."""

    processes: Mapping[str, tuple[str, ...]]


@attrs.frozen
class AfterAllFailed(RunEvent):
    """The fleet is live and stays so, but after_all_deploy failed."""

    reason: str
    tail: str = ""


@attrs.frozen
class RunsRemoved(RunEvent):
    """Records of *runs* go from the store: they are older than it is to keep them."""

    runs: tuple[str, ...]


@attrs.frozen
class Warned(RunEvent):
    """Something asks for attention and does not stop the run."""

    text: str


@attrs.frozen
class Progressed(RunEvent):
    """
    A sample of how far transfers are, for screens; never in the journal.

    *sent* maps hosts that are being streamed to to bytes sent so far; *nbytes* is
    the sum over all hosts of the run.
    """

    nbytes: int
    sent: Mapping[str, int] = attrs.field(factory=dict)


@attrs.frozen
class Finished(RunEvent):
    """The run is over. The fields are those of the last line of JSON output."""

    outcome: str
    exit: int
    releases: Mapping[str, str]
    hosts: Mapping[str, str]
    seconds: float
    nbytes: int
    skew_ms: float
    log: str
    reason: str = ""


Event = HostEvent | RunEvent


@attrs.frozen
class Record:
    """
    An event as the run took note of it.

    *seq* counts from 1 without gaps, except that an event for screens alone repeats the
    number before it (see :func:`is_passing`); *at* is a POSIX time in seconds; *state*
    is the host's state after the event, and *wave* its wave where it has one.
    """

    seq: int
    at: float
    run: str
    event: Event
    state: State | None = None
    wave: int | None = None


def is_passing(event: Event) -> bool:
    """Tell whether an event is for screens alone, and kept nowhere."""
    # A run of hours would fill its journal with samples, each flushed to the disk.
    if isinstance(event, Output | BuildOutput):
        return not event.final
    return isinstance(event, Progressed)
