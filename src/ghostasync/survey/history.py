"""The runs of an app, the newest first: from the store, else as hosts have them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import attrs

from .._build.environment import secret_values
from .._engine.look import looked_at
from .._engine.spec import RunSpec
from .._local.redact import Redactor
from .._remote.activation import Activation
from .._remote.facts import Facts
from ..errors import StoreError
from ..history.past_run import PastRun
from ..history.runs import find_run
from ..model import Action
from ..protocols import Store, Transport

__all__ = ["HistoryEntry", "of_hosts", "of_store"]

_KILLED: Final = "killed"


@attrs.frozen
class HistoryEntry:
    """
    One run. *at* is a POSIX time of its own clock, *seconds* is None where unknown.

    *generation* is its number, 0 where it had none; *releases*, *commits* and
    *subjects* are by module; *hosts* is how many it had, or moved by their records.
    *outcome* is that of its report; ``killed`` where it has not ended, or goes on.
    """

    id: str
    action: str
    outcome: str
    generation: int = 0
    at: float = 0.0
    actor: str = ""
    reason: str = ""
    modules: tuple[str, ...] = ()
    releases: Mapping[str, str] = attrs.field(factory=dict)
    commits: Mapping[str, str] = attrs.field(factory=dict)
    subjects: Mapping[str, str] = attrs.field(factory=dict)
    hosts: int = 0
    seconds: float | None = None


async def of_store(store: Store, count: int) -> tuple[HistoryEntry, ...]:
    """
    Return the newest *count* runs that *store* knows, failed ones too.

    Raises:
        StoreError: The store cannot be read.
    """
    runs = store.runs
    numbers = await runs.generations()
    entries: list[HistoryEntry] = []
    # Ids of one store are in the order in which its runs began.
    for run in reversed(list(await runs.ids())):
        if len(entries) == count:
            break
        past_run = await find_run(runs, run)
        if past_run is not None:
            entries.append(await _entry(store, run, past_run, numbers.get(run, 0)))
    return tuple(entries)


async def _entry(
    store: Store, run: str, past_run: PastRun, number: int
) -> HistoryEntry:
    over = past_run.finished
    releases = dict(over.releases if over else past_run.packages)
    revisions = dict(past_run.revisions)
    # A run that took stored packages has asked no source.
    for module in releases.keys() - revisions.keys():
        with suppress(StoreError):
            package = await store.packages.package(releases[module])
            # Packages have what was committed. What a run notes has no secrets in it.
            kept = await store.manifest.environment(package.id)
            known = kept.variables.items() if kept else ()
            secrets = secret_values(known, kept.secrets if kept else (), ())
            revisions[module] = Redactor(secrets).revision(package.revision)
    return HistoryEntry(
        id=run,
        generation=number,
        at=past_run.began,
        actor=past_run.actor,
        reason=past_run.reason,
        action=past_run.action,
        modules=past_run.modules,
        releases=releases,
        commits={m: r.commit for m, r in revisions.items()},
        subjects={m: r.message.partition("\n")[0] for m, r in revisions.items()},
        outcome=over.outcome if over else _KILLED,
        hosts=len(past_run.hosts),
        seconds=over.seconds if over else None,
    )


async def of_hosts(
    spec: RunSpec, transport: Transport, count: int
) -> tuple[HistoryEntry, ...]:
    """Return the newest *count* runs that hosts have on record."""
    seen = await looked_at(spec, transport)
    moves: dict[str, list[tuple[str, str, Activation]]] = defaultdict(list)
    for host, facts in seen.items():
        targets = facts.targets.items() if isinstance(facts, Facts) else ()
        for module, target in targets:
            for move in target.activations:
                moves[move.run].append((host, module, move))
    entries = [_by_records(run, told) for run, told in moves.items()]
    entries.sort(key=lambda entry: -entry.generation)
    return tuple(entries[:count])


def _by_records(run: str, told: list[tuple[str, str, Activation]]) -> HistoryEntry:
    by_module = {module: move for _, module, move in told}
    # Hosts that had joined say converge, whatever the run was for that took them along.
    moves = [move for _, _, move in told]
    some = max(moves, key=lambda move: move.goal != Action.CONVERGE.value)
    outcomes = {move.outcome for _, _, move in told}
    ends = {"live": "live", "reverted": "failed"}
    return HistoryEntry(
        id=run,
        generation=some.generation,
        at=some.seconds,
        actor=some.actor,
        reason=some.reason,
        action=some.goal,
        modules=tuple(by_module),
        releases={m: move.release for m, move in by_module.items()},
        commits={m: move.commit for m, move in by_module.items()},
        subjects={m: move.subject for m, move in by_module.items()},
        outcome=ends.get(outcomes.pop(), _KILLED) if len(outcomes) == 1 else "mixed",
        hosts=len({host for host, _, _ in told}),
    )
