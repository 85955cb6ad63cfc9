"""A freeze: nothing is deployed, and a rollback is."""

from __future__ import annotations

import time

import pytest

from ghostasync import (
    DeployFailed,
    PlanError,
    build,
    check,
    converge,
    deploy,
    dry_run,
    freeze,
    rollback,
    status,
    unfreeze,
)
from ghostasync.errors import Frozen, StoreError
from ghostasync.testing import FakeTransport, MemoryStore
from tests.killing import HOSTS, STORE, Scene

WHY = "sale until Monday"


async def frozen(scene: Scene) -> None:
    transport = scene.fleet.transport
    left = await freeze(scene.plan, WHY, actor="ann", transport=transport)
    assert left == {}


async def test_a_frozen_app_gets_nothing_new_and_may_go_back(scene: Scene) -> None:
    scene.version("2")
    await scene.deploy()
    await frozen(scene)
    scene.version("3")
    transport = scene.fleet.transport

    for forward in (deploy, converge):
        with pytest.raises(Frozen, match=f"frozen by ann on .* since .*: {WHY}; ghost"):
            await forward(scene.plan, transport=transport)
    told = await status(scene.plan, transport=transport)
    await rollback(scene.plan, transport=transport)

    assert WHY in told.frozen
    assert set(scene.fleet.serves.values()) == {scene.old}
    await unfreeze(scene.plan, transport=transport)
    await scene.deploy()
    assert set(scene.fleet.serves.values()) != {scene.old}
    assert (await status(scene.plan, transport=transport)).frozen == ""


async def test_hosts_stop_a_run_of_another_store(scene: Scene) -> None:
    await frozen(scene)

    with pytest.raises(DeployFailed) as stopped:
        await deploy(scene.plan, store=MemoryStore(), transport=scene.fleet.transport)

    report = stopped.value.report
    assert report.exit_status == 4
    assert "frozen by ann" in report.reason
    assert "another run" not in report.reason


async def test_a_freeze_ends_by_itself(scene: Scene) -> None:
    scene.version("2")
    store, transport = MemoryStore(), scene.fleet.transport

    async def until(ends: float) -> None:
        await freeze(scene.plan, WHY, until=ends, store=store, transport=transport)

    await until(time.time() + 60)
    with pytest.raises(Frozen, match=r"until 20.* UTC: sale"):
        await deploy(scene.plan, store=store, transport=transport)
    await until(time.time() - 1)
    for host in scene.fleet.hosts.values():
        host.frozen = ""  # by their own clocks

    await deploy(scene.plan, store=store, transport=transport)


async def test_hosts_that_could_not_be_told_are_named(scene: Scene) -> None:
    away = FakeTransport(scene.fleet, unreachable=frozenset({"h2"}))

    left = await freeze(scene.plan, WHY, transport=away)

    assert list(left) == ["h2"]
    assert [h for h in HOSTS if scene.fleet[h].frozen] == ["h1", "h3", "h4"]


async def test_a_freeze_needs_a_reason(scene: Scene) -> None:
    with pytest.raises(PlanError, match="say why"):
        await freeze(scene.plan, " ", transport=scene.fleet.transport)


@pytest.mark.parametrize("until", [-1, 1e18, float("inf"), float("nan")])
async def test_a_freeze_ends_at_a_time_of_the_calendar(
    scene: Scene, until: float
) -> None:
    with pytest.raises(PlanError, match="until is no time between 1970 and 9999"):
        await freeze(scene.plan, WHY, until=until, transport=scene.fleet.transport)


async def test_a_frozen_app_is_looked_at_and_built(scene: Scene) -> None:
    await frozen(scene)
    transport = scene.fleet.transport

    (found,) = await check(scene.plan, transport=transport)
    assert found.text.startswith("frozen by ann on ")
    assert found.text.endswith(f"{WHY}; ghostasync unlock ends it")
    assert (found.host, found.warning) == ("", False)
    assert [*await build(scene.plan)] == ["site"]
    assert [*(await dry_run(scene.plan)).modules] == ["site"]


@pytest.mark.parametrize(
    "kept", ["{", '{"actor": "", "where": "", "reason": "", "since": 1e18}']
)
async def test_a_damaged_freeze_stops_a_run_until_it_is_taken_away(
    scene: Scene, kept: str
) -> None:
    (scene.folder / STORE / "FROZEN").write_text(kept)

    with pytest.raises(StoreError, match="FROZEN is damaged; ghostasync unlock"):
        await scene.deploy()
    await unfreeze(scene.plan, transport=scene.fleet.transport)

    assert (await scene.deploy()).exit_status == 0
