"""What a rollback goes back to, from journals, or from hosts where these are lost."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from ghostasync import (
    Deadlines,
    DeployFailed,
    Host,
    Outcome,
    Plan,
    PlanError,
    Report,
    Rollback,
    Rollout,
    Script,
    build,
    converge,
    deploy,
    preview_rollback,
    resume,
    revert,
    rollback,
    start,
)
from ghostasync import events as e
from ghostasync.errors import NothingToResume, StoreError
from ghostasync.stores.directory import DirectoryManifest
from ghostasync.testing import (
    Answer,
    Break,
    Call,
    FakeHost,
    FakeHosts,
    FakeTransport,
    step,
)
from tests.deploying import with_rollout
from tests.killing import HOSTS, STORE, Scene, four_hosts

APP = "/ghost/shop/prod/web"


def fails(what: str, *hosts: str, at: int = 0) -> Break:
    """Have a step fail on some hosts; *at* tells the one try that does."""
    count = 0

    def breaks(call: Call) -> Answer | None:
        nonlocal count
        if step(call) != what or (hosts and call.host not in hosts):
            return None
        count += 1
        return Answer(1, b"no\n") if at in {0, count} else None

    return breaks


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

    def lose(self, package: str, what: str = "packages") -> None:
        """Lose a package of the store, or its environment."""
        for file in (self.scene.folder / STORE / what).glob(f"{package}*"):
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


@pytest.mark.parametrize("what", ["switch", "post_deploy"])
async def test_a_rollback_that_fails_leaves_what_served(
    history: History, what: str
) -> None:
    third = history.reports[1].releases["site"]
    history.fleet.breaks = fails(what, "h4", at=1)

    with pytest.raises(DeployFailed):
        await history.rollback()

    history.assert_serves(third)


async def test_a_host_whose_records_are_damaged_is_stranded_and_the_others_go_back(
    history: History,
) -> None:
    """What is damaged is found on the way back, after MANIFEST has moved."""
    third = history.reports[1].releases["site"]
    fleet, broken = history.fleet, fails("post_deploy", "h4", at=1)

    def breaks(call: Call) -> Answer | None:
        if call.name == "restore" and call.host == "h1":
            did = fleet.work(call)
            return attrs.evolve(did, output=did.output + b"verify {torn\n")
        return broken(call)

    fleet.breaks = breaks

    with pytest.raises(DeployFailed) as failed:
        await history.rollback()

    assert failed.value.report.exit_status == 3
    assert "on record" in failed.value.report.hosts["h1"].reason
    history.assert_serves(third)


@pytest.mark.parametrize("fail", [False, True])
async def test_a_move_of_manifest_whose_answer_is_lost_may_have_happened(
    history: History, monkeypatch: pytest.MonkeyPatch, *, fail: bool
) -> None:
    second, third = (report.releases["site"] for report in history.reports)
    moves, move = 0, DirectoryManifest.move

    async def lose(self: DirectoryManifest, *args: Any) -> None:
        nonlocal moves
        moves += 1
        await move(self, *args)
        if moves == 1:
            raise StoreError("no answer")

    monkeypatch.setattr(DirectoryManifest, "move", lose)
    if fail:
        history.fleet.breaks = fails("switch", "h4")

    with pytest.raises(DeployFailed) if fail else contextlib.nullcontext():
        await history.rollback()

    history.assert_serves(third if fail else second)


async def test_manifest_is_empty_again_where_a_rollback_that_filled_it_fails(
    plan: Plan, tmp_path: Path
) -> None:
    fleet = FakeHosts()
    canary = await deploy(plan, limit=["h1"], transport=fleet.transport)
    fleet.breaks = fails("post_deploy", "h2", at=1)

    with pytest.raises(DeployFailed):
        await rollback(plan, to=[canary.releases["site"]], transport=fleet.transport)

    assert {h for h, release in fleet.serves.items() if release} == {"h1"}
    assert (tmp_path / STORE / "MANIFEST").read_text() == ""


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
        f"site: hosts go back to different releases: {canary} on h1; {third} on "
        "h[2-4]; MANIFEST stays as it is"
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


@pytest.mark.parametrize("lost", ["packages", "environments"])
async def test_a_release_that_hosts_hold_needs_no_package(
    history: History, lost: str
) -> None:
    second, third = (report.releases["site"] for report in history.reports)
    history.lose(second, lost)

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

    report, told = await history.watch(Rollback())

    serves = {**dict.fromkeys(HOSTS, second), "h3": third}
    assert history.fleet.serves == serves
    assert (report.outcome, report.exit_status) == (Outcome.PARTIAL, 1)
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


@pytest.mark.parametrize("hosts", [("h3",), ()])
async def test_what_hosts_were_not_told_is_live_is_so_by_its_journal(
    history: History, hosts: tuple[str, ...]
) -> None:
    """A controller was killed once MANIFEST had moved, or a host was lost then."""
    history.fleet.breaks = fails("prune", *hosts)
    fourth = await history.deploy("4")
    history.fleet.breaks = lambda _: None
    await history.deploy("5")

    await history.rollback()

    history.assert_serves(fourth)


async def test_what_a_canary_had_first_can_be_what_hosts_boot(history: History) -> None:
    """A run under --limit keeps the environment, and leaves MANIFEST."""
    canary, third = await history.deploy("4", "h1"), history.scene.manifest
    assert third == history.reports[1].releases["site"]
    await history.deploy("5")

    await history.rollback(to=canary)

    history.assert_serves(canary)


async def test_hosts_that_stay_are_told(history: History) -> None:
    """One of them is a new machine, with nothing."""
    third = history.reports[1].releases["site"]
    await history.deploy("4", "h1")
    history.fleet.hosts["h4"] = FakeHost()

    _, told = await history.watch(Rollback())

    run = history.reports[2].run
    assert told[:2] == [
        f"site: h[2-3] stay on {third}: run {run} moved nothing there",
        f"site: h4 stays on nothing: run {run} moved nothing there",
    ]


async def test_a_canary_in_another_environment_is_not_what_hosts_boot(
    history: History,
) -> None:
    """The package is the one that MANIFEST names; what it boots with stays."""
    scene, third = history.scene, history.reports[1].releases["site"]
    kept = scene.folder / STORE / f"environments/{third}.sh"
    before = kept.read_bytes()
    app = attrs.evolve(scene.plan.app, env_vars={"COLOR": "green"})

    await deploy(
        attrs.evolve(scene.plan, app=app),
        packages=[third],
        limit=["h1"],
        transport=history.fleet.transport,
    )

    assert kept.read_bytes() == before


async def test_a_release_that_comes_back_boots_with_what_it_had(scene: Scene) -> None:
    """Also after two rollbacks: an environment stays for as long as its package."""
    for number in "123":
        app = attrs.evolve(scene.plan.app, env_vars={"NUMBER": number})
        scene.plan = attrs.evolve(scene.plan, app=app)
        await History(scene).deploy(f"with {number}")

    for _ in range(2):
        await History(scene).rollback()

    kept = scene.folder / STORE / f"environments/{scene.manifest}.sh"
    assert "export NUMBER='1'\n" in kept.read_text()


async def test_a_host_that_was_silent_goes_back_only_from_what_is_undone(
    history: History,
) -> None:
    third = history.reports[1].releases["site"]
    fourth = await history.deploy("4", "h4")
    await history.deploy("5", "h1")
    history.fleet.breaks = fails("check", "h4", at=1)

    await history.rollback()

    assert history.fleet.serves == {**dict.fromkeys(HOSTS, third), "h4": fourth}


# --- Where links go ---------------------------------------------------------------


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_link_that_could_not_be_removed_is_told(
    scene: Scene, *, hangs: bool
) -> None:
    deadlines = Deadlines(switch=0.2)
    rollout = attrs.evolve(scene.plan.rollout, deadlines=deadlines)
    scene.plan = attrs.evolve(scene.plan, rollout=rollout)
    if hangs:
        scene.fleet.hangs = {("h2", "restore")}
    else:
        scene.fleet.breaks = fails("restore", "h2")

    async with start(
        scene.plan, Rollback(remove=True), transport=scene.fleet.transport
    ) as run:
        report = await run.report()

    assert (report.outcome, report.exit_status) == (Outcome.PARTIAL, 1)
    assert scene.fleet.serves == {**dict.fromkeys(HOSTS, ""), "h2": scene.old}
    assert (scene.folder / STORE / "MANIFEST").read_text() == ""


# --- Two modules --------------------------------------------------------------------


@attrs.define
class Two:
    """Four hosts with two modules that serve version 2, and had version 1."""

    scene: Scene
    first: Report
    second: Report

    @property
    def serves(self) -> dict[str, tuple[str, ...]]:
        """What each host serves, site first."""
        hosts = self.scene.fleet.hosts.items()
        return {
            name: tuple(host.module(f"{APP}/{m}").live for m in ("site", "api"))
            for name, host in hosts
        }

    @property
    def manifest(self) -> list[str]:
        text = (self.scene.folder / STORE / "MANIFEST").read_text()
        return [line.split(":")[1] for line in text.splitlines()]


@pytest.fixture
async def two(tmp_path: Path, cache: None) -> Two:
    plan = four_hosts(tmp_path)
    site = attrs.evolve(plan.modules[0], after_all_deploy=Script())
    api = attrs.evolve(site, name="api", path="/srv/api")
    scene = Scene(tmp_path, attrs.evolve(plan, modules=(site, api)), FakeHosts())
    scene.version("1")
    first = await scene.deploy()
    scene.version("2")
    return Two(scene, first, await scene.deploy())


async def test_a_module_whose_package_is_lost_stays_in_manifest_and_goes_back_on_hosts(
    two: Two,
) -> None:
    was, now = two.first.releases, two.second.releases
    History(two.scene).lose(was["api"])

    report, told = await History(two.scene).watch(Rollback())

    assert report.exit_status == 0
    assert two.serves == dict.fromkeys(HOSTS, (was["site"], was["api"]))
    assert two.manifest == [was["site"], now["api"]]
    assert f"MANIFEST still names {now['api']}: a host that boots gets it" in told


async def test_a_host_that_lacks_one_module_goes_back_with_the_other(two: Two) -> None:
    was, now = two.first.releases, two.second.releases
    History(two.scene).lose(was["api"])
    two.scene.fleet["h2"].module(f"{APP}/api").releases.discard(was["api"])

    report, told = await History(two.scene).watch(Rollback())

    back = (was["site"], was["api"])
    expected = {**dict.fromkeys(HOSTS, back), "h2": (was["site"], now["api"])}
    assert (two.serves, report.exit_status) == (expected, 1)
    assert any(line.startswith("api: h2 cannot go to") for line in told)


async def test_what_a_rollback_left_alone_is_left_alone_by_its_resumption(
    two: Two,
) -> None:
    """One host had the api already that the undone run brought to the others."""
    scene, was = two.scene, two.second.releases
    scene.version("3")
    transport = scene.fleet.transport
    ahead = await deploy(scene.plan, modules=["api"], limit=["h2"], transport=transport)
    api = ahead.releases["api"]
    site = (await build(scene.plan, modules=["site"], force=True))["site"].id
    undone = await deploy(scene.plan, packages=[api, site], transport=transport)
    await scene.watch(Rollback(run=undone.run))
    scene.kill(scene.at(e.Numbered))

    await resume(scene.plan, transport=transport)

    back = (was["site"], was["api"])
    assert two.serves == {**dict.fromkeys(HOSTS, back), "h2": (was["site"], api)}


# --- A person who was shown what would go back --------------------------------------


async def test_a_run_that_was_agreed_on_is_undone_only_while_it_is_the_newest(
    history: History,
) -> None:
    two = await history.deploy("2")
    plan, transport = history.scene.plan, history.fleet.transport
    shown = await preview_rollback(plan, transport=transport)
    three = await history.deploy("3")

    with pytest.raises(PlanError, match="is the newest that stands by now, and not"):
        await _agreed(history, shown.run)

    assert set(history.fleet.serves.values()) == {three}
    again = await preview_rollback(plan, transport=transport)
    assert (await _agreed(history, again.run)).exit_status == 0
    assert set(history.fleet.serves.values()) == {two}


async def _agreed(history: History, run: str) -> Report:
    goal, transport = Rollback(agreed=run), history.fleet.transport
    async with start(history.scene.plan, goal, transport=transport) as running:
        return await running.report()


async def test_a_preview_has_the_releases_of_what_goes_back(history: History) -> None:
    two = await history.deploy("2")
    three = await history.deploy("3", "h1")

    shown = await preview_rollback(
        history.scene.plan, transport=history.fleet.transport
    )

    (known,) = shown.releases.values()
    served = {each.release: each.hosts for each in known}
    assert [*served][:2] == [three, two]
    assert [*served.values()][:2] == [("h1",), ("h2", "h3", "h4")]
    assert (known[-1].release, known[-1].hosts) == (history.scene.old, ())
    assert known[0].at >= known[-1].at > 0


# --- Past a migration without a way back --------------------------------------------


async def migrated(history: History) -> str:
    """Deploy a release whose before_switch has no way back, and one without any."""
    scene, before = history.scene, history.scene.plan
    script = Script(inline="migrate", no_return=True)
    module = attrs.evolve(before.modules[0], before_switch=script)
    scene.plan = attrs.evolve(before, modules=(module,))
    fourth = await history.deploy("4")
    scene.plan = before
    return fourth


async def refused(history: History, **asked: str) -> str:
    before, manifest = history.fleet.serves, history.scene.manifest
    with pytest.raises(PlanError) as caught:
        await history.rollback(**asked)  # type: ignore[arg-type]  # a run, or a release
    assert (history.fleet.serves, history.scene.manifest) == (before, manifest)
    return str(caught.value)


async def test_a_rollback_past_a_migration_takes_force(history: History) -> None:
    third, fourth = history.reports[1], await migrated(history)

    said = await refused(history)

    assert said == (
        f"before_switch has no way back (no_return), and came with site {fourth}: "
        "older releases may not work with what it left; --force goes back even so"
    )
    plan, transport = history.scene.plan, history.fleet.transport
    await preview_rollback(plan, force=True, transport=transport)
    await rollback(plan, force=True, transport=transport)
    history.assert_serves(third.releases["site"])
    # It is behind by now, for releases that are older still as well.
    await history.rollback(to=history.reports[0].releases["site"])


async def test_a_rollback_to_what_came_after_a_migration_is_free(
    history: History,
) -> None:
    fourth = await migrated(history)
    await history.deploy("5")

    await refused(history, to=history.reports[1].releases["site"])
    await history.rollback()

    history.assert_serves(fourth)
    await refused(history)


async def test_a_host_that_was_converged_knows_of_the_migration_from_others(
    history: History,
) -> None:
    history.scene.plan = with_rollout(history.scene.plan, max_failures=1)
    history.fleet.breaks = fails("check", "h1")
    fourth = await migrated(history)
    history.fleet.breaks = lambda _: None
    await converge(history.scene.plan, transport=history.fleet.transport)
    history.assert_serves(fourth)

    await refused(history)


async def test_a_host_that_was_converged_knows_of_the_migration_by_itself(
    history: History,
) -> None:
    history.scene.plan = with_rollout(history.scene.plan, max_failures=1)
    history.fleet.breaks = fails("check", "h1")
    script, plan = Script(inline="migrate", no_return=True), history.scene.plan
    module = attrs.evolve(plan.modules[0], before_switch=script)
    history.scene.plan = plan = attrs.evolve(plan, modules=(module,))
    await history.deploy("4")
    history.fleet.breaks = lambda _: None
    await converge(plan, transport=history.fleet.transport)

    with pytest.raises(PlanError, match="no way back"):
        await history.rollback(to=history.scene.old, limit=("h1",))


@pytest.mark.parametrize("undo", [True, False])
async def test_to_go_forward_again_passes_no_migration(
    history: History, undo: bool
) -> None:
    fourth = await migrated(history)
    fifth = await history.deploy("5")
    back = await history.rollback()
    history.assert_serves(fourth)

    await history.rollback(back.run if undo else "", to="" if undo else fifth)

    history.assert_serves(fifth)


async def test_a_run_that_fails_goes_back_past_its_own_migration(
    history: History,
) -> None:
    third = history.reports[1].releases["site"]
    history.fleet.breaks = fails("post_deploy", "h2")

    with pytest.raises(DeployFailed):
        await migrated(history)

    history.assert_serves(third)
