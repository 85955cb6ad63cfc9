"""What a run tells of scripts that did not end by themselves."""

from __future__ import annotations

from pathlib import Path

import anyio
import attrs
import pytest

from ghostasync import Plan, Script
from ghostasync import events as e
from ghostasync.errors import ConnectionDied
from ghostasync.model import Deadlines
from ghostasync.testing import Answer, Break, Call, FakeHosts, step
from tests.deploying import run, with_rollout


def hangs(what: str) -> Break:
    return lambda call: (
        Answer(None, b"waiting for the lock\n") if step(call) == what else None
    )


async def test_a_script_that_hangs_leaves_its_last_words(plan: Plan) -> None:
    plan = with_rollout(plan, deadlines=Deadlines(pre_deploy=0.05))

    with anyio.fail_after(10):
        _, seen = await run(plan, FakeHosts(breaks=hangs("pre_deploy")))

    tails = {event.tail for event in seen if isinstance(event, e.Failed)}
    assert tails == {"waiting for the lock\n"}


async def test_a_before_switch_that_hangs_leaves_its_last_words(plan: Plan) -> None:
    module = attrs.evolve(plan.modules[0], before_switch=Script(inline="true"))
    plan = attrs.evolve(plan, modules=(module,))
    plan = with_rollout(plan, deadlines=Deadlines(before_switch=0.05))

    with anyio.fail_after(10):
        _, seen = await run(plan, FakeHosts(breaks=hangs("before_switch")))

    (failed,) = (event for event in seen if isinstance(event, e.BeforeSwitchFailed))
    assert failed.tail == "waiting for the lock\n"


async def test_a_health_check_that_hangs_leaves_its_last_words(plan: Plan) -> None:
    verify = attrs.evolve(plan.modules[0].verify, attempt_timeout=0.05)
    module = attrs.evolve(plan.modules[0], verify=verify)
    plan = attrs.evolve(plan, modules=(module,), hosts=plan.hosts[:1])
    plan = with_rollout(plan, deadlines=Deadlines(verify=0.2))

    with anyio.fail_after(10):
        _, seen = await run(plan, FakeHosts(breaks=hangs("verify")))

    failed = next(event for event in seen if isinstance(event, e.Failed))
    assert failed.tail.startswith("waiting for the lock\nverify of site not done")
    assert "verify of site not done within 0.05 s" in failed.reason


@pytest.mark.parametrize("lost", [True, False])
async def test_the_log_tells_a_lost_connection_from_a_deadline(
    plan: Plan, lost: bool
) -> None:
    hosts = FakeHosts(breaks=hangs("post_deploy"))

    def breaks(call: Call) -> Answer | None:
        if step(call) == "post_deploy":
            raise ConnectionDied(call.host, "gone")
        return None

    if lost:
        hosts.breaks = breaks
    plan = attrs.evolve(plan, hosts=plan.hosts[:1])

    with anyio.fail_after(10):
        report, _ = await run(
            with_rollout(plan, deadlines=Deadlines(post_deploy=0.05)), hosts
        )

    log = Path(report.hosts["h1"].log).read_text()
    ends = ("cut short: connection lost", "ended at its deadline")
    assert [f"--- post_deploy of site {end}\n" in log for end in ends] == [
        lost,
        not lost,
    ]
