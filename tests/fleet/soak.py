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
from tests.fleet.ground import Ground
from tests.fleet.plots import Plot, draw
from tests.fleet.readers import Readers
from tests.fleet.running import ENDING
from tests.fleet.sshd import namespaces_work
from tests.fleet.striking import Striking

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

    ground: Ground
    seed: int
    say: Callable[[str], None] = print
    clean: bool = True
    _readers: Readers = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._readers = Readers(self.ground)

    def run(self, first: int, count: int) -> None:
        """
        Carry out *count* deploys, numbered from *first*.

        Raises:
            Violation: Something did not hold; the text says all there is to say.
        """
        self._recover(0)
        with self._readers:
            for number in range(first, first + count):
                plot = draw(self.seed, number, self.ground.names)
                began = time.monotonic()
                try:
                    ended = self._deploy(number, plot)
                except (
                    OSError,
                    RuntimeError,
                    subprocess.SubprocessError,
                    Violation,
                ) as exc:
                    raise Violation(self._told(number, plot, exc)) from exc
                took = time.monotonic() - began
                what = "; ".join(map(str, plot.strikes)) or "nothing"
                self.say(f"{number:4d}  {ended:>4}  {took:5.1f} s  {what}")

    def _deploy(self, number: int, plot: Plot) -> int:
        ground = self.ground
        before = {host: evidence.served(ground, host) for host in ground.names}
        ground.configure(**DEADLINES, **plot.rollout)
        ground.commit()
        with ExitStack() as gates, ground.deploying() as running:
            striking = Striking(ground, running, plot.strikes, gates)
            # Each may go unnoticed for a minute, one after the other.
            outcome = running.finish(ENDING * max(1, len(plot.strikes)))
            striking.end()
            self._keep(number, outcome)
            there = [h for h in ground.reachable if h not in striking.cut]
            _require(eventually(lambda: evidence.scripts(ground, there)))
        new = _new(outcome)
        if not plot.has("SIGKILL") or outcome.exit >= 0:
            _require(_truth(ground, outcome, plot, before, new))
        ground.heal()
        _require(eventually(lambda: evidence.survivors(ground, ground.names)))
        _require(eventually(lambda: evidence.locks(ground, ground.names)))
        _require(evidence.links(ground, {*before.values(), new} - {""}))
        if outcome.exit >= 0:
            _require(_truth(ground, outcome, plot, before, new))
        if outcome.events:
            evidence.journal(ground, outcome.events[0]["run"])
        _require(_manifest(ground))
        _require(self._readers.wrong())
        if outcome.exit < 0 and plot.recovery in {"resume", "revert"}:
            self._resume(number, outcome, plot.recovery, before, new)
        elif plot.recovery:
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
        ground = self.ground
        ground.configure()
        run = killed.events[0]["run"]
        words = [run, *(["--revert"] if how == "revert" else [])]
        outcome = ground.deploy(*words, command="resume")
        self._keep(number, outcome, how)
        if outcome.exit == REFUSED and evidence.finished(ground, run):
            return  # it was killed when all was done
        _require([] if outcome.exit == 0 else [f"no {how}: {outcome.stderr}"])
        serves = {host: evidence.served(ground, host) for host in ground.names}
        ends = [dict(before)]  # also of one that was on its way back
        if how == "resume":
            ends.append(dict.fromkeys(ground.names, new or _new(outcome)))
        _require([] if serves in ends else [f"after {how}: {serves}, not {ends}"])
        self._require_clean(serves.values())

    def _recover(self, number: int) -> None:
        """Bring the whole fleet in line, by a plain new deploy."""
        ground = self.ground
        ground.configure()
        ground.commit()
        outcome = ground.deploy()
        self._keep(number, outcome, "after")
        _require([] if outcome.exit == 0 else [f"no recovery: {outcome.stderr}"])
        self._require_clean({outcome.last["releases"]["site"]})
        _require(_manifest(ground))
        if self._readers.reading:
            _require(self._readers.wrong())

    def _require_clean(self, releases: Iterable[str]) -> None:
        """Nothing but *releases* is served, and nothing of a run is left anywhere."""
        ground = self.ground
        _require(evidence.links(ground, releases))
        _require(evidence.leftovers(ground, ground.names))
        _require(eventually(lambda: evidence.locks(ground, ground.names)))
        _require(eventually(lambda: evidence.survivors(ground, ground.names)))

    def _keep(self, number: int, outcome: Outcome, suffix: str = "") -> None:
        folder = self.ground.world.folder / "deploys"
        folder.mkdir(exist_ok=True)
        stem = f"{number:04d}{suffix}"
        (folder / f"{stem}.out").write_text(outcome.stdout)
        (folder / f"{stem}.err").write_text(f"{outcome.stderr}exit {outcome.exit}\n")

    def _told(self, number: int, plot: Plot, exc: Exception) -> str:
        again = f"--seed {self.seed} --first {number} --deploys 1"
        count = len(self.ground.names)
        return "\n".join(
            [
                f"deploy {number} of seed {self.seed}: {str(exc) or repr(exc)}",
                f"  what happened: {'; '.join(map(str, plot.strikes)) or 'nothing'}",
                f"  rollout: {dict(plot.rollout)}",
                f"  output: {self.ground.world.folder}/deploys/{number:04d}.*",
                f"  run logs: {self.ground.world.store}/runs",
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
    ground: Ground,
    outcome: Outcome,
    plot: Plot,
    before: Mapping[str, str],
    new: str,
) -> list[str]:
    """What a run says of its hosts is so, and its exit status follows from it."""
    if not outcome.events:
        return [f"no events; stderr: {outcome.stderr}"]
    states = {name: S(word) for name, word in outcome.states.items()}
    wrong = evidence.report(ground, outcome) + evidence.words(outcome)
    for host, state in states.items():
        may = {before[host]}
        if state in {S.LIVE, S.UNCHANGED}:
            may = {new}
        elif state is S.STRANDED:
            may = {before[host], new}
        if evidence.served(ground, host) not in may:
            is_ = evidence.served(ground, host)
            wrong.append(f"{host} is {state.name}, but serves {is_}, not {may}")
    if outcome.exit not in _statuses(set(states.values()), plot):
        wrong.append(f"exit status {outcome.exit} with {outcome.states}")
    return wrong


def _statuses(states: set[S], plot: Plot) -> set[int]:
    """Return the exit statuses that fit what became of the hosts."""
    if S.STRANDED in states:
        return {3}
    if states <= {S.LIVE, S.UNCHANGED}:
        return {0}
    if S.LIVE in states:
        return {0, 5} if plot.rollout["max_failures"] else {5}
    return {1, 130} if plot.has("SIGINT", "SIGTERM") else {1}


def _manifest(ground: Ground) -> list[str]:
    """MANIFEST names a package that is there."""
    return [
        f"MANIFEST names {line[1]}, which is not in the store"
        for line in ground.world.manifest()
        if not list((ground.world.store / "packages").glob(f"{line[1]}.tar.*"))
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
    with Ground.create(folder, asked.hosts, disks=names) as ground:
        try:
            Soak(ground, asked.seed).run(asked.first, asked.deploys)
        except Violation as exc:
            print(exc, file=sys.stderr)
            return 1
    print(f"seed {asked.seed}: all held in {asked.deploys} deploys")
    return 0


if __name__ == "__main__":
    sys.exit(main())
