"""A host of EC2 in an Auto Scaling group and behind a load balancer is deployed to."""

from __future__ import annotations

from pathlib import Path

import anyio.to_thread
import attrs
import pytest

from ghostasync import Plan
from ghostasync.model import BalancerSettings, InventorySettings
from tests.aws_proxy import aws_proxy
from tests.aws_server import Aws
from tests.fleet.conftest import StartFleet
from tests.fleet.console import Console, Outcome
from tests.fleet.sample_app import SampleApp
from tests.fleet.sshd import SshdFleet

pytestmark = pytest.mark.fleet

QUICK = {"balancers._pools.POLL_EVERY": 0.05}


async def instance(aws: Aws, fleet: SshdFleet, group: str) -> str:
    """Have AWS take the fleet's host for an instance in an Auto Scaling group."""
    async with aws.client("ec2") as ec2, aws.client("autoscaling") as scaling:
        vpc = (await ec2.create_vpc(CidrBlock="127.0.0.0/16"))["Vpc"]["VpcId"]
        place = {"VpcId": vpc, "CidrBlock": "127.0.0.0/24"}
        subnet = (await ec2.create_subnet(**place))["Subnet"]["SubnetId"]
        made = await ec2.run_instances(
            ImageId="ami-12c6146b",
            MinCount=1,
            MaxCount=1,
            SubnetId=subnet,
            PrivateIpAddress=fleet.hosts[0].address,
        )
        identity = str(made["Instances"][0]["InstanceId"])
        await aws.group(group, 1)
        await scaling.update_auto_scaling_group(AutoScalingGroupName=group, MaxSize=2)
        await scaling.attach_instances(
            AutoScalingGroupName=group, InstanceIds=[identity]
        )
        tags = [{"Key": "role", "Value": "web"}]
        await ec2.create_tags(Resources=[identity], Tags=tags)
    return identity


async def target_group(aws: Aws, name: str, *ids: str) -> None:
    async with aws.client("elbv2") as elb, aws.client("ec2") as ec2:
        vpc = (await ec2.describe_vpcs())["Vpcs"][0]["VpcId"]
        how = {"Name": name, "Protocol": "HTTP", "Port": 80, "VpcId": vpc}
        made = await elb.create_target_group(**how)
        arn = made["TargetGroups"][0]["TargetGroupArn"]
        targets = [{"Id": identity} for identity in ids]
        await elb.register_targets(TargetGroupArn=arn, Targets=targets)


async def deploy(console: Console, *args: str) -> Outcome:
    def run() -> Outcome:
        with console.running(*args, quick=QUICK) as process:
            out, err = process.communicate(timeout=120)
        return Outcome(process.returncode, out, err)

    return await anyio.to_thread.run_sync(run)


async def test_a_host_is_found_believed_drained_and_kept_by_what_aws_says(
    sshd_fleet: StartFleet, tmp_path: Path, aws: Aws
) -> None:
    fleet = sshd_fleet(1)
    key = " ".join(Path(fleet.ssh.known_hosts).read_text().split()[1:3])
    sample = SampleApp.create(tmp_path, fleet, "site")
    identity = await instance(aws, fleet, "blue")
    (other,) = await aws.instances(1, {"role": "db"})
    await target_group(aws, "web", identity, other)
    known = tmp_path / "known"
    async with aws_proxy(aws) as (proxy, through):
        shown = f"-----BEGIN SSH HOST KEY KEYS-----\n{key}\n"
        proxy.consoles = {identity: f"{shown}-----END SSH HOST KEY KEYS-----\n"}
        console = Console(sample)
        console.configure(plan(sample, through, known))

        checked = await deploy(console, "check")
        outcome = await deploy(console, "deploy", "--output", "json")

    assert checked.exit == 0, checked.stdout
    told = "drain   by the balancer's settings 5 min 30 s at most, undrain 3 min 30 s"
    assert told in checked.stdout
    assert outcome.exit == 0, outcome.stderr
    assert outcome.states == {identity: "LIVE"}
    assert known.read_text().split(" ", 1)[1] == f"{key}\n"
    assert fleet.shell("h1", "cat /srv/site/version") == "1"
    suspended = outcome.event("ScalingSuspended")["processes"]
    assert set(suspended) == {"blue"}
    assert outcome.event("ScalingResumed")["processes"] == suspended
    assert proxy.calls["DeregisterTargets"] == proxy.calls["RegisterTargets"] == 1
    assert proxy.going == proxy.coming == {}


def plan(sample: SampleApp, aws: Aws, known: Path) -> Plan:
    made, (host,) = sample.plan(), sample.fleet.hosts
    inventory = {
        **aws.options,
        "tags": {"role": "web"},
        "host_keys": "console",
        "suspend": True,
        "port": host.port,
    }
    balancer = BalancerSettings("alb", {**aws.options, "target_group": "web"})
    return attrs.evolve(
        made,
        hosts=(),
        inventory=InventorySettings(plugin="ec2", options=inventory),
        ssh=attrs.evolve(made.ssh, known_hosts=str(known)),
        rollout=attrs.evolve(made.rollout, balancer=balancer),
    )
