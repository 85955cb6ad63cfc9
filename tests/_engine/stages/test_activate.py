from __future__ import annotations

import attrs

from ghostasync import Outcome, Plan, State
from ghostasync.model import Script
from ghostasync.testing import FakeHosts, step
from tests.deploying import fails, run, states


async def test_post_deploys_run_in_their_targets_in_app_order(plan: Plan) -> None:
    other = attrs.evolve(plan.modules[0], name="data", path="/srv/data")
    plan = attrs.evolve(plan, modules=(*plan.modules, other))
    hosts = FakeHosts()

    await run(plan, hosts)

    mine = [c for c in hosts.calls if (c.host, step(c)) == ("h1", "post_deploy")]
    assert [call.args[0] for call in mine] == ["/srv/site", "/srv/data"]


async def test_a_module_without_a_post_deploy_goes_live(plan: Plan) -> None:
    module = attrs.evolve(plan.modules[0], post_deploy=Script())
    hosts = FakeHosts()

    report, _ = await run(attrs.evolve(plan, modules=(module,)), hosts)

    assert report.outcome is Outcome.LIVE
    assert hosts.asked("post_deploy") == []


async def test_a_post_deploy_that_fails_takes_its_host_back(plan: Plan) -> None:
    hosts = FakeHosts(breaks=fails("post_deploy", "h2", status=4))

    report, _ = await run(plan, hosts)

    assert states(report)["h2"] is State.ROLLED_BACK
    assert report.hosts["h2"].stage is State.ACTIVATING
    assert report.hosts["h2"].exit_status == 4
    assert hosts.links["h2"] == ""
    assert "h2" not in hosts.asked("verify")
