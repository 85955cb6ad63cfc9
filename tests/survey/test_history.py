"""What runs there were."""

from __future__ import annotations

import time

import pytest

from ghostasync import DeployFailed, Plan, deploy, past_runs, rollback
from ghostasync import events as e
from ghostasync.cli import _tables as tables
from ghostasync.survey.history import HistoryEntry
from ghostasync.testing import MemoryStore
from tests.committed import Committed
from tests.deploying import fails
from tests.killing import HOSTS, Scene
from tests.story import NEW


async def test_failed_and_killed_runs_are_history_too(scene: Scene) -> None:
    transport = scene.fleet.transport
    scene.version("2")
    live = await deploy(scene.plan, actor="ann", reason="a fix", transport=transport)
    scene.version("3")
    scene.fleet.breaks = fails("post_deploy", "h2")
    with pytest.raises(DeployFailed):
        await scene.deploy()
    scene.fleet.breaks = lambda _: None
    await rollback(scene.plan, transport=transport)
    await scene.deploy_and_watch()
    scene.kill(scene.at(e.Switched, "h2"))

    known = await past_runs(scene.plan)

    told = [(run.generation, run.action, run.outcome) for run in known]
    assert told == [
        (5, "deploy", "killed"),
        (4, "rollback", "live"),
        (3, "deploy", "failed"),
        (2, "deploy", "live"),
        (1, "deploy", "live"),
    ]
    fix = known[3]
    assert (fix.id, fix.actor, fix.reason) == (live.run, "ann", "a fix")
    assert (fix.hosts, fix.modules) == (len(HOSTS), ("site",))
    assert fix.releases == live.releases
    assert fix.seconds is not None
    assert await past_runs(scene.plan, count=2) == known[:2]


async def test_hosts_know_where_the_store_does_not(scene: Scene) -> None:
    scene.version("2")
    await deploy(
        scene.plan, reason="a fix", limit=["h1"], transport=scene.fleet.transport
    )

    known = await past_runs(
        scene.plan, store=MemoryStore(), transport=scene.fleet.transport
    )

    told = [(run.generation, run.outcome, run.hosts, run.reason) for run in known]
    assert told == [(2, "live", 1, "a fix"), (1, "live", len(HOSTS), "")]


@pytest.mark.parametrize(
    "at",
    [
        "",
        "soon",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "1066-10-14",
    ],
)
async def test_a_host_whose_times_are_damaged_still_tells_its_runs(
    scene: Scene, at: str
) -> None:
    for host in scene.fleet.hosts.values():
        host.module("/ghost/shop/prod/web/site").records[1]["at"] = at

    known = await past_runs(
        scene.plan, store=MemoryStore(), transport=scene.fleet.transport
    )

    assert [run.at for run in known] == [0.0]
    assert next(iter(tables.history(known, time.time()))).rstrip().endswith("  ?")


async def test_runs_that_took_stored_packages_say_what_these_are_made_of(
    plan: Plan,
) -> None:
    fleet = Committed.create(plan)
    first = fleet.commit("One")
    one = (await fleet.deploy()).releases["site"]
    second = fleet.commit("Two")
    await fleet.deploy()
    transport = fleet.hosts.transport
    await rollback(fleet.plan, transport=transport)
    await deploy(fleet.plan, packages=[second], transport=transport)

    known = await past_runs(fleet.plan)
    (fleet.plan.base / f"store/shop/prod/web/packages/{one}.json").unlink()
    lost = await past_runs(fleet.plan)

    told = [(run.action, run.commits["site"], run.subjects["site"]) for run in known]
    assert told == [
        ("deploy", second, "Two"),
        ("rollback", first, "One"),
        ("deploy", second, "Two"),
        ("deploy", first, "One"),
    ]
    assert [run.subjects.get("site") for run in lost] == ["Two", None, "Two", "One"]


def test_a_run_is_a_line_and_its_modules_are_below_it() -> None:
    run = HistoryEntry(
        id="20260101T000000Z-abcdef",
        action="deploy",
        outcome="live",
        generation=42,
        at=1767225600.0,
        actor="ann",
        reason="a fix",
        modules=("site",),
        releases={"site": NEW},
        subjects={"site": "Fix the checkout"},
        hosts=300,
        seconds=12.3,
    )
    early = HistoryEntry("20251231T235959Z-000000", "deploy", "locked", hosts=1)

    assert [*tables.history([run, early], run.at + 7200)] == [
        "#42  20260101T000000Z-abcdef  deploy  live    300 hosts  12 s  2 h ago",
        "    by ann",
        f"    site {NEW}  Fix the checkout",
        "    why: a fix",
        "-    20251231T235959Z-000000  deploy  locked  1 host           ?",
    ]
    assert list(tables.history([], 0)) == ["no run is known"]
