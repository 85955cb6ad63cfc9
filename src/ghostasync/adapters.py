"""
The plug-ins by name: our own, and those registered as ``ghostasync.<folder>``.

An entry point of an installed distribution leads to a factory. The factory is called
with the keys that stand beside its name in the configuration, and with the plan; a plan
whose inventory has yet to be asked has no hosts. Nothing is looked for before a name is
used, and our own names are nobody else's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Final

from .errors import PlanError
from .model import Plan
from .protocols import Balancer, Inventory, Notifier

__all__ = ["balancer", "inventory", "notifier"]

Options = Mapping[str, object]
Factory = Callable[[Options, Plan], object]

_KEYS: Final = {
    "inventories": "inventory.plugin",
    "balancers": "rollout.balancer.kind",
    "notifiers": "notifiers",
}
"""The key or argument that names a plug-in of each folder, for messages."""

_OURS: Final[Mapping[str, Mapping[str, str]]] = {
    "inventories": {"ec2": "ec2:Ec2"},
    "balancers": {"alb": "alb:Alb", "clb": "clb:Clb", "haproxy": "haproxy:HAProxy"},
    "notifiers": {},
}
"""
Our own plug-ins by name: the module in the folder, and what it has.

They are no entry points, because it takes 6 ms to read what is installed.
"""


def inventory(name: str, options: Options, plan: Plan) -> Inventory:
    """
    Return the inventory that is registered as *name*.

    Raises:
        PlanError: There is no such inventory, or *options* do not make one.
    """
    made = _make("inventories", name, options, plan)
    # A plug-in is somebody else's code: what it lacks is said when the run is planned,
    # not when a host waits for it. The same holds for the two below.
    if not isinstance(made, Inventory):
        raise _unfit("inventories", name, "hosts")
    return made


def balancer(name: str, options: Options, plan: Plan) -> Balancer:
    """
    Return the balancer that is registered as *name*.

    Raises:
        PlanError: There is no such balancer, or *options* do not make one.
    """
    made = _make("balancers", name, options, plan)
    if not isinstance(made, Balancer):
        raise _unfit("balancers", name, "drain and undrain")
    return made


def notifier(name: str, plan: Plan) -> Notifier:
    """
    Return the notifier that is registered as *name*.

    Raises:
        PlanError: There is no such notifier, or it cannot be made.
    """
    made = _make("notifiers", name, {}, plan)
    if not isinstance(made, Notifier):
        raise _unfit("notifiers", name, "notify")
    return made


def _make(folder: str, name: str, options: Options, plan: Plan) -> object:
    try:
        return _factory(folder, name)(options, plan)
    except PlanError:
        raise
    except Exception as exc:
        # Somebody else's code may raise anything; the run has not begun, so this is an
        # error in the plan.
        raise PlanError(f'{_KEYS[folder]}: "{name}" cannot be used: {exc!r}') from exc


def _factory(folder: str, name: str) -> Factory:
    ours = _OURS[folder]
    if name in ours:
        module, _, attribute = ours[name].partition(":")
        found = import_module(f".{folder}.{module}", __package__)
        own: Factory = getattr(found, attribute)
        return own
    # Reading what is installed takes 6 ms, and few plans name a plug-in.
    from importlib.metadata import entry_points

    key, entries = _KEYS[folder], entry_points(group=f"ghostasync.{folder}")
    # Two entries that lead to the same factory are no conflict.
    registered = {entry.value: entry for entry in entries.select(name=name)}
    if not registered:
        known = ", ".join(sorted({*entries.names, *ours})) or "none"
        raise PlanError(f'{key}: there is no plug-in "{name}"; installed: {known}')
    # sys.path would decide which of two plug-ins comes first, so neither is taken.
    if len(registered) > 1:
        places = " and ".join(sorted(registered))
        raise PlanError(f'{key}: "{name}" is registered twice: {places}')
    (entry,) = registered.values()
    loaded: Factory = entry.load()
    return loaded


def _unfit(folder: str, name: str, methods: str) -> PlanError:
    return PlanError(f'{_KEYS[folder]}: "{name}" made something without {methods}')
