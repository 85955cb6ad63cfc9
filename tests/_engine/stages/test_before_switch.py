"""A migration runs once, before any link moves."""

from __future__ import annotations

import attrs
import pytest

from ghostasync import (
    DeployFailed,
    Outcome,
    Plan,
    Rollout,
    Script,
    State,
    converge,
    deploy,
    start,
)
from ghostasync import events as e
from ghostasync.testing import FakeTransport, step
from tests._engine.balanced import Fleet, breaks, serving_old
from tests.deploying import of, run, states


def module(plan: Plan, **changes: object) -> Plan:
    changed = attrs.evolve(plan.modules[0], **changes)  # type: ignore[arg-type]  # keys
    return attrs.evolve(plan, modules=(changed,))


def migrating(plan: Plan, **rollout: object) -> Plan:
    return module(
        attrs.evolve(plan, rollout=Rollout(**rollout)),  # type: ignore[arg-type]  # keys
        before_switch=Script(inline="migrate"),
    )


async def test_before_switch_runs_once_before_any_link_moves(plan: Plan) -> None:
    fleet = Fleet()

    report, seen = await run(migrating(plan, waves=(1, 2)), fleet)

    assert report.outcome is Outcome.LIVE
    order = fleet.steps("pre_deploy", "before_switch", "switch")
    assert order[6] == ("h1", "before_switch")
    assert [what for _, what in order].count("before_switch") == 1
    assert {what for _, what in order[:6]} == {"pre_deploy"}
    names = [type(event).__name__ for event in seen]
    assert names.index("Judged") < names.index("BeforeSwitchStarted")
    assert names.index("BeforeSwitchPassed") < names.index("WaveStarted")


async def test_before_switch_sees_the_new_release_where_it_lies(plan: Plan) -> None:
    fleet = Fleet()

    report, _ = await run(migrating(plan), fleet)

    (call,) = [c for c in fleet.calls if step(c) == "before_switch"]
    release = report.releases["site"]
    meta, _, _, run_id, text = call.args
    assert meta == f"/ghost/shop/prod/web/site/.ghost/{release}"
    assert run_id == report.run
    assert f"'/ghost/shop/prod/web/site/{release}'" in text
    assert f"'{meta}/environment.next'" in text


async def test_a_before_switch_that_fails_moves_no_link(plan: Plan) -> None:
    fleet = Fleet(breaks=breaks(("h1", "before_switch")), links=serving_old(plan))

    report, seen = await run(migrating(plan), fleet)

    assert (report.outcome, report.exit_status) == (Outcome.FAILED, 1)
    assert report.reason == "h1: before_switch of site exited 1: it broke"
    assert set(states(report).values()) == {State.HALTED}
    assert fleet.links == serving_old(plan)
    assert of(e.BeforeSwitchFailed, seen) == [
        e.BeforeSwitchFailed(
            *("site", "h1", "before_switch of site exited 1: it broke"),
            exit_status=1,
            tail="it broke\n",
        )
    ]


async def test_before_switch_runs_on_the_first_host_that_is_ready(plan: Plan) -> None:
    fleet = Fleet(breaks=breaks(("h1", "pre_deploy")))

    await run(migrating(plan, max_failures=1), fleet)

    assert fleet.steps("before_switch") == [("h2", "before_switch")]


async def test_a_run_that_is_stopped_looks_on_no_longer(plan: Plan) -> None:
    fleet = Fleet(hangs={("h1", "before_switch")})

    async with start(migrating(plan), transport=FakeTransport(fleet)) as running:
        async for record in running.events():
            if isinstance(record.event, e.BeforeSwitchStarted):
                break
        await running.stop()
        report = await running.report()

    assert report.exit_status == 130
    assert fleet.asked("switch") == []


async def stopped_in_its_migration(plan: Plan, fleet: Fleet) -> str:
    """Stop a run while its before_switch is at work on h1; return its id."""
    async with start(plan, transport=FakeTransport(fleet)) as running:
        async for record in running.events():
            if isinstance(record.event, e.BeforeSwitchStarted):
                break
        await running.stop()
        return (await running.report()).run


async def test_a_migration_on_a_host_that_is_not_asked_keeps_another_from_beginning(
    plan: Plan,
) -> None:
    """It may be at work there, and two of them at once would be one too many."""
    plan, fleet = migrating(plan), Fleet(hangs={("h1", "before_switch")})
    first = await stopped_in_its_migration(plan, fleet)
    fleet.hangs = set()
    transport = FakeTransport(fleet, unreachable=frozenset({"h1"}))
    without = attrs.evolve(plan, rollout=Rollout(max_failures=1))

    for asked, limit in ((plan, ["h2"]), (without, ())):
        with pytest.raises(DeployFailed) as failed:
            await deploy(asked, limit=limit, transport=transport)

        assert failed.value.report.exit_status == 1
        assert failed.value.report.reason == (
            f"h1: before_switch of site: run {first} began it on h1, which cannot be "
            "asked how it ended: have that host in the run, or out of the inventory"
        )
    assert fleet.asked("switch") == []
    assert [host for host, _ in fleet.steps("before_switch")] == ["h1"]


@pytest.mark.parametrize("how", ["asked", "gone", "over"])
async def test_a_migration_that_is_waited_for_or_gone_keeps_none_from_beginning(
    plan: Plan, how: str
) -> None:
    plan, fleet = migrating(plan), Fleet(hangs={("h1", "before_switch")})
    await stopped_in_its_migration(plan, fleet)
    fleet.hangs = set()
    limit = ["h2"] if how == "over" else ()
    if how == "gone":
        plan = attrs.evolve(plan, hosts=plan.hosts[1:])
    if how == "over":
        await deploy(plan, transport=FakeTransport(fleet))
        (plan.base / "tree" / "index").write_text("2")

    report = await deploy(plan, limit=limit, transport=FakeTransport(fleet))

    assert report.outcome is Outcome.LIVE


async def test_converge_does_not_migrate_again(plan: Plan) -> None:
    fleet = Fleet()
    plan = migrating(plan)
    await run(plan, fleet)
    fleet.links.clear()

    await converge(plan, transport=FakeTransport(fleet))

    assert len(fleet.asked("switch")) == 12
    assert len(fleet.steps("before_switch")) == 1
