"""A look at hosts before a run is planned: they know best what they serve."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from .._engine.look import looked_at
from .._engine.spec import RunSpec
from .._remote.facts import Facts
from ..config._selection import BEHIND, FAILED, select
from ..history.reports import failed_hosts
from ..model import Host
from ..protocols import ManifestLine, Transport
from ..views.folding import short_hosts
from .basis import Basis, spec_of_look
from .hosts import place
from .unfinished import Seen

__all__ = ["Reach", "choose_hosts", "look_at"]

Reach = Callable[[RunSpec], AbstractAsyncContextManager[Transport]]
"""Opens a transport to the hosts of a spec, for a look at them."""


async def choose_hosts(
    basis: Basis, limit: Sequence[str], reach: Reach
) -> tuple[tuple[Host, ...], tuple[str, ...]]:
    """
    Return the hosts that the expressions *limit* choose, and warnings.

    Hosts come in the inventory's order. They are asked only where an expression has to
    know what they serve.

    Raises:
        PlanError: An expression names nothing, or no host is left.
        StoreError: The reports of earlier runs cannot be read.
    """
    # Reading the reports of earlier runs takes a while, and so does asking hosts.
    groups: dict[str, frozenset[str]] = {}
    warnings: tuple[str, ...] = ()
    if any(FAILED in expression for expression in limit):
        groups[FAILED] = await failed_hosts(basis.store.runs)
    if any(BEHIND in expression for expression in limit):
        seen = await look_at(basis, basis.plan.hosts, reach)
        lines = {line.module: line for line in basis.manifest}
        groups[BEHIND] = frozenset(
            name
            for name, facts in seen.items()
            if isinstance(facts, Facts) and _is_behind(facts, lines)
        )
        silent = [name for name, facts in seen.items() if not isinstance(facts, Facts)]
        if silent:
            warnings = (f"no answer, so not among {BEHIND}: {short_hosts(silent)}",)
    return select(basis.plan.hosts, limit, groups), warnings


async def look_at(basis: Basis, hosts: tuple[Host, ...], reach: Reach) -> Seen:
    """Return what *hosts* tell of all their modules, by name."""
    hosts, modules = place(hosts, basis.plan.modules, basis.hosts_of_module)
    look = spec_of_look(basis, hosts, modules, limited=False)
    async with reach(look) as transport:
        return await looked_at(look, transport)


def _is_behind(facts: Facts, lines: Mapping[str, ManifestLine]) -> bool:
    """Tell whether a host serves another, not later, release than MANIFEST's."""
    for name, target in facts.targets.items():
        line = lines.get(name)
        if line is None or target.live == line.package:
            continue
        if target.record is None or target.record.generation <= line.generation:
            return True
    return False
