"""Inventories that name far fewer hosts than before."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest

from ghostasync import Host, Outcome, Plan, PlanError, converge, deploy, rollback
from ghostasync.testing import FakeHosts

HOSTS = tuple(Host(f"web{number}") for number in range(1, 11))


@attrs.define
class Cloud:
    """Names as many of the hosts as it is asked to."""

    count: int = len(HOSTS)

    async def hosts(self) -> Sequence[Host]:
        return HOSTS[: self.count]


@attrs.define
class Fleet:
    plan: Plan
    cloud: Cloud = attrs.field(factory=Cloud)
    hosts: FakeHosts = attrs.field(factory=FakeHosts)

    async def deploy(self, version: str, *, shrank: bool = False) -> str:
        (self.plan.base / "tree" / "index").write_text(version)
        report = await deploy(
            self.plan,
            inventory=self.cloud,
            inventory_shrank=shrank,
            transport=self.hosts.transport,
        )
        assert report.outcome is Outcome.LIVE
        return report.releases["site"]


@pytest.fixture
async def fleet(plan: Plan) -> Fleet:
    fleet = Fleet(attrs.evolve(plan, hosts=()))
    await fleet.deploy("1")
    return fleet


async def test_a_throttled_inventory_is_refused_before_a_host_is_contacted(
    fleet: Fleet,
) -> None:
    fleet.cloud.count = 3
    fleet.hosts.calls.clear()

    with pytest.raises(PlanError) as refused:
        await fleet.deploy("2")

    assert str(refused.value) == (
        "the inventory names 3 hosts, and the last whole run had 10: a throttled "
        "answer? If so many are gone, say --inventory-shrank"
    )
    assert fleet.hosts.calls == []


async def test_a_fleet_that_did_shrink_is_deployed_to_when_that_is_said(
    fleet: Fleet,
) -> None:
    fleet.cloud.count = 3
    await fleet.deploy("2", shrank=True)

    # From now on that is what there is.
    await fleet.deploy("3")


async def test_a_few_hosts_may_go_unsaid(fleet: Fleet) -> None:
    fleet.cloud.count = 8
    await fleet.deploy("2")
    fleet.cloud.count = 6
    with pytest.raises(PlanError, match="names 6 hosts, and the last whole run had 8"):
        await converge(
            fleet.plan, inventory=fleet.cloud, transport=fleet.hosts.transport
        )


async def test_a_way_back_asks_for_nothing(fleet: Fleet) -> None:
    await fleet.deploy("2")
    fleet.cloud.count = 1

    report = await rollback(
        fleet.plan, inventory=fleet.cloud, transport=fleet.hosts.transport
    )

    assert set(report.hosts) == {"web1"}


async def test_hosts_of_the_plan_were_written_there_by_a_person(plan: Plan) -> None:
    hosts = FakeHosts()
    await deploy(plan, transport=hosts.transport)
    few = attrs.evolve(plan, hosts=plan.hosts[:1])

    report = await deploy(few, transport=hosts.transport)

    assert report.outcome is Outcome.UNCHANGED
