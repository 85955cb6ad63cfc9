"""Hosts are found out first; only then is it checked what depends on them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import anyio
import attrs
import pytest

from ghostasync import (
    App,
    DirectorySource,
    Host,
    Module,
    Plan,
    PlanError,
    Rollout,
    StoreSettings,
    dry_run,
)
from ghostasync._planning.inventory import CheckedInventory, with_hosts
from ghostasync.errors import ConfigError
from ghostasync.inventories.static import Static
from ghostasync.model import InventorySettings


@attrs.define
class Mine:
    """An inventory that says what it is told to, or raises it."""

    says: Sequence[Host] | Exception
    asked: int = 0

    async def hosts(self) -> Sequence[Host]:
        self.asked += 1
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (tmp_path / "tree").mkdir()
    return Plan(
        app=App("shop", "prod", "web"),
        modules=(Module("site", "/srv/site", DirectorySource("tree")),),
        store=StoreSettings(url=str(tmp_path / "store")),
        base=tmp_path,
    )


def asking(plan: Plan, command: str) -> Plan:
    return attrs.evolve(plan, inventory=InventorySettings(command=command))


async def test_a_plan_with_hosts_is_its_own_inventory(plan: Plan) -> None:
    plan = attrs.evolve(plan, hosts=(Host("a"),))

    found, inventory = await with_hosts(plan, None, os.environ)

    assert (found, inventory) == (plan, Static((Host("a"),)))


async def test_a_command_is_asked_and_can_be_asked_again(plan: Plan) -> None:
    (plan.base / "hosts.json").write_text('["a"]')

    found, inventory = await with_hosts(
        asking(plan, "cat hosts.json"), None, os.environ
    )
    (plan.base / "hosts.json").write_text('["a", "b"]')

    assert found == attrs.evolve(plan, hosts=(Host("a"),))
    assert await inventory.hosts() == (Host("a"), Host("b"))


async def test_one_that_is_handed_in_goes_before_that_of_the_plan(plan: Plan) -> None:
    found, _ = await with_hosts(asking(plan, "exit 1"), Mine([Host("a")]), os.environ)

    assert found.hosts == (Host("a"),)


async def test_what_depends_on_hosts_is_checked_when_they_are_known(plan: Plan) -> None:
    module = attrs.evolve(plan.modules[0], hosts="role=web")
    plan = attrs.evolve(
        asking(plan, """echo '[{"name": "a", "labels": {"az": "x"}}]'"""),
        modules=(module,),
        rollout=Rollout(spread_by="zone"),
    )

    with pytest.raises(ConfigError) as caught:
        await dry_run(plan)

    assert caught.value.problems == (
        (
            "modules[0].hosts: no host has a label role; labels: az; allowed: hosts of"
            " the inventory"
        ),
        'rollout.spread_by: is "zone"; allowed: az',
    )


async def test_min_serving_is_judged_by_the_hosts_that_there_are(plan: Plan) -> None:
    plan = attrs.evolve(
        asking(plan, """echo '["a", "b"]'"""), rollout=Rollout(min_serving=2)
    )

    with pytest.raises(PlanError, match=r"min_serving: 2 of 2 hosts leaves none"):
        await dry_run(plan)


async def test_nobody_is_asked_for_a_plan_that_is_wrong(plan: Plan) -> None:
    inventory = Mine([Host("a")])
    plan = attrs.evolve(plan, rollout=Rollout(concurrency=0))

    with pytest.raises(ConfigError, match=r"rollout\.concurrency: is 0"):
        await dry_run(plan, inventory=inventory)

    assert inventory.asked == 0


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        ([], "inventory: there are no hosts to deploy to"),
        (OSError("no route"), "inventory: failed: OSError('no route')"),
        (PlanError("ask later"), "ask later"),
        (["web1"], "inventory: failed: NotAnAttrsClassError"),
        (None, "inventory: failed: TypeError"),
        (
            [Host("a"), Host("a")],
            'inventory[1]: "a" is the name of inventory[0] too; allowed: each name',
        ),
    ],
)
async def test_an_inventory_is_not_taken_at_its_word(
    plan: Plan, says: Sequence[Host], reason: str
) -> None:
    with pytest.raises(PlanError) as caught:
        await with_hosts(plan, Mine(says), os.environ)

    assert str(caught.value).startswith(reason)


async def test_an_inventory_that_does_not_answer_is_given_up() -> None:
    class Silent:
        async def hosts(self) -> Sequence[Host]:
            await anyio.sleep_forever()
            raise AssertionError

    with pytest.raises(PlanError, match=r"^inventory: did not answer within 0\.01 s$"):
        await CheckedInventory(Silent(), "inventory", seconds=0.01).hosts()


async def test_its_own_lack_of_patience_is_its_failure() -> None:
    inventory = CheckedInventory(Mine(TimeoutError("in pages")), "inventory.plugin")

    with pytest.raises(PlanError, match=r"^inventory\.plugin: failed: TimeoutError"):
        await inventory.hosts()
