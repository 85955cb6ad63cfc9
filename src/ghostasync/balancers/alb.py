"""Target groups of AWS, behind application and network load balancers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import anyio
import attrs

from .._aws.client import Account, Service
from .._aws.errors import AwsError
from ..config._options import Rule, listed, options_of
from ..errors import PlanError
from ..model import Host, Plan
from ._pools import ABSENT, ENDS_AFTER, STARTS_AFTER, Health, PoolBalancer

__all__ = ["Alb"]

_WHERE: Final = "rollout.balancer"


@attrs.frozen
class _Options:
    target_group: tuple[str, ...] | str
    region: str = ""
    endpoint_url: str = ""


_RULES: Final = {
    "target_group": Rule("the name or ARN of a target group, or an array of them", bool)
}


class Alb(PoolBalancer):
    """
    The balancer ``alb``: target groups, whatever load balancers use them.

    Options: *target_group*, one or a list, by name or ARN; *region* and *endpoint_url*.
    In a group of instances a host is its label ``id``, which the inventory ``ec2``
    gives, or else its name; in a group of addresses it is its address.

    Raises:
        ConfigError: The options are wrong.
    """

    def __init__(self, options: Mapping[str, object], plan: Plan) -> None:  # noqa: ARG002
        read = options_of(_Options, options, _WHERE, _RULES)
        account = Account(_WHERE, read.region, read.endpoint_url)
        super().__init__(Service("elbv2", account), listed(read.target_group))

    async def find(self, names: Sequence[str]) -> Sequence[_TargetGroup]:
        """Return the target groups of these names and ARNs."""
        return [await self._group(name) for name in names]

    async def _group(self, name: str) -> _TargetGroup:
        by = "TargetGroupArns" if name.startswith("arn:") else "Names"
        try:
            answer = await self._service.call("describe_target_groups", **{by: [name]})
        except AwsError as exc:
            if exc.code != "TargetGroupNotFound":
                raise
            text = f"there is no target group {name} in this account and region"
            raise PlanError(f"{_WHERE}.target_group: {text}") from exc
        return _TargetGroup(self._service, answer["TargetGroups"][0])


class _TargetGroup:
    """A target group, as AWS described it."""

    def __init__(self, service: Service, described: Mapping[str, Any]) -> None:
        self.name: str = described["TargetGroupName"]
        self._service, self._described = service, described
        self._arn = {"TargetGroupArn": described["TargetGroupArn"]}
        self._turn = anyio.Lock()
        self._seen: Mapping[str, Health] = {}
        self._seen_at = float("-inf")
        # What a target was registered as: an instance may have several ports.
        self._registered: dict[str, list[Mapping[str, Any]]] = {}

    def target(self, host: Host) -> str:
        if self._described["TargetType"] == "ip":
            return host.address or host.name
        return host.labels.get("id") or host.name

    async def members(self) -> Mapping[str, Health]:
        found, targets = defaultdict(list), defaultdict(list)
        answer = await self._service.call("describe_target_health", **self._arn)
        for each in answer["TargetHealthDescriptions"]:
            found[each["Target"]["Id"]].append(each["TargetHealth"])
            if each["TargetHealth"]["State"] != "draining":
                targets[each["Target"]["Id"]].append(each["Target"])
        self._registered |= targets
        return {identity: _health(states) for identity, states in found.items()}

    async def health(self, target: str, since: float) -> tuple[Health, float]:
        # One answer has all targets, for all hosts that wait.
        async with self._turn:
            if self._seen_at < since:
                at = anyio.current_time()
                self._seen, self._seen_at = await self.members(), at
            return self._seen.get(target, ABSENT), self._seen_at

    async def remove(self, target: str) -> None:
        await self._change("deregister_targets", target)

    async def add(self, target: str) -> None:
        await self._change("register_targets", target)

    async def _change(self, method: str, target: str) -> None:
        targets = self._registered.get(target, [{"Id": target}])
        await self._service.call(method, **self._arn, Targets=targets)

    async def seconds(self) -> tuple[float, float]:
        answer = await self._service.call(
            "describe_target_group_attributes", **self._arn
        )
        values = {each["Key"]: each["Value"] for each in answer["Attributes"]}
        stay = float(values.get("deregistration_delay.timeout_seconds", 300))
        warm_up = float(values.get("slow_start.duration_seconds", 0))
        checks = self._described["HealthyThresholdCount"]
        every = self._described["HealthCheckIntervalSeconds"]
        return stay + ENDS_AFTER, checks * every + warm_up + STARTS_AFTER


def _health(states: Sequence[Mapping[str, str]]) -> Health:
    """Return the state of an instance with one or several ports."""
    # The one that is not healthy says most.
    worst = next((s for s in states if s["State"] != "healthy"), states[0])
    why = worst.get("Description") or worst.get("Reason") or ""
    return Health(
        worst["State"] + (f" ({why})" if why else ""),
        serves=all(s["State"] == "healthy" for s in states),
        visited=any(s["State"] == "healthy" for s in states),
        alone=all(s["State"] == "unused" for s in states),
    )
