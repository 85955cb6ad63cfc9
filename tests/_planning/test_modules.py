"""Modules that only some hosts get."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import attrs
import pytest

from ghostasync import (
    GitSource,
    Host,
    Module,
    Outcome,
    Plan,
    PlanError,
    S3Source,
    Script,
    deploy,
    rollback,
)
from ghostasync._planning.modules import as_it_was, wanted
from ghostasync.model import Revision
from ghostasync.testing import Call, FakeTransport, MemoryStore
from tests._engine.balanced import Fleet
from tests.committed import Committed
from tests.deploying import run


@pytest.fixture
def two(plan: Plan) -> Plan:
    """Web hosts, one that is a web and a db host, and one that is neither."""
    site = attrs.evolve(plan.modules[0], hosts="role=web")
    data = attrs.evolve(
        plan.modules[0], name="data", path="/srv/data", hosts=("role=db", "h2")
    )
    roles = {"h1": "web", "h2": "web", "h3": "db", "h4": "spare"}
    hosts = tuple(Host(name, labels={"role": role}) for name, role in roles.items())
    return attrs.evolve(plan, modules=(site, data), hosts=hosts)


def served(fleet: Fleet, calls: Iterable[Call]) -> dict[str, list[str]]:
    """Return the targets that each host switched."""
    return {
        call.host: [call.args[at] for at in range(3, len(call.args), 6)]
        for call in calls
        if call.name == "switch"
    }


async def test_a_host_gets_the_modules_that_name_it(two: Plan) -> None:
    fleet = Fleet()

    report, _ = await run(two, fleet)

    assert report.outcome is Outcome.LIVE
    assert served(fleet, fleet.calls) == {
        "h1": ["/srv/site"],
        "h2": ["/srv/site", "/srv/data"],
        "h3": ["/srv/data"],
    }
    checked = {c.host: c.args[4::2] for c in fleet.calls if c.name == "check"}
    assert checked["h3"] == ("/srv/data",)


async def test_a_host_without_a_module_is_not_part_of_the_run(two: Plan) -> None:
    fleet = Fleet()

    report, _ = await run(two, fleet)

    assert set(report.hosts) == {"h1", "h2", "h3"}
    assert not [call for call in fleet.calls if call.host == "h4"]


async def test_manifest_has_all_modules(two: Plan, tmp_path: Path) -> None:
    await run(two, Fleet())

    lines = (tmp_path / "store/shop/prod/web/MANIFEST").read_text().splitlines()

    assert [line.split(":")[0] for line in lines] == ["site", "data"]


async def test_a_module_that_no_selected_host_gets_is_not_built(two: Plan) -> None:
    fleet = Fleet()

    report = await deploy(two, limit=["h1"], transport=FakeTransport(fleet))

    assert set(report.releases) == {"site"}


async def test_a_selection_without_any_module_is_refused(two: Plan) -> None:
    with pytest.raises(PlanError, match="no selected host gets any of them: site, da"):
        await deploy(
            two,
            limit=["h4"],
            transport=FakeTransport(Fleet()),
        )


async def test_before_switch_of_a_module_runs_where_it_goes(two: Plan) -> None:
    site, data = two.modules
    data = attrs.evolve(data, before_switch=Script(inline="migrate"))
    fleet = Fleet()

    await run(attrs.evolve(two, modules=(site, data)), fleet)

    assert fleet.steps("before_switch") == [("h2", "before_switch")]


# --- Packages, by how they begin ----------------------------------------------------


@pytest.fixture
async def committed(plan: Plan) -> Committed:
    """Two commits, the second one live; in *told* their packages."""
    fleet = Committed.create(plan)
    for version in "12":
        fleet.commit(version)
        fleet.told.append((await fleet.deploy()).releases["site"])
    return fleet


@pytest.mark.parametrize("word", ["commit", "commit[:12]", "commit[:7]", "id[:-8]"])
@pytest.mark.parametrize("command", ["deploy", "rollback", "without the store"])
async def test_a_package_is_named_by_the_beginning_of_its_id_or_its_commit(
    committed: Committed, word: str, command: str
) -> None:
    commit, package = committed.repo.git("rev-parse", "HEAD~1"), committed.told[0]
    # Only the epoch tells the two apart, and it is the same for many digits.
    words = {
        "commit": commit,
        "commit[:12]": commit[:12].upper(),
        "commit[:7]": commit[:7],
        "id[:-8]": package[:10],
    }
    asked, transport = [words[word]], committed.hosts.transport

    if command == "deploy":
        await deploy(committed.plan, packages=asked, transport=transport)
    elif command == "rollback":
        await rollback(committed.plan, to=asked, transport=transport)
    else:
        store = MemoryStore()
        await rollback(committed.plan, to=asked, transport=transport, store=store)

    assert set(committed.hosts.serves.values()) == {package}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("dead", "dead: no package has an id or a commit that begins so"),
        ("", "'' names 2 packages: "),
        ("{commit}0", "no package has an id or a commit that begins so"),
        ("{other}", "no package has an id or a commit that begins so"),
        ("{epoch}", "'{epoch}' names 2 packages: {first}, {second}"),
    ],
)
async def test_a_beginning_that_names_no_package_or_several_is_refused(
    committed: Committed, word: str, message: str
) -> None:
    commit = committed.repo.git("rev-parse", "HEAD~1")
    first, second = committed.told
    words = {
        "commit": commit,
        "other": commit[:-1] + ("0" if commit[-1] != "0" else "1"),
        "epoch": first[:6],
        "first": first,
        "second": second,
    }

    with pytest.raises(PlanError, match=message.format(**words)):
        await deploy(
            committed.plan,
            packages=[word.format(**words)],
            transport=committed.hosts.transport,
        )

    assert set(committed.hosts.serves.values()) == {second}


def of(source: GitSource | S3Source, name: str = "site") -> Module:
    return Module(name, f"/srv/{name}", source)


def test_a_revision_of_an_object_is_its_version(plan: Plan) -> None:
    plan = attrs.evolve(plan, modules=(of(S3Source("s3://b/a.zip", "1")),))

    (named,), _ = wanted(plan, modules=["site@2"])
    (rev,), _ = wanted(plan, rev="3")
    (own,), _ = wanted(plan)

    assert named.source == S3Source("s3://b/a.zip", "2")
    assert rev.source == S3Source("s3://b/a.zip", "3")
    assert own.source == S3Source("s3://b/a.zip", "1")


def test_a_prefix_has_no_revisions(plan: Plan) -> None:
    plan = attrs.evolve(plan, modules=(of(S3Source("s3://b/site/")),))

    with pytest.raises(PlanError, match=r"^site: its source has no revisions$"):
        wanted(plan, modules=["site@2"])


@pytest.mark.parametrize("other", [GitSource("/api"), S3Source("s3://b/api.zip")])
def test_one_revision_for_an_object_and_something_else_is_refused(
    plan: Plan, other: GitSource | S3Source
) -> None:
    modules = of(S3Source("s3://b/a.zip")), of(other, "api")

    with pytest.raises(PlanError, match=r"^--rev needs modules of one repository"):
        wanted(attrs.evolve(plan, modules=modules), rev="1")


@pytest.mark.parametrize(
    ("source", "then"),
    [
        (GitSource("/site", "main"), GitSource("/site", "c" * 40)),
        (S3Source("s3://b/a.zip"), S3Source("s3://b/a.zip", "main")),
    ],
)
def test_a_resumed_run_takes_just_what_the_killed_one_had(
    source: GitSource | S3Source, then: GitSource | S3Source
) -> None:
    known = Revision(rev="main", commit="c" * 40)

    assert as_it_was(of(source), known) == of(then)


def test_a_prefix_is_resumed_as_it_is_now() -> None:
    prefix = of(S3Source("s3://b/site/"))

    assert as_it_was(prefix, Revision(commit="c" * 40)) == prefix


async def test_what_is_wrong_with_a_source_in_s3_names_its_key(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    module = attrs.evolve(plan.modules[0], source=S3Source("s3://b/site.zip"))
    plan = attrs.evolve(plan, modules=(module,))

    report, _ = await run(plan, Fleet())

    assert report.outcome is Outcome.FAILED
    assert report.reason.startswith("site: GetObject s3://b/site.zip: no credentials; ")
    assert report.reason.endswith(" (modules[0].source.s3)")
