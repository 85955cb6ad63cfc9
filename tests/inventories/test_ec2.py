"""Instances of EC2 are hosts, known by their ids."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest

from ghostasync import App, Host, Plan, Ssh
from ghostasync._aws.client import Service
from ghostasync.adapters import inventory as by_name
from ghostasync.config._hosts import require_hosts
from ghostasync.errors import ConfigError, PlanError
from ghostasync.inventories import ec2
from ghostasync.inventories.ec2 import Ec2
from ghostasync.protocols import SuspendableInventory
from tests.aws_proxy import aws_proxy
from tests.aws_server import REGION, Aws

pytestmark = pytest.mark.fleet

PLAN = Plan(App("shop", "prod", "web"), ())
WEB = {"role": "web"}
SUSPENDED = {
    *("Terminate", "AZRebalance", "ReplaceUnhealthy", "HealthCheck"),
    *("ScheduledActions", "InstanceRefresh"),
}
PROCESSES = (
    "true, false, or an array of AZRebalance, AlarmNotification, HealthCheck,"
    " InstanceRefresh, Launch, ReplaceUnhealthy, ScheduledActions, Terminate"
)
NAMES = '"id", or the key of a tag whose value names the host'


def made(aws: Aws, **options: object) -> Ec2:
    found = by_name("ec2", {**aws.options, **options}, PLAN)
    assert isinstance(found, Ec2)
    return found


async def names(aws: Aws, **options: object) -> list[str]:
    return [host.name for host in await made(aws, **options).hosts()]


async def refusal(aws: Aws, **options: object) -> str:
    with pytest.raises(PlanError) as caught:
        await made(aws, **options).hosts()
    return str(caught.value)


async def test_an_instance_is_a_host_that_is_known_by_its_id(aws: Aws) -> None:
    (one,) = await aws.instances(1, {**WEB, "Name": "shop 1", "a b": "x"}, "b")
    address = (await aws.instance(one))["PrivateIpAddress"]

    (host,) = await made(aws, tags=WEB, user="admin", port=2222).hosts()

    labels = {"role": "web", "Name": "shop 1", "id": one, "asg": ""}
    zone = {"zone": f"{REGION}b"}
    assert host == Host(one, address, 2222, "admin", labels | zone, host_key_alias=one)


async def test_tags_choose_and_one_of_several_values_is_enough(aws: Aws) -> None:
    one = await aws.instances(1, {"role": "web", "env": "prod"})
    two = await aws.instances(1, {"role": "api", "env": "prod"})
    await aws.instances(1, {"role": "web", "env": "test"})
    await aws.instances(1, {"role": "db", "env": "prod"})

    found = await names(aws, tags={"role": ["web", "api"], "env": "prod"})

    assert found == sorted(one + two)


async def test_those_that_do_not_run_are_left_out(aws: Aws) -> None:
    first, second, third = await aws.instances(3, WEB)
    await aws.stop(first)
    await aws.terminate(second)

    assert await names(aws, tags=WEB) == [third]


async def test_all_pages_are_read(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ec2, "_PAGE", 5)
    ids = await aws.instances(12, WEB)

    assert await names(aws, tags=WEB) == sorted(ids)


async def test_of_groups_come_the_instances_that_are_in_service(
    aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ec2, "_IDS_AT_ONCE", 2)
    monkeypatch.setattr(ec2, "_GROUPS_AT_ONCE", 1)
    blue, green = await aws.group("blue", 3), await aws.group("green", 2)
    await aws.group("other", 1)
    async with aws.client("autoscaling") as scaling:
        await scaling.enter_standby(
            AutoScalingGroupName="blue",
            InstanceIds=blue[:1],
            ShouldDecrementDesiredCapacity=True,
        )

    hosts = await made(aws, asg=["blue", "green"]).hosts()

    assert [host.name for host in hosts] == sorted(blue[1:] + green)
    assert {host.labels["asg"] for host in hosts} == {"blue", "green"}


async def test_an_instance_that_ends_in_between_is_gone(
    aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await aws.group("blue", 2)
    blue = made(aws, asg="blue")
    ask = Service.items

    async def items(
        self: Service, method: str, key: str, **how: object
    ) -> AsyncIterator[object]:
        if method == "describe_instances":
            await aws.terminate(first)
        async for item in ask(self, method, key, **how):
            yield item

    monkeypatch.setattr(Service, "items", items)

    assert [host.name for host in await blue.hosts()] == [second]


async def test_a_group_without_instances_has_no_hosts(aws: Aws) -> None:
    await aws.group("blue", 0)

    assert await names(aws, asg="blue") == []


async def test_a_group_that_is_not_there_is_said(aws: Aws) -> None:
    await aws.group("blue", 1)

    assert await refusal(aws, asg=["blue", "gren"]) == (
        "inventory.asg: there is no Auto Scaling group gren in this account and region"
    )


async def test_a_tag_may_name_a_host_and_its_keys_stay_those_of_the_id(
    aws: Aws,
) -> None:
    (one,) = await aws.instances(1, {**WEB, "Name": "shop-1"})
    (two,) = await aws.instances(1, WEB)

    hosts = await made(aws, tags=WEB, name="Name").hosts()

    named = {host.name: host.host_key_alias for host in hosts}
    assert named == {"shop-1": one, two: two}


@pytest.mark.parametrize(
    ("address", "field"), [("public", "PublicIpAddress"), ("dns", "PublicDnsName")]
)
async def test_its_address_may_be_another(aws: Aws, address: str, field: str) -> None:
    (one,) = await aws.instances(1, WEB)

    (host,) = await made(aws, tags=WEB, address=address).hosts()

    assert host.address == (await aws.instance(one))[field]


async def test_runs_that_ask_at_the_same_time_share_a_client(aws: Aws) -> None:
    ids = await aws.instances(2, WEB)
    mine = made(aws, tags=WEB)

    for hosts in await asyncio.gather(*[mine.hosts() for _ in range(5)]):
        assert [host.name for host in hosts] == sorted(ids)
    assert len(await mine.hosts()) == 2, "and it is opened again"


CONSOLE = """\
[    9.1] cloud-init[512]: Generating public/private ed25519 key pair.
<14>Nov 27 08:00:01 cloud-init: -----BEGIN SSH HOST KEY KEYS-----\r
<14>Nov 27 08:00:01 cloud-init: ecdsa-sha2-nistp256 {ecdsa}= root@ip-10-0-0-1\r
<14>Nov 27 08:00:01 cloud-init: ssh-ed25519 {ed25519} root@ip-10-0-0-1\r
-----END SSH HOST KEY KEYS-----
ssh-ed25519 {other}
-----BEGIN SSH HOST KEY KEYS-----
ssh-ed25519 {other}
-----END SSH HOST KEY KEYS-----
"""


async def test_keys_of_new_instances_come_from_their_consoles(
    aws: Aws, tmp_path: Path
) -> None:
    ecdsa, ed25519, other = ("AAAA" + letter * 60 for letter in "ABC")
    known, new, silent = await aws.instances(3, WEB)
    file = tmp_path / "known_hosts"
    file.write_text(f"a.example,[{known}]:2222 ssh-ed25519 {other}\n")
    plan = attrs.evolve(PLAN, ssh=Ssh(known_hosts=str(file)))
    async with aws_proxy(aws) as (proxy, through):
        text = CONSOLE.format(ecdsa=ecdsa, ed25519=ed25519, other=other)
        proxy.consoles = {new: text, known: text}
        options = {**through.options, "tags": WEB, "host_keys": "console"}

        hosts = await Ec2(options, plan).hosts()

    assert {host.name: host.host_keys for host in hosts} == {
        new: (f"ecdsa-sha2-nistp256 {ecdsa}=", f"ssh-ed25519 {ed25519}"),
        known: (),
        silent: (),
    }
    assert proxy.calls["GetConsoleOutput"] == 2
    assert require_hosts(hosts, "inventory") == tuple(hosts)


# --- What goes wrong -------------------------------------------------------------


async def test_without_credentials_the_cure_is_said(
    aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")

    assert await refusal(aws, tags=WEB) == (
        "ec2:DescribeInstances: no credentials; sign in, or set AWS_PROFILE, or"
        " AWS_ACCESS_KEY_ID and its secret"
    )


async def test_without_a_region_the_cure_is_said(aws: Aws) -> None:
    assert await refusal(aws, tags=WEB, region="", endpoint_url="") == (
        "ec2: no region; say inventory.region, or set AWS_DEFAULT_REGION"
    )


async def test_where_nobody_answers_the_address_is_said(
    aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ghostasync._aws.client.TRIES", 1)
    away = attrs.evolve(aws, endpoint="http://127.0.0.1:1")

    assert await refusal(away, tags=WEB) == (
        "ec2:DescribeInstances: http://127.0.0.1:1 does not answer; check the network"
        " and inventory.region"
    )


async def test_without_the_library_it_is_said_what_to_install(
    aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "aiobotocore.session", None)

    said = "inventory: AWS needs more: pip install 'ghostasync[aws]'"
    assert await refusal(aws, tags=WEB) == said


async def test_either_library_will_do(
    aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "aioboto3", None)
    (one,) = await aws.instances(1, WEB)

    assert await names(aws, tags=WEB) == [one]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "tags: is missing; allowed: tags or asg, which choose instances"),
        ({"tags": "web"}, 'tags: is "web"; allowed: a table of strings'),
        (
            {"asg": "a", "address": "ipv6"},
            'address: is "ipv6"; allowed: "private", "public" or "dns"',
        ),
        (
            {"asg": "a", "suspend": ["AddToLoadBalancer"]},
            f'suspend[0]: is "AddToLoadBalancer"; allowed: {PROCESSES}',
        ),
        ({"asg": "a", "name": ""}, f'name: is ""; allowed: {NAMES}'),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Ec2(options, PLAN)

    assert str(caught.value) == f"inventory.{reason}"


# --- Auto Scaling at rest --------------------------------------------------------


async def at_rest(aws: Aws, group: str) -> set[str]:
    async with aws.client("autoscaling") as scaling:
        answer = await scaling.describe_auto_scaling_groups(
            AutoScalingGroupNames=[group]
        )
    (described,) = answer["AutoScalingGroups"]
    return {each["ProcessName"] for each in described["SuspendedProcesses"]}


async def test_processes_that_end_instances_can_be_suspended_and_resumed(
    aws: Aws,
) -> None:
    await aws.group("blue", 1)
    await aws.group("green", 1)
    async with aws.client("autoscaling") as scaling:
        await scaling.suspend_processes(
            AutoScalingGroupName="blue", ScalingProcesses=["Terminate", "Launch"]
        )
    mine = made(aws, asg=["blue", "green"], suspend=True)
    assert isinstance(mine, SuspendableInventory)
    await mine.hosts()

    active = await mine.processes()
    await mine.suspend(active)

    assert {group: set(names) for group, names in active.items()} == {
        "blue": SUSPENDED - {"Terminate"},
        "green": SUSPENDED,
    }
    assert await at_rest(aws, "blue") == SUSPENDED | {"Launch"}

    await mine.resume({**active, "deleted meanwhile": ["Terminate"]})

    assert await at_rest(aws, "blue") == {"Terminate", "Launch"}
    assert await at_rest(aws, "green") == set()


async def test_groups_of_instances_that_tags_chose_are_known(aws: Aws) -> None:
    (one,) = await aws.group("blue", 1)
    async with aws.client("ec2") as ec2:
        tags = [{"Key": "role", "Value": "web"}]
        await ec2.create_tags(Resources=[one], Tags=tags)
    mine = made(aws, tags=WEB, suspend=["Terminate"])
    await mine.hosts()

    assert await mine.processes() == {"blue": ["Terminate"]}


async def test_without_being_asked_to_nothing_is_suspended(aws: Aws) -> None:
    await aws.group("blue", 1)
    mine = made(aws, asg="blue")
    await mine.hosts()

    assert await mine.processes() == {}
