from __future__ import annotations

from ghostasync.inventories.static import Static
from ghostasync.model import Host
from ghostasync.protocols import Inventory


async def test_the_hosts_are_those_of_the_plan() -> None:
    hosts = (Host("web2"), Host("web1"))
    inventory: Inventory = Static(hosts)

    assert await inventory.hosts() == hosts
