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
import attrs

from .. import events as e
from .._remote.facts import Facts
from ..goal import Deploy
from ..protocols import Lineage
from ..views.folding import short_hosts
from ..views.text import plural
from .host import HostRun, RunContext

__all__ = ["Relation", "relations", "why_older"]

SECONDS: Final = 60
"""Seconds that sources have to say which commits are older."""


@attrs.frozen
class Relation:
    """
    How a commit that is to come stands to *other*, which *hosts* serve.

    *distance* is how many commits it is ahead, and how many behind; None where the
    source does not say.
    """

    module: str
    commit: str
    other: str
    hosts: tuple[str, ...]
    distance: tuple[int, int] | None

    @property
    def refusal(self) -> str:
        """Why it is not deployed; empty where it is not older."""
        ahead, behind = self.distance or (0, 0)
        if ahead or not behind:
            return ""
        older = f"{plural(behind, 'commit')} older than {self.other[:7]}"
        return (
            f"{self.module}: {self.commit[:7]} is {older}, which {_serve(self.hosts)}; "
            "to go back all the same, say --back"
        )

    @property
    def warning(self) -> str:
        """What is to be told of it; empty where it only comes later."""
        where = f"{self.commit[:7]} and {self.other[:7]}, which {_serve(self.hosts)}"
        if self.distance is None:
            return f"{self.module}: whether {where}, is older, the source does not say"
        ahead, behind = self.distance
        if not (ahead and behind):
            return ""
        missing = f"{plural(behind, 'commit')} of what serves"
        return (
            f"{self.module}: the histories of {where}, diverge: {missing} "
            f"{'is' if behind == 1 else 'are'} not in what comes"
        )


async def why_older(run: RunContext, hosts: Iterable[HostRun]) -> str:
    """
    Return why a deploy would take hosts back; empty where it may go on.

    Histories that diverge are told, and so is a commit that the source does not know.
    """
    goal = run.goal
    if not isinstance(goal, Deploy) or goal.back:
        return ""
    seen = [(ctx.name, ctx.attempt.facts) for ctx in hosts]
    reasons: list[str] = []
    for chosen in run.spec.modules:
        commit, lineage = chosen.revision.commit, chosen.lineage
        if lineage is not None and commit:
            for each in await relations(chosen.module.name, commit, lineage, seen):
                if each.warning:
                    run.note(e.Warned(each.warning))
                reasons += filter(None, [each.refusal])
    return "; ".join(reasons)


async def relations(
    module: str,
    commit: str,
    lineage: Lineage,
    seen: Iterable[tuple[str, Facts | None]],
) -> list[Relation]:
    """Return how *commit* stands to each other one that hosts serve, by records."""
    served: dict[str, list[str]] = defaultdict(list)
    for name, facts in seen:
        target = facts.targets.get(module) if facts else None
        if target and target.record and target.record.commit:
            served[target.record.commit].append(name)
    served.pop(commit, None)
    found = []
    for other, hosts in served.items():
        distance = None
        with anyio.move_on_after(SECONDS):
            distance = await lineage.distance(commit, other)
        found.append(Relation(module, commit, other, tuple(hosts), distance))
    return found


def _serve(hosts: tuple[str, ...]) -> str:
    return f"{short_hosts(hosts)} serve{'s' * (len(hosts) == 1)}"
