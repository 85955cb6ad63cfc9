"""What a rollback goes back to, from journals, or from hosts where these are lost."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs
import pytest

from ghostasync import (
    DeployFailed,
    Host,
    Outcome,
    Plan,
    PlanError,
    Report,
    Rollback,
    Rollout,
    converge,
    deploy,
    resume,
    revert,
    rollback,
    start,
)
from ghostasync import events as e
from ghostasync.errors import NothingToResume
from ghostasync.testing import Answer, Call, FakeHosts, FakeTransport
from tests.killing import HOSTS, STORE, Scene


@attrs.define
class History:
    """A fleet, and what was deployed to it, the oldest first."""

    scene: Scene
    reports: list[Report] = attrs.field(factory=list)

    @property
    def fleet(self) -> FakeHosts:
        return self.scene.fleet

    async def deploy(self, version: str, *limit: str) -> str:
        self.scene.version(version)
        report = await deploy(
            self.scene.plan,
            limit=limit,
            transport=self.fleet.transport,
        )
        self.reports.append(report)
        return report.releases["site"]

    async def rollback(
        self, run: str = "", *, to: str = "", limit: tuple[str, ...] = ()
    ) -> Report:
        return await rollback(
            self.scene.plan,
            run=run,
            to=(to,) if to else (),
            limit=limit,
            transport=self.fleet.transport,
        )

    async def watch(self, goal: Rollback) -> tuple[Report, list[str]]:
        """Roll back; return the report and the warnings."""
        told: list[str] = []

        def observe(record: e.Record) -> None:
            if isinstance(record.event, e.Warned):
                told.append(record.event.text)

        transport = self.fleet.transport
        async with start(
            self.scene.plan, goal, observe=observe, transport=transport
        ) as run:
            return await run.report(), told

    def lose(self, package: str) -> None:
        """Lose a package of the store."""
        for file in (self.scene.folder / STORE / "packages").glob(f"{package}*"):
            file.unlink()

    def assert_serves(self, release: str) -> None:
        assert self.fleet.serves == dict.fromkeys(HOSTS, release)
        assert self.scene.manifest == release

    def forget(self, *reports: Report) -> None:
        """Lose the journals of some runs."""
        for report in reports:
            shutil.rmtree(Path(report.log))


@pytest.fixture
async def history(scene: Scene) -> History:
    """Three releases, one after the other: what the scene has, "2" and "3"."""
    history = History(scene)
    await history.deploy("2")
    await history.deploy("3")
    return history


async def test_a_rollback_goes_to_what_served_before(history: History) -> None:
    second = history.reports[0].releases["site"]

    report = await history.rollback()

    assert report.outcome is Outcome.LIVE
    history.assert_serves(second)
    assert history.fleet.ran("post_deploy") == list(HOSTS)


async def test_each_rollback_goes_one_release_further_back(history: History) -> None:
    await history.rollback()

    await history.rollback()

    history.assert_serves(history.scene.old)
    with pytest.raises(PlanError, match=r"nothing to go back to\nsite: .* stays on"):
        await history.rollback()


async def test_a_rollback_of_a_rollback_goes_forward_again(history: History) -> None:
    third = history.reports[1].releases["site"]
    back = await history.rollback()

    await history.rollback(back.run)

    history.assert_serves(third)
    await history.rollback()
    history.assert_serves(history.reports[0].releases["site"])


async def test_a_rollback_to_before_an_older_run_skips_what_came_between(
    history: History,
) -> None:
    await history.rollback(history.reports[0].run)

    history.assert_serves(history.scene.old)
    with pytest.raises(PlanError, match="nothing to go back to"):
        await history.rollback()


@pytest.mark.parametrize("again", [converge, deploy])
async def test_a_host_that_comes_later_does_not_change_what_served_before(
    history: History, again: Callable[..., Awaitable[Report]]
) -> None:
    """Neither by a converge nor by the same deploy again: it missed two releases."""
    scene, away = history.scene, frozenset({"h4"})
    scene.plan = attrs.evolve(scene.plan, rollout=Rollout(max_failures=1))
    fourth, _ = [await miss(history, away, version) for version in ("4", "5")]
    await again(scene.plan, transport=history.fleet.transport)
    assert set(history.fleet.serves.values()) == {scene.manifest}

    await history.rollback()

    history.assert_serves(fourth)


async def miss(history: History, away: frozenset[str], version: str) -> str:
    """Deploy a version while some hosts are out of reach; return its release."""
    history.scene.version(version)
    transport = FakeTransport(history.fleet, unreachable=away)
    report = await deploy(history.scene.plan, transport=transport)
    assert report.outcome is Outcome.PARTIAL
    return report.releases["site"]


async def test_a_new_host_that_was_converged_goes_back_with_the_fleet(
    history: History,
) -> None:
    plan = history.scene.plan
    history.fleet.hosts["h9"] = type(history.fleet.hosts["h1"])()
    history.scene.plan = attrs.evolve(plan, hosts=(*plan.hosts, Host("h9")))
    await converge(history.scene.plan, limit=["h9"], transport=history.fleet.transport)

    await history.rollback()

    second = history.reports[0].releases["site"]
    assert set(history.fleet.serves.values()) == {second}


async def test_a_new_host_that_went_back_with_the_fleet_goes_further_with_it(
    history: History,
) -> None:
    """It never had what was undone first; the second rollback went forward again."""
    plan = history.scene.plan
    history.fleet.hosts["h9"] = type(history.fleet.hosts["h1"])()
    history.scene.plan = attrs.evolve(plan, hosts=(*plan.hosts, Host("h9")))
    await converge(history.scene.plan, limit=["h9"], transport=history.fleet.transport)
    await history.rollback()

    await history.rollback()

    assert set(history.fleet.serves.values()) == {history.scene.old}
    assert history.scene.manifest == history.scene.old


async def test_a_canary_that_was_converged_is_not_what_serves(
    history: History,
) -> None:
    await history.deploy("4", "h1")
    await converge(history.scene.plan, limit=["h1"], transport=history.fleet.transport)

    await history.rollback()

    history.assert_serves(history.reports[0].releases["site"])


async def test_a_deploy_after_a_rollback_is_what_the_next_one_goes_back_from(
    history: History,
) -> None:
    second = history.reports[0].releases["site"]
    await history.rollback()
    await history.deploy("4")

    await history.rollback()

    history.assert_serves(second)


async def test_a_host_that_lacks_the_release_is_sent_it(history: History) -> None:
    second = history.reports[0].releases["site"]
    history.fleet.hosts["h3"].releases.discard(second)
    for host in history.fleet.hosts.values():
        host.ran.clear()

    await history.rollback(to=second)

    history.assert_serves(second)
    assert history.fleet.ran("receive") == ["h3"]
    assert history.fleet.ran("pre_deploy") == ["h3"]


async def test_a_rollback_of_chosen_hosts_leaves_the_manifest(
    history: History,
) -> None:
    second, third = (report.releases["site"] for report in history.reports)

    await history.rollback(limit=("h1",))

    assert history.fleet.serves == {**dict.fromkeys(HOSTS, third), "h1": second}
    assert history.scene.manifest == third


async def test_a_rollback_that_fails_leaves_what_served(history: History) -> None:
    third = history.reports[1].releases["site"]

    def breaks(call: Call) -> Answer | None:
        last = call.host == "h4" and call.name == "switch"
        return Answer(1, b"no\n") if last else None

    history.fleet.breaks = breaks

    with pytest.raises(DeployFailed):
        await history.rollback()

    history.assert_serves(third)


async def test_hosts_that_served_different_releases_go_back_to_theirs(
    history: History,
) -> None:
    third = history.reports[1].releases["site"]
    canary = await history.deploy("4", "h1")
    fifth = await history.deploy("5")

    report, told = await history.watch(Rollback())

    assert report.exit_status == 0
    assert history.fleet.serves == {**dict.fromkeys(HOSTS, third), "h1": canary}
    assert history.scene.manifest == fifth
    assert (
        f"site: hosts go back to different releases: {canary} on h1; {third} on h2, "
        "h3, h4; MANIFEST stays as it is"
    ) in told
    assert f"MANIFEST still names {fifth}: a host that boots gets it" in told


async def test_a_host_that_had_no_release_gets_what_the_others_had(
    history: History,
) -> None:
    plan = history.scene.plan
    third = history.reports[1].releases["site"]
    history.fleet.hosts["h9"] = type(history.fleet.hosts["h1"])()
    history.scene.plan = attrs.evolve(plan, hosts=(*plan.hosts, Host("h9")))
    await history.deploy("4")

    await history.rollback()

    assert set(history.fleet.serves.values()) == {third}


async def test_a_first_deploy_has_nothing_before_it(scene: Scene) -> None:
    with pytest.raises(PlanError, match=r"nothing to go back to\nsite: .* stays on"):
        await History(scene).rollback()


async def test_a_fleet_without_runs_has_nothing_to_go_back_from(plan: Plan) -> None:
    with pytest.raises(PlanError, match="no host has a run on record that could be"):
        await rollback(plan, transport=FakeHosts().transport)


async def test_a_release_that_hosts_hold_needs_no_package(history: History) -> None:
    second, third = (report.releases["site"] for report in history.reports)
    history.lose(second)

    report, told = await history.watch(Rollback())

    assert report.exit_status == 0
    assert history.fleet.serves == dict.fromkeys(HOSTS, second)
    # A new host could not get it.
    assert history.scene.manifest == third
    assert f"MANIFEST still names {third}: a host that boots gets it" in told


async def test_a_host_that_lacks_a_lost_package_stays_and_is_told(
    history: History,
) -> None:
    second, third = (report.releases["site"] for report in history.reports)
    history.lose(second)
    history.fleet.hosts["h3"].releases.discard(second)

    _, told = await history.watch(Rollback())

    serves = {**dict.fromkeys(HOSTS, second), "h3": third}
    assert history.fleet.serves == serves
    assert any(line.startswith(f"site: h3 cannot go to {second}: ") for line in told)


async def test_a_package_that_nobody_has_is_refused_by_name(history: History) -> None:
    second = history.reports[0].releases["site"]
    history.lose(second)
    for host in history.fleet.hosts.values():
        host.releases.discard(second)

    with pytest.raises(PlanError, match=f"cannot go to {second}: .*was it pruned"):
        await history.rollback()


# --- Where journals are lost ----------------------------------------------------


async def test_hosts_know_what_was_before_where_all_journals_are_lost(
    history: History,
) -> None:
    shutil.rmtree(history.scene.folder / STORE / "runs")

    await history.rollback()

    history.assert_serves(history.reports[0].releases["site"])


async def test_the_journal_of_an_older_run_is_not_taken_for_the_newest(
    history: History,
) -> None:
    history.forget(history.reports[1])

    await history.rollback()

    history.assert_serves(history.reports[0].releases["site"])


async def test_hosts_know_a_run_by_name(history: History) -> None:
    run = history.reports[1]
    history.forget(run)

    await history.rollback(run.run)

    history.assert_serves(history.reports[0].releases["site"])


async def test_a_run_that_nobody_knows_is_refused(history: History) -> None:
    with pytest.raises(PlanError, match="no host has a record of run 20200101"):
        await history.rollback("20200101T000000Z-abcdef")


async def test_hosts_that_went_back_from_a_failed_run_know_what_was_before(
    history: History,
) -> None:
    """The record of the last move is of a release that is not live any more."""
    second = history.reports[0].releases["site"]

    history.scene.version("4")

    def breaks(call: Call) -> Answer | None:
        forward = "GHOST_ACTION=rollback" not in call.args
        fails = call.name == "run" and call.args[1].endswith("/post_deploy") and forward
        return Answer(5, b"no\n") if fails else None

    history.fleet.breaks = breaks
    with pytest.raises(DeployFailed):
        await history.scene.deploy()
    history.fleet.breaks = lambda _: None
    shutil.rmtree(history.scene.folder / STORE / "runs")

    await history.rollback()

    history.assert_serves(second)


# --- Beside runs that were killed -------------------------------------------------


async def test_a_killed_run_is_what_a_rollback_undoes(scene: Scene) -> None:
    await scene.deploy_and_watch()
    scene.kill(scene.at(e.Switched, "h2"))
    assert len(set(scene.fleet.serves.values())) == 2

    report = await History(scene).rollback()

    assert set(report.hosts) < set(HOSTS), "the others never left"
    History(scene).assert_serves(scene.old)
    with pytest.raises(NothingToResume):
        await resume(scene.plan, transport=scene.fleet.transport)


async def test_a_rollback_from_a_resumed_run_goes_to_before_the_killed_one(
    scene: Scene,
) -> None:
    await scene.deploy_and_watch()
    scene.kill(scene.at(e.Undrained, "h2"))
    await resume(scene.plan, transport=scene.fleet.transport)

    await History(scene).rollback()

    History(scene).assert_serves(scene.old)


async def test_a_rollback_that_was_resumed_is_rolled_away_from_for_good(
    history: History,
) -> None:
    """Two releases back; the third one was what a later rollback went to."""
    scene = history.scene
    await scene.watch(Rollback(run=history.reports[0].run))
    scene.kill(scene.at(e.Undrained, "h2"))
    await resume(scene.plan, transport=scene.fleet.transport)
    history.assert_serves(scene.old)

    with pytest.raises(PlanError, match=r"nothing to go back to\nsite: .* stays on"):
        await history.rollback()


async def test_a_run_that_was_reverted_is_not_what_serves(scene: Scene) -> None:
    history = History(scene)
    second = await history.deploy("1.5")
    await scene.deploy_and_watch()
    scene.kill(scene.at(e.Undrained, "h2"))
    await revert(scene.plan, transport=scene.fleet.transport)
    history.assert_serves(second)

    await history.rollback()

    history.assert_serves(scene.old)


async def test_a_run_that_ended_mixed_is_taken_back(history: History) -> None:
    third = history.reports[1].releases["site"]
    scene = history.scene
    scene.plan = attrs.evolve(
        scene.plan, rollout=Rollout(waves=(2,), on_failure="rollback-host")
    )
    history.fleet.breaks = lambda call: (
        Answer(1, b"no\n") if call.name == "switch" and call.host == "h2" else None
    )
    with pytest.raises(DeployFailed):
        await history.deploy("4")
    assert len(set(history.fleet.serves.values())) == 2
    history.fleet.breaks = lambda _: None

    await history.rollback()

    history.assert_serves(third)
