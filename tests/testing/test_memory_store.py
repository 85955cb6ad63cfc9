"""Runs whose store is no folder: nothing leans on one, and any machine can go on."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from ghostasync import (
    Host,
    Layout,
    Outcome,
    Plan,
    PlanError,
    Report,
    Script,
    State,
    Verify,
    build,
    check,
    converge,
    deploy,
    dry_run,
    resume,
    rollback,
    start,
    status,
)
from ghostasync import events as e
from ghostasync import (
    revert as take_back,
)
from ghostasync.errors import NothingToResume
from ghostasync.history.past_run import PastRun
from ghostasync.history.reports import last_states
from ghostasync.history.runs import find_run
from ghostasync.testing import (
    Answer,
    Call,
    FakeHost,
    FakeHosts,
    LocalTransport,
    MemoryStore,
)
from tests.killing import HOSTS, four_hosts


@attrs.frozen
class Moment:
    """What there was when a run had put record *seq* on record."""

    seq: int
    hosts: dict[str, FakeHost]
    store: MemoryStore


@attrs.define
class Team:
    """A fleet and a store that several machines share, and nothing else."""

    plan: Plan
    fleet: FakeHosts
    sit_at: Callable[[str], None]
    store: MemoryStore = attrs.field(factory=MemoryStore)

    async def deploy(self, version: str) -> Report:
        (self.plan.base / "tree" / "index").write_text(version)
        return await deploy(self.plan, transport=self.fleet.transport, store=self.store)

    async def deploy_and_watch(self, version: str) -> tuple[str, list[Moment]]:
        """Deploy; return the new release, and what there was at every record."""
        moments: list[Moment] = []

        def observe(record: e.Record) -> None:
            kept = copy.deepcopy((self.fleet.hosts, self.store))
            moments.append(Moment(record.seq, *kept))

        (self.plan.base / "tree" / "index").write_text(version)
        transport = self.fleet.transport
        async with start(
            self.plan, observe=observe, transport=transport, store=self.store
        ) as run:
            report = await run.report()
        return report.releases["site"], moments

    def be_at(self, moment: Moment) -> None:
        self.fleet.hosts, self.store = copy.deepcopy((moment.hosts, moment.store))

    async def resume(self, *, revert: bool = False) -> Report:
        take_up = take_back if revert else resume
        transport = self.fleet.transport
        return await take_up(self.plan, transport=transport, store=self.store)

    async def named(self) -> list[str]:
        return [line.package for line in await self.store.manifest.read()]

    async def runs(self) -> list[PastRun | None]:
        runs = self.store.runs
        return [await find_run(runs, run) for run in await runs.ids()]


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Team:
    def sit_at(machine: str) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / machine / "state"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / machine / "cache"))

    sit_at("first")
    return Team(four_hosts(tmp_path), FakeHosts(), sit_at)


async def test_a_deploy_needs_no_folder_of_the_store(
    team: Team, tmp_path: Path
) -> None:
    report = await team.deploy("1")

    assert report.outcome is Outcome.LIVE
    assert set(team.fleet.serves.values()) == set(await team.named())
    assert not (tmp_path / "store").exists()
    kept = await team.store.runs.load(report.run, "report.json")
    assert json.loads(kept)["outcome"] == "live"
    assert Path(report.log, "report.json").read_bytes() == kept


async def test_what_was_done_is_read_on_another_machine(team: Team) -> None:
    def breaks(call: Call) -> Answer | None:
        broken = call.host == "h2" and call.name == "run"
        return Answer(1, b"no disk\n") if broken else None

    module = attrs.evolve(team.plan.modules[0], buildpack=Script(inline="echo made"))
    team.plan = attrs.evolve(team.plan, modules=(module,))
    live = await team.deploy("1")
    team.fleet.breaks = breaks
    await team.deploy_and_watch("2")
    team.sit_at("second")

    first, second = await team.runs()

    assert first is not None
    assert first.id == live.run
    assert first.finished is not None
    assert first.finished.outcome == "live"
    assert second is not None
    assert second.finished is not None
    assert second.finished.outcome == "failed"
    assert second.in_state(State.FAILED) == ("h2",)
    load = team.store.runs.load
    assert b"no disk\n" in await load(second.id, "hosts/h2.log")
    assert b"made\n" in await load(second.id, "build/site.log")
    assert (await last_states(team.store.runs))["h2"] == State.FAILED.value


async def test_the_journal_of_the_store_is_that_of_the_machine(team: Team) -> None:
    report = await team.deploy("1")

    kept = await team.store.runs.load(report.run, "journal.jsonl")

    assert kept == Path(report.log, "journal.jsonl").read_bytes()
    assert b'"Finished"' in kept.splitlines()[-1]


async def test_the_store_knows_of_a_wave_before_its_first_link_moves(
    team: Team,
) -> None:
    known: list[bytes] = []

    def look(call: Call) -> None:
        if call.name == "switch" and not known:
            (files,) = copy.deepcopy(team.store.runs)._files.values()
            known.append(files["journal.jsonl"])

    team.fleet.breaks = look

    await team.deploy("1")

    assert b'"WaveStarted"' in known[0]
    assert b'"Switched"' not in known[0]


@pytest.mark.parametrize("revert", [False, True])
async def test_another_machine_goes_on_where_a_run_was_killed(
    team: Team, revert: bool
) -> None:
    old = (await team.deploy("1")).releases["site"]
    new, moments = await team.deploy_and_watch("2")
    team.sit_at("second")
    resumed = 0
    for moment in moments[:-1]:
        team.be_at(moment)
        try:
            report = await team.resume(revert=revert)
        except NothingToResume:
            # The store knew of no number of the run yet: no link can have moved.
            assert set(team.fleet.serves.values()) == {old}, moment.seq
            continue

        resumed += 1
        (release,) = set(team.fleet.serves.values())
        assert (release == old) is revert, moment.seq
        assert await team.named() == [release]
        assert report.exit_status == 0
        with pytest.raises(PlanError, match="no unfinished run"):
            await team.resume()
    assert resumed > len(HOSTS)
    assert new != old


async def test_the_machine_of_a_killed_run_hands_in_what_the_store_lacks(
    team: Team,
) -> None:
    await team.deploy("1")
    _, moments = await team.deploy_and_watch("2")
    run = (await team.store.runs.ids())[-1]
    whole = await team.store.runs.load(run, "journal.jsonl")
    team.be_at(next(m for m in moments if run in m.store.runs._files))
    folder = _folder_of(team, run)
    (folder / ".handed-in").unlink()
    (folder / "report.json").unlink()
    (folder / "journal.jsonl").write_bytes(whole[:-5])

    found = await status(team.plan, transport=team.fleet.transport, store=team.store)

    killed = whole[: whole.rindex(b"\n", 0, -1) + 1]
    assert await team.store.runs.load(run, "journal.jsonl") == killed
    assert found.run is not None
    assert found.run.id == run
    assert found.run.committed


def _folder_of(team: Team, run: str) -> Path:
    (folder,) = team.plan.base.glob(f"first/state/ghostasync/.runs/*/{run}")
    return folder


async def test_a_rollback_is_made_from_a_machine_that_never_deployed(
    team: Team,
) -> None:
    old = (await team.deploy("1")).releases["site"]
    await team.deploy("2")
    team.sit_at("second")

    report = await rollback(team.plan, transport=team.fleet.transport, store=team.store)

    assert report.releases == {"site": old}
    assert set(team.fleet.serves.values()) == {old}
    assert await team.named() == [old]


async def test_hosts_are_compared_and_converged_from_another_machine(
    team: Team,
) -> None:
    new = (await team.deploy("1")).releases["site"]
    team.fleet.hosts["h4"] = FakeHost()
    team.sit_at("second")
    transport, store = team.fleet.transport, team.store

    before = await status(team.plan, transport=transport, store=store)
    await converge(team.plan, transport=transport, store=store)
    after = await status(team.plan, transport=transport, store=store)

    assert before.expected == {"site": new}
    assert [n for n, h in before.hosts.items() if h.state == "drift"] == ["h4"]
    assert {host.state for host in after.hosts.values()} == {"in-line"}
    assert await check(team.plan, transport=transport, store=store) == ()
    assert team.fleet.serves["h4"] == new


async def test_a_machine_has_an_archive_once(team: Team, tmp_path: Path) -> None:
    for version in "12345":
        await team.deploy(version)

    copies = sorted(tmp_path.glob("first/cache/**/*.tar.zst"))

    assert len(copies) == 3
    assert copies[-1].name.removesuffix(".tar.zst") in await team.named()


async def test_a_package_is_built_into_the_store_that_is_given(team: Team) -> None:
    (team.plan.base / "tree" / "index").write_text("1")
    built = await build(team.plan, store=team.store)
    seen = await dry_run(team.plan, store=team.store, transport=FakeHosts().transport)

    assert await team.store.packages.ids("site") == [built["site"].id]
    assert set(seen.modules) == {"site"}


async def test_real_hosts_are_sent_what_only_memory_keeps(
    team: Team, tmp_path: Path
) -> None:
    module = attrs.evolve(
        team.plan.modules[0],
        path="~/site",
        pre_deploy=Script(inline="ls -a"),
        verify=Verify(command="grep . index", interval=0.01),
    )
    layout, hosts = Layout(root="~/ghost"), (Host("h1"), Host("h2"))
    plan = attrs.evolve(team.plan, modules=(module,), layout=layout, hosts=hosts)
    transport = LocalTransport(tmp_path / "hosts")

    def served() -> set[str]:
        homes = map(transport.home, ("h1", "h2"))
        return {(home / "site" / "index").read_text() for home in homes}

    try:
        for version in ("1", "2"):
            (tmp_path / "tree" / "index").write_text(version)
            await deploy(plan, transport=transport, store=team.store)
            assert served() == {version}
        team.sit_at("second")

        await rollback(plan, transport=transport, store=team.store)
        now = await status(plan, transport=transport, store=team.store)
    finally:
        await transport.aclose()

    assert served() == {"1"}
    assert {host.state for host in now.hosts.values()} == {"in-line"}
    second = (await team.store.runs.ids())[1]
    assert b"index\n" in await team.store.runs.load(second, "hosts/h2.log")
