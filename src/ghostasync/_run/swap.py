"""
A swap: visitors go to the hosts of the other color.

How it works. Hosts of both colors are one fleet in two waves, each color with its own
plan, balancer and MANIFEST. All are locked and looked at; those that are to get
visitors must serve what MANIFEST says and prove their health. The first wave puts them
into their balancers. Then the record of the active color moves: the point of no return.
The second wave takes the hosts of the other color out. Before the record has moved, the
way back takes the first wave out again. Visitors are never without hosts.
"""

from __future__ import annotations

import time
from typing import Final

import anyio

from .._build.builder import Builder
from .._build.release import Release
from .._engine.colors import active_now, why_moved
from .._engine.fleet import Fleet, GoesNoFurther
from .._engine.host import HostRun
from .._engine.stages.drain import drain
from ..errors import GhostasyncError, HostError, StoreError
from ..events import ColorMoved, Committed, Warned
from ..model import State as S  # noqa: N817  as in the table
from ..protocols import ActiveColor, ColorStore

__all__ = ["swap"]

STORE_SECONDS: Final = 60
"""Seconds that the store has to move the active color."""


async def swap(fleet: Fleet, builder: Builder) -> None:
    """
    Have the goal's color be the active one, or leave all as it was.

    Raises:
        BaseException: A cancellation or a bug, once the way back has been taken.
    """
    try:
        with fleet.forward:
            await fleet.gather(_no_releases, builder.published)
            fleet.judge()
            await _require_unmoved(fleet)
            await fleet.switch(1)
            await _move(fleet)
            await fleet.switch(2)
    except GoesNoFurther:
        pass  # the reason is on record
    except BaseException as exc:
        fleet.give_up(exc)
        raise
    finally:
        await _go_back(fleet)
        # Hosts whose turn has not come are told that it will not.
        await fleet.go_back()
    _tell_who_stays(fleet)


async def _no_releases() -> tuple[Release, ...]:
    return ()


async def _require_unmoved(fleet: Fleet) -> None:
    """
    Do nothing, as long as the active color is what it was when the run was planned.

    Raises:
        GoesNoFurther: Another swap came first, while this one waited for locks.
    """
    try:
        moved = await why_moved(fleet.run.spec)
    except StoreError as exc:
        moved = str(exc)
    if moved:
        fleet.abandon(moved)
        raise GoesNoFurther


async def _move(fleet: Fleet) -> None:
    """
    Move the record of the active color: from here on nothing is taken back.

    Raises:
        GoesNoFurther: It could not be moved.
    """
    spec, to = fleet.run.spec, fleet.run.goal.active_color
    number = 1 + (spec.active.number if spec.active else 0)
    moved = ActiveColor(to, number, spec.id, spec.actor, spec.reason, time.time())
    # Shielded: cancelled between the move and the event, a swap would take the hosts
    # out that are the active ones by then.
    with anyio.CancelScope(shield=True):
        try:
            with anyio.fail_after(STORE_SECONDS):
                await _store(fleet).move_active_color(moved, spec.active)
        except (GhostasyncError, OSError) as exc:
            why = str(exc) or f"the store did not answer within {STORE_SECONDS} s"
            fleet.abandon(f"the active color could not be moved: {why}")
            raise GoesNoFurther from exc
        fleet.note(Committed())
        fleet.note(ColorMoved(to))
    for run in {id(ctx.run): ctx.run for ctx in fleet.hosts.values()}.values():
        run.variables = {**run.variables, "GHOST_ACTIVE_COLOR": to}


async def _go_back(fleet: Fleet) -> None:
    """Take hosts out again that got visitors, where their color is not the active."""
    policy = fleet.policy
    if not policy.reason or policy.final or not policy.run.waves:
        return
    with anyio.CancelScope(shield=True):
        # The record may have moved though its answer was lost; and a swap to the color
        # that is active, to finish one that was killed, must not take that out.
        try:
            now = await active_now(fleet.run.spec)
        except StoreError as exc:
            fleet.note(Warned(f"both colors may get visitors: {exc}"))
            return
        active = now.color if now else fleet.run.plan.app.active_color
        if active == fleet.run.goal.active_color:
            return
        async with anyio.create_task_group() as tasks:
            for ctx in fleet.hosts.values():
                if ctx.run.spec.gets_visitors and ctx.attempt.had_lock:
                    tasks.start_soon(_take_out, ctx)


async def _take_out(ctx: HostRun) -> None:
    try:
        await drain(ctx)
    except HostError as exc:
        ctx.warn(f"gets visitors still: {exc}")


def _store(fleet: Fleet) -> ColorStore:
    store = fleet.run.spec.store
    if not isinstance(store, ColorStore):
        raise TypeError("a swap was planned on a store without an active color")
    return store


def _tell_who_stays(fleet: Fleet) -> None:
    """Warn of hosts that may get visitors though their color is not the active one."""
    if not fleet.policy.run.committed:
        return
    for ctx in fleet.hosts.values():
        if not ctx.run.spec.gets_visitors and ctx.state is not S.UNCHANGED:
            fleet.run.links_left.append(ctx.name)
            to = fleet.run.goal.active_color
            ctx.warn(f"may get visitors still; swap --to {to} takes it out")
