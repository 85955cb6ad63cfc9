"""Commits that are older than what serves."""

from __future__ import annotations

import copy

import attrs
import pytest

from ghostasync import (
    DeployFailed,
    DirectorySource,
    Outcome,
    Plan,
    State,
    deploy,
)
from ghostasync.testing import Answer, Call, FakeTransport
from tests.committed import Committed

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def fleet(plan: Plan) -> Committed:
    return Committed.create(plan)


async def test_an_older_commit_is_refused_before_anything_is_changed(
    fleet: Committed,
) -> None:
    first, _, third = fleet.commit("1"), fleet.commit("2"), fleet.commit("3")
    live = (await fleet.deploy()).releases["site"]
    before = fleet.hosts.asked("switch")

    with pytest.raises(DeployFailed) as refused:
        await fleet.deploy(first)

    report = refused.value.report
    assert (report.outcome, report.exit_status) == (Outcome.FAILED, 2)
    assert report.reason == (
        f"site: {first[:7]} is 2 commits older than {third[:7]}, which h[1-6] serve; "
        "to go back all the same, say --back"
    )
    assert {host.state for host in report.hosts.values()} == {State.HALTED}
    assert fleet.hosts.asked("switch") == before
    assert set(fleet.hosts.serves.values()) == {live}


async def test_an_older_commit_is_deployed_where_that_is_meant(
    fleet: Committed,
) -> None:
    first, _ = fleet.commit("1"), fleet.commit("2")
    await fleet.deploy()

    report = await fleet.deploy(first, back=True)

    assert set(fleet.hosts.serves.values()) == {report.releases["site"]}
    assert report.releases["site"].endswith(first[:7])


async def test_a_pipeline_that_waited_finds_out_what_serves_by_then(
    fleet: Committed,
) -> None:
    fleet.commit("99")
    await fleet.deploy()
    before = copy.deepcopy(fleet.hosts.hosts)
    older, newer = fleet.commit("100"), fleet.commit("101")
    await fleet.deploy()
    after, fleet.hosts.hosts = fleet.hosts.hosts, before

    def answer(call: Call) -> Answer:
        # The run with the newer commit ends while this one waits for its locks.
        if call.name == "lock":
            fleet.hosts.hosts = after
        return fleet.hosts.work(call)

    with pytest.raises(DeployFailed) as refused:
        await deploy(fleet.plan, rev=older, transport=FakeTransport(answer))

    assert refused.value.report.exit_status == 2
    assert {r[-7:] for r in fleet.hosts.serves.values()} == {newer[:7]}


async def test_whoever_names_a_package_gets_it(fleet: Committed) -> None:
    fleet.commit("1")
    first = (await fleet.deploy()).releases["site"]
    fleet.commit("2")
    await fleet.deploy()

    await deploy(fleet.plan, packages=[first], transport=fleet.hosts.transport)

    assert set(fleet.hosts.serves.values()) == {first}


async def test_histories_that_diverge_are_told(fleet: Committed) -> None:
    base, served = fleet.commit("1"), fleet.commit("2")
    await fleet.deploy()
    fleet.repo.git("reset", "--quiet", "--hard", base)
    other = fleet.commit("3")

    await fleet.deploy(other)

    (text,) = [told for told in fleet.told if "diverge" in told]
    assert text == (
        f"site: the histories of {other[:7]} and {served[:7]}, which h[1-6] serve, "
        "diverge: 1 commit of what serves is not in what comes"
    )


@pytest.mark.parametrize("commit", ["f" * 40, r"\0000abc", "--all", "a b"])
async def test_a_commit_that_the_repository_has_not_is_told(
    fleet: Committed, commit: str
) -> None:
    """It was lost, or a host's record is damaged; a NUL is no argument of a program."""
    fleet.commit("1")
    await fleet.deploy()
    for host in fleet.hosts.hosts.values():
        host.module("/ghost/shop/prod/web/site").records[1]["commit"] = commit
    fleet.commit("2")

    report = await fleet.deploy()

    assert report.exit_status == 0
    assert any("is older, the source does not say" in text for text in fleet.told)


async def test_a_folder_has_no_commits_to_compare(fleet: Committed, plan: Plan) -> None:
    fleet.commit("1")
    await fleet.deploy()
    folder = DirectorySource(str(plan.base / "tree"))
    module = attrs.evolve(fleet.plan.modules[0], source=folder)
    fleet.plan = attrs.evolve(fleet.plan, modules=(module,))

    await fleet.deploy()

    assert fleet.told == []
