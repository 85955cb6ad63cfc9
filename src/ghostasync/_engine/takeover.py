"""What a killed run did to a host: how to take it up, and how to take it back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from .. import events as e
from .._build.release import Release
from .._remote.facts import SwitchRecord
from ..model import Module, State
from .host import HostRun, Move, Undo

__all__ = [
    "adopt_killed_moves",
    "drained_by_killed_run",
    "manifest_before_killed_run",
    "move_of",
    "moved_by_killed_run",
    "moves_of_killed_run",
    "resume",
    "still_drained",
]


_SETTLED: Final = frozenset(
    {State.LIVE, State.UNCHANGED, State.ROLLED_BACK, State.STRANDED}
)
"""Where a host was put back into its balancers, or it was said that it was not."""


def moved_by_killed_run(ctx: HostRun, module: Module) -> SwitchRecord | None:
    """
    Return how the run that this one takes up moved a link; None where it did not.

    The host's own record says it; where that is lost, the journal.
    """
    past, target = ctx.run.killed, ctx.known.targets[module.name]
    if past is None:
        return None
    if target.record is not None:
        return target.record if target.record.run in past.ids else None
    previous = past.previous.get(ctx.name, {}).get(module.name)
    served = target.live and target.live == past.packages.get(module.name)
    if previous is None or not served or ctx.name not in past.changed:
        return None
    adopted = previous == _aside(ctx.target(module), target.live)
    return SwitchRecord(
        run=past.id,
        previous="" if adopted else previous,
        new=target.link,
        aside=previous if adopted else "",
    )


def resume(ctx: HostRun) -> e.Resumed | None:
    """
    Return what is true of a host that was brought live already, with all its releases.

    It is left alone, but it belongs to the fleet, and would go back with it.
    """
    past = ctx.run.killed
    if past is None or past.states.get(ctx.name) is not State.LIVE:
        return None
    mine = [release for release in ctx.run.releases if release.module in ctx.modules]
    records = {r.module.name: moved_by_killed_run(ctx, r.module) for r in mine}
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
    Return the move of one link; CHECKING made sure that it is ours to make.

    One that was made already goes back to where it was before that.
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
    if record is not None and record.new == new:
        return attrs.evolve(move, previous=record.previous, aside=record.aside)
    adopted = target.kind in {"directory", "file"}
    return attrs.evolve(move, aside=_aside(path, release.id)) if adopted else move


def moves_of_killed_run(ctx: HostRun) -> tuple[Move, ...]:
    """Return the moves that the killed run made on the host, to be taken back."""
    moves = []
    for module in ctx.modules:
        record, target = (
            moved_by_killed_run(ctx, module),
            ctx.known.targets[module.name],
        )
        if record is not None and target.link in {record.new, ""}:
            moves.append(
                Move(
                    module=module.name,
                    folder=ctx.paths.module(module.name),
                    target=ctx.target(module),
                    previous=record.previous,
                    new=record.new,
                    aside=record.aside,
                )
            )
    return tuple(moves)


def drained_by_killed_run(ctx: HostRun) -> bool:
    """
    Tell whether the killed run may have left the host drained.

    One that was stranded stays so: a person has to look first.
    """
    killed = ctx.run.killed
    drained = killed.drained if killed else ()
    return ctx.name in drained and ctx.run.balances("drain")


def adopt_killed_moves(ctx: HostRun) -> bool:
    """
    Note what the killed run did to a host that has been looked at, to be undone.

    Returns:
        Whether anything is to be undone there.
    """
    moves = ctx.undo.moves or moves_of_killed_run(ctx)
    moved, drained = bool(moves), not moves and drained_by_killed_run(ctx)
    ctx.undo = Undo(moves, moved, timer=moved, drained=drained)
    ctx.run.note(e.KilledRunFound(ctx.name, moved, drained))
    return moved or drained


def still_drained(ctx: HostRun) -> str:
    """Say that the run has not put back a host which a killed run had drained."""
    past = ctx.run.killed
    if past is None or ctx.state in _SETTLED or not drained_by_killed_run(ctx):
        return ""
    return (
        f"is still drained by run {past.id}: `ghostasync resume` or `ghostasync resume "
        "--revert` puts it back"
    )


def manifest_before_killed_run(
    hosts: Sequence[HostRun], manifest: Mapping[str, str]
) -> dict[str, str]:
    """
    Return the lines of *manifest* that the run which is taken back had moved.

    Module name to the package named before: as the journal has it, else what all hosts
    served before. Empty where there was none, or not one.
    """
    found: dict[str, str] = {}
    for name, package in manifest.items():
        past = hosts[0].run.killed
        moves = [
            move for ctx in hosts for move in ctx.undo.moves if move.module == name
        ]
        brought = {move.new.rpartition("/")[2] for move in moves}
        if past is None or past.limited:
            continue
        if package not in {*brought, past.packages.get(name)}:
            continue
        before = {move.previous.rpartition("/")[2] for move in moves}
        old = past.manifest.get(name, before.pop() if len(before) == 1 else "")
        if old != package:
            found[name] = old
    return found


def _serves(ctx: HostRun, release: Release, record: SwitchRecord | None) -> bool:
    """Tell whether a host serves a release, with the environment that it is to have."""
    target = ctx.known.targets[release.module.name]
    proven = record.fingerprint if record else target.fingerprint
    whole = target.live == release.id and not target.dangling
    return whole and proven == release.fingerprint


def _aside(path: str, release: str) -> str:
    """Return where an adopted folder is kept beside the link that replaced it."""
    folder, _, base = path.rpartition("/")
    return f"{folder}/.{base}.before-{release}"
