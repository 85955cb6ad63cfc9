from __future__ import annotations

import attrs

from ghostasync import Outcome, Plan, State
from ghostasync.model import Deadlines, Script
from ghostasync.testing import FakeHosts, step
from tests.deploying import fails, run, states, with_rollout


async def test_a_pre_deploy_runs_in_the_new_release_before_moves_are_recorded(
    plan: Plan,
) -> None:
    hosts = FakeHosts()

    report, _ = await run(plan, hosts)

    release = f"/ghost/shop/prod/web/site/{report.releases['site']}"
    names = ("receive", "environment", "pre_deploy", "record_moves")
    mine = [call for call in hosts.calls if call.host == "h1" and step(call) in names]
    assert [step(call) for call in mine] == [*names]
    assert mine[2].args[0] == release
    assert mine[2].args[3].endswith("/environment.next")


async def test_a_host_has_on_record_what_a_rollback_needs(plan: Plan) -> None:
    hosts = FakeHosts()
    first, _ = await run(plan, hosts)
    (plan.base / "tree/index").write_text("2")

    second, _ = await run(plan, hosts)

    site = hosts["h1"].module("/ghost/shop/prod/web/site")
    assert hosts["h1"].fence == f"2 {second.run}"
    assert [site.records[n]["run"] for n in (1, 2)] == [first.run, second.run]
    assert site.records[2]["release"] == second.releases["site"]
    assert site.records[2]["previous"] == f"{site.folder}/{first.releases['site']}"
    assert [site.records[n]["outcome"] for n in (1, 2)] == ["live", "live"]


async def test_a_module_without_a_pre_deploy_is_recorded_all_the_same(
    plan: Plan,
) -> None:
    module = attrs.evolve(plan.modules[0], pre_deploy=Script())
    hosts = FakeHosts()

    report, _ = await run(attrs.evolve(plan, modules=(module,)), hosts)

    assert report.outcome is Outcome.LIVE
    assert hosts.asked("pre_deploy") == []
    assert hosts.asked("record_moves") == list(hosts.hosts)


async def test_a_pre_deploy_that_fails_leaves_no_record(plan: Plan) -> None:
    hosts = FakeHosts(breaks=fails("pre_deploy", "h2", status=3))

    report, _ = await run(plan, hosts)

    assert states(report)["h2"] is State.FAILED
    assert report.hosts["h2"].reason == "pre_deploy of site exited 3: it broke"
    assert hosts["h2"].module("/ghost/shop/prod/web/site").records == {}
    assert hosts.links == {}


async def test_a_pre_deploy_ends_at_its_deadline(plan: Plan) -> None:
    hosts = FakeHosts(hangs={("h2", "pre_deploy")})
    plan = with_rollout(plan, deadlines=Deadlines(pre_deploy=0.05))

    report, _ = await run(plan, hosts)

    assert states(report)["h2"] is State.FAILED
    assert "within 0.05 s" in report.hosts["h2"].reason
    assert "h2" not in hosts.asked("record_moves")
