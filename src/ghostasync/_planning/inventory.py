"""
The inventory of a plan, asked before anything that depends on hosts is checked.

Its answer is somebody else's: it is bounded in time and held to all that hosts in
``ghostasync.toml`` are held to. The run keeps the inventory, and asks it again before
MANIFEST moves, and once after.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import anyio
import attrs

from .. import adapters
from ..config import check_plan
from ..config._hosts import require_hosts
from ..errors import ConfigError, PlanError
from ..inventories.command import CommandInventory
from ..inventories.static import Static
from ..model import Host, InventorySettings, Plan
from ..protocols import Inventory

__all__ = ["ASK_SECONDS", "CheckedInventory", "inventory_of", "with_hosts"]

ASK_SECONDS: Final = 60.0
"""Seconds that an inventory may take: a cloud's answer for thousands of hosts comes in
pages, each of which may be throttled for some seconds."""


@attrs.frozen
class CheckedInventory:
    """
    An inventory of somebody else: asked within *seconds*, and checked.

    *where* is the key or argument that named it, for errors.
    """

    inventory: Inventory
    where: str
    seconds: float = ASK_SECONDS

    async def hosts(self) -> tuple[Host, ...]:
        """
        Return the hosts of the inventory, once they pass the checks of a plan's hosts.

        Raises:
            PlanError: The inventory failed, was too slow, or names no host.
            ConfigError: A host is wrong, or two have one name.
        """
        try:
            with anyio.move_on_after(self.seconds) as scope:
                hosts = require_hosts(await self.inventory.hosts(), self.where)
        except PlanError:
            raise
        except Exception as exc:  # somebody else's code may raise anything
            raise PlanError(f"{self.where}: failed: {exc!r}") from exc
        if scope.cancelled_caught:
            raise PlanError(f"{self.where}: did not answer within {self.seconds:g} s")
        if not hosts:
            raise PlanError(f"{self.where}: there are no hosts to deploy to")
        return hosts


def inventory_of(plan: Plan, environ: Mapping[str, str]) -> Inventory:
    """
    Return the inventory that *plan* names; a command sees *environ*.

    Raises:
        PlanError: There is no such plug-in, or it cannot be made.
    """
    settings = plan.inventory
    if settings.plugin:
        made = adapters.inventory(settings.plugin, settings.options, plan)
        return CheckedInventory(made, "inventory.plugin")
    if settings.command:
        command = CommandInventory(settings.command, plan.app, plan.base, environ)
        return CheckedInventory(command, "inventory.command")
    return Static(plan.hosts)


async def with_hosts(
    plan: Plan, inventory: Inventory | None, environ: Mapping[str, str]
) -> tuple[Plan, Inventory]:
    """
    Return *plan* with the hosts of its inventory, and the inventory to be asked again.

    Args:
        plan: The plan; checked but for its hosts.

        inventory: Asked in place of the one that the plan names.

        environ: The environment of a command.

    Raises:
        ConfigError: A host is wrong, or the plan does not go with the hosts.
        PlanError: The inventory cannot be asked, or names no host.
    """
    if inventory is None:
        asked = inventory_of(plan, environ)
    else:
        asked = CheckedInventory(inventory, "inventory")
    # Hosts that stand in the plan were checked with it.
    if isinstance(asked, Static):
        return plan, asked
    hosts = tuple(await asked.hosts())
    whole = attrs.evolve(plan, hosts=hosts, inventory=InventorySettings())
    if problems := check_plan(whole, environ):
        raise ConfigError(problems)
    return whole, asked
