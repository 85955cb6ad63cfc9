"""Hosts in memory that are drained around their switch, and what goes wrong there."""

from __future__ import annotations

import attrs

from ghostasync import Hook, Plan, Rollout
from ghostasync.testing import Answer, Break, Call, FakeHosts, step

__all__ = ["DRAIN", "UNDRAIN", "Fleet", "both", "breaks", "rolled", "serving_old"]

DRAIN, UNDRAIN = Hook("drain", "host"), Hook("undrain", "host")


@attrs.define
class Fleet(FakeHosts):
    """A fleet whose hosts are drained and undrained by commands on them."""

    def steps(self, *names: str) -> list[tuple[str, str]]:
        """Return the steps of these names, in the order they came, with their host."""
        return [(c.host, step(c)) for c in self.calls if step(c) in names]

    def of(self, host: str) -> list[str]:
        """Return what one host did from its drain on."""
        known = ("drain", "switch", "post_deploy", "verify", "restore", "undrain")
        return [step(c) for c in self.calls if c.host == host and step(c) in known]


def breaks(*what: tuple[str, str], back: bool = False) -> Break:
    """Have steps fail, given as host and step; only going back, or only not."""

    def on(call: Call) -> Answer | None:
        going_back = "GHOST_ACTION=rollback" in call.args
        if (call.host, step(call)) in what and going_back is back:
            return Answer(1, b"it broke\n")
        return None

    return on


def both(*given: Break) -> Break:
    def on(call: Call) -> Answer | None:
        answers = (one(call) for one in given)
        return next((answer for answer in answers if answer is not None), None)

    return on


def rolled(plan: Plan, **changes: object) -> Plan:
    keys = {"drain": DRAIN, "undrain": UNDRAIN, **changes}
    return attrs.evolve(plan, rollout=Rollout(**keys))  # type: ignore[arg-type]  # keys


def serving_old(plan: Plan) -> dict[str, str]:
    """Links as a first release left them."""
    old = "/ghost/shop/prod/web/site/1_site_0000000"
    return {host.name: old for host in plan.hosts}
