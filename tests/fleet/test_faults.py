"""
The fault matrix: every moment of a host's life, and everything that can happen there.

:data:`MOMENTS` says how a host is made to wait in a state, :data:`FAULTS` what happens
to it then, :data:`MATRIX` how the run has to end. What must be true besides is the
same for all and stands in :func:`test_a_fault`. All of it happens to h2; h1 and h3 are
its bystanders.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import attrs
import pytest

from ghostasync.model import Hook
from ghostasync.model import State as S  # noqa: N817  as in the table of states
from tests.fleet import evidence
from tests.fleet.conftest import need
from tests.fleet.console import Outcome
from tests.fleet.evidence import eventually
from tests.fleet.fault_fleet import FaultFleet
from tests.fleet.gates import HOLD, Gate
from tests.fleet.running import Running
from tests.fleet.sshd import namespaces_work
from tests.fleet.tcp_proxy import TcpProxy

pytestmark = [
    pytest.mark.fleet,
    # A proxy of the tests may be cut while it is being taken.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

HOSTS: Final = 3
VICTIM: Final = "h2"
OTHER: Final = "h1"


# --- How a run has to end --------------------------------------------------------


@attrs.frozen
class End:
    """
    How a run ends: its exit status, what becomes of the victim and of the others.

    *serves* is what the victim may serve then, *others* what the others may.
    """

    exit: int
    victim: frozenset[S]
    bystanders: frozenset[S]
    serves: frozenset[str] = frozenset({"old"})
    others: frozenset[str] = frozenset({"old"})


EITHER: Final = frozenset({"old", "new"})
NEW: Final = frozenset({"new"})


def _in(*states: S) -> frozenset[S]:
    return frozenset(states)


GOES_ON = End(0, _in(S.LIVE), _in(S.LIVE), NEW, NEW)
FAILS = End(1, _in(S.FAILED), _in(S.FAILED, S.HALTED))
"""Left of the bar: no link has moved anywhere."""
DROPS_OUT = End(1, _in(S.FAILED, S.ROLLED_BACK), _in(S.HALTED, S.ROLLED_BACK))
GOES_BACK = End(1, _in(S.ROLLED_BACK), _in(S.ROLLED_BACK))
STRANDED = End(3, _in(S.STRANDED), _in(S.ROLLED_BACK), serves=EITHER)
STOPS = End(
    130,
    _in(S.FAILED, S.HALTED, S.ROLLED_BACK),
    _in(S.FAILED, S.HALTED, S.ROLLED_BACK),
)
IS_GONE = End(-signal.SIGKILL, frozenset(), frozenset(), EITHER, EITHER)
DECIDES = (GOES_ON, GOES_BACK)
"""It looks at the link, and decides."""
CUT = (FAILS, GOES_ON)
"""What hangs and what is not heard any more look alike: a new connection, or an end."""

Ends = End | tuple[End, ...]


# --- Moments ---------------------------------------------------------------------


@attrs.frozen
class Moment:
    """
    A place in a host's life at which it can be made to wait.

    Args:
        state: Where the machine is.

        gate: What the victim waits at; empty where it rests.

        script: Whether that is a script of the app, which the host has to end.

        deadlines: What a user sets who does not want to wait long here; seconds.

        steady: Whether the engine ends what it does here, whatever comes.

        begin: Gates at which things go wrong so that this moment comes: host, gate.

        hooks: What the rollout has for it.
    """

    state: S
    gate: str = ""
    script: bool = False
    deadlines: Mapping[str, float] = attrs.field(factory=dict)
    steady: bool = False
    begin: tuple[str, str] | None = None
    hooks: Mapping[str, Hook] = attrs.field(factory=dict)


MOMENTS: Final = {
    "greeting": Moment(S.CONNECTING, deadlines={"connect": 10}),
    "login": Moment(S.CONNECTING, "id", deadlines={"connect": 10}),
    "check": Moment(S.CHECKING, "df", deadlines={"check": 4}),
    "upload": Moment(S.UPLOADING, "tar", deadlines={"upload": 4}),
    "prepare": Moment(
        S.PREPARING, "pre_deploy", script=True, deadlines={"pre_deploy": 4}
    ),
    "ready": Moment(S.READY, deadlines={"switch": 4}),
    "drain": Moment(
        S.DRAINING,
        "drain",
        script=True,
        deadlines={"drain": 4},
        hooks={"drain": Hook(f"{HOLD} drain || exit", on="host")},
    ),
    "switch": Moment(S.SWITCHING, "switch", deadlines={"switch": 4}, steady=True),
    "switched": Moment(S.SWITCHING, "switched", deadlines={"switch": 4}, steady=True),
    "activate": Moment(
        S.ACTIVATING, "post_deploy-deploy", script=True, deadlines={"post_deploy": 4}
    ),
    "verify": Moment(S.VERIFYING, "verify", script=True, deadlines={"verify": 6}),
    "undrain": Moment(
        S.UNDRAINING,
        "undrain",
        script=True,
        deadlines={"undrain": 4},
        hooks={"undrain": Hook(f"{HOLD} undrain || exit", on="host")},
    ),
    "restore": Moment(
        S.ROLLING_BACK,
        "restore",
        deadlines={"post_deploy": 4},
        steady=True,
        begin=(VICTIM, "post_deploy-deploy"),
    ),
    "reactivate": Moment(
        S.ROLLING_BACK,
        "post_deploy-rollback",
        script=True,
        deadlines={"post_deploy": 4},
        steady=True,
        begin=(VICTIM, "post_deploy-deploy"),
    ),
}


@attrs.define
class Scene:
    """A run that has come to its moment; *go* lets the victim pass its gate."""

    faulty: FaultFleet
    running: Running
    moment: Moment
    go: Callable[[str], None]


# --- Faults ----------------------------------------------------------------------


def _reset(scene: Scene) -> None:
    scene.faulty.reset(VICTIM)


def _half_open(scene: Scene) -> None:
    scene.faulty.half_open(VICTIM)


def _killed(scene: Scene) -> None:
    scene.faulty.kill(VICTIM)


def _stopped(scene: Scene) -> None:
    scene.faulty.stop(VICTIM)


def _disk_full(scene: Scene) -> None:
    scene.faulty.fill(VICTIM)
    scene.go("echo more >/ghost/more || exit" if scene.moment.script else ":")


def _fails(scene: Scene) -> None:
    scene.go("echo broken; exit 7")


def _hangs(scene: Scene) -> None:
    del scene  # it does already


def _lies(scene: Scene) -> None:
    scene.faulty.lie(VICTIM, "all", "another status")
    scene.go(":")


def _sigkill(scene: Scene) -> None:
    scene.running.process.kill()


def _sigint(scene: Scene) -> None:
    scene.running.process.send_signal(signal.SIGINT)
    if scene.moment.begin is None:
        scene.running.until("Stopped")
    if scene.moment.steady or not scene.moment.script:
        scene.go(":")


def _dns(scene: Scene) -> None:
    del scene  # it has been so since before the run


@attrs.frozen
class Fault:
    """
    What happens; *deadlines* is not empty where only time tells that it did: what a
    user sets who does not want to wait long, besides what the moment has. *quick* has
    the seconds that the engine itself waits for a host that says nothing any more.
    """

    strike: Callable[[Scene], None]
    deadlines: Mapping[str, float] = attrs.field(factory=dict)
    quick: Mapping[str, float] = attrs.field(factory=dict)


SILENT: Final = {"_remote.call.GRACE": 3, "_remote.call.ANSWER": 2}


FAULTS: Final = {
    "reset": Fault(_reset),
    "half-open": Fault(_half_open, {"rollback": 20, "connect": 8}, SILENT),
    "killed": Fault(_killed, {"rollback": 6, "connect": 8}, SILENT),
    "stopped": Fault(_stopped, {"rollback": 6, "connect": 8}, SILENT),
    "disk full": Fault(_disk_full),
    "fails": Fault(_fails),
    "hangs": Fault(_hangs, {"rollback": 6}),
    "lies": Fault(_lies, {"rollback": 6, "verify": 4}),
    "SIGKILL": Fault(_sigkill),
    "SIGINT": Fault(_sigint),
    "DNS": Fault(_dns),
}

RESOLVED = "the name was resolved when the connection was opened"
WRITES_NOTHING = "nothing is written on the host here"
NO_SCRIPT = "nothing runs on the host here that could"

MATRIX: Final[Mapping[str, Mapping[str, Ends | str]]] = {
    "greeting": {
        "reset": GOES_ON,
        "half-open": FAILS,
        "killed": FAILS,
        "stopped": FAILS,
        "disk full": WRITES_NOTHING,
        "fails": NO_SCRIPT,
        "hangs": NO_SCRIPT,
        "lies": FAILS,
        "SIGKILL": IS_GONE,
        "SIGINT": STOPS,
        "DNS": FAILS,
    },
    "login": {
        "reset": GOES_ON,
        "half-open": CUT,
        "killed": FAILS,
        "stopped": FAILS,
        "disk full": WRITES_NOTHING,
        "fails": GOES_ON,  # the login's name is for messages
        "hangs": FAILS,
        "lies": FAILS,
        "SIGKILL": IS_GONE,
        "SIGINT": STOPS,
        "DNS": RESOLVED,
    },
    "check": {
        "reset": GOES_ON,
        "half-open": CUT,
        "killed": FAILS,
        "stopped": FAILS,
        "disk full": FAILS,
        "fails": GOES_ON,  # a tool that cannot tell leaves a fact unknown
        "hangs": FAILS,
        "lies": FAILS,
        "SIGKILL": IS_GONE,
        "SIGINT": STOPS,
        "DNS": RESOLVED,
    },
    "upload": {
        "reset": GOES_ON,
        "half-open": CUT,
        "killed": FAILS,
        "stopped": FAILS,
        "disk full": FAILS,
        "fails": FAILS,
        "hangs": FAILS,
        "lies": FAILS,
        "SIGKILL": IS_GONE,
        "SIGINT": STOPS,
        "DNS": RESOLVED,
    },
    "prepare": {
        "reset": GOES_ON,
        "half-open": CUT,
        "killed": FAILS,
        "stopped": FAILS,
        "disk full": FAILS,
        "fails": FAILS,
        "hangs": FAILS,
        "lies": FAILS,
        "SIGKILL": IS_GONE,
        "SIGINT": STOPS,
        "DNS": RESOLVED,
    },
    "ready": {
        "reset": GOES_ON,
        "half-open": DECIDES,
        "killed": DROPS_OUT,  # its switch never began
        "stopped": (DROPS_OUT, STRANDED),  # the latter where it had been told
        "disk full": GOES_BACK,
        "fails": NO_SCRIPT,
        "hangs": NO_SCRIPT,
        "lies": STRANDED,
        "SIGKILL": IS_GONE,
        "SIGINT": STOPS,
        "DNS": RESOLVED,
    },
    "drain": {
        "reset": GOES_ON,
        "half-open": DECIDES,
        "killed": GOES_BACK,  # no link of it has moved, and nothing has to undrain it
        "stopped": GOES_BACK,
        "disk full": GOES_BACK,
        "fails": GOES_BACK,
        "hangs": GOES_BACK,
        "lies": STRANDED,
        "SIGKILL": IS_GONE,
        "SIGINT": STOPS,
        "DNS": RESOLVED,
    },
    "switch": {
        "reset": DECIDES,
        "half-open": DECIDES,
        "killed": STRANDED,
        "stopped": STRANDED,
        "disk full": DECIDES,
        "fails": GOES_BACK,
        "hangs": GOES_BACK,
        "lies": STRANDED,
        "SIGKILL": IS_GONE,
        "SIGINT": STOPS,
        "DNS": RESOLVED,
    },
    "switched": {
        "reset": DECIDES,
        "half-open": DECIDES,
        "killed": STRANDED,
        "stopped": STRANDED,
        "disk full": DECIDES,
        "fails": GOES_BACK,
        "hangs": DECIDES,
        "lies": STRANDED,
        "SIGKILL": IS_GONE,
        "SIGINT": STOPS,
        "DNS": RESOLVED,
    },
    "activate": {
        "reset": GOES_ON,
        "half-open": DECIDES,
        "killed": STRANDED,
        "stopped": STRANDED,
        "disk full": GOES_BACK,
        "fails": GOES_BACK,
        "hangs": GOES_BACK,
        "lies": STRANDED,
        "SIGKILL": IS_GONE,
        "SIGINT": STOPS,
        "DNS": RESOLVED,
    },
    "verify": {
        "reset": GOES_ON,
        "half-open": DECIDES,
        "killed": STRANDED,
        "stopped": STRANDED,
        "disk full": GOES_ON,  # the next attempt writes nothing
        "fails": GOES_ON,  # as does one that failed once
        "hangs": GOES_ON,
        "lies": GOES_ON,
        "SIGKILL": IS_GONE,
        "SIGINT": STOPS,
        "DNS": RESOLVED,
    },
    "undrain": {
        "reset": GOES_ON,
        "half-open": DECIDES,
        "killed": STRANDED,
        "stopped": STRANDED,
        "disk full": GOES_BACK,
        "fails": GOES_BACK,
        "hangs": GOES_BACK,
        "lies": GOES_ON,
        "SIGKILL": IS_GONE,
        "SIGINT": STOPS,
        "DNS": RESOLVED,
    },
    "restore": {
        "reset": GOES_BACK,
        "half-open": (GOES_BACK, STRANDED),  # rollback has a deadline
        "killed": STRANDED,
        "stopped": STRANDED,
        "disk full": GOES_BACK,
        "fails": STRANDED,
        "hangs": STRANDED,
        "lies": STRANDED,
        "SIGKILL": IS_GONE,
        "SIGINT": STOPS,
        "DNS": RESOLVED,
    },
    "reactivate": {
        "reset": GOES_BACK,
        "half-open": (GOES_BACK, STRANDED),
        "killed": STRANDED,
        "stopped": STRANDED,
        "disk full": STRANDED,  # the old post-deploy cannot write either
        "fails": STRANDED,
        "hangs": STRANDED,
        "lies": STRANDED,
        "SIGKILL": IS_GONE,
        "SIGINT": STOPS,
        "DNS": RESOLVED,
    },
}
"""How a run ends; a text says why the two cannot meet."""

ROWS: Final = [
    pytest.param(moment, fault, end, id=f"{moment}-{fault}")
    for moment, faults in MATRIX.items()
    for fault, end in faults.items()
    if not isinstance(end, str)
]


def test_the_matrix_is_whole() -> None:
    assert set(MATRIX) == set(MOMENTS)
    assert all(set(faults) == set(FAULTS) for faults in MATRIX.values())


# --- The runner ------------------------------------------------------------------


class FaultFleets:
    """Fleets that tests of one process share; one that a test broke is thrown away."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._faulty: FaultFleet | None = None
        self._made = 0

    def get(self) -> FaultFleet:
        """Return a fleet that serves something."""
        if self._faulty is None:
            self._made += 1
            self._faulty = faulty = FaultFleet.create(
                self._folder / str(self._made), HOSTS, disks=(VICTIM,)
            )
            faulty.configure()
            faulty.commit()
            first = faulty.deploy()
            assert first.exit == 0, first.stderr
        return self._faulty

    def throw_away(self) -> None:
        if self._faulty is not None:
            self._faulty.close()
            self._faulty = None


@pytest.fixture(scope="module")
def fault_fleets(
    sshd: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FaultFleets]:
    need(namespaces_work(), "needs root, and unshare with CAP_SYS_ADMIN")
    fault_fleets = FaultFleets(tmp_path_factory.mktemp("faults"))
    yield fault_fleets
    fault_fleets.throw_away()


@pytest.fixture
def faulty(fault_fleets: FaultFleets) -> Iterator[FaultFleet]:
    """A fleet; whoever leaves it as it must be sets ``good``."""
    faulty = fault_fleets.get()
    faulty.good = False
    yield faulty
    if not faulty.good:
        fault_fleets.throw_away()


@pytest.mark.parametrize(("moment", "fault", "ends"), ROWS)
def test_a_fault(faulty: FaultFleet, moment: str, fault: str, ends: Ends) -> None:
    allowed = ends if isinstance(ends, tuple) else (ends,)
    old = {host: evidence.served(faulty, host) for host in faulty.names}
    with ExitStack() as gates:
        outcome, run = _suffer(faulty, MOMENTS[moment], FAULTS[fault], gates)

        end = next((end for end in allowed if end.exit == outcome.exit), None)
        assert end is not None, (outcome.exit, outcome.stderr, outcome.stdout[-2000:])
        new = _new(outcome)
        if end is not IS_GONE:
            _check_told(faulty, outcome, end)
        if not MOMENTS[moment].gate or MOMENTS[moment].script:
            there = faulty.reachable
            assert not eventually(lambda: evidence.scripts(faulty, there))
    faulty.heal()
    assert not eventually(lambda: evidence.survivors(faulty, faulty.names))
    assert not eventually(lambda: evidence.locks(faulty, faulty.names))
    assert not evidence.links(faulty, {*old.values(), new})
    for host in faulty.names:
        may = end.serves if host == VICTIM else end.others
        serves = evidence.served(faulty, host)
        assert serves in {{"old": old[host], "new": new}[word] for word in may}, host
    evidence.journal(faulty, run)
    # A host that lied about its prune has not cleaned up.
    if end is not IS_GONE and end is not STRANDED and fault not in {"killed", "lies"}:
        assert not eventually(lambda: evidence.leftovers(faulty, faulty.names))

    _check_next_deploy(faulty)
    faulty.good = True


def _suffer(
    faulty: FaultFleet, moment: Moment, fault: Fault, gates: ExitStack
) -> tuple[Outcome, str]:
    """Bring a run to *moment*, strike, and wait for its end."""
    if fault.strike is _dns:
        faulty.rename(VICTIM, "nohost.invalid")
    quick = {**fault.deadlines, **moment.deadlines} if fault.deadlines else {}
    faulty.configure(moment.hooks, **quick)
    faulty.commit()
    begin = gates.enter_context(faulty.gate(*moment.begin)) if moment.begin else None
    gate = _arm(faulty, moment, gates)
    with faulty.deploying(quick=fault.quick) as running:
        running.until("Started")
        if begin is not None:
            begin.wait()
            begin.go("exit 5")
        if fault.strike is not _dns:
            gate.wait()
        if moment.state is S.READY:
            running.until("Prepared", VICTIM)
        if moment.state is not S.CONNECTING:
            assert running.run in evidence.holder(faulty, VICTIM)
        fault.strike(Scene(faulty, running, moment, gate.go))
        if moment.state is S.READY:
            gate.go(":")
        return running.finish(), running.run


def _arm(faulty: FaultFleet, moment: Moment, gates: ExitStack) -> Gate | TcpProxy:
    """Make ready what the victim will wait at."""
    if moment.state is S.READY:
        # It rests there while another host is not done.
        return gates.enter_context(faulty.gate(OTHER, "pre_deploy"))
    if moment.gate:
        return gates.enter_context(faulty.gate(VICTIM, moment.gate))
    faulty.proxies[VICTIM].hold()
    return faulty.proxies[VICTIM]


def _new(outcome: Outcome) -> str:
    """Return the id of the release that the run brought, where it got that far."""
    made = [e["package"] for e in outcome.events if e["event"] == "Packaged"]
    return made[0] if made else ""


def _check_told(faulty: FaultFleet, outcome: Outcome, end: End) -> None:
    """The report, the journal, the last line and stderr say how it ended."""
    states = {name: S(word) for name, word in outcome.states.items()}
    assert states.pop(VICTIM) in end.victim, outcome.stdout
    assert set(states.values()) <= end.bystanders, outcome.stdout
    assert not evidence.report(faulty, outcome)
    about = VICTIM if end.exit in {1, 3} else ""
    assert not evidence.words(outcome, about=about)


def _check_next_deploy(faulty: FaultFleet) -> None:
    faulty.configure()
    faulty.commit()
    outcome = faulty.deploy()
    assert outcome.exit == 0, outcome.stderr
    assert not evidence.links(faulty, {outcome.last["releases"]["site"]})
    assert not evidence.leftovers(faulty, faulty.names)
    assert not eventually(lambda: evidence.locks(faulty, faulty.names))
    assert not eventually(lambda: evidence.survivors(faulty, faulty.names))
