from __future__ import annotations

import pytest

from ghostasync import Outcome, Plan, State
from ghostasync.testing import Answer, FakeHosts
from tests.deploying import fails, run, states, with_rollout


async def test_a_timer_runs_from_before_the_switch_until_the_host_is_live(
    plan: Plan,
) -> None:
    hosts = FakeHosts()

    report, _ = await run(with_rollout(plan, confirm=30), hosts)

    assert report.outcome is Outcome.LIVE
    steps = ("timer_start", "switch", "timer_stop")
    mine = [c.name for c in hosts.calls if c.host == "h1" and c.name in steps]
    assert mine == [*steps]
    assert {host.timer for host in hosts.hosts.values()} == {""}


async def test_without_confirm_there_is_no_timer(plan: Plan) -> None:
    hosts = FakeHosts()

    await run(plan, hosts)

    assert hosts.asked("timer_start") == hosts.asked("timer_stop") == []


async def test_a_host_that_starts_no_timer_is_not_switched(plan: Plan) -> None:
    hosts = FakeHosts(breaks=fails("timer_start", "h2"))

    report, _ = await run(with_rollout(plan, confirm=30), hosts)

    assert "h2" not in hosts.asked("switch")
    assert states(report)["h2"] is State.ROLLED_BACK


@pytest.mark.parametrize("words", ["it put its links back by itself, 3 s ago"])
async def test_a_host_that_went_back_by_itself_is_not_live(
    plan: Plan, words: str
) -> None:
    hosts = FakeHosts()
    hosts.breaks = lambda call: (
        Answer(1, b"", words.encode())
        if (call.host, call.name) == ("h2", "timer_stop")
        else None
    )

    report, _ = await run(with_rollout(plan, confirm=30), hosts)

    assert report.exit_status == 1
    assert states(report)["h2"] is State.ROLLED_BACK
    assert words in report.hosts["h2"].reason
