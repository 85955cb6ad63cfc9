"""
Draining and undraining by pools of AWS: what its two kinds of balancers have in common.

How it works. A target is deregistered, and has no visitors once the balancer says so
itself; it is registered again, and back once its health is good. The states are asked
for every few seconds. Nothing is assumed from what a call was answered: AWS takes a
while to know what it was told.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Protocol

import anyio
import attrs

from .._aws.client import Service
from .._aws.errors import AwsError
from ..errors import HostError, PlanError
from ..model import Host
from ..protocols import HostAccess

__all__ = ["ABSENT", "Health", "Pool", "PoolBalancer"]

POLL_EVERY = 2.0
"""Seconds between two looks at a pool: AWS allows some dozens of calls a second."""

ENDS_AFTER = 30.0
"""Seconds beyond the time that a balancer lets visitors stay."""

STARTS_AFTER = 60.0
"""Seconds beyond the time in which health checks pass: for AWS to begin with them."""


@attrs.frozen
class Health:
    """
    State of a target, by the words of AWS.

    *serves* is whether it gets visitors at all of its ports, *visited* whether at any
    of them, *alone* whether none is at work there.
    """

    text: str
    serves: bool = False
    visited: bool = False
    alone: bool = False


ABSENT = Health("not registered", alone=True)


class Pool(Protocol):
    """The targets among which visitors are shared. All methods raise PlanError."""

    name: str

    def target(self, host: Host) -> str:
        """Return what *host* is called here."""

    async def members(self) -> Mapping[str, Health]:
        """Return all that are registered, and those that still have visitors."""

    async def health(self, target: str, since: float) -> tuple[Health, float]:
        """Return the state of a target, and when it was, at *since* or later."""

    async def remove(self, target: str) -> None:
        """Deregister a target."""

    async def add(self, target: str) -> None:
        """Register a target; nothing where it is registered."""

    async def seconds(self) -> tuple[float, float]:
        """Return how long a target may take to leave, and to come back."""


class PoolBalancer(ABC):
    """A balancer whose hosts are targets in pools."""

    def __init__(self, service: Service, names: Sequence[str]) -> None:
        self._service, self._names = service, names
        # Two hosts that look at the same time would each take the other for the one
        # that stays.
        self._turn = anyio.Lock()
        self._pools: Sequence[Pool] = ()
        self._removed: set[tuple[str, str]] = set()

    @abstractmethod
    async def find(self, names: Sequence[str]) -> Sequence[Pool]:
        """Return the pools of these *names*; PlanError where there is no such pool."""

    async def seconds(self) -> tuple[float, float]:
        """
        Return how long a drain and an undrain may take, by the settings of the pools.

        Raises:
            PlanError: AWS cannot be asked, or there is no such pool.
        """
        async with self._service:
            each = [await pool.seconds() for pool in await self._found()]
        return max(one for one, _ in each), max(other for _, other in each)

    async def drain(self, access: HostAccess) -> None:
        """
        Deregister a host everywhere, and wait until no visitor is at work there.

        Raises:
            HostError: AWS refused, no other target would be left, or visitors are still
                there at the deadline.
        """
        host = access.host
        try:
            async with self._service:
                pools = await self._found()
                async with self._turn:
                    await self._require_others(host, pools)
                    for pool in pools:
                        await self._take_out(pool, pool.target(host))
                await self._until(access, pools, "alone", "drain")
        except PlanError as exc:
            raise HostError(host.name, str(exc)) from exc

    async def undrain(self, access: HostAccess) -> None:
        """
        Register a host everywhere, and wait until it is healthy there.

        Raises:
            HostError: AWS refused, or it did not become healthy in time.
        """
        host = access.host
        try:
            async with self._service:
                pools = await self._found()
                for pool in pools:
                    await self._put_in(pool, pool.target(host))
                await self._until(access, pools, "serves", "undrain")
        except PlanError as exc:
            raise HostError(host.name, str(exc)) from exc

    async def _take_out(self, pool: Pool, target: str) -> None:
        # Before AWS is asked: an answer that is lost may have been a yes.
        self._removed.add((pool.name, target))
        try:
            await pool.remove(target)
        except AwsError as exc:
            if exc.denied:
                self._removed.discard((pool.name, target))
            raise

    async def _put_in(self, pool: Pool, target: str) -> None:
        # A host that could not be taken out for want of a permission cannot be put in
        # either, and is in. One that was taken out is put in whatever its state: that
        # may be an old one.
        if (pool.name, target) not in self._removed:
            health, _ = await pool.health(target, anyio.current_time())
            if health.serves:
                return
        await pool.add(target)
        self._removed.discard((pool.name, target))

    async def _found(self) -> Sequence[Pool]:
        async with self._turn:
            if not self._pools:
                self._pools = await self.find(self._names)
        return self._pools

    async def _require_others(self, host: Host, pools: Sequence[Pool]) -> None:
        for pool in pools:
            target, members = pool.target(host), await pool.members()
            left = [
                other
                for other, health in members.items()
                if health.serves
                and other != target
                and (pool.name, other) not in self._removed
            ]
            if members.get(target, ABSENT).visited and not left:
                text = f"{target} is the last target that takes visitors"
                raise HostError(host.name, f"{pool.name}: {text}")

    async def _until(
        self, access: HostAccess, pools: Sequence[Pool], what: str, key: str
    ) -> None:
        """Wait until the host is *what* in all pools, up to the deadline *key*."""
        said = ""
        with anyio.move_on_after(access.seconds):
            for pool in pools:
                since = anyio.current_time()
                while True:
                    target = pool.target(access.host)
                    health, at = await pool.health(target, since)
                    said = f"{pool.name}: {target} is {health.text}"
                    if getattr(health, what):
                        break
                    await anyio.sleep(POLL_EVERY)
                    # All who wait may share one answer, so an answer that another one
                    # has asked for since will do.
                    since = at + POLL_EVERY
            return
        late = f"after {access.seconds:g} s (rollout.deadlines.{key})"
        raise HostError(access.host.name, f"{said} {late}")
