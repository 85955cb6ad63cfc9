"""Hosts are drained around their switch."""

from __future__ import annotations

from pathlib import Path

import anyio
import attrs
import pytest

from ghostasync import Deadlines, Hook, Host, Outcome, Plan, State
from ghostasync import events as e
from ghostasync.testing import Answer, Call, step
from tests._engine.balanced import Fleet, both, breaks, rolled, serving_old
from tests.deploying import of, run, states


async def test_a_host_is_drained_around_its_switch(plan: Plan) -> None:
    fleet = Fleet()

    report, seen = await run(rolled(plan), fleet)

    assert report.outcome is Outcome.LIVE
    way = ["drain", "switch", "post_deploy", "verify", "undrain"]
    assert all(fleet.of(host.name) == way for host in plan.hosts)
    assert len(of(e.Drained, seen)) == len(of(e.Undrained, seen)) == 6


async def test_a_hook_on_the_host_sees_what_a_balancer_needs(plan: Plan) -> None:
    fleet = Fleet()
    hosts = (Host("h1", "192.0.2.1", labels={"az": "a", "role": "web"}), Host("h2"))
    plan = attrs.evolve(rolled(plan, waves=(1,)), hosts=hosts)

    await run(plan, fleet)

    (call,) = [c for c in fleet.calls if c.host == "h1" and step(c) == "drain"]
    cwd, file, _, environment, *pairs = call.args
    told = dict(pair.partition("=")[::2] for pair in pairs)
    assert (cwd, file, environment) == ("/", "", "/dev/null")
    assert told["GHOST_HOST_ADDRESS"] == "192.0.2.1"
    assert told["GHOST_HOST_LABELS"] == "az=a\nrole=web"
    assert (told["GHOST_WAVE"], told["GHOST_WAVES"]) == ("1", "2")
    assert (told["GHOST_APP"], told["GHOST_ACTION"]) == ("shop", "deploy")
    assert told["GHOST_MODULE_NAME"] == ""


async def test_hooks_run_on_the_controller_by_default(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "s3cret-token")
    app = attrs.evolve(plan.app, env_vars={"LB": "it's `x`"}, secrets=("TOKEN",))
    hook = 'echo "$GHOST_HOST $GHOST_HOST_ADDRESS $LB $TOKEN $(pwd)" | tee -a'
    plan = attrs.evolve(
        rolled(
            plan,
            drain=Hook(f"{hook} drained"),
            undrain=Hook(f"#!/bin/sh -e\n{hook} undrained"),
        ),
        app=app,
    )

    report, seen = await run(plan, Fleet())

    expected = [f"h{n} h{n} it's `x` s3cret-token {tmp_path}" for n in range(1, 7)]
    for name in ("drained", "undrained"):
        assert sorted((tmp_path / name).read_text().splitlines()) == expected
    said = [o for o in seen if isinstance(o, e.Output) and o.script == "drain"]
    assert {o.text for o in said if o.host == "h1"} == {
        f"h1 h1 it's `x` *** {tmp_path}\n"
    }
    log = Path(report.hosts["h1"].log).read_text()
    assert "--- drain in" in log
    assert "--- undrain exited 0" in log
    assert "s3cret" not in log


async def test_a_drain_that_fails_moves_no_link_and_undrains(plan: Plan) -> None:
    fleet = Fleet(breaks=breaks(("h2", "drain")), links=serving_old(plan))

    report, _ = await run(rolled(plan), fleet)

    assert report.exit_status == 1
    assert states(report)["h2"] is State.ROLLED_BACK
    assert report.hosts["h2"].stage is State.DRAINING
    assert report.hosts["h2"].reason == "drain exited 1: it broke"
    assert fleet.of("h2") == ["drain", "undrain"]
    assert fleet.links == serving_old(plan)


async def test_a_drain_ends_at_its_deadline(plan: Plan) -> None:
    plan = rolled(plan, drain=Hook("sleep 60 & wait"), deadlines=Deadlines(drain=0.2))

    with anyio.fail_after(30):
        report, _ = await run(plan, Fleet())

    reasons = {host.reason for host in report.hosts.values()}
    assert "drain not done within 0.2 s (rollout.deadlines.drain)" in reasons


async def test_a_host_is_undrained_once_its_old_release_verifies(plan: Plan) -> None:
    old = serving_old(plan)
    fleet = Fleet(breaks=breaks(("h2", "post_deploy")), links=dict(old))

    report, _ = await run(rolled(plan), fleet)

    assert set(states(report).values()) == {State.ROLLED_BACK}
    assert fleet.of("h2") == [
        *("drain", "switch", "post_deploy"),
        *("restore", "post_deploy", "undrain"),
    ]
    assert fleet.links == old


async def test_a_live_host_that_goes_back_is_drained_meanwhile(plan: Plan) -> None:
    fleet = Fleet(breaks=breaks(("h2", "post_deploy")), links=serving_old(plan))

    await run(rolled(plan, waves=(1,)), fleet)

    assert fleet.of("h1")[4:] == [
        *("undrain", "drain", "restore", "post_deploy", "undrain"),
    ]


async def test_a_drain_that_fails_on_the_way_back_does_not_hold_it_up(
    plan: Plan,
) -> None:
    on = both(breaks(("h2", "post_deploy")), breaks(("h1", "drain"), back=True))
    fleet = Fleet(breaks=on, links=serving_old(plan))

    report, seen = await run(rolled(plan, waves=(1,)), fleet)

    assert states(report)["h1"] is State.ROLLED_BACK
    assert of(e.HostWarned, seen) == [
        e.HostWarned("h1", "goes back with visitors on it: drain exited 1: it broke")
    ]


async def test_a_stranded_host_stays_drained_and_the_report_says_so(
    plan: Plan,
) -> None:
    on = both(breaks(("h2", "post_deploy")), breaks(("h2", "post_deploy"), back=True))
    fleet = Fleet(breaks=on, links=serving_old(plan))

    report, _ = await run(rolled(plan), fleet)

    assert report.exit_status == 3
    assert states(report)["h2"] is State.STRANDED
    assert report.hosts["h2"].reason.endswith("; it stays drained")
    assert fleet.steps("undrain").count(("h2", "undrain")) == 0


async def test_an_undrain_that_fails_takes_the_host_back(plan: Plan) -> None:
    fleet = Fleet(breaks=breaks(("h2", "undrain")), links=serving_old(plan))

    report, _ = await run(rolled(plan), fleet)

    assert report.exit_status == 1
    assert states(report)["h2"] is State.ROLLED_BACK
    assert report.hosts["h2"].stage is State.UNDRAINING


async def test_an_undrain_that_fails_on_the_way_back_strands_the_host(
    plan: Plan,
) -> None:
    on = both(breaks(("h2", "drain")), breaks(("h2", "undrain"), back=True))
    fleet = Fleet(breaks=on, links=serving_old(plan))

    report, _ = await run(rolled(plan), fleet)

    assert (report.exit_status, states(report)["h2"]) == (3, State.STRANDED)
    assert report.hosts["h2"].reason == "undrain exited 1: it broke; it stays drained"


async def test_a_drain_that_is_cut_short_is_undone(plan: Plan) -> None:
    class Slow(Fleet):
        async def __call__(self, call: Call) -> Answer:
            if (call.host, step(call)) == ("h3", "drain"):
                self.calls.append(call)
                await anyio.sleep_forever()
            return await super().__call__(call)

    fleet = Slow(breaks=breaks(("h2", "post_deploy")), links=serving_old(plan))

    report, _ = await run(rolled(plan), fleet)

    assert states(report)["h3"] is State.ROLLED_BACK
    assert fleet.of("h3") == ["drain", "undrain"]
