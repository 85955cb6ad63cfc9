"""What looking at a fleet says that keeps no host from the plan."""

from __future__ import annotations

import attrs
import pytest

from ghostasync import Plan, check
from ghostasync.testing import Answer, Call, FakeTransport
from tests.test_run import Hosts, plan, with_rollout

__all__ = ["plan"]


@pytest.mark.parametrize(
    ("uid", "confirm", "warned"), [(1000, 30, True), (1000, 0, False), (0, 30, False)]
)
async def test_a_host_that_would_end_our_timer_is_told_of(
    plan: Plan, uid: int, confirm: int, warned: bool
) -> None:
    hosts = Hosts()

    def breaks(call: Call) -> Answer | None:
        if call.name != "check":
            return None
        facts = hosts._facts(call).replace(b"uid=0", b"ends-logins=yes\nuid=%d" % uid)
        return Answer(0, facts)

    hosts.breaks = breaks
    plan = with_rollout(attrs.evolve(plan, hosts=plan.hosts[:1]), confirm=confirm)

    found = await check(plan, transport=FakeTransport(hosts))

    assert [item.warning for item in found] == [True] * warned
    assert all("KillUserProcesses" in item.text for item in found)
