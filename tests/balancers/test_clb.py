"""A host is in no classic load balancer while its release changes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import attrs
import pytest

from ghostasync import App, Host, Plan
from ghostasync.adapters import balancer as by_name
from ghostasync.balancers import _pools
from ghostasync.balancers.clb import Clb
from ghostasync.errors import ConfigError, HostError, PlanError
from tests.aws_proxy import AwsProxy, aws_proxy
from tests.aws_server import REGION, Aws
from tests.balancers.access import Access

pytestmark = pytest.mark.fleet

PLAN = Plan(App("shop", "prod", "web"), ())


@attrs.define
class Setting:
    """Two instances in a load balancer, behind a proxy by which states take time."""

    aws: Aws
    proxy: AwsProxy
    ids: list[str]

    def balancer(self, name: str = "web") -> Clb:
        options = {**self.aws.options, "load_balancer": name}
        made = by_name("clb", options, PLAN)
        assert isinstance(made, Clb)
        return made

    async def registered(self) -> list[str]:
        direct = attrs.evolve(self.aws, endpoint=self.proxy.upstream)
        async with direct.client("elb") as elb:
            answer = await elb.describe_instance_health(LoadBalancerName="web")
        return [each["InstanceId"] for each in answer["InstanceStates"]]


@pytest.fixture
async def setting(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Setting]:
    monkeypatch.setattr(_pools, "POLL_EVERY", 0.02)
    listener = {"Protocol": "tcp", "LoadBalancerPort": 80, "InstancePort": 80}
    ids = await aws.instances(2, {"role": "web"})
    async with aws.client("elb") as elb:
        await elb.create_load_balancer(
            LoadBalancerName="web",
            Listeners=[listener],
            AvailabilityZones=[f"{REGION}a"],
        )
        await elb.register_instances_with_load_balancer(
            LoadBalancerName="web", Instances=[{"InstanceId": one} for one in ids]
        )
        await elb.configure_health_check(
            LoadBalancerName="web",
            HealthCheck={
                "Target": "HTTP:80/health",
                "Interval": 15,
                "Timeout": 3,
                "UnhealthyThreshold": 2,
                "HealthyThreshold": 4,
            },
        )
    async with aws_proxy(aws) as (proxy, through):
        yield Setting(through, proxy, ids)


async def test_a_host_is_out_until_it_is_put_back_and_healthy(setting: Setting) -> None:
    first, second = setting.ids
    balancer, access = setting.balancer(), Access(Host(first))

    await balancer.drain(access)

    assert await setting.registered() == [second]
    assert setting.proxy.going == {}, "its last visitor was waited for"

    await balancer.undrain(access)

    assert set(await setting.registered()) == {first, second}
    assert setting.proxy.coming == {}, "its health was waited for"


async def test_visitors_who_stay_fail_the_drain(setting: Setting) -> None:
    setting.proxy.polls = 10**6
    first, _ = setting.ids

    with pytest.raises(HostError) as caught:
        await setting.balancer().drain(Access(Host(first), seconds=0.3))

    leaves = "InService (Instance deregistration currently in progress.)"
    late = "after 0.3 s (rollout.deadlines.drain)"
    assert str(caught.value) == f"web: {first} is {leaves} {late}"


async def test_the_last_one_is_never_drained(setting: Setting) -> None:
    balancer, (first, second) = setting.balancer(), setting.ids
    await balancer.drain(Access(Host(first)))

    with pytest.raises(HostError, match=f"{second} is the last target"):
        await setting.balancer().drain(Access(Host("web2", labels={"id": second})))

    assert await setting.registered() == [second]


async def test_its_deadlines_are_those_of_its_settings(setting: Setting) -> None:
    balancer = setting.balancer()

    assert await balancer.seconds() == (30, 4 * 15 + 60), "nobody is waited for"

    async with setting.aws.client("elb") as elb:
        await elb.modify_load_balancer_attributes(
            LoadBalancerName="web",
            LoadBalancerAttributes={
                "ConnectionDraining": {"Enabled": True, "Timeout": 120}
            },
        )
    assert await balancer.seconds() == (150, 4 * 15 + 60)


async def test_one_that_is_not_there_is_said_when_a_run_is_planned(
    setting: Setting,
) -> None:
    with pytest.raises(PlanError) as caught:
        await setting.balancer("webb").seconds()

    assert str(caught.value) == (
        "rollout.balancer.load_balancer: there is no classic load balancer webb in this"
        " account and region"
    )


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"load_balancer: is missing"):
        Clb({}, PLAN)
