"""Why hosts are not left alone, as ``deploy --why`` says it."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from ghostasync import Plan, Report, Script
from ghostasync import events as e
from ghostasync.cli._why import why
from tests.committed import Committed

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def fleet(plan: Plan) -> Committed:
    return Committed.create(plan)


async def told(fleet: Committed, *, force: bool = False) -> tuple[Report, list[str]]:
    """Deploy, and return what was said of the reasons."""
    fleet.differs.clear()
    report = await fleet.deploy(why=True, force=force)
    return report, [line for event in fleet.differs for line in why(event)]


async def test_it_is_said_which_files_settings_and_variables_differ(
    fleet: Committed,
) -> None:
    fleet.commit("1")
    first = (await fleet.deploy()).releases["site"]
    fleet.repo.commit("2", index="2", more="more")
    (module,) = fleet.plan.modules
    script = Script(inline="true # 2")
    module = attrs.evolve(module, post_deploy=script, shared_dirs=("uploads",))
    app = attrs.evolve(fleet.plan.app, env_vars={"COLOUR": "red"})
    fleet.plan = attrs.evolve(fleet.plan, app=app, modules=(module,))

    report, lines = await told(fleet)

    second = report.releases["site"]
    assert lines == [
        f"h[1-6] serve {first}, and {second} comes; what differs:",
        "  files: 1 changed, 1 added",
        "    changed index: content",
        "    added more",
        "  of the module: post_deploy, shared_dirs",
        "  variables: COLOUR, GHOST_MODULE_COMMIT, GHOST_MODULE_COMMIT_MESSAGE",
    ]


async def test_nothing_is_said_of_hosts_that_are_left_alone_or_unasked(
    fleet: Committed,
) -> None:
    fleet.commit("1")
    await fleet.deploy()

    assert (await told(fleet))[1] == []

    fleet.commit("2")
    await fleet.deploy()
    assert fleet.differs == []


async def test_hosts_that_serve_nothing_are_told_apart(fleet: Committed) -> None:
    fleet.commit("1")

    report, lines = await told(fleet)

    site = report.releases["site"]
    assert lines == [
        f"h[1-6] serve no release of site, and {site} comes: nothing to compare it with"
    ]


async def test_hosts_that_serve_different_releases_are_compared_apart(
    fleet: Committed,
) -> None:
    fleet.commit("1")
    await fleet.deploy()
    fleet.commit("2")
    await fleet.deploy(limit=("h1",))

    _, lines = await told(fleet)

    heads = [line.split()[0] for line in lines if "comes" in line]
    assert heads == ["h1", "h[2-6]"]
    # MANIFEST does not name what came under a limit, so it is no release to take again.
    assert lines[0].endswith("nothing differs, but MANIFEST names another release")


async def test_a_forced_run_says_that_it_is_forced(fleet: Committed) -> None:
    fleet.commit("1")
    await fleet.deploy()

    _, lines = await told(fleet, force=True)

    assert lines[0].endswith("comes: nothing differs, but the run is forced")


async def test_a_release_that_was_pruned_is_not_compared(
    fleet: Committed, plan: Plan
) -> None:
    fleet.commit("1")
    first = (await fleet.deploy()).releases["site"]
    for path in Path(plan.store.url).rglob(f"{first}.json"):
        path.unlink()
    fleet.commit("2")

    report, lines = await told(fleet)

    assert report.exit_status == 0
    assert "by what is not known: " in lines[0]
    assert "has no package" in lines[0]


def test_many_paths_end_in_a_count() -> None:
    event = e.Differs(
        "site", "new", "old", ("h1",), files={"gone": 3}, paths=("gone a", "gone b")
    )

    assert why(event) == [
        "h1 serves old, and new comes; what differs:",
        "  files: 3 gone",
        "    gone a",
        "    gone b",
        "    and 1 other",
    ]
