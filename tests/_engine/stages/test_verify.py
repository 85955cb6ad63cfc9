from __future__ import annotations

import attrs

from ghostasync import Outcome, Plan, State, Verify
from ghostasync.model import Deadlines
from ghostasync.testing import Answer, Break, Call, FakeHosts, step
from tests.deploying import fails, run, states, with_rollout


def fails_first(times: int) -> Break:
    """Have the first health checks of h2 fail."""
    left = times

    def breaks(call: Call) -> Answer | None:
        nonlocal left
        if (call.host, step(call)) == ("h2", "verify") and left:
            left -= 1
            return Answer(1, b"warming up\n")
        return None

    return breaks


async def test_a_health_check_is_asked_until_it_says_yes(plan: Plan) -> None:
    hosts = FakeHosts(breaks=fails_first(2))

    report, _ = await run(plan, hosts)

    assert report.outcome is Outcome.LIVE
    assert hosts.asked("verify").count("h2") == 3


async def test_a_host_that_never_says_yes_goes_back_with_its_last_words(
    plan: Plan,
) -> None:
    hosts = FakeHosts(breaks=fails("verify", "h2", status=7))
    plan = with_rollout(plan, deadlines=Deadlines(verify=0.05))

    report, _ = await run(plan, hosts)

    row = report.hosts["h2"]
    assert (row.state, row.stage) == (State.ROLLED_BACK, State.VERIFYING)
    assert row.reason == (
        "verify of site did not pass within 0.05 s; it last exited 7: it broke"
    )


async def test_a_module_without_a_health_check_is_live_at_once(plan: Plan) -> None:
    module = attrs.evolve(plan.modules[0], verify=Verify())
    hosts = FakeHosts()

    report, _ = await run(attrs.evolve(plan, modules=(module,)), hosts)

    assert set(states(report).values()) == {State.LIVE}
    assert hosts.asked("verify") == []


async def test_a_url_is_fetched_on_the_host(plan: Plan) -> None:
    verify = Verify(url="http://127.0.0.1/health", attempt_timeout=3, interval=0.01)
    module = attrs.evolve(plan.modules[0], verify=verify)
    hosts = FakeHosts({})

    await run(attrs.evolve(plan, modules=(module,)), hosts)

    (call,) = [c for c in hosts.calls if (c.host, c.name) == ("h1", "fetch")]
    assert call.args == ("http://127.0.0.1/health", "3")
