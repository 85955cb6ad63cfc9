"""What a deploy would do, found out without doing it."""

from __future__ import annotations

import json
from collections.abc import Sequence

import attrs
import pytest

from ghostasync import (
    Host,
    Plan,
    PlanError,
    Preview,
    deploy,
    dry_run,
    freeze,
    overview,
)
from ghostasync.cli import _tables as tables
from ghostasync.errors import SourceError
from ghostasync.model import Script
from ghostasync.survey.preview import Commits, Step
from ghostasync.testing import Answer, Call, FakeTransport
from tests.committed import Committed
from tests.deploying import with_rollout

SITE = "/ghost/shop/prod/web/site"
LOOKS = {"probe", "check"}


@pytest.fixture
def fleet(plan: Plan) -> Committed:
    return Committed.create(plan)


async def look(
    fleet: Committed,
    rev: str = "",
    *,
    packages: Sequence[str] = (),
    back: bool = False,
    force: bool = False,
    away: frozenset[str] = frozenset(),
) -> Preview:
    """Preview a deploy, and see that hosts were only looked at."""
    before = len(fleet.hosts.calls)
    transport = FakeTransport(fleet.hosts, unreachable=away)
    preview = await dry_run(
        fleet.plan,
        rev=rev,
        packages=packages,
        back=back,
        force=force,
        transport=transport,
    )
    assert {call.name for call in fleet.hosts.calls[before:]} <= LOOKS
    return preview


def of_site(preview: Preview) -> dict[str, Step]:
    return {host: steps["site"] for host, steps in preview.hosts.items()}


async def test_the_first_deploy_would_be_built_and_sent_to_all(
    fleet: Committed,
) -> None:
    fleet.commit("1")

    preview = await look(fleet)

    assert of_site(preview) == dict.fromkeys(
        ("h1", "h2", "h3", "h4", "h5", "h6"), Step()
    )
    assert (preview.packages, preview.commits, preview.exit_status) == (
        {},
        {"site": ()},
        0,
    )
    assert not (fleet.plan.base / "store/shop/prod/web/packages").exists()
    assert [*tables.preview(preview)] == [
        f"site: main is {fleet.repo.head()[:7]} 1",
        "  to be built",
        "  h[1-6]: now nothing; to be sent",
        "wave 1 of 1: 6 hosts, h[1-6]",
        "6 hosts; stops at failure number 1; nothing was changed",
    ]


async def test_commits_that_ship_are_told_beside_a_canary(fleet: Committed) -> None:
    first = fleet.commit("1")
    one = (await fleet.deploy()).releases["site"]
    second = fleet.commit("2")
    two = (await fleet.deploy(limit=("h1",))).releases["site"]
    heads = [fleet.commit(text) for text in "345678"]

    preview = await look(fleet)

    new, old = heads[-1], [first, second]
    coming = tuple(f"{c[:7]} {n}" for c, n in zip(heads[:0:-1], "87654", strict=True))
    assert preview.commits["site"] == (
        Commits(second, new, 6, 0, coming),
        Commits(first, new, 7, 0, coming),
    )
    steps = of_site(preview)
    assert steps["h1"] == Step(two, second)
    assert steps["h2"] == Step(one, first)
    shown = [*tables.preview(preview)]
    at = shown.index(f"  h[2-6]: now {one}; to be sent")
    assert shown[at + 1] == f"    ships 7 commits, {old[0][:7]}..{new[:7]}"
    assert shown[at + 2] == f"      + {new[:7]} 8"
    assert shown[at + 7] == "      + 2 more"
    assert max(map(len, shown)) <= 80


async def test_what_manifest_names_is_told_as_unchanged_or_not_sent_again(
    fleet: Committed,
) -> None:
    fleet.commit("1")
    release = (await fleet.deploy()).releases["site"]
    archive = fleet.plan.base / f"store/shop/prod/web/packages/{release}.tar.zst"
    commit, folder = fleet.repo.head(), fleet.hosts["h1"].module(SITE)
    folder.link, folder.releases = "", set()
    fleet.hosts["h2"].link = ""
    del fleet.hosts["h3"].module(SITE).fingerprints[release]

    preview = await look(fleet)
    forced = await look(fleet, force=True)

    assert (preview.packages, {*preview.same}) == ({"site": release}, {"site"})
    steps = of_site(preview)
    assert steps == {
        "h1": Step("", "", archive.stat().st_size),
        "h2": Step("", "", 0),
        "h3": Step(release, commit, 0),
        **dict.fromkeys(("h4", "h5", "h6"), Step(release, commit, 0, unchanged=True)),
    }
    assert (forced.same, of_site(forced)["h4"]) == (frozenset(), Step(release, commit))
    lines = [*tables.preview(preview)]
    assert f"  {release} again, unless the build differs" in lines
    assert f"  h[4-6]: now {release}; unchanged" in lines
    assert f"  h3: now {release}; nothing to send" in lines


async def test_another_environment_makes_another_release(fleet: Committed) -> None:
    fleet.commit("1")
    release = (await fleet.deploy()).releases["site"]
    app = attrs.evolve(fleet.plan.app, env_vars={"GREETING": "hello"})
    fleet.plan = attrs.evolve(fleet.plan, app=app)

    preview = await look(fleet)

    assert (preview.packages, preview.same) == ({"site": release}, frozenset())
    assert of_site(preview)["h1"].sends is None
    assert f"  to be built; stored of this commit: {release}" in [
        *tables.preview(preview)
    ]


async def test_a_script_that_the_stored_package_lacks_has_it_built_in_both_looks(
    fleet: Committed,
) -> None:
    fleet.commit("1")
    release = (await fleet.deploy()).releases["site"]
    transport = FakeTransport(fleet.hosts)
    alike = (await overview(fleet.plan, transport=transport)).modules["site"]
    (module,) = fleet.plan.modules
    module = attrs.evolve(module, before_switch=Script(inline="#!/bin/sh"))
    fleet.plan = attrs.evolve(fleet.plan, modules=(module,))

    preview = await look(fleet)
    now = (await overview(fleet.plan, transport=transport)).modules["site"]

    assert (preview.packages, preview.same) == ({"site": release}, frozenset())
    assert of_site(preview)["h1"].sends is None
    assert (alike.stored, alike.package is not None) == (release, True)
    assert (now.stored, now.package is not None) == (release, False)


async def test_an_older_commit_is_refused_and_what_goes_back_is_marked(
    fleet: Committed,
) -> None:
    first, second = fleet.commit("1"), fleet.commit("2")
    await fleet.deploy()

    preview = await look(fleet, first)
    meant = await look(fleet, first, back=True)

    assert preview.exit_status == 2
    assert preview.refused.startswith(f"site: {first[:7]} is 1 commit older than ")
    assert (meant.refused, meant.exit_status) == ("", 0)
    gone = (f"{second[:7]} 2",)
    between = Commits(second, first, 0, 1, (), gone)
    assert preview.commits == meant.commits == {"site": (between,)}
    shown = [*tables.preview(meant)]
    assert f"    goes BACK 1 commit, {first[:7]}..{second[:7]}" in shown
    assert f"      - {gone[0]}" in shown


async def test_a_package_that_is_named_goes_back_unasked_and_is_marked(
    fleet: Committed,
) -> None:
    first = fleet.commit("1")
    one = (await fleet.deploy()).releases["site"]
    second = fleet.commit("2")
    two = (await fleet.deploy()).releases["site"]

    back = await look(fleet, packages=[first])
    await deploy(fleet.plan, packages=[one], transport=fleet.hosts.transport)
    forward = await look(fleet, packages=[two])

    assert (back.exit_status, back.modules) == (0, {"site": one})
    assert of_site(back)["h1"] == Step(two, second, 0, back=True)
    assert back.commits["site"][0].back == 1
    # The newer release was there before, too; it came later than what serves.
    assert of_site(forward)["h1"] == Step(one, first, 0)
    assert f"  h[1-6]: now {two}; goes BACK, nothing to send" in [*tables.preview(back)]


async def test_histories_that_diverge_are_told(fleet: Committed) -> None:
    base, served = fleet.commit("1"), fleet.commit("2")
    await fleet.deploy()
    fleet.repo.git("reset", "--quiet", "--hard", base)
    other = fleet.commit("3")

    preview = await look(fleet)

    assert preview.exit_status == 0
    assert preview.commits["site"] == (
        Commits(served, other, 1, 1, (f"{other[:7]} 3",), (f"{served[:7]} 2",)),
    )
    told = f"    the histories of {served[:7]} and {other[:7]} diverge"
    assert told in [*tables.preview(preview)]


async def test_a_commit_that_the_repository_lost_is_told(fleet: Committed) -> None:
    fleet.commit("1")
    await fleet.deploy()
    for host in fleet.hosts.hosts.values():
        host.module(SITE).records[1]["commit"] = "f" * 40
    new = fleet.commit("2")

    preview = await look(fleet)

    assert preview.commits["site"] == (Commits("f" * 40, new),)
    told = f"    fffffff and {new[:7]}: the source does not say which is older"
    assert told in [*tables.preview(preview)]


@pytest.mark.parametrize(
    ("rollout", "away", "unfit", "stops"),
    [
        ({}, "", "", ""),
        ({}, "h1", "", "1 of 6 hosts cannot take it, 0 may fail"),
        ({"max_failures": 1}, "h1", "", ""),
        ({"max_failures": 1}, "h1", "h2", "2 of 6 hosts cannot take it, 1 may fail"),
        ({"max_unreachable": 1}, "h1", "", ""),
        ({"max_unreachable": 1}, "h1", "h2", "1 of 6 hosts cannot take it, 0 may fail"),
        ({"max_unreachable": 1}, "h1 h2", "", "2 of 6 hosts cannot be reached, 1 may"),
    ],
)
async def test_hosts_that_cannot_take_it_are_named_and_counted_as_a_deploy_does(
    fleet: Committed, rollout: dict[str, int], away: str, unfit: str, stops: str
) -> None:
    fleet.commit("1")
    fleet.plan = with_rollout(fleet.plan, **rollout)
    for name in unfit.split():
        fleet.hosts[name].tools = ()

    preview = await look(fleet, away=frozenset(away.split()))

    assert (preview.stops, preview.exit_status) == (stops, 1 if stops else 0)
    assert preview.silent == tuple(away.split())
    assert {*preview.obstacles} == {*away.split(), *unfit.split()}
    shown = "\n".join(tables.preview(preview))
    assert (": connection refused" in shown) == bool(away)
    assert shown.splitlines()[-1].startswith(stops or "6 hosts; stops at")
    assert ("h2: tar is missing: install it; zstd" in shown) == bool(unfit)


async def test_a_freeze_and_a_run_that_goes_on_are_told(fleet: Committed) -> None:
    fleet.commit("1")
    before = await look(fleet)

    def held(call: Call) -> Answer:
        answer = fleet.hosts.work(call)
        more = b"holder=run 20260101T000000Z-abcdef by bob on desk\n"
        return Answer(0, more + answer.output) if call.name == "check" else answer

    locked = await dry_run(fleet.plan, transport=FakeTransport(held))
    await freeze(fleet.plan, "a fair", actor="bob", transport=fleet.hosts.transport)
    frozen = await look(fleet)

    assert (before.held, before.exit_status) == ("", 0)
    assert locked.held == "run 20260101T000000Z-abcdef by bob on desk is going on"
    assert frozen.held.startswith("frozen by bob on ")
    assert frozen.held.endswith("a fair; ghostasync unlock ends it")
    assert locked.exit_status == frozen.exit_status == 4
    assert [*tables.preview(frozen)][-1] == frozen.held
    assert of_site(frozen) == of_site(before)


async def test_a_source_that_cannot_be_asked_ends_the_look(fleet: Committed) -> None:
    fleet.commit("1")
    fleet.repo.path.rename(fleet.plan.base / "gone")

    with pytest.raises(SourceError, match="site: cannot"):
        await look(fleet)

    assert fleet.hosts.calls == []


async def test_300_hosts_in_two_states_are_a_few_lines(fleet: Committed) -> None:
    names = [f"web{number:03}.example.com" for number in range(1, 301)]
    fleet.plan = attrs.evolve(
        with_rollout(fleet.plan, waves=(1, "10%")), hosts=tuple(map(Host, names))
    )
    fleet.commit("1")
    await fleet.deploy()
    fleet.commit("2")
    await fleet.deploy(limit=("web0?7*",))
    fleet.commit("3")

    preview = await look(fleet, away=frozenset(names[1:2]))

    shown = [*tables.preview(preview)]
    assert len(shown) < 16
    assert max(map(len, shown)) <= 80
    assert "waves 2 to 10 of 11: 30 hosts each, web[002-271].example.com" in shown
    assert "web002.example.com: connection refused" in shown
    said = json.loads(tables.preview_json(preview))
    assert len(said["hosts"]) == 299
    assert (said["exit"], said["silent"]) == (1, names[1:2])


async def test_what_would_be_refused_before_hosts_are_met_is_refused(
    fleet: Committed,
) -> None:
    fleet.commit("1")
    module = attrs.evolve(fleet.plan.modules[0], buildpack=Script(inline="exit 1"))
    fleet.plan = attrs.evolve(fleet.plan, modules=(module,))
    assert (await look(fleet)).exit_status == 0  # nothing is built

    with pytest.raises(PlanError, match="no branch, tag or commit 'nope'"):
        await look(fleet, "nope")
