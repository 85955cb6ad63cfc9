"""The hosts of a run: chosen by limits, and by the modules that they get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .._engine.waves import needed
from ..config._selection import named
from ..errors import PlanError
from ..model import Host, Module, Plan

__all__ = ["hosts_of_module", "leave_enough", "leaves_out", "place"]


def hosts_of_module(plan: Plan) -> dict[str, frozenset[str]]:
    """Return, by module name, the hosts of each module that not all hosts get."""
    return {
        module.name: named(plan.hosts, module.selectors)
        for module in plan.modules
        if module.selectors
    }


def place(
    hosts: Sequence[Host],
    modules: Sequence[Module],
    where: Mapping[str, frozenset[str]],
) -> tuple[tuple[Host, ...], tuple[Module, ...]]:
    """
    Leave out hosts that get no module of the run, and modules that no host gets.

    Args:
        hosts: The chosen hosts.

        modules: The chosen modules.

        where: The mapping that :func:`hosts_of_module` returns.

    Raises:
        PlanError: No host is left.
    """

    def gets(host: Host, module: Module) -> bool:
        return module.name not in where or host.name in where[module.name]

    left = tuple(host for host in hosts if any(gets(host, m) for m in modules))
    if not left:
        names = ", ".join(module.name for module in modules)
        raise PlanError(f"modules: no selected host gets any of them: {names}")
    return left, tuple(m for m in modules if any(gets(host, m) for host in left))


def leaves_out(
    plan: Plan,
    where: Mapping[str, frozenset[str]],
    hosts: Sequence[Host],
    modules: Sequence[Module],
) -> bool:
    """Tell whether a host that gets one of *modules* is not among *hosts*."""
    everyone, _ = place(plan.hosts, modules, where)
    return len(hosts) < len(everyone)


def leave_enough(plan: Plan, fleet: Sequence[Host]) -> None:
    """
    Refuse a run that could never drain a host of *fleet*.

    Raises:
        PlanError: All hosts must serve at any moment.
    """
    asked, total = plan.rollout.min_serving, len(fleet)
    least = needed(asked, total)
    if least and least >= total:
        hosts = "1 host" if total == 1 else f"{total} hosts"
        raise PlanError(
            f"rollout.min_serving: {asked} of {hosts} leaves none to switch; "
            f"allowed: less than {total}"
        )
