"""Hosts in memory answer as the real scripts do."""

from __future__ import annotations

import functools
from pathlib import Path

import attrs
import pytest

from ghostasync import (
    DeployFailed,
    Outcome,
    Plan,
    Report,
    Rollout,
    Script,
    deploy,
    rollback,
)
from ghostasync._remote import answers
from ghostasync._remote.call import query
from ghostasync._remote.facts import Facts
from ghostasync.protocols import Transport
from ghostasync.testing import (
    Answer,
    Call,
    FakeHost,
    FakeHosts,
    FakeTransport,
    LocalTransport,
)

APP = "ghost/shop/prod/web"


@pytest.fixture
def local(tmp_path: Path) -> LocalTransport:
    return LocalTransport(tmp_path / "hosts")


@pytest.fixture
def fake(local: LocalTransport) -> FakeHosts:
    """The same host, in memory."""
    return FakeHosts({"h1": FakeHost(home=str(local.home("h1")))})


@pytest.fixture
def plan(plan: Plan) -> Plan:
    """One host, whose folders are below its home."""
    module = attrs.evolve(
        plan.modules[0],
        path="~/site",
        pre_deploy=Script(inline="true"),
        post_deploy=Script(inline='[ ! -e fails ] || [ "$GHOST_ACTION" = rollback ]'),
        verify=attrs.evolve(plan.modules[0].verify, command="true"),
    )
    layout = attrs.evolve(plan.layout, root="~/ghost", keep=2)
    hosts = plan.hosts[:1]
    return attrs.evolve(plan, modules=(module,), hosts=hosts, layout=layout)


@attrs.define
class Pair:
    """A host of processes and one in memory; whatever is done is done to both."""

    plan: Plan
    real: Transport
    fake: Transport

    async def deploy(self, version: str, **rollout: int) -> list[Report]:
        """Deploy a version; hosts in memory get the package that was made."""
        tree = self.plan.base / "tree"
        (tree / "index").write_text(version)
        (tree / "fails").unlink(missing_ok=True)
        if version == "fails":
            (tree / "fails").touch()
        plan = attrs.evolve(self.plan, rollout=Rollout(**rollout))  # type: ignore[arg-type]  # keys
        reports = [await _report(plan, self.real)]
        packages = tuple(reports[0].releases.values())
        reports.append(await _report(plan, self.fake, packages))
        return reports

    async def rollback(self, release: str) -> None:
        for transport in (self.real, self.fake):
            await rollback(self.plan, to=(release,), transport=transport)

    async def facts(self) -> tuple[Facts, Facts]:
        """Return what both say of themselves."""
        real, fake = [await self._facts(each) for each in (self.real, self.fake)]
        return real, fake

    async def _facts(self, transport: Transport) -> Facts:
        session = transport.session(self.plan.hosts[0])
        home = self.plan.base / "hosts/h1"
        folder = f"{home}/{APP}/site"
        await session.open()
        words = (f"{home}/{APP}", "", "9", folder, f"{home}/site")
        read = functools.partial(answers.facts, modules={folder: "site"})
        said = await query(session, "check", *words, read=read)
        await session.close()
        return _comparable(said)


async def _report(
    plan: Plan, transport: Transport, packages: tuple[str, ...] = ()
) -> Report:
    try:
        return await deploy(plan, packages=packages, transport=transport)
    except DeployFailed as exc:
        return exc.report


def _comparable(facts: Facts) -> Facts:
    """Leave out what the machine has, and the names of runs."""
    (site,) = facts.targets.values()
    records = tuple(
        attrs.evolve(
            each,
            generation=number,
            run="",
            store="",
            instance="",
            at="",
            origin="",
            key="",
            reverted_by=each.reverted_by and "run",
        )
        for number, each in enumerate(site.activations)
    )
    targets = {"site": attrs.evolve(site, activations=records)}
    return attrs.evolve(
        facts,
        uid=0, gid=0, tools=frozenset(), free_bytes=0, free_inodes=0, place="",
        holder="", instance="", fence=0,
        targets=targets,
    )  # fmt: skip


@pytest.fixture
def pair(plan: Plan, local: LocalTransport, fake: FakeHosts) -> Pair:
    return Pair(plan, local, fake.transport)


async def test_a_host_that_was_never_deployed_to_has_nothing(pair: Pair) -> None:
    real, fake = await pair.facts()

    assert fake == real
    assert fake.targets["site"].kind == "absent"


async def test_the_books_are_those_of_a_real_host_after_each_run(pair: Pair) -> None:
    brought: list[str] = []
    for version in ("1", "2", "3", "3", "4"):
        reports = await pair.deploy(version)
        assert {report.exit_status for report in reports} == {0}
        real, fake = await pair.facts()
        assert fake == real
        brought.append(fake.targets["site"].live)

    _, fake = await pair.facts()
    site = fake.targets["site"]
    assert len(set(brought)) == 4
    assert site.fingerprint
    assert site.record is site.activations[0]
    assert len(site.releases) == 2, "as layout.keep says"
    assert site.releases == {*brought[-2:]}


async def test_a_run_that_fails_leaves_the_same_books(
    pair: Pair, fake: FakeHosts
) -> None:
    await pair.deploy("1")

    def breaks(call: Call) -> Answer | None:
        new = call.name == "run" and "GHOST_ACTION=rollback" not in call.args
        return Answer(1) if new and call.args[1].endswith("/post_deploy") else None

    fake.breaks = breaks
    reports = await pair.deploy("fails")

    assert {report.outcome for report in reports} == {Outcome.FAILED}
    real, told = await pair.facts()
    assert told == real
    assert len(told.targets["site"].releases) == 2
    fake.breaks = lambda _: None
    reports = await pair.deploy("2")
    real, told = await pair.facts()
    assert told == real


async def test_a_host_that_went_back_is_as_a_real_one(pair: Pair) -> None:
    first = await pair.deploy("1")
    await pair.deploy("2")

    await pair.rollback(first[0].releases["site"])

    real, fake = await pair.facts()
    assert fake == real
    assert fake.targets["site"].live == first[0].releases["site"]


async def test_a_script_that_hangs_is_not_done(plan: Plan) -> None:
    hosts = FakeHosts(hangs={("h1", "post_deploy")})
    deadlines = attrs.evolve(plan.rollout.deadlines, post_deploy=0.05)
    plan = attrs.evolve(plan, rollout=attrs.evolve(plan.rollout, deadlines=deadlines))

    with pytest.raises(DeployFailed):
        await deploy(plan, transport=FakeTransport(hosts))

    assert hosts.asked("post_deploy") == ["h1"]
    assert hosts.ran("post_deploy") == []
    assert hosts.ran("restore") == ["h1"]
    assert hosts.links == {"h1": ""}


async def test_links_are_what_hosts_serve_already() -> None:
    hosts = FakeHosts(links={"h1": "/ghost/shop/prod/web/site/1_site_0000000"})

    assert hosts.serves == {"h1": "1_site_0000000"}
    assert hosts["h1"].releases == {"1_site_0000000"}
    del hosts.links["h1"]
    assert (hosts["h1"].link, len(hosts.links)) == ("", 0)
