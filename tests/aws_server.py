"""
AWS as tests have it: moto, from PyPI in a virtual environment of its own.

It is one process, which forgets all when it is asked to. It tells every state at once:
a target is healthy when it is registered, and gone when it is not. Where states have to
take their time, ``tests/aws_proxy.py`` is in front of it.
"""

from __future__ import annotations

import contextlib
import os
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from tests.fleet.ports import reserve
from tests.s3_servers import installed, running

__all__ = ["REGION", "Aws", "emptied", "moto"]

REGION: Final = "eu-west-1"
# What moto needs for the services here; its extra "server" needs twice the room.
_PACKAGES: Final = ("moto", "flask", "flask-cors", "PyYAML", "py-partiql-parser")
_IMAGE: Final = "ami-12c6146b"


@attrs.frozen
class Aws:
    """An account, and the environment in which its credentials are found."""

    endpoint: str
    key: str = "test"

    @property
    def environ(self) -> dict[str, str]:
        """The variables by which everything signs in."""
        return {"AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": "secret"}

    @property
    def options(self) -> dict[str, object]:
        """The keys of a table that lead here."""
        return {"region": REGION, "endpoint_url": self.endpoint}

    @contextlib.asynccontextmanager
    async def client(self, service: str) -> AsyncIterator[Any]:
        from aiobotocore.session import get_session

        making = get_session().create_client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=self.key,
            aws_secret_access_key="secret",
        )
        async with making as client:
            yield client

    async def instances(
        self, count: int, tags: dict[str, str], zone: str = "a"
    ) -> list[str]:
        """Start instances, each in a reservation of its own; return their ids."""
        named = [{"Key": key, "Value": value} for key, value in tags.items()]
        ids: list[str] = []
        async with self.client("ec2") as ec2:
            for _ in range(count):
                answer = await ec2.run_instances(
                    ImageId=_IMAGE,
                    MinCount=1,
                    MaxCount=1,
                    Placement={"AvailabilityZone": f"{REGION}{zone}"},
                    TagSpecifications=[{"ResourceType": "instance", "Tags": named}],
                )
                ids.append(answer["Instances"][0]["InstanceId"])
        return ids

    async def group(
        self, name: str, count: int, target_groups: Sequence[str] = ()
    ) -> list[str]:
        """Make an Auto Scaling group with *count* instances; return their ids."""
        async with self.client("autoscaling") as scaling:
            await scaling.create_launch_configuration(
                LaunchConfigurationName=name, ImageId=_IMAGE, InstanceType="t2.micro"
            )
            await scaling.create_auto_scaling_group(
                AutoScalingGroupName=name,
                LaunchConfigurationName=name,
                MinSize=0,
                MaxSize=count,
                DesiredCapacity=count,
                AvailabilityZones=[f"{REGION}a"],
                TargetGroupARNs=[*target_groups],
            )
            answer = await scaling.describe_auto_scaling_groups(
                AutoScalingGroupNames=[name]
            )
        (group,) = answer["AutoScalingGroups"]
        return [one["InstanceId"] for one in group["Instances"]]

    async def instance(self, identity: str) -> dict[str, Any]:
        async with self.client("ec2") as ec2:
            answer = await ec2.describe_instances(InstanceIds=[identity])
        found: dict[str, Any] = answer["Reservations"][0]["Instances"][0]
        return found

    async def terminate(self, *ids: str) -> None:
        async with self.client("ec2") as ec2:
            await ec2.terminate_instances(InstanceIds=[*ids])

    async def stop(self, *ids: str) -> None:
        async with self.client("ec2") as ec2:
            await ec2.stop_instances(InstanceIds=[*ids])


def emptied(endpoint: str) -> Aws:
    """Return an account in which nothing is."""
    request = urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST")
    with urllib.request.urlopen(request, timeout=30):
        return Aws(endpoint)


@contextlib.contextmanager
def moto(folder: Path) -> Iterator[str]:
    """Run moto; hand out its address."""
    held = reserve()
    port = held.getsockname()[1]
    env = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    server = str(installed(*_PACKAGES) / "moto_server")
    command = [server, "-H", "127.0.0.1", "-p", str(port)]
    with held, running(command, folder, env, port):
        yield f"http://127.0.0.1:{port}"
