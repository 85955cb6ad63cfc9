"""
Runs that were killed and are not made up for, by journals and by hosts' own records.

A run that has a number and no end is unfinished while, on some host that it may have
moved, nothing later has moved the same module. Journals are the store's; hosts may know
of runs that the store does not, from a machine with a store of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from .._remote.activation import Activation
from .._remote.facts import Facts
from ..errors import HostError
from ..history.past_run import PastRun
from ..history.runs import open_runs
from ..model import Plan
from ..protocols import ManifestLine, Store

__all__ = ["Seen", "StrangeRun", "left_by", "strange_run", "unfinished_run"]

Seen = Mapping[str, Facts | HostError]
"""What each host told, or why it told nothing."""


async def unfinished_run(
    store: Store, plan: Plan, manifest: Sequence[ManifestLine], seen: Seen
) -> PastRun | None:
    """
    Return the newest run of the store that is unfinished.

    Raises:
        StoreError: The store cannot be read.
    """
    # Below the numbers of all lines of MANIFEST every module has gone live since.
    lowest = min((line.generation for line in manifest), default=0)
    for past_run in await open_runs(store.runs, lowest):
        if await left_by(past_run, store, plan, manifest, seen):
            return past_run
    return None


async def left_by(
    past_run: PastRun,
    store: Store,
    plan: Plan,
    manifest: Iterable[ManifestLine],
    seen: Seen,
) -> dict[str, tuple[str, ...]]:
    """
    Return the modules of an open run that no later run has moved, by host.

    Hosts are those that the run may have moved. Where it moved none they are all that
    it had, unless another run has taken moves of it back.
    """
    lines = {line.module: line for line in manifest}
    left: dict[str, tuple[str, ...]] = {}
    ids, number = frozenset(past_run.ids), past_run.generation
    word = await store.identity()
    hosts = _may_be_moved(past_run, plan, seen)
    if not hosts and not _taken_back(past_run, seen):
        hosts = past_run.hosts
    for host in hosts:
        facts = seen.get(host)
        modules = []
        for module in past_run.modules:
            line, package = lines.get(module), past_run.packages.get(module)
            # MANIFEST has moved on: the fleet serves a later release.
            if line and line.generation > number and line.package != package:
                continue
            target = facts.targets.get(module) if isinstance(facts, Facts) else None
            then = past_run.links(host, module)
            if target is None or not target.overtaken(number, ids, then, word):
                modules.append(module)
        if modules:
            left[host] = tuple(modules)
    return left


def _may_be_moved(past_run: PastRun, plan: Plan, seen: Seen) -> tuple[str, ...]:
    """Return the hosts that a run may have changed, by their word or its journal."""
    ids, rollout = frozenset(past_run.ids), plan.rollout
    drains = rollout.drain or rollout.undrain or rollout.balancer.kind
    changed = set(past_run.drained if drains else ())
    for host in past_run.hosts:
        facts = seen.get(host)
        if isinstance(facts, Facts):
            targets = (facts.targets.get(name) for name in past_run.modules)
            if any(target and target.was_moved_by(ids) for target in targets):
                changed.add(host)
        elif host in past_run.changed:
            changed.add(host)
    return tuple(host for host in past_run.hosts if host in changed)


def _taken_back(past_run: PastRun, seen: Seen) -> bool:
    """Tell whether a run of another store has taken back what a run had moved."""
    ids = frozenset(past_run.ids)
    return any(
        move.run in ids and move.reverted_by and move.reverted_by not in ids
        for facts in seen.values()
        if isinstance(facts, Facts)
        for target in facts.targets.values()
        for move in target.activations
    )


@attrs.frozen
class StrangeRun:
    """
    A run that hosts know and the store does not, with the hosts that it has moved.

    *last* is its newest record.
    """

    last: Activation
    hosts: tuple[str, ...]

    @property
    def ended(self) -> bool:
        """Whether all that is known of it went live."""
        return self.last.outcome == "live"


def strange_run(seen: Seen, known: Iterable[str], store: str) -> StrangeRun | None:
    """
    Return the run, from another store, that brought what serves, if it is the newest.

    Args:
        seen: What hosts told.

        known: The ids of the runs that the store knows.

        store: The store's own word.
    """
    ids = frozenset(known)
    serving = [
        (host, target.record)
        for host, facts in seen.items()
        if isinstance(facts, Facts)
        for target in facts.targets.values()
        if target.record
    ]
    strange = [
        (host, move)
        for host, move in serving
        if move.run not in ids and move.store != store
    ]
    if not strange:
        return None
    last = max((move for _, move in strange), key=lambda move: move.generation)
    if any(move.generation > last.generation for _, move in serving):
        return None
    hosts = dict.fromkeys(host for host, move in strange if move.run == last.run)
    # One record that is not proven decides: the run has not ended there.
    moved = [m for _, m in strange if m.run == last.run and m.outcome == "moved"]
    return StrangeRun(moved[0] if moved else last, tuple(hosts))
