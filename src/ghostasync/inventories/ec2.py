"""
The inventory of instances of EC2, by their tags, their Auto Scaling groups, or both.

An instance is known by its id. Its address goes to another instance soon after it was
terminated, and a line of ``known_hosts`` for that address would be believed of the
other one: so host keys are looked up by the id as well. An instance that is new there
may prove itself by its console: cloud-init shows on it the host keys that it has made,
and it is AWS who is asked for it.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio.to_thread
import attrs

from .._aws.client import Account, Service
from .._local.paths import ssh_files
from .._local.together import at_once
from ..config._options import Rule, listed, options_of
from ..config._rules import is_label
from ..errors import ConfigError, PlanError
from ..model import Host, Plan

__all__ = ["Ec2"]

_WHERE: Final = "inventory"

_GROUPS_AT_ONCE: Final = 50
_IDS_AT_ONCE: Final = 200
"""What one call takes: names of groups, and values of a filter."""

_PAGE: Final = 1000

_ADDRESSES: Final[Mapping[str, tuple[str, ...]]] = {
    "private": ("PrivateIpAddress",),
    "public": ("PublicIpAddress",),
    "dns": ("PublicDnsName", "PrivateDnsName"),
}
"""Fields of an instance that are its address; the first one that is set."""

_KEYS: Final = re.compile(
    r"-----BEGIN SSH HOST KEY KEYS-----(.*?)-----END SSH HOST KEY KEYS-----", re.DOTALL
)
# Before a line the console may have a time, or who wrote it.
_KEY: Final = re.compile(
    r"\b((?:ssh|ecdsa|sk-ssh|sk-ecdsa)-[a-z0-9@.-]+) ([A-Za-z0-9+/]{40,}=*)"
)
_CONSOLES_AT_ONCE: Final = 8

_OWNED: Final = "aws:"
_GROUP_TAG: Final = "aws:autoscaling:groupName"

_SUSPENDED: Final = (
    *("Terminate", "AZRebalance", "ReplaceUnhealthy", "HealthCheck"),
    *("ScheduledActions", "InstanceRefresh"),
)
"""
Processes that end instances, or have others end them.

Without HealthCheck an instance that a balancer calls ill is not doomed meanwhile.
Launch is none of them: what is launched is brought along at the end. Without
AddToLoadBalancer it would never get visitors.
"""

_MAY_BE_SUSPENDED: Final = {*_SUSPENDED, "Launch", "AlarmNotification"}


@attrs.frozen
class _Options:
    tags: Mapping[str, tuple[str, ...] | str] = attrs.field(factory=dict)
    asg: tuple[str, ...] | str = ()
    name: str = "id"
    address: str = "private"
    host_keys: str = ""
    suspend: tuple[str, ...] | bool = False
    user: str = ""
    port: int = 0
    region: str = ""
    endpoint_url: str = ""


_RULES: Final = {
    "asg": Rule("the name of an Auto Scaling group, or an array of them", bool),
    "name": Rule('"id", or the key of a tag whose value names the host', bool),
    "address": Rule('"private", "public" or "dns"', lambda value: value in _ADDRESSES),
    "suspend": Rule(
        f"true, false, or an array of {', '.join(sorted(_MAY_BE_SUSPENDED))}",
        lambda value: isinstance(value, bool) or value in _MAY_BE_SUSPENDED,
    ),
    "host_keys": Rule('"console", or ""', lambda value: value in {"", "console"}),
}


class Ec2:
    """
    The inventory ``ec2``: instances that run, and are in service where groups are said.

    Options: *tags*, a table whose values may be arrays, one of which an instance has to
    have; *asg*, names of Auto Scaling groups; *suspend*, true or names of processes
    that these have at rest while links move; *name*, ``"id"`` or a tag's key;
    *address*, ``"private"``, ``"public"`` or ``"dns"``; *host_keys*, ``"console"`` to
    have those of new instances from there; *user* and *port* to log in; *region* and
    *endpoint_url*. Credentials are where the AWS command line finds them.

    A host has its tags for labels, and besides ``id``, ``zone`` and ``asg``.

    Raises:
        ConfigError: The options are wrong.
    """

    def __init__(self, options: Mapping[str, object], plan: Plan) -> None:
        self._ssh = ssh_files(plan.ssh, plan.base, os.environ)
        self._options = options_of(_Options, options, _WHERE, _RULES)
        if not (self._options.tags or self._options.asg):
            text = "is missing; allowed: tags or asg, which choose instances"
            raise ConfigError([f"{_WHERE}.tags: {text}"])
        self._groups = listed(self._options.asg)
        chosen = self._options.suspend
        self._to_suspend = (
            (_SUSPENDED if chosen else ()) if isinstance(chosen, bool) else chosen
        )
        self._seen: frozenset[str] = frozenset()
        account = Account(_WHERE, self._options.region, self._options.endpoint_url)
        self._ec2 = Service("ec2", account)
        self._autoscaling = Service("autoscaling", account)

    async def hosts(self) -> Sequence[Host]:
        """
        Return the instances as they are now, in the order of their names.

        Raises:
            PlanError: AWS cannot be asked, there is no such group, or an instance has
                no address.
        """
        ids: set[str] | None = None
        if self._groups:
            async with self._autoscaling:
                ids = {one async for one in self._in_service()}
        async with self._ec2:
            hosts = [self._host(one) async for one in self._running(ids)]
            if self._options.host_keys:
                known = await anyio.to_thread.run_sync(_named_in, self._ssh.known_hosts)
                act = partial(self._with_keys, known)
                hosts = await at_once(_CONSOLES_AT_ONCE, act, hosts)
        self._seen = frozenset(host.labels["asg"] for host in hosts) - {""}
        return sorted(hosts, key=lambda host: host.name)

    async def processes(self) -> Mapping[str, Sequence[str]]:
        """Return the processes of the hosts' groups that are to be suspended."""
        active: dict[str, Sequence[str]] = {}
        if not self._to_suspend:
            return active
        async with self._autoscaling:
            async for group in self._described(sorted(self._seen)):
                at_rest = {each["ProcessName"] for each in group["SuspendedProcesses"]}
                names = [name for name in self._to_suspend if name not in at_rest]
                if names:
                    active[group["AutoScalingGroupName"]] = names
        return active

    async def suspend(self, processes: Mapping[str, Sequence[str]]) -> None:
        """Suspend processes of groups."""
        await self._change("suspend_processes", processes)

    async def resume(self, processes: Mapping[str, Sequence[str]]) -> None:
        """Resume processes of groups; a group that was deleted has none."""
        async with self._autoscaling:
            described = self._described(sorted(processes))
            there = {group["AutoScalingGroupName"] async for group in described}
        left = {group: processes[group] for group in processes if group in there}
        await self._change("resume_processes", left)

    async def _change(
        self, method: str, processes: Mapping[str, Sequence[str]]
    ) -> None:
        async with self._autoscaling:
            for group, names in processes.items():
                how = {"AutoScalingGroupName": group, "ScalingProcesses": [*names]}
                await self._autoscaling.call(method, **how)

    async def _described(self, groups: Sequence[str]) -> AsyncIterator[Any]:
        for names in _slices(groups, _GROUPS_AT_ONCE):
            async for group in self._autoscaling.items(
                "describe_auto_scaling_groups",
                "AutoScalingGroups",
                AutoScalingGroupNames=names,
            ):
                yield group

    async def _in_service(self) -> AsyncIterator[str]:
        """Yield the ids of instances that the groups have in service."""
        missing = set(self._groups)
        async for group in self._described(self._groups):
            missing.discard(group["AutoScalingGroupName"])
            for one in group["Instances"]:
                if one["LifecycleState"] == "InService":
                    yield one["InstanceId"]
        if missing:
            text = f"there is no Auto Scaling group {', '.join(sorted(missing))}"
            raise PlanError(f"{_WHERE}.asg: {text} in this account and region")

    async def _running(self, ids: set[str] | None) -> AsyncIterator[Any]:
        """Yield instances that run and have the tags; of *ids* alone where given."""
        filters = [_filter("instance-state-name", "running")]
        filters += [
            _filter(f"tag:{key}", *listed(values))
            for key, values in self._options.tags.items()
        ]
        # Ids are a filter and no argument: an instance that has just been terminated
        # is left out then, and is no error for all others.
        parts = _slices(sorted(ids or ()), _IDS_AT_ONCE)
        some = [[_filter("instance-id", *part)] for part in parts]
        for more in [[]] if ids is None else some:
            async for reservation in self._ec2.items(
                "describe_instances",
                "Reservations",
                Filters=[*filters, *more],
                MaxResults=_PAGE,
            ):
                for one in reservation["Instances"]:
                    yield one

    async def _with_keys(self, known: frozenset[str], host: Host) -> Host:
        """Return a host with the keys that its console shows, unless it is *known*."""
        if host.host_key_alias in known:
            return host
        answer = await self._ec2.call(
            "get_console_output", InstanceId=host.host_key_alias
        )
        # cloud-init makes the keys of an instance once, and then shows them. Whatever
        # was written to the console later may be by anybody who can write to a log.
        shown = _KEYS.search(answer.get("Output") or "")
        keys = _KEY.findall(shown[1]) if shown else ()
        return attrs.evolve(host, host_keys=tuple(map(" ".join, keys)))

    def _host(self, instance: Mapping[str, Any]) -> Host:
        identity: str = instance["InstanceId"]
        tags = {tag["Key"]: tag["Value"] for tag in instance.get("Tags", ())}
        known = {
            key: value
            for key, value in tags.items()
            if not key.startswith(_OWNED) and is_label(key, value)
        }
        kind = self._options.address
        addresses = [instance.get(field) for field in _ADDRESSES[kind]]
        address = next(filter(None, addresses), "")
        if not address:
            text = f"{identity} has no {kind} address"
            raise PlanError(f"{_WHERE}.address: {text}")
        own = {
            "id": identity,
            "zone": instance["Placement"]["AvailabilityZone"],
            "asg": tags.get(_GROUP_TAG, ""),
        }
        return Host(
            name=tags.get(self._options.name) or identity,
            address=address,
            port=self._options.port,
            user=self._options.user,
            labels=known | own,
            host_key_alias=identity,
        )


def _named_in(known_hosts: str) -> frozenset[str]:
    """Return the names in a file like ``known_hosts``, without their ports."""
    try:
        text = Path(known_hosts).expanduser().read_text(errors="replace")
    except (OSError, RuntimeError):  # the latter where nobody has such a home folder
        return frozenset()
    names = [line.split(" ")[0] for line in text.splitlines()]
    found = ",".join(names).split(",")
    return frozenset(name.partition("]")[0].lstrip("[") for name in found)


def _filter(name: str, *values: str) -> dict[str, Any]:
    return {"Name": name, "Values": list(values)}


def _slices(items: Sequence[str], size: int) -> list[list[str]]:
    return [list(items[at : at + size]) for at in range(0, len(items), size)]
