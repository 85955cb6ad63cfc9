"""
Older commits: a deploy does not put one over a newer one, unless it was told to.

Two pipelines may wait for the same fleet; the one that comes last need not have the
later commit. What serves is certain once all locks are held, so it is looked at then.
Whoever names a package knows which one it is, and gets it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

import anyio

from .. import events as e
from ..goal import Deploy
from ..protocols import Lineage
from .host import HostRun, RunContext
from .spec import ModuleToDeploy

__all__ = ["why_older"]

SECONDS: Final = 60
"""Seconds that sources have to say which commits are older."""

_HOSTS: Final = 3
"""Hosts that a message names; more are counted."""


async def why_older(run: RunContext, hosts: Iterable[HostRun]) -> str:
    """
    Return why a deploy would take hosts back; empty where it may go on.

    Histories that diverge are told, and so is a commit that the source does not know.
    """
    goal = run.goal
    if not isinstance(goal, Deploy) or goal.back:
        return ""
    reasons: list[str] = []
    for chosen in run.spec.modules:
        commit, lineage = chosen.revision.commit, chosen.lineage
        if lineage is not None and commit:
            served = _served(chosen.module.name, hosts)
            served.pop(commit, None)
            reasons += await _compare(run, chosen, lineage, served)
    return "; ".join(reasons)


def _served(module: str, hosts: Iterable[HostRun]) -> dict[str, list[str]]:
    """Return the hosts that serve each commit of a module, by their records."""
    served: dict[str, list[str]] = defaultdict(list)
    for ctx in hosts:
        facts = ctx.attempt.facts
        target = facts.targets.get(module) if facts else None
        if target and target.record and target.record.commit:
            served[target.record.commit].append(ctx.name)
    return served


async def _compare(
    run: RunContext,
    chosen: ModuleToDeploy,
    lineage: Lineage,
    served: dict[str, list[str]],
) -> list[str]:
    """Return why commits are newer than the chosen one; tell of those that differ."""
    name, commit, reasons = chosen.module.name, chosen.revision.commit, []
    for other, hosts in served.items():
        distance = None
        with anyio.move_on_after(SECONDS):
            distance = await lineage.distance(commit, other)
        where = f"{commit[:7]} and {other[:7]}, which {_few(hosts)}"
        if distance is None:
            text = f"{name}: whether {where}, is older, the source does not say"
            run.note(e.Warned(text))
            continue
        ahead, behind = distance
        if ahead and behind:
            run.note(
                e.Warned(
                    f"{name}: the histories of {where}, diverge: {_commits(behind)} of "
                    f"what serves {'is' if behind == 1 else 'are'} not in what comes"
                )
            )
        elif behind:
            older = f"{_commits(behind)} older than {other[:7]}"
            reasons.append(
                f"{name}: {commit[:7]} is {older}, which {_few(hosts)}; to go back all "
                "the same, say --back"
            )
    return reasons


def _commits(count: int) -> str:
    return "1 commit" if count == 1 else f"{count} commits"


def _few(hosts: list[str]) -> str:
    if len(hosts) == 1:
        return f"{hosts[0]} serves"
    shown = ", ".join(hosts[:_HOSTS])
    more = len(hosts) - _HOSTS
    return f"{shown} and {more} more serve" if more > 0 else f"{shown} serve"
