"""Classic load balancers of AWS."""

from __future__ import annotations

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

__all__ = ["Clb"]

_WHERE: Final = "rollout.balancer"
# What an instance is said to be that has been deregistered and has visitors still: its
# state is InService.
_LEAVES: Final = "deregistration currently in progress"


@attrs.frozen
class _Options:
    load_balancer: tuple[str, ...] | str
    region: str = ""
    endpoint_url: str = ""


_RULES: Final = {
    "load_balancer": Rule("the name of a load balancer, or an array of them", bool)
}


class Clb(PoolBalancer):
    """
    The balancer ``clb``: classic load balancers.

    Options: *load_balancer*, one name or a list; *region* and *endpoint_url*. A host is
    the instance of its label ``id``, which the inventory ``ec2`` gives, or else of its
    name.

    Raises:
        ConfigError: The options are wrong.
    """

    def __init__(self, options: Mapping[str, object], plan: Plan) -> None:  # noqa: ARG002
        read = options_of(_Options, options, _WHERE, _RULES)
        account = Account(_WHERE, read.region, read.endpoint_url)
        super().__init__(Service("elb", account), listed(read.load_balancer))

    async def find(self, names: Sequence[str]) -> Sequence[_LoadBalancer]:
        """Return the load balancers of these names."""
        return [await self._one(name) for name in names]

    async def _one(self, name: str) -> _LoadBalancer:
        try:
            answer = await self._service.call(
                "describe_load_balancers", LoadBalancerNames=[name]
            )
        except AwsError as exc:
            if exc.code not in {"LoadBalancerNotFound", "AccessPointNotFound"}:
                raise
            text = f"there is no classic load balancer {name} in this account"
            raise PlanError(f"{_WHERE}.load_balancer: {text} and region") from exc
        return _LoadBalancer(self._service, answer["LoadBalancerDescriptions"][0])


class _LoadBalancer:
    """A classic load balancer, as AWS described it."""

    def __init__(self, service: Service, described: Mapping[str, Any]) -> None:
        self.name: str = described["LoadBalancerName"]
        self._service, self._described = service, described
        self._self = {"LoadBalancerName": self.name}

    def target(self, host: Host) -> str:
        return host.labels.get("id") or host.name

    async def members(self) -> Mapping[str, Health]:
        return await self._states()

    async def health(self, target: str, since: float) -> tuple[Health, float]:
        # Asked for alone: a list of all need not have one that was deregistered, though
        # visitors are still there.
        at = max(since, anyio.current_time())
        try:
            states = await self._states(Instances=[{"InstanceId": target}])
        except AwsError as exc:
            if exc.code not in {"InvalidInstance", "InvalidEndPoint"}:
                raise
            return ABSENT, at
        return states.get(target, ABSENT), at

    async def remove(self, target: str) -> None:
        await self._change("deregister_instances_from_load_balancer", target)

    async def add(self, target: str) -> None:
        await self._change("register_instances_with_load_balancer", target)

    async def _change(self, method: str, target: str) -> None:
        one = [{"InstanceId": target}]
        try:
            await self._service.call(method, **self._self, Instances=one)
        except AwsError as exc:
            # An instance that is not registered need not be taken out.
            gone = exc.code in {"InvalidInstance", "InvalidEndPoint"}
            if not (gone and method.startswith("deregister")):
                raise

    async def seconds(self) -> tuple[float, float]:
        answer = await self._service.call(
            "describe_load_balancer_attributes", **self._self
        )
        draining = answer["LoadBalancerAttributes"].get("ConnectionDraining", {})
        stay = draining.get("Timeout", 300) if draining.get("Enabled") else 0
        check = self._described["HealthCheck"]
        passes = check["HealthyThreshold"] * check["Interval"]
        return stay + ENDS_AFTER, passes + STARTS_AFTER

    async def _states(self, **which: Any) -> Mapping[str, Health]:
        answer = await self._service.call(
            "describe_instance_health", **self._self, **which
        )
        return {each["InstanceId"]: _health(each) for each in answer["InstanceStates"]}


def _health(state: Mapping[str, str]) -> Health:
    why, name = state.get("Description", "N/A"), state["State"]
    leaves = _LEAVES in why
    return Health(
        name + (f" ({why})" if why != "N/A" else ""),
        serves=name == "InService" and not leaves,
        visited=name == "InService" and not leaves,
        alone=name == "OutOfService" and not leaves,
    )
