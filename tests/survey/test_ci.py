from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from ghostasync import Plan, Rollout, StoreSettings, check
from ghostasync.survey._ci import wrong_in_ci
from ghostasync.testing import FakeHosts
from tests.deploying import with_rollout

SET_UP = {"CI": "true", "HOME": "/home/runner", "GITHUB_WORKSPACE": "/work/shop"}


@pytest.fixture
def right(plan: Plan) -> Plan:
    """A plan that is right for CI, wherever its store is."""
    base = Path("/work/shop/deploy")
    return attrs.evolve(with_rollout(plan, confirm=60.0), base=base)


def about(plan: Plan, url: str, **environ: str) -> list[str]:
    """Return the keys that are found fault with."""
    said = wrong_in_ci(plan, url, {**SET_UP, **environ})
    return [text.partition(" is ")[0].partition(":")[0] for text in said]


def test_a_job_with_a_store_that_outlives_it_is_in_order(right: Plan) -> None:
    assert about(right, "/srv/ghostasync") == []
    assert about(right, "s3://bucket/shop") == []


@pytest.mark.parametrize(
    "url",
    [
        "/home/runner/.local/state/ghostasync",
        "/home/runner/store",
        "/work/shop/store",
        "/work/shop/deploy",
        "/tmp/store",
    ],
)
def test_a_store_that_ends_with_the_runner_is_found(right: Plan, url: str) -> None:
    assert about(right, url) == ["store.url"]
    (said,) = wrong_in_ci(right, url, SET_UP)
    assert said.startswith(f"store.url: {url} is in /")
    assert "name a folder that outlives the job" in said


def test_the_default_store_is_found_wherever_it_is(right: Plan) -> None:
    assert about(right, "/var/state/x", XDG_STATE_HOME="/var/state") == ["store.url"]


def test_a_volume_that_is_mounted_in_the_workspace_outlives_it(right: Plan) -> None:
    if Path("/proc").stat().st_dev == Path("/").stat().st_dev:
        pytest.skip("needs a disk within another")

    assert about(right, "/proc/store", GITHUB_WORKSPACE="/") == []
    assert about(right, "/srv/store", GITHUB_WORKSPACE="/") == ["store.url"]


def test_hosts_that_would_stay_half_way_are_found(right: Plan) -> None:
    plan = attrs.evolve(right, rollout=Rollout())

    assert about(plan, "/srv/ghostasync") == ["rollout.confirm"]


@pytest.mark.parametrize("ci", ["", "0", "false"])
def test_a_person_may_have_the_store_at_home(plan: Plan, ci: str) -> None:
    assert [
        *wrong_in_ci(plan, "/home/ann/store", {"HOME": "/home/ann", "CI": ci})
    ] == []


@pytest.mark.parametrize("name", ["GITLAB_CI", "JENKINS_URL", "TF_BUILD"])
def test_other_servers_have_names_of_their_own(right: Plan, name: str) -> None:
    environ = {"HOME": "/home/ann", name: "1"}

    assert len([*wrong_in_ci(right, "/home/ann/store", environ)]) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("RUNNER_ENVIRONMENT", "github-hosted"), ("CI_DISPOSABLE_ENVIRONMENT", "true")],
)
def test_nothing_on_the_disk_of_a_runner_for_one_job_outlives_it(
    right: Plan, name: str, value: str
) -> None:
    assert about(right, "/srv/ghostasync", **{name: value}) == ["store.url"]
    assert about(right, "/srv/ghostasync", **{name: "self-hosted"}) == []


async def test_check_counts_them_as_findings(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("HOME", str(plan.base))
    plan = attrs.evolve(plan, store=StoreSettings(str(plan.base / "store")))

    found = await check(plan, transport=FakeHosts().transport)

    assert [(each.host, each.warning) for each in found] == [("", False)] * 2
    assert [each.text.partition(":")[0] for each in found] == [
        "store.url",
        "rollout.confirm is 0",
    ]
