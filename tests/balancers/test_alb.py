"""A host is no target while its release changes, whatever AWS takes for that."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import anyio
import attrs
import pytest

from ghostasync import App, Deadlines, Host, Outcome, Plan, Rollout, deploy, start
from ghostasync import events as e
from ghostasync.adapters import balancer as by_name
from ghostasync.balancers import _pools
from ghostasync.balancers.alb import Alb
from ghostasync.errors import ConfigError, HostError, PlanError
from ghostasync.model import BalancerSettings
from ghostasync.protocols import TimedBalancer
from ghostasync.testing import FakeHosts, FakeTransport
from tests.aws_proxy import AwsProxy, aws_proxy
from tests.aws_server import Aws
from tests.balancers.access import Access
from tests.deploying import of, six_hosts

pytestmark = pytest.mark.fleet

PLAN = Plan(App("shop", "prod", "web"), ())


@attrs.define
class Setting:
    """Two instances in a target group, behind a proxy by which states take time."""

    aws: Aws
    proxy: AwsProxy
    hosts: list[Host]

    async def group(
        self, name: str, targets: list[Mapping[str, object]], **how: object
    ) -> str:
        async with self.aws.client("elbv2") as elb, self.aws.client("ec2") as ec2:
            vpc = (await ec2.describe_vpcs())["Vpcs"][0]["VpcId"]
            made = await elb.create_target_group(
                Name=name, Protocol="HTTP", Port=80, VpcId=vpc, **how
            )
            arn = str(made["TargetGroups"][0]["TargetGroupArn"])
            await elb.register_targets(TargetGroupArn=arn, Targets=targets)
        self.proxy.coming.clear()
        return arn

    async def states(self, arn: str) -> dict[str, str]:
        """Return the states of targets as the proxy's upstream has them."""
        direct = attrs.evolve(self.aws, endpoint=self.proxy.upstream)
        async with direct.client("elbv2") as elb:
            answer = await elb.describe_target_health(TargetGroupArn=arn)
        return {
            f"{each['Target']['Id']}:{each['Target']['Port']}": each["TargetHealth"][
                "State"
            ]
            for each in answer["TargetHealthDescriptions"]
        }

    def balancer(self, *groups: str) -> Alb:
        options = {**self.aws.options, "target_group": [*groups]}
        made = by_name("alb", options, PLAN)
        assert isinstance(made, Alb)
        return made


@pytest.fixture
async def setting(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Setting]:
    monkeypatch.setattr(_pools, "POLL_EVERY", 0.02)
    async with aws_proxy(aws) as (proxy, through):
        ids = await through.instances(2, {"role": "web"})
        hosts = [Host(f"web{n}", labels={"id": one}) for n, one in enumerate(ids)]
        yield Setting(through, proxy, hosts)


def targets(setting: Setting) -> list[Mapping[str, object]]:
    return [{"Id": host.labels["id"]} for host in setting.hosts]


async def test_a_host_is_out_until_it_is_put_back_and_healthy(setting: Setting) -> None:
    arn = await setting.group("web", targets(setting))
    first, second = (host.labels["id"] for host in setting.hosts)
    balancer, access = setting.balancer("web"), Access(setting.hosts[0])

    await balancer.drain(access)

    assert await setting.states(arn) == {f"{second}:80": "healthy"}
    assert setting.proxy.going == {}, "its last visitor was waited for"

    await balancer.undrain(access)

    assert set(await setting.states(arn)) == {f"{first}:80", f"{second}:80"}
    assert setting.proxy.coming == {}, "its health was waited for"


async def test_every_group_is_told_by_name_or_arn(setting: Setting) -> None:
    one = await setting.group("one", targets(setting))
    two = await setting.group("two", targets(setting))
    balancer = setting.balancer("one", two)

    await balancer.drain(Access(setting.hosts[0]))

    assert len(await setting.states(one)) == len(await setting.states(two)) == 1


async def test_a_target_gets_its_own_port_back(setting: Setting) -> None:
    first, second = (host.labels["id"] for host in setting.hosts)
    ports: list[Mapping[str, object]] = [
        {"Id": first, "Port": 8080},
        {"Id": second, "Port": 8080},
    ]
    arn = await setting.group("web", ports)
    balancer, access = setting.balancer("web"), Access(setting.hosts[0])

    await balancer.drain(access)
    await balancer.undrain(access)

    assert set(await setting.states(arn)) == {f"{first}:8080", f"{second}:8080"}


async def test_in_a_group_of_addresses_a_host_is_its_address(setting: Setting) -> None:
    addresses: list[Mapping[str, object]] = [{"Id": "10.0.0.1"}, {"Id": "10.0.0.2"}]
    arn = await setting.group("web", addresses, TargetType="ip")

    await setting.balancer("web").drain(Access(Host("web1", "10.0.0.1")))

    assert await setting.states(arn) == {"10.0.0.2:80": "healthy"}


async def test_visitors_who_stay_fail_the_drain(setting: Setting) -> None:
    await setting.group("web", targets(setting))
    setting.proxy.polls = 10**6
    identity = setting.hosts[0].labels["id"]

    with pytest.raises(HostError) as caught:
        await setting.balancer("web").drain(Access(setting.hosts[0], seconds=0.3))

    late = "after 0.3 s (rollout.deadlines.drain)"
    assert str(caught.value) == f"web: {identity} is draining {late}"


async def test_a_host_that_does_not_become_healthy_is_told(setting: Setting) -> None:
    await setting.group("web", targets(setting))
    balancer, identity = setting.balancer("web"), setting.hosts[0].labels["id"]
    await balancer.drain(Access(setting.hosts[0]))
    setting.proxy.polls = 10**6

    with pytest.raises(HostError) as caught:
        await balancer.undrain(Access(setting.hosts[0], seconds=0.3))

    late = "after 0.3 s (rollout.deadlines.undrain)"
    assert str(caught.value) == f"web: {identity} is initial {late}"


async def test_the_last_target_is_never_drained(setting: Setting) -> None:
    arn = await setting.group("web", targets(setting))
    balancer, failures = setting.balancer("web"), list[str]()

    async def drain(host: Host) -> None:
        try:
            await balancer.drain(Access(host))
        except HostError as exc:
            failures.append(str(exc))

    async with anyio.create_task_group() as tasks:
        for host in setting.hosts:
            tasks.start_soon(drain, host)

    (last,) = (key.partition(":")[0] for key in await setting.states(arn))
    assert failures == [f"web: {last} is the last target that takes visitors"]


async def test_one_that_was_taken_out_is_not_left_whatever_aws_still_says(
    setting: Setting,
) -> None:
    await setting.group("web", targets(setting))
    setting.proxy.stale = True
    first, second = (host.labels["id"] for host in setting.hosts)
    balancer, said = setting.balancer("web"), list[str]()

    for host in setting.hosts:
        with pytest.raises(HostError) as caught:
            await balancer.drain(Access(host, seconds=0.1))
        said.append(str(caught.value))

    assert said == [
        f"web: {first} is healthy after 0.1 s (rollout.deadlines.drain)",
        f"web: {second} is the last target that takes visitors",
    ]


async def test_one_that_is_not_healthy_may_be_drained_though_it_is_the_last(
    setting: Setting,
) -> None:
    (one, _) = targets(setting)
    arn = await setting.group("web", [one])
    await setting.aws.stop(setting.hosts[0].labels["id"])

    await setting.balancer("web").drain(Access(setting.hosts[0]))

    assert await setting.states(arn) == {}


async def test_a_host_that_nobody_took_out_needs_no_permission_to_be_in(
    setting: Setting,
) -> None:
    await setting.group("web", targets(setting))
    setting.proxy.refused = {
        "DeregisterTargets": "AccessDenied",
        "RegisterTargets": "AccessDenied",
    }
    balancer = setting.balancer("web")
    with pytest.raises(HostError) as caught:
        await balancer.drain(Access(setting.hosts[0]))

    await balancer.undrain(Access(setting.hosts[0]))

    denied = "denied: the policy of the key or role has to allow it"
    action = "elasticloadbalancing:DeregisterTargets"
    assert str(caught.value) == f"{action}: {denied}"


async def test_another_controller_puts_a_host_back(setting: Setting) -> None:
    arn = await setting.group("web", targets(setting))
    await setting.balancer("web").drain(Access(setting.hosts[0]))

    await setting.balancer("web").undrain(Access(setting.hosts[0]))

    assert len(await setting.states(arn)) == 2


async def test_hosts_that_wait_share_what_is_asked(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await setting.aws.instances(8, {"role": "web"})
    hosts = [Host(one) for one in ids]
    await setting.group("web", [*targets(setting), *({"Id": one} for one in ids)])
    monkeypatch.setattr(_pools, "POLL_EVERY", 0.2)
    balancer = setting.balancer("web")
    setting.proxy.polls = 3

    async with anyio.create_task_group() as tasks:
        for host in hosts:
            tasks.start_soon(balancer.drain, Access(host))

    looks = setting.proxy.calls["DescribeTargetHealth"] - len(hosts)
    assert looks < len(hosts) * 3


async def test_its_deadlines_are_those_of_its_settings(setting: Setting) -> None:
    timing = {"HealthyThresholdCount": 5, "HealthCheckIntervalSeconds": 10}
    slow = await setting.group("slow", targets(setting), **timing)
    await setting.group("quick", targets(setting), HealthyThresholdCount=2)
    async with setting.aws.client("elbv2") as elb:
        await elb.modify_target_group_attributes(
            TargetGroupArn=slow,
            Attributes=[
                {"Key": "deregistration_delay.timeout_seconds", "Value": "400"},
                {"Key": "slow_start.duration_seconds", "Value": "45"},
            ],
        )
    balancer = setting.balancer("slow", "quick")
    assert isinstance(balancer, TimedBalancer)

    assert await balancer.seconds() == (430, 5 * 10 + 45 + 60)


async def test_a_group_that_is_not_there_is_said_when_a_run_is_planned(
    setting: Setting,
) -> None:
    with pytest.raises(PlanError) as caught:
        await setting.balancer("webb").seconds()

    assert str(caught.value) == (
        "rollout.balancer.target_group: there is no target group webb in this account"
        " and region"
    )


async def test_a_deploy_drains_each_host_and_tells_how_long_that_may_take(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    arn = await setting.group("web", targets(setting))
    plan = six_hosts(tmp_path)
    table = BalancerSettings("alb", {**setting.aws.options, "target_group": "web"})
    plan = attrs.evolve(
        plan,
        hosts=tuple(setting.hosts),
        rollout=Rollout(waves=(1,), balancer=table),
    )
    seen: list[e.Event] = []

    async with start(
        plan,
        transport=FakeTransport(FakeHosts()),
        observe=lambda record: seen.append(record.event),
    ) as run:
        report = await run.report()
    short = attrs.evolve(plan.rollout, deadlines=Deadlines(drain=329))
    with pytest.raises(PlanError) as caught:
        await deploy(attrs.evolve(plan, rollout=short))

    assert report.outcome is Outcome.LIVE
    assert set((await setting.states(arn)).values()) == {"healthy"}
    assert setting.proxy.calls["DeregisterTargets"] == 2
    (started,) = of(e.Started, seen)
    assert isinstance(started, e.Started)
    assert started.balancer_seconds == {"drain": 330, "undrain": 5 * 30 + 60}
    assert "is 329; allowed: 0, or at least 330" in str(caught.value)


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"target_group: is missing"):
        Alb({}, PLAN)
