"""
Numbers of runs, and the records by which hosts know what was done to them.

How it works. Once every host was checked or has failed, a run reserves its number, the
generation: one more than the highest that its hosts' fences and MANIFEST know. A host
refuses a number that is not higher than its fence. So whoever moved a link later has
the higher number, whatever the clocks say. Each move has a record on the host
(``_remote/activation.py``), written before the link moves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

import anyio
import attrs

from .. import events as e
from .._build.release import Release
from .._local.paths import HostPaths
from .._remote.activation import LONGEST_NUMBER, Activation, Ended, write
from .._remote.call import call
from .._remote.facts import Facts
from ..errors import HostError, Refused
from ..goal import Converge, Resume
from ..history.chain import last_before
from ..views.folding import fold_hosts
from .host import HostRun, Move, RunContext
from .stages.check import doubts
from .takeover import move_of, moved_by_killed_run

__all__ = [
    "implausible",
    "note_live",
    "note_unchanged",
    "record_moves",
    "take_number",
    "why_implausible",
]

_LEAP: Final = 1_000_000
"""How far a number may be above all others before it is taken for a mistake."""

_LAST: Final = 10**LONGEST_NUMBER - _LEAP
"""No run gets as far as this number: the next ones would have too many digits."""


async def take_number(run: RunContext, hosts: Iterable[HostRun]) -> None:
    """
    Reserve the number of the run, and put it on record.

    Raises:
        StoreError: The store could not be asked.
    """
    store = run.spec.store
    run.store_id = await store.identity(make=True)
    run.manifest = await store.manifest.read()
    seen = {c.name: c.attempt.facts for c in hosts if c.attempt.facts}
    named = [line.generation for line in run.manifest]
    # Hosts that a run does not have may know of later runs; the store knows its own.
    numbers = await store.runs.generations()
    run.implausible = implausible(seen, [*named, *numbers.values()])
    believed = [f.fence or 0 for n, f in seen.items() if n not in run.implausible]
    before = await last_before(store.runs, run.id, numbers)
    lowest = 1 + max([0, *believed, *named, *numbers.values()])
    run.generation = await store.runs.reserve(run.id, lowest)
    run.note(e.Numbered(run.generation, before.run, before.nbytes, before.digest))
    _tell_of_other_stores(run, hosts)
    _tell_of_hosts(run, hosts)
    run.numbered.set()


def _tell_of_hosts(run: RunContext, hosts: Iterable[HostRun]) -> None:
    """Warn once for all hosts of what they are likely to have in common."""
    found: dict[str, list[str]] = defaultdict(list)
    for ctx in hosts:
        for why in doubts(ctx) if ctx.attempt.facts else ():
            found[why].append(ctx.name)
    for why, names in found.items():
        run.note(e.Warned(f"{fold_hosts(names)}: {why}"))


def _tell_of_other_stores(run: RunContext, hosts: Iterable[HostRun]) -> None:
    """Warn where hosts serve what another store has brought."""
    strange: dict[str, list[str]] = defaultdict(list)
    moves: dict[str, Activation] = {}
    for ctx in hosts:
        targets = ctx.attempt.facts.targets.values() if ctx.attempt.facts else ()
        for move in filter(None, (target.record for target in targets)):
            if move.store != run.store_id:
                moves[move.run] = move
                strange[move.run].append(ctx.name)
    for name, served in strange.items():
        by = f" by {moves[name].actor}" if moves[name].actor else ""
        count = len(set(served))
        where = served[0] if count == 1 else f"{count} hosts"
        text = f"run {name}{by} from another store brought what {where} served so far"
        run.note(
            e.Warned(f"{text}; this store, {run.spec.store_url}, does not know it")
        )


def implausible(seen: Mapping[str, Facts], known: Iterable[int]) -> frozenset[str]:
    """
    Return the few hosts whose numbers are far above all others.

    *known* are the numbers that MANIFEST and the store know.
    """
    numbers = {name: facts.highest for name, facts in seen.items()}
    wild = frozenset(name for name, number in numbers.items() if number >= _LAST)
    told = {name: number for name, number in numbers.items() if name not in wild}
    ours = max(known, default=0)
    for below, above in pairwise(sorted({0, *told.values(), ours})):
        high = frozenset(name for name, number in told.items() if number >= above)
        if above - below > _LEAP and ours < above:
            # Most of a fleet is believed: the store, or the other hosts, are new or
            # were restored. One host alone is believed where nobody else has a number.
            most = 2 * len(high) > len(told) and len(high) > 1
            alone = not below and 2 * len(high) >= len(told)
            return wild if most or alone else wild | high
    return wild


async def record_moves(ctx: HostRun) -> e.Prepared:
    """
    Put on the host's disk all that a way back will need.

    Raises:
        Refused: The host's fence cannot be right.
        RemoteError: Another run was to move links there later than this one.
    """
    if ctx.run.state.stopped is not None:
        # The run let the pre-deploy end, so that its failure is told too. No more.
        ctx.scope.cancel()
    await ctx.run.numbered.wait()
    if ctx.name in ctx.run.implausible:
        raise Refused(ctx.name, why_implausible(ctx.known, ctx.paths))
    number = ctx.run.generation
    moves = tuple(attrs.evolve(move, generation=number) for move in ctx.undo.moves)
    ctx.undo = attrs.evolve(ctx.undo, moves=moves)
    args = []
    for release, move in zip(ctx.attempt.to_deploy, moves, strict=True):
        killed = moved_by_killed_run(ctx, release.module)
        kept = "kept" if killed is not None and killed.release == release.id else ""
        text = write(_record(ctx, release, move))
        args += [move.folder, move.new, kept, text]
    await _record_on_host(ctx, "moved", args)
    # An adopted folder has no link to name: the path that it is moved to stands for it.
    previous = {move.module: move.previous or move.aside for move in moves}
    return e.Prepared(ctx.name, previous=previous)


async def note_unchanged(ctx: HostRun, modules: frozenset[str]) -> None:
    """Have a host that needed nothing note that it serves the run's releases."""
    # A module that a later run has moved there was left alone, and serves another one.
    serves = [
        r
        for r in ctx.releases
        if r.module.name in modules and ctx.known.targets[r.module.name].live == r.id
    ]
    if serves:
        await _note(ctx, serves)


async def note_live(ctx: HostRun) -> None:
    """Have a host that stays live note it, though the run goes no further."""
    await _note(ctx, ctx.attempt.to_deploy)


async def _note(ctx: HostRun, releases: Iterable[Release]) -> None:
    """Write records that say "live"; a failure only warns."""
    args = []
    for release in releases:
        known = {move.module: move for move in ctx.undo.moves}
        move = known.get(release.module.name) or move_of(ctx, release)
        text = write(_record(ctx, release, move))
        args += [move.folder, move.new, "kept", text]
    seconds = ctx.run.deadlines.check
    try:
        with anyio.fail_after(seconds):
            await _record_on_host(ctx, "live", args)
    except (HostError, TimeoutError) as exc:
        why = str(exc) or f"not done within {seconds:g} s"
        ctx.warn(f"its records do not say yet that this run is live: {why}")


async def _record_on_host(ctx: HostRun, outcome: Ended, args: list[str]) -> None:
    number = str(ctx.run.generation)
    await call(
        ctx.session,
        *("record_moves", ctx.paths.app_dir, number, ctx.run.id, outcome, *args),
        sudo=ctx.sudo,
    )


def _record(ctx: HostRun, release: Release, move: Move) -> Activation:
    spec, revision = ctx.run.spec, release.package.revision
    script = release.module.before_switch
    takes_up = spec.killed is not None
    # What the work is for: a rollback that is resumed is one to later rollbacks, too.
    goal = spec.goal.of if isinstance(spec.goal, Resume) else spec.goal
    # A host that was converged may be asked alone what it must not go back past.
    brings = goal.migrates or isinstance(goal, Converge)
    migrated = brings and "before_switch" in release.package.scripts
    return Activation(
        generation=ctx.run.generation,
        run=spec.id,
        release=release.id,
        goal=goal.action.value,
        previous=move.previous,
        target=move.target,
        aside=move.aside,
        fingerprint=release.fingerprint,
        store=ctx.run.store_id,
        instance=ctx.known.instance,
        actor=spec.actor,
        key=ctx.session.key,
        reason=ctx.run.redactor.text(spec.reason),
        at=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        commit=revision.commit,
        subject=ctx.run.redactor.text(revision.message.partition("\n")[0]),
        undoes=spec.killed.undoes if spec.killed else spec.follows,
        resumes=spec.follows if takes_up else "",
        origin=str(spec.killed.origin if spec.killed else ctx.run.generation),
        no_return="yes" if migrated and script.no_return else "",
    )


def why_implausible(facts: Facts, paths: HostPaths) -> str:
    """Return what is wrong with a host whose numbers are far above all others."""
    number, far = facts.highest, "far above all other hosts and MANIFEST"
    if number != facts.fence:
        file = f"{paths.app_dir}/*/.ghost/activations/{number}"
        return f"{file} has a number {far}: remove that file"
    cure = "write the number of another host there, or remove the file"
    return f"{paths.app_meta}/fence says {number}, {far}: {cure}"
