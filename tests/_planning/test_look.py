"""Which hosts a run is about, by what they serve and what became of them earlier."""

from __future__ import annotations

import attrs
import pytest

from ghostasync import DeployFailed, Outcome, PlanError, Report, Rollout, State, deploy
from ghostasync import events as e
from ghostasync.history.reports import failed_hosts
from ghostasync.model import HostReport
from ghostasync.testing import FakeTransport, MemoryStore
from tests.deploying import fails
from tests.killing import HOSTS, Scene


async def failed(*runs: dict[str, HostReport]) -> set[str]:
    """Return the hosts that failed in their own last run; *runs* are in order."""
    store = MemoryStore()
    for number, rows in enumerate(runs):
        report = Report(f"{number}", Outcome.FAILED, 1, {}, rows)
        await store.runs.save(f"{number}", "report.json", report.to_json().encode())
    return set(await failed_hosts(store.runs))


async def test_a_host_that_others_stopped_or_took_back_did_not_fail() -> None:
    rows = {
        "web1": HostReport(State.FAILED, State.CHECKING),
        "web2": HostReport(State.HALTED),
        "web3": HostReport(State.ROLLED_BACK, State.ACTIVATING),
        "web4": HostReport(State.STRANDED, State.ROLLING_BACK),
        "web5": HostReport(State.LIVE),
        "web6": HostReport(State.UNCHANGED),
        "web7": HostReport(State.ROLLED_BACK),
    }

    assert await failed(rows) == {"web1", "web3", "web4"}


async def test_each_host_s_own_last_run_counts() -> None:
    first = {
        "web1": HostReport(State.FAILED, State.CHECKING),
        "web2": HostReport(State.FAILED, State.CHECKING),
        "web3": HostReport(State.STRANDED, State.ROLLING_BACK),
    }
    second = {"web2": HostReport(State.LIVE), "web3": HostReport(State.HALTED)}

    assert await failed(first, second) == {"web1", "web3"}


async def test_a_hotfix_is_not_taken_off_by_a_deploy_to_those_that_failed(
    scene: Scene,
) -> None:
    """All others were taken back because of h2 alone."""
    scene.version("2")
    scene.fleet.breaks = fails("post_deploy", "h2")
    with pytest.raises(DeployFailed):
        await scene.deploy()
    scene.fleet.breaks = lambda _: None

    report = await deploy(
        scene.plan, limit=["@failed"], transport=scene.fleet.transport
    )

    assert set(report.hosts) == {"h2"}


async def test_hosts_that_are_behind_are_those_that_missed_a_release(
    scene: Scene,
) -> None:
    scene.plan = attrs.evolve(scene.plan, rollout=Rollout(max_failures=1))
    scene.version("2")
    away = FakeTransport(scene.fleet, unreachable=frozenset({"h3"}))
    await deploy(scene.plan, transport=away)
    scene.version("3")
    canary = await deploy(scene.plan, limit=["h1"], transport=scene.fleet.transport)
    told: list[str] = []

    def observe(record: e.Record) -> None:
        if isinstance(record.event, e.Warned):
            told.append(record.event.text)

    away = FakeTransport(scene.fleet, unreachable=frozenset({"h4"}))
    report = await deploy(
        scene.plan,
        packages=[scene.manifest],
        limit=["@behind"],
        observe=observe,
        transport=away,
    )

    assert set(report.hosts) == {"h3"}
    assert "no answer, so not among @behind: h4" in told
    assert scene.fleet.serves == {
        **dict.fromkeys(HOSTS, scene.manifest),
        "h1": canary.releases["site"],
    }
    with pytest.raises(PlanError, match="no host that answers is behind MANIFEST"):
        await deploy(scene.plan, limit=["@behind"], transport=scene.fleet.transport)
