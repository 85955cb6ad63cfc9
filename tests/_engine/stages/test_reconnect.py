"""Connections that die."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghostasync import DeployFailed, Outcome, Plan, State, deploy
from ghostasync import events as e
from ghostasync.errors import ConnectionDied
from ghostasync.model import Hook
from ghostasync.testing import Answer, Call, FakeHosts, FakeTransport
from tests._engine.losing import OLDER, QUICK, dies
from tests.deploying import fails, of, run, with_rollout

HOSTS = tuple(f"h{number}" for number in range(1, 7))


@pytest.mark.parametrize(
    "what",
    [
        "check",
        "receive",
        "environment",
        "pre_deploy",
        "record_moves",
        "switch",
        "post_deploy",
    ],
)
async def test_a_host_whose_connection_died_goes_on(plan: Plan, what: str) -> None:
    hosts = FakeHosts(breaks=dies(what, "h2"))

    report, seen = await run(plan, hosts)

    assert report.outcome is Outcome.LIVE
    (warned,) = of(e.HostWarned, seen)
    assert isinstance(warned, e.HostWarned)
    assert (warned.host, "connected again after" in warned.text) == ("h2", True)
    assert hosts.asked("lock").count("h2") == 2
    assert hosts.asked(what).count("h2") == 2
    assert hosts.asked(what).count("h3") == 1


async def test_a_switch_whose_answer_was_lost_is_looked_at_and_goes_on(
    plan: Plan,
) -> None:
    hosts = FakeHosts()
    lose = dies("switch", "h2")

    def breaks(call: Call) -> Answer | None:
        if call.name == "switch":
            hosts.links[call.host] = call.args[5]
        return lose(call)

    hosts.breaks = breaks

    report, _ = await run(plan, hosts)

    assert report.outcome is Outcome.LIVE
    assert hosts.asked("switch").count("h2") == 2


async def test_a_link_that_went_back_meanwhile_takes_the_host_back(plan: Plan) -> None:
    hosts = FakeHosts()
    lose = dies("post_deploy", "h2")

    def breaks(call: Call) -> Answer | None:
        try:
            return lose(call)
        except ConnectionDied:
            hosts.links["h2"] = ""
            raise

    hosts.breaks = breaks

    report, _ = await run(plan, hosts)

    assert report.outcome is Outcome.FAILED
    assert "is absent, not /ghost" in report.hosts["h2"].reason
    assert set(hosts.links.values()) == {""}


async def test_a_connection_that_dies_again_and_again_fails_its_host(
    plan: Plan,
) -> None:
    hosts = FakeHosts(breaks=dies("receive", "h2", times=99))

    report, _ = await run(with_rollout(plan, max_failures=1), hosts)

    assert report.outcome is Outcome.PARTIAL
    assert report.hosts["h2"].stage is State.UPLOADING
    assert hosts.asked("receive").count("h2") == 4


def stays_away_from(what: str, host: str) -> tuple[FakeHosts, FakeTransport]:
    """Have a host be lost under *what*, and not be reached again."""
    hosts, lose = FakeHosts(), dies(what, host)
    transport = FakeTransport(hosts)

    def breaks(call: Call) -> Answer | None:
        try:
            return lose(call)
        except ConnectionDied:
            transport.unreachable = frozenset({host})
            raise

    hosts.breaks = breaks
    return hosts, transport


async def test_a_host_that_stays_away_fails_at_the_connect_deadline(
    plan: Plan,
) -> None:
    hosts, transport = stays_away_from("pre_deploy", "h2")

    with pytest.raises(DeployFailed) as failed:
        await deploy(with_rollout(plan, deadlines=QUICK), transport=transport)

    row = failed.value.report.hosts["h2"]
    assert (row.stage, row.state) == (State.PREPARING, State.FAILED)
    assert row.reason.endswith("not connected again within 0.2 s")
    assert hosts.asked("switch") == []


async def test_a_host_lost_after_its_switch_is_stranded(plan: Plan) -> None:
    hosts, transport = stays_away_from("post_deploy", "h2")

    with pytest.raises(DeployFailed) as failed:
        await deploy(with_rollout(plan, deadlines=QUICK), transport=transport)

    report = failed.value.report
    assert report.exit_status == 3
    assert report.hosts["h2"].state is State.STRANDED
    assert report.hosts["h2"].reason == "connection refused"
    assert {h for h, link in hosts.links.items() if link} == {"h2"}


async def test_a_way_back_that_loses_its_connection_runs_the_old_post_deploy(
    plan: Plan,
) -> None:
    hosts = FakeHosts(links={"h2": "/ghost/shop/prod/web/site/1_site_0000000"})
    broken = fails("post_deploy", "h2")
    lost = False

    def breaks(call: Call) -> Answer | None:
        nonlocal lost
        if "GHOST_ACTION=rollback" in call.args and call.host == "h2" and not lost:
            lost = True
            raise ConnectionDied("h2", "gone")
        return broken(call)

    hosts.breaks = breaks

    report, _ = await run(plan, hosts)

    assert lost
    assert report.hosts["h2"].state is State.ROLLED_BACK
    back = [c for c in hosts.calls if "GHOST_ACTION=rollback" in c.args]
    assert [c.host for c in back if c.host == "h2"] == ["h2", "h2"]


async def test_a_connection_lost_while_a_wave_soaks_costs_nobody_anything(
    plan: Plan,
) -> None:
    asked = 0

    def breaks(call: Call) -> Answer | None:
        nonlocal asked
        if call.host == "h2" and call.name == "run" and not call.args[1]:
            asked += 1
            if asked == 2:
                raise ConnectionDied("h2", "gone")
        return None

    plan = with_rollout(plan, waves=(3, "100%"), soak=0.01)

    report, _ = await run(plan, FakeHosts(breaks=breaks))

    assert report.outcome is Outcome.LIVE
    assert asked == 3


async def test_what_was_lost_on_the_way_there_does_not_count_on_the_way_back(
    plan: Plan,
) -> None:
    there, back = dies("receive", "h2", times=3), dies("post_deploy", "h2")
    broken = fails("post_deploy", "h3")
    hosts = FakeHosts(
        links=dict.fromkeys(HOSTS, "/ghost/shop/prod/web/site/1_site_0000000")
    )

    def breaks(call: Call) -> Answer | None:
        there(call)
        if "GHOST_ACTION=rollback" in call.args:
            return back(call)
        return broken(call)

    hosts.breaks = breaks

    report, _ = await run(with_rollout(plan, waves=(2, "100%")), hosts)

    assert report.hosts["h2"].state is State.ROLLED_BACK


async def test_a_run_that_lost_its_fleet_drains_nobody(
    plan: Plan, tmp_path: Path
) -> None:
    """Another run has the hosts: they may be in good health by now."""
    hosts = FakeHosts()
    lost = False

    def breaks(call: Call) -> Answer | None:
        nonlocal lost
        if call.name == "run" and not call.args[1]:
            lost = lost or call.host == "h6"
        if lost and call.name in {"run", "assert_lock", "restore"}:
            return Answer(lost_to=OLDER)
        return None

    hosts.breaks = breaks
    drained = tmp_path / "drained"
    hook = Hook(run=f'[ "$GHOST_ACTION" = deploy ] || echo "$GHOST_HOST" >>{drained}')
    plan = with_rollout(plan, waves=(1,), drain=hook)

    report, _ = await run(plan, hosts)

    assert report.exit_status == 3
    assert {row.state for row in report.hosts.values()} == {State.STRANDED}
    assert not drained.exists()
