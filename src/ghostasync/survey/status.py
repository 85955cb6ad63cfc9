"""
Status: the releases that hosts serve, beside those that MANIFEST names.

Links and records on hosts say what is served, MANIFEST what is expected, reports which
hosts were left stranded. The lock of a run that goes on, or the journal of a killed
one, says which run is at work.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal, TypeVar

import attrs

from .._engine.look import looked_at
from .._engine.spec import RunSpec
from .._remote.facts import Facts
from ..errors import HostError
from ..history.past_run import PastRun
from ..history.reports import last_states
from ..history.runs import unfinished_run
from ..model import State
from ..protocols import Transport

T = TypeVar("T")

_HOLDER: Final = re.compile(r"run (\S+) ")
"""Beginning of a run's text about itself; see ``RunSpec.holder``."""

__all__ = ["Condition", "FleetStatus", "HostStatus", "OpenRun"]


Condition = Literal["in-line", "drift", "unreachable", "stranded"]
"""
Condition of a host, from the best to the worst: it serves what MANIFEST says, or
something else; it does not answer; or no run has put it in order since a rollback
failed on it.
"""


@attrs.frozen
class HostStatus:
    """
    Releases of one host, and its condition.

    *live* maps modules to release ids, empty where there is none; *text* says why
    *state* is no better. *runs* maps modules to the runs that moved their links, as the
    host has it on record.
    """

    live: Mapping[str, str]
    state: Condition
    text: str = ""
    runs: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class OpenRun:
    """
    A run that has not ended.

    *holder* is what it says of itself on hosts that it holds; empty where it was
    killed. *releases* are what it made (module to release id); *moved* is whether it
    had begun to move links, *going_back* whether it was on its way back, *committed*
    whether MANIFEST had moved.
    """

    id: str
    action: str = ""
    actor: str = ""
    holder: str = ""
    releases: Mapping[str, str] = attrs.field(factory=dict)
    moved: bool = False
    going_back: bool = False
    committed: bool = False


@attrs.frozen
class FleetStatus:
    """
    Releases that MANIFEST expects of modules, and the status of each host.

    *run* is the run that holds hosts, or else the newest that was killed; None where
    there is neither.
    """

    expected: Mapping[str, str]
    hosts: Mapping[str, HostStatus]
    run: OpenRun | None = None


async def compare(spec: RunSpec, transport: Transport) -> FleetStatus:
    """Return what each host serves beside what MANIFEST says."""
    names = {chosen.module.name for chosen in spec.modules}
    expected = {
        line.module: line.package for line in spec.manifest if line.module in names
    }
    last = await last_states(spec.store.runs)
    seen = await looked_at(spec, transport)
    hosts = {
        name: _status(facts, expected, last.get(name, ""))
        for name, facts in seen.items()
    }
    holders = [facts.holder for facts in seen.values() if isinstance(facts, Facts)]
    modules = {module.name for module in spec.plan.modules}
    killed = await unfinished_run(spec.store.runs, modules=modules)
    run = _open_run(killed, next(filter(None, holders), ""))
    return FleetStatus(expected, hosts, run)


def _status(
    facts: Facts | HostError, expected: Mapping[str, str], last: str
) -> HostStatus:
    stranded = last == State.STRANDED.value
    if isinstance(facts, HostError):
        return HostStatus({}, "stranded" if stranded else "unreachable", str(facts))
    live = {name: target.live for name, target in facts.targets.items()}
    runs = {n: t.record.run for n, t in facts.targets.items() if t.record}
    texts = [_difference(name, expected.get(name, ""), facts) for name in live]
    text = "; ".join(filter(None, texts))
    if stranded:
        # A link that is right again proves nothing: the post-deploy of the old release,
        # or its verification, may have failed.
        return HostStatus(live, "stranded", text, runs)
    return HostStatus(live, "drift" if text else "in-line", text, runs)


def _open_run(killed: PastRun | None, holder: str) -> OpenRun | None:
    """Return the run that goes on, else the one that was killed."""
    # A resumption holds hosts under its own id, and counts as one with the killed run:
    # its journal then says more than its text does.
    if found := _HOLDER.match(holder):
        run = OpenRun(found[1], holder=holder)
        if killed is None or run.id not in killed.ids:
            return run
    elif killed is None:
        return None
    return OpenRun(
        id=killed.id,
        action=killed.action,
        actor=killed.actor,
        holder=holder,
        releases=killed.packages,
        moved=killed.switching,
        going_back=killed.going_back,
        committed=killed.committed,
    )


def _difference(module: str, expected: str, facts: Facts) -> str:
    target = facts.targets[module]
    # A link to a release that is gone serves nobody, whatever its text says.
    if target.dangling:
        return f"{module}: the link leads nowhere"
    if target.live == expected:
        return ""
    if target.live:
        return f"{module}: serves {target.live}"
    what = "nothing" if target.kind == "absent" else f"a {target.kind} that is not ours"
    return f"{module}: serves {what}"
