"""What a rollout has to pass: before its first link moves, and after each wave."""

from __future__ import annotations

from collections.abc import Iterable

from ..model import State as S  # noqa: N817  as in the table
from .host import Context, RunContext
from .stages.before_switch import before_switch

__all__ = ["pass_before_switch"]


async def pass_before_switch(run: RunContext, hosts: Iterable[Context]) -> str:
    """
    Run each module's before_switch once, on the first of *hosts* that is to get it.

    Returns:
        Why one failed, and then no link may move; empty where all passed.
    """
    past = run.past
    if not run.goal.migrates:
        return ""
    ready = [ctx for ctx in hosts if ctx.machine.state is S.READY]
    for release in run.releases:
        name = release.module.name
        if past and name in past.migrated:
            continue
        if "before_switch" not in release.package.scripts:
            continue
        first = next((ctx for ctx in ready if release in ctx.work), None)
        if first is not None and (failed := await before_switch(first, release)):
            return failed
    return ""
