"""What a run had released, and stored packages, are brought to the fleet again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs
import pytest

from ghostasync import (
    Deploy,
    DirectorySource,
    Plan,
    PlanError,
    Report,
    Rollback,
    Script,
    build,
    dry_run,
    redeploy,
    start,
)
from ghostasync import events as e
from ghostasync.goal import Goal
from ghostasync.testing import FakeHosts
from tests.deploying import fails, of

NONE: Final = (
    "no run has an id, and no package an id or a commit, that begins so; `ghostasync "
    "history` names them"
)


@attrs.define
class Scene:
    """A site and an api, and the fleet that serves them."""

    plan: Plan
    hosts: FakeHosts = attrs.field(factory=FakeHosts)
    seen: list[e.Event] = attrs.field(factory=list)

    async def run(self, goal: Goal, *limit: str) -> Report:
        self.seen.clear()
        async with start(
            self.plan,
            goal,
            limit=limit,
            observe=lambda record: self.seen.append(record.event),
            transport=self.hosts.transport,
        ) as run:
            return await run.report()

    async def deploys(self, version: str, *limit: str) -> Report:
        for module in self.plan.modules:
            assert isinstance(module.source, DirectorySource)
            folder = self.plan.base / module.source.dir
            folder.mkdir(exist_ok=True)
            (folder / "index").write_text(version)
        return await self.run(Deploy(), *limit)

    async def redeploys(self, *words: str, **options: object) -> Report:
        return await redeploy(
            self.plan,
            words,
            transport=self.hosts.transport,
            observe=lambda record: self.seen.append(record.event),
            **options,  # type: ignore[arg-type]  # keys
        )

    @property
    def manifest(self) -> dict[str, str]:
        text = (self.plan.base / "store/shop/prod/web/MANIFEST").read_text()
        return dict(line.split(":")[:2] for line in text.splitlines())

    def prune(self, package: str) -> None:
        folder = self.plan.base / "store/shop/prod/web/packages"
        for file in folder.glob(f"{package}*"):
            file.unlink()


@pytest.fixture
def scene(plan: Plan) -> Scene:
    site = attrs.evolve(
        plan.modules[0],
        source=DirectorySource(str(plan.base / "tree")),
        after_all_deploy=Script(inline=f"echo >>{plan.base}/after_all"),
    )
    api = attrs.evolve(
        site,
        name="api",
        path="/srv/api",
        source=DirectorySource(str(plan.base / "api")),
        after_all_deploy=Script(),
    )
    return Scene(attrs.evolve(plan, modules=(site, api)))


async def refusal(scene: Scene, words: Sequence[str]) -> str:
    before = dict(scene.hosts.serves)
    with pytest.raises(PlanError) as refused:
        await scene.redeploys(*words)
    assert scene.hosts.serves == before
    return str(refused.value)


async def test_a_run_is_brought_back_with_all_its_modules(scene: Scene) -> None:
    first = await scene.deploys("1")
    await scene.deploys("2")
    scene.seen.clear()

    report = await scene.redeploys(first.run)

    assert report.releases == first.releases == scene.manifest
    assert {event.action for event in scene.seen if isinstance(event, e.Started)} == {
        "redeploy"
    }
    assert of(e.Resolved, scene.seen) == []
    log = (scene.plan.base / "after_all").read_text()
    assert len(log.splitlines()) == 3, "after_all_deploy runs as in a deploy"


async def test_a_run_and_packages_are_named_by_how_they_begin(scene: Scene) -> None:
    first = await scene.deploys("1")
    second = await scene.deploys("2")

    await scene.redeploys(first.run[:-1])
    assert scene.manifest == first.releases
    await scene.redeploys(second.releases["api"])
    assert scene.manifest == {**first.releases, "api": second.releases["api"]}


async def test_a_package_may_be_named_beside_its_run(scene: Scene) -> None:
    first = await scene.deploys("1")

    report = await scene.redeploys(first.run, first.releases["api"])

    assert report.releases == first.releases


async def test_what_failed_on_hosts_can_be_tried_again(scene: Scene) -> None:
    await scene.deploys("1")
    scene.hosts.breaks = fails("post_deploy", "h2")
    failed = await scene.deploys("2")
    assert failed.exit_status == 1
    scene.hosts.breaks = lambda _: None

    report = await scene.redeploys(failed.run)

    assert report.releases == failed.releases == scene.manifest


async def test_a_rollback_is_brought_to_all_by_its_run(scene: Scene) -> None:
    first = await scene.deploys("1")
    second = await scene.deploys("2")
    back = await scene.run(Rollback())
    await scene.redeploys(second.run)

    report = await scene.redeploys(back.run)

    assert report.releases == first.releases


async def test_a_rollback_to_several_releases_has_none_to_bring(scene: Scene) -> None:
    first = await scene.deploys("1")
    other = await scene.deploys("2", "h1")
    await scene.deploys("3")
    back = await scene.run(Rollback())

    said = await refusal(scene, [back.run])

    ids = ", ".join(sorted([first.releases["site"], other.releases["site"]]))
    assert said == (
        f"run {back.run} released several packages of site; name what is to come: {ids}"
    )


async def test_a_run_that_packaged_one_module_names_that(scene: Scene) -> None:
    await scene.deploys("1")
    (scene.plan.base / "api/index").unlink()  # no files, no package
    (scene.plan.base / "tree/index").write_text("2")
    failed = await scene.run(Deploy())
    (site,) = of(e.Packaged, scene.seen)
    assert isinstance(site, e.Packaged)

    said = await refusal(scene, [failed.run])

    assert said == (
        f"run {failed.run} released no package of api; name what is to come: "
        f"{site.package}"
    )


async def test_a_pruned_package_is_told_as_such(scene: Scene) -> None:
    first = await scene.deploys("1")
    await scene.deploys("2")
    site = first.releases["site"]
    scene.prune(site)

    said = await refusal(scene, [first.run])

    assert said == (
        f"run {first.run} released {site}, which was pruned from "
        f"{scene.plan.base}/store/shop/prod/web since (store.keep); hosts that have it "
        f"still can go to it: ghostasync rollback --to {site}"
    )
    assert await refusal(scene, [site]) == (
        f"package {site}: {scene.plan.base}/store/shop/prod/web/packages has no "
        f"package {site}; was it pruned?"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "redeploy: name a run or packages; ghostasync history does"),
        ([""], "redeploy: name a run or packages; ghostasync history does"),
        (["site"], f"site: {NONE}"),
        (["20"], "20 names 2 runs: say more of it"),
        (["1"], "1 names 4 packages: say more of it"),
        (
            ["{site}", "{again}"],
            "site: two packages are named: {site}, {again}",
        ),
        (
            ["1700000000_shop_4f2a9c1"],
            "there is no module 'shop'; modules: site, api",
        ),
    ],
)
async def test_words_that_name_nothing_or_several_are_refused(
    scene: Scene, words: list[str], said: str
) -> None:
    first, second = await scene.deploys("1"), await scene.deploys("2")
    names = {"site": first.releases["site"], "again": second.releases["site"]}

    refused = await refusal(scene, [word.format(**names) for word in words])

    assert refused == said.format(**names)


async def test_a_build_and_a_run_without_a_journal_are_told(scene: Scene) -> None:
    first = await scene.deploys("1")
    journal = f"store/shop/prod/web/runs/{first.run}/journal.jsonl"
    (scene.plan.base / journal).unlink()
    runs: list[str] = [first.run]
    await build(scene.plan, force=True, observe=lambda record: runs.append(record.run))

    for run in {*runs}:
        said = await refusal(scene, [run])

        text = f"run {run}: a build, or its journal is lost; name packages instead"
        assert said == text


async def test_a_dry_run_says_what_would_come(scene: Scene) -> None:
    first = await scene.deploys("1")
    second = await scene.deploys("2")

    preview = await dry_run(
        scene.plan, redeploy=[first.run], transport=scene.hosts.transport
    )

    assert preview.modules == first.releases
    assert preview.hosts["h1"]["site"].back
    assert scene.manifest == second.releases
