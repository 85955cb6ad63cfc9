"""
Deploy again and again while things break, and check after each what must always hold.

    python -m tests.fleet.soak --deploys 200 --seed 7

What happens in deploy N follows from the seed and N alone, so that one of them can be
tried again: ``--first N --deploys 1``. Moments are still those of a real machine.
"""

from __future__ import annotations

import argparse
import secrets
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import attrs

from ghostasync.model import State as S  # noqa: N817  as in the table of states
from tests.fleet import evidence
from tests.fleet.console import Outcome
from tests.fleet.evidence import eventually
from tests.fleet.fault_fleet import FaultFleet
from tests.fleet.fault_injector import FaultInjector
from tests.fleet.fault_plans import FaultPlan, draw_plan
from tests.fleet.readers import Readers
from tests.fleet.running import ENDING
from tests.fleet.sshd import namespaces_work
from tests.hostile_trees import Private, lay_anew, leaked

__all__ = ["Soak", "Violation", "main"]

DEADLINES: Final = {
    "connect": 8,
    "check": 8,
    "upload": 10,
    "stall": 6,
    "pre_deploy": 6,
    "switch": 8,
    "post_deploy": 6,
    "verify": 6,
    "rollback": 15,
}
"""Short ones, or a soak would be spent in waiting for hosts that are gone."""


REFUSED: Final = 2


class Violation(Exception):
    """Something that must always hold did not."""


FAILURES: Final = (OSError, RuntimeError, subprocess.SubprocessError, Violation)
"""What ends a soak: a run without end, and trouble of its own, among them."""


@attrs.define
class Soak:
    """A fleet, and how far it has come."""

    faulty: FaultFleet
    seed: int
    say: Callable[[str], None] = print
    clean: bool = True
    _readers: Readers = attrs.field(init=False)
    _private: Private = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._readers = Readers(self.faulty)
        self._private = Private.make(self.faulty.sample.folder / "private")

    def run(self, first: int, count: int) -> None:
        """
        Carry out *count* deploys, numbered from *first*.

        Raises:
            Violation: Something did not hold; the text says all there is to say.
        """
        self._recover(0)
        with self._readers:
            for number in range(first, first + count):
                planned = draw_plan(self.seed, number, self.faulty.names)
                began = time.monotonic()
                try:
                    ended = self._deploy(number, planned)
                except (
                    OSError,
                    RuntimeError,
                    subprocess.SubprocessError,
                    Violation,
                ) as exc:
                    raise Violation(self._told(number, planned, exc)) from exc
                took = time.monotonic() - began
                what = "; ".join(map(str, planned.faults)) or "nothing"
                self.say(f"{number:4d}  {ended:>4}  {took:5.1f} s  {what}")

    def _deploy(self, number: int, planned: FaultPlan) -> int:
        faulty = self.faulty
        before = {host: evidence.served(faulty, host) for host in faulty.names}
        faulty.configure(**DEADLINES, **planned.rollout)
        tree = faulty.sample.repositories["site"].path / "hostile"
        lay_anew(tree, self._private, f"{self.seed}/{number}")
        faulty.commit()
        with ExitStack() as gates, faulty.deploying() as running:
            injector = FaultInjector(faulty, running, planned.faults, gates)
            # Each may go unnoticed for a minute, one after the other.
            outcome = running.finish(ENDING * max(1, len(planned.faults)))
            injector.end()
            self._keep(number, outcome)
            there = [h for h in faulty.reachable if h not in injector.cut]
            _require(eventually(lambda: evidence.scripts(faulty, there)))
        new = _new(outcome)
        if not planned.has("SIGKILL") or outcome.exit >= 0:
            _require(_truth(faulty, outcome, planned, before, new))
        faulty.heal()
        _require(eventually(lambda: evidence.survivors(faulty, faulty.names)))
        _require(eventually(lambda: evidence.locks(faulty, faulty.names)))
        _require(evidence.links(faulty, {*before.values(), new} - {""}))
        if outcome.exit >= 0:
            _require(_truth(faulty, outcome, planned, before, new))
        if outcome.events:
            evidence.journal(faulty, outcome.events[0]["run"])
        _require(_manifest(faulty))
        _require(leaked(*[faulty.sample.fleet.path(h, "/ghost") for h in faulty.names]))
        _require(self._readers.wrong())
        if outcome.exit < 0 and planned.recovery in {"resume", "revert"}:
            self._resume(number, outcome, planned.recovery, before, new)
        elif planned.recovery:
            self._recover(number)
        return outcome.exit

    def _resume(
        self,
        number: int,
        killed: Outcome,
        how: str,
        before: Mapping[str, str],
        new: str,
    ) -> None:
        """Finish a run that was killed, or take it back."""
        faulty = self.faulty
        faulty.configure()
        run = killed.events[0]["run"]
        words = [run, *(["--revert"] if how == "revert" else [])]
        outcome = faulty.deploy(*words, command="resume")
        self._keep(number, outcome, how)
        if outcome.exit == REFUSED and evidence.finished(faulty, run):
            return  # it was killed when all was done
        _require([] if outcome.exit == 0 else [f"no {how}: {outcome.stderr}"])
        serves = {host: evidence.served(faulty, host) for host in faulty.names}
        ends = [dict(before)]  # also of one that was on its way back
        if how == "resume":
            ends.append(dict.fromkeys(faulty.names, new or _new(outcome)))
        _require([] if serves in ends else [f"after {how}: {serves}, not {ends}"])
        self._require_clean(serves.values())

    def _recover(self, number: int) -> None:
        """Bring the whole fleet in line, by a plain new deploy."""
        faulty = self.faulty
        faulty.configure()
        faulty.commit()
        outcome = faulty.deploy()
        self._keep(number, outcome, "after")
        _require([] if outcome.exit == 0 else [f"no recovery: {outcome.stderr}"])
        self._require_clean({outcome.last["releases"]["site"]})
        _require(_manifest(faulty))
        if self._readers.reading:
            _require(self._readers.wrong())

    def _require_clean(self, releases: Iterable[str]) -> None:
        """Nothing but *releases* is served, and nothing of a run is left anywhere."""
        faulty = self.faulty
        _require(evidence.links(faulty, releases))
        _require(evidence.leftovers(faulty, faulty.names))
        _require(eventually(lambda: evidence.locks(faulty, faulty.names)))
        _require(eventually(lambda: evidence.survivors(faulty, faulty.names)))

    def _keep(self, number: int, outcome: Outcome, suffix: str = "") -> None:
        folder = self.faulty.sample.folder / "deploys"
        folder.mkdir(exist_ok=True)
        stem = f"{number:04d}{suffix}"
        (folder / f"{stem}.out").write_text(outcome.stdout)
        (folder / f"{stem}.err").write_text(f"{outcome.stderr}exit {outcome.exit}\n")

    def _told(self, number: int, planned: FaultPlan, exc: Exception) -> str:
        again = f"--seed {self.seed} --first {number} --deploys 1"
        count = len(self.faulty.names)
        return "\n".join(
            [
                f"deploy {number} of seed {self.seed}: {str(exc) or repr(exc)}",
                f"  what happened: {'; '.join(map(str, planned.faults)) or 'nothing'}",
                f"  rollout: {dict(planned.rollout)}",
                f"  output: {self.faulty.sample.folder}/deploys/{number:04d}.*",
                f"  run logs: {self.faulty.sample.store}/runs",
                f"  again: python -m tests.fleet.soak --hosts {count} {again}",
            ]
        )


def _require(wrong: Sequence[str]) -> None:
    if wrong:
        raise Violation("\n  ".join(wrong))


def _new(outcome: Outcome) -> str:
    made = [e["package"] for e in outcome.events if e["event"] == "Packaged"]
    return made[0] if made else ""


def _truth(
    faulty: FaultFleet,
    outcome: Outcome,
    planned: FaultPlan,
    before: Mapping[str, str],
    new: str,
) -> list[str]:
    """What a run says of its hosts is so, and its exit status follows from it."""
    if not outcome.events:
        return [f"no events; stderr: {outcome.stderr}"]
    states = {name: S(word) for name, word in outcome.states.items()}
    wrong = evidence.report(faulty, outcome) + evidence.words(outcome)
    for host, state in states.items():
        may = {before[host]}
        if state in {S.LIVE, S.UNCHANGED}:
            may = {new}
        elif state is S.STRANDED:
            may = {before[host], new}
        # A liar may say that it has done what it has not.
        if host not in planned.liars and evidence.served(faulty, host) not in may:
            is_ = evidence.served(faulty, host)
            wrong.append(f"{host} is {state.name}, but serves {is_}, not {may}")
    if outcome.exit not in _statuses(set(states.values()), planned):
        wrong.append(f"exit status {outcome.exit} with {outcome.states}")
    return wrong


def _statuses(states: set[S], planned: FaultPlan) -> set[int]:
    """Return the exit statuses that fit what became of the hosts."""
    if S.STRANDED in states:
        return {3}
    if states <= {S.LIVE, S.UNCHANGED}:
        return {0}
    if S.LIVE in states:
        return {0, 5} if planned.rollout["max_failures"] else {5}
    stopped = {130} if planned.has("SIGINT", "SIGTERM") else set[int]()
    return {1, *stopped, *({4} if planned.claims_lock else ())}


def _manifest(faulty: FaultFleet) -> list[str]:
    """MANIFEST names a package that is there."""
    return [
        f"MANIFEST names {line[1]}, which is not in the store"
        for line in faulty.sample.manifest()
        if not list((faulty.sample.store / "packages").glob(f"{line[1]}.tar.*"))
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a soak; 0 where all held."""
    parser = argparse.ArgumentParser(prog="python -m tests.fleet.soak")
    parser.add_argument("--deploys", type=int, default=200)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--hosts", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args(arguments)
    if not namespaces_work():
        parser.error("it needs root, and unshare with CAP_SYS_ADMIN")
    # Hosts outlive whoever started them, unless they are ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="soak."))
    words = ["--hosts", str(asked.hosts), "--deploys", str(asked.deploys)]
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a TextIO
    print(f"seed {asked.seed}: {shlex.join(words)} in {folder}")
    names = tuple(f"h{number}" for number in range(1, asked.hosts + 1))
    with FaultFleet.create(folder, asked.hosts, disks=names) as faulty:
        try:
            Soak(faulty, asked.seed).run(asked.first, asked.deploys)
        except Violation as exc:
            print(exc, file=sys.stderr)
            return 1
    print(f"seed {asked.seed}: all held in {asked.deploys} deploys")
    return 0


if __name__ == "__main__":
    sys.exit(main())
