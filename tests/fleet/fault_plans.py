"""What happens in each deploy of a soak: all of it follows from the seed."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from tests.fleet.lies import LIED_ABOUT, LIES

__all__ = ["Fault", "FaultPlan", "draw_plan"]

LASTS: Final = 2.5
"""Seconds that a deploy takes, roughly: within them something happens."""

GATES: Final = (
    *("id", "df", "tar", "pre_deploy", "switch", "switched"),
    *("post_deploy-deploy", "verify", "restore", "post_deploy-rollback"),
)
AT_GATES: Final = ("fails", "hangs", "dawdles")
"""What can happen only to somebody who waits at a gate."""

TO_HOSTS: Final = (
    *("reset", "half-open", "mute", "deaf", "killed", "reboots", "stopped", "naps"),
    *("disk full", "lies", "lies"),
)
TO_CONTROLLER: Final = ("SIGKILL", "SIGINT", "SIGTERM")

QUIET: Final = 0.1
"""The share of deploys in which nothing happens."""

RECOVERIES: Final = ("", "", "deploy", "deploy", "resume", "revert")
"""What brings the fleet in line again; empty: the next deploy copes with what it finds.
A run that was not killed has nothing to resume: it is a deploy then."""


@attrs.frozen
class Fault:
    """
    One thing that goes wrong: *kind*, to *host*, *at* a gate's name or a time.

    A time is in seconds since the run's beginning. *lie* is a script, and what a host
    that lies says then.
    """

    kind: str
    host: str
    at: str | float
    lie: tuple[str, str] = ("", "")

    def __str__(self) -> str:
        when = self.at if isinstance(self.at, str) else f"{self.at:.2f} s"
        lie = f" about {self.lie[0]} ({self.lie[1]})" if self.lie[0] else ""
        return f"{self.kind} {self.host} at {when}{lie}"


@attrs.frozen
class FaultPlan:
    """What happens in one deploy."""

    faults: tuple[Fault, ...]
    rollout: Mapping[str, Any] = attrs.field(factory=dict)
    recovery: str = "deploy"

    def has(self, *faults: str) -> bool:
        return any(fault.kind in faults for fault in self.faults)

    @property
    def liars(self) -> frozenset[str]:
        """The hosts whose word is not what is true of them."""
        return frozenset(f.host for f in self.faults if f.kind == "lies")

    @property
    def claims_lock(self) -> bool:
        """Whether a host says that another run has its lock."""
        return any(fault.lie == ("lock", "a lock") for fault in self.faults)


def draw_plan(seed: int, number: int, hosts: Sequence[str]) -> FaultPlan:
    """Return what happens in deploy *number*."""
    dice = random.Random(f"{seed}/{number}")
    rollout: dict[str, Any] = {
        "waves": dice.choice([("100%",), ("100%",), (1, "100%"), ("50%",)]),
        "max_failures": dice.choice([0, 0, 0, 1]),
        "on_failure": dice.choice(["rollback-fleet"] * 3 + ["rollback-host"]),
    }
    count = 0 if dice.random() < QUIET else dice.choice([1, 1, 1, 2, 3])
    faults = tuple(_fault(dice, hosts) for _ in range(count))
    return FaultPlan(faults, rollout, recovery=dice.choice(RECOVERIES))


def _fault(dice: random.Random, hosts: Sequence[str]) -> Fault:
    at_gate = dice.random() < 0.6
    at: str | float = dice.choice(GATES) if at_gate else dice.uniform(0, LASTS)
    kinds = [*TO_HOSTS, *TO_CONTROLLER, *(AT_GATES if at_gate else ())]
    kind, host = dice.choice(kinds), dice.choice(hosts)
    if kind != "lies":
        return Fault(kind, host, at)
    lie = dice.choice(LIED_ABOUT), dice.choice(sorted(LIES))
    # Early: a lie about what was asked already is never told.
    return Fault(kind, host, dice.choice((0.0, dice.uniform(0, LASTS / 2))), lie)
