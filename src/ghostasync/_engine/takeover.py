"""
Takeover: what a killed run did to a host, to be gone on with or to be undone.

How it works. A controller that was killed leaves a journal in the store and a record of
each move on each host (``record_moves.sh``); either may be lost. The host's record is
asked first: it was written before the link moved, and it says what the link was. So a
release that a killed run has brought counts as this run's own work, with the link from
before the killed run as the one to go back to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from .. import events as e
from .._build.release import Release
from .._remote.activation import Activation
from ..machine import SETTLED
from ..model import Module, State
from .host import HostRun, Move, Undo

__all__ = [
    "adopt_killed_moves",
    "brought_live_by_killed_run",
    "drained_by_killed_run",
    "manifest_before_killed_run",
    "move_of",
    "moved_by_killed_run",
    "moves_of_killed_run",
    "overtaken",
    "still_drained",
]


def moved_by_killed_run(ctx: HostRun, module: Module) -> Activation | None:
    """
    Return how the run that this one takes up moved a link; None where it did not.

    The host's own record says it; where that is lost, the journal.
    """
    killed, target = ctx.run.killed, ctx.known.targets[module.name]
    if killed is None:
        return None
    # A record of another run means that this other run has moved the link since.
    if target.record is not None:
        return target.record if target.record.run in killed.ids else None
    # The journal alone says what was to happen. Its word counts where the host may have
    # been switched and the link leads to a package of the killed run.
    previous = killed.previous.get(ctx.name, {}).get(module.name)
    served = target.live and target.live == killed.packages.get(module.name)
    if previous is None or not served or ctx.name not in killed.changed:
        return None
    adopted = previous == _aside(ctx.target(module), target.live)
    return Activation(
        generation=killed.generation,
        run=killed.id,
        release=target.live,
        previous="" if adopted else previous,
        aside=previous if adopted else "",
    )


def brought_live_by_killed_run(ctx: HostRun) -> e.Resumed | None:
    """
    Return the event for a host that the killed run brought live; None for any other.

    The host is left alone, but it belongs to the fleet, and would go back with it.
    """
    killed = ctx.run.killed
    if killed is None or killed.states.get(ctx.name) is not State.LIVE:
        return None
    mine = [r for r in ctx.releases if not overtaken(ctx, r.module)]
    records = {r.module.name: moved_by_killed_run(ctx, r.module) for r in mine}
    # LIVE in the journal is not enough: somebody may have moved a link since, or the
    # environment may be another one now. Such a host walks all stages again.
    if not all(_serves(ctx, r, records[r.module.name]) for r in mine):
        return None
    work = tuple(r for r in mine if records[r.module.name])
    if not work:
        return None
    moves = tuple(move_of(ctx, release) for release in work)
    ctx.attempt.to_deploy, ctx.undo = work, Undo(moves, link_may_have_moved=True)
    return e.Resumed(ctx.name, {m.module: m.previous or m.aside for m in moves})


def move_of(ctx: HostRun, release: Release) -> Move:
    """
    Return the move of a link to *release*; CHECKING made sure that it may be moved.

    A link that the killed run has moved to this release already goes back, later, to
    where it was before the killed run.
    """
    module, target = release.module, ctx.known.targets[release.module.name]
    path, new = ctx.target(module), ctx.paths.release(module.name, release.id)
    move = Move(
        module=module.name,
        folder=ctx.paths.module(module.name),
        target=path,
        previous=target.link,
        new=new,
    )
    record = moved_by_killed_run(ctx, module)
    if record is not None and record.release == release.id:
        return attrs.evolve(
            move,
            previous=record.previous,
            aside=record.aside,
            generation=record.generation,
        )
    adopted = target.kind in {"directory", "file"}
    return attrs.evolve(move, aside=_aside(path, release.id)) if adopted else move


def moves_of_killed_run(ctx: HostRun) -> tuple[Move, ...]:
    """Return the moves that the killed run made on the host, to be taken back."""
    moves = []
    for module in ctx.modules:
        record = moved_by_killed_run(ctx, module)
        target = ctx.known.targets[module.name]
        # No link: a switch was killed after it had moved an adopted folder aside.
        if record is not None and target.live in {record.release, ""}:
            moves.append(
                Move(
                    module=module.name,
                    folder=ctx.paths.module(module.name),
                    target=ctx.target(module),
                    previous=record.previous,
                    new=ctx.paths.release(module.name, record.release),
                    aside=record.aside,
                    generation=record.generation,
                )
            )
    return tuple(moves)


def drained_by_killed_run(ctx: HostRun) -> bool:
    """
    Tell whether the killed run may have left the host drained.

    A host that was stranded while drained does not count: a person has to look first.
    """
    killed = ctx.run.killed
    drained = killed.drained if killed else ()
    return ctx.name in drained and ctx.run.balances("drain")


def adopt_killed_moves(ctx: HostRun) -> bool:
    """
    Have the way back of a host, which was looked at, undo what the killed run did.

    Returns:
        Whether anything is to be undone there.
    """
    # Where a link goes back, the way back drains the host before and puts it back into
    # its balancer after, whatever the killed run did. So a host only counts as drained
    # where no link moves. A killed run that moved links may have left a timer
    # (rollout.confirm).
    moves = ctx.undo.moves or moves_of_killed_run(ctx)
    moved, drained = bool(moves), not moves and drained_by_killed_run(ctx)
    ctx.undo = Undo(moves, moved, timer=moved, drained=drained)
    ctx.run.note(e.KilledRunFound(ctx.name, moved, drained))
    return moved or drained


def overtaken(ctx: HostRun, module: Module) -> bool:
    """Tell whether a run later than the killed one has moved a module on the host."""
    killed, target = ctx.run.killed, ctx.known.targets[module.name]
    if killed is None:
        return False
    then = killed.links(ctx.name, module.name)
    return target.overtaken(killed.generation, killed.ids, then, ctx.run.spec.store_id)


def still_drained(ctx: HostRun) -> str:
    """Return a warning for a host that a killed run drained and this one left so."""
    killed = ctx.run.killed
    if killed is None or ctx.state in SETTLED or not drained_by_killed_run(ctx):
        return ""
    return (
        f"is still drained by run {killed.id}: `ghostasync resume` or `ghostasync "
        "resume --revert` puts it back"
    )


def manifest_before_killed_run(
    hosts: Sequence[HostRun], manifest: Mapping[str, str]
) -> dict[str, str]:
    """
    Return the lines of *manifest* that the run which is taken back had moved.

    *manifest* maps module names to package ids, as it is now; the result maps them to
    the ids before that run: as its journal has them, else as all hosts served them. An
    id is empty where there was no package before, or more than one.
    """
    killed = hosts[0].run.killed
    # A run under --limit never moves MANIFEST.
    if killed is None or killed.limited:
        return {}
    before_run: dict[str, str] = {}
    # A rollback that takes a module away has removed its line.
    for name, package in {**dict.fromkeys(killed.leads, ""), **manifest}.items():
        moves = [
            move for ctx in hosts for move in ctx.undo.moves if move.module == name
        ]
        brought = {move.new.rpartition("/")[2] for move in moves}
        # A line with a package that the killed run did not bring is another run's.
        if package not in {*brought, killed.packages.get(name, "")}:
            continue
        before = {move.previous.rpartition("/")[2] for move in moves}
        old = killed.manifest.get(name, before.pop() if len(before) == 1 else "")
        if old != package:
            before_run[name] = old
    return before_run


def _serves(ctx: HostRun, release: Release, record: Activation | None) -> bool:
    """Tell whether a host serves a release, with the environment that it is to have."""
    target = ctx.known.targets[release.module.name]
    proven = record.fingerprint if record else target.fingerprint
    whole = target.live == release.id and not target.dangling
    return whole and proven == release.fingerprint


def _aside(path: str, release: str) -> str:
    """Return where an adopted folder is kept beside the link that replaced it."""
    folder, _, base = path.rpartition("/")
    return f"{folder}/.{base}.before-{release}"
