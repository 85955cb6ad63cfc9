"""
What must be true of a fleet whatever happened to it.

Each function returns what is wrong, a line each; an empty list is good.
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from ghostasync.events import Finished
from ghostasync.fold import folded
from ghostasync.journal import replay
from ghostasync.model import State
from tests.fleet.console import Outcome
from tests.fleet.fault_fleet import APP, FaultFleet
from tests.fleet.gates import HOLD
from tests.fleet.trees import look

__all__ = [
    "eventually",
    "finished",
    "holder",
    "journal",
    "leftovers",
    "links",
    "locks",
    "report",
    "scripts",
    "served",
    "survivors",
    "words",
]

SETTLING: Final = 20.0
"""Seconds that a host gets to notice that a controller or a script is gone: a script
has 5 to end before it is killed, and the machine is busy."""

SCRIPTS: Final = (
    *("pre_deploy", "post_deploy"),
    *(f"{HOLD} {name}" for name in ("verify", "drain", "undrain")),
)
"""What a script's command line has."""

MAX_LINES: Final = 8


def eventually(find: Callable[[], list[str]]) -> list[str]:
    """Return what *find* still finds when time is up; at once where it is nothing."""
    end = time.monotonic() + SETTLING
    while (wrong := find()) and time.monotonic() < end:
        time.sleep(0.05)
    return wrong


def served(faulty: FaultFleet, host: str) -> str:
    """Return the id of the release that a host serves, empty where there is none."""
    return faulty.sample.link(host, "site").rpartition("/")[2]


def links(faulty: FaultFleet, allowed: Iterable[str]) -> list[str]:
    """Every host serves exactly one of the *allowed* releases, and all of it."""
    wrong = []
    for host in faulty.names:
        link, id_ = faulty.sample.link(host, "site"), served(faulty, host)
        if link != f"{APP}/site/{id_}" or id_ not in set(allowed):
            wrong.append(f"{host} serves {link or 'nothing'}")
            continue
        is_ = look(faulty.sample.module_folder(host, "site") / id_)
        wanted = faulty.trees[id_.rpartition("_")[2]]
        odd = [path for path in {*is_, *wanted} if is_.get(path) != wanted.get(path)]
        wrong += [f"{host} serves another {path} than {id_} has" for path in odd]
    return wrong


def locks(faulty: FaultFleet, hosts: Iterable[str]) -> list[str]:
    """No run has the lock of any of *hosts*."""
    wrong = []
    for host in hosts:
        file = faulty.fleet.path(host, f"{APP}/.ghost/lock")
        if file.exists():
            with file.open("rb") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    wrong.append(
                        f"the lock of {host} is held by {holder(faulty, host)}"
                    )
    return wrong


def holder(faulty: FaultFleet, host: str) -> str:
    """Return what the lock's file says of who has it."""
    file = faulty.fleet.path(host, f"{APP}/.ghost/holder")
    return file.read_text() if file.exists() else ""


def survivors(faulty: FaultFleet, hosts: Iterable[str]) -> list[str]:
    """Nothing runs on *hosts* besides sshd."""
    return [
        f"{host} still runs {line}"
        for host in hosts
        for line in faulty.fleet.commands(host)
    ]


def scripts(faulty: FaultFleet, hosts: Iterable[str]) -> list[str]:
    """No script of the app runs on *hosts*; what the engine runs there may."""
    lines = survivors(faulty, hosts)
    return [line for line in lines if any(word in line for word in SCRIPTS)]


def leftovers(faulty: FaultFleet, hosts: Iterable[str]) -> list[str]:
    """Nothing lies in the module's folders or beside its link that was in between."""
    return [
        f"{host} has {name} left over"
        for host in hosts
        for name in sorted(faulty.sample.leftovers(host, "site"))
    ]


def journal(faulty: FaultFleet, run: str) -> dict[str, State]:
    """Return the states that a run's journal leads to; it must be whole."""
    path = faulty.sample.store / "runs" / run / "journal.jsonl"
    return {name: m.state for name, m in folded(replay(path)).hosts.items()}


def finished(faulty: FaultFleet, run: str) -> bool:
    """Tell whether a run's journal has its end."""
    path = faulty.sample.store / "runs" / run / "journal.jsonl"
    return any(isinstance(record.event, Finished) for record in replay(path))


def report(faulty: FaultFleet, outcome: Outcome) -> list[str]:
    """The stored report, the journal and the last line say the same."""
    last, wrong = outcome.last, []
    folder = Path(last["log"])
    told: dict[str, Any] = json.loads((folder / "report.json").read_text())
    reported = {name: host["state"] for name, host in told["hosts"].items()}
    replayed = {n: s.value for n, s in journal(faulty, last["run"]).items()}
    for name, seen in {"report": reported, "journal": replayed}.items():
        if seen != last["hosts"]:
            wrong.append(f"the {name} says {seen}, the last line {last['hosts']}")
    statuses = {last["exit"], outcome.exit, told["exit_status"]}
    if len(statuses) > 1 or told["outcome"] != last["outcome"]:
        wrong.append(f"exit status {outcome.exit}: {last}, but reported {told}")
    return wrong


def words(outcome: Outcome, *, about: str = "") -> list[str]:
    """Stderr is short, tells no traceback, and names *about*."""
    lines = outcome.stderr.splitlines()
    wrong = []
    if len(lines) > MAX_LINES:
        wrong.append(f"{len(lines)} lines on stderr")
    if "Traceback" in outcome.stderr:
        wrong.append("a traceback on stderr")
    if about and about not in outcome.stderr:
        wrong.append(f"stderr does not name {about}: {outcome.stderr}")
    return wrong
