"""What is handed to start() does the work, and what goes wrong in it stays there."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import anyio
import attrs
import pytest

from ghostasync import (
    App,
    Deadlines,
    DirectorySource,
    Hook,
    Host,
    Module,
    Outcome,
    Plan,
    PlanError,
    Report,
    Rollout,
    State,
    StoreSettings,
    Verify,
    deploy,
    start,
    status,
)
from ghostasync import events as e
from ghostasync._engine.stages import drain
from ghostasync._run import joined, notify
from ghostasync.errors import HostError
from ghostasync.protocols import HostAccess, Inventory
from ghostasync.testing import InProcessFleet


@pytest.fixture
async def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Plan]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "index").write_text("1")
    async with InProcessFleet(2, tmp_path / "fleet") as fleet:
        plan = Plan(
            app=App("shop", "prod", "web"),
            modules=(Module("site", "~/site", DirectorySource("tree")),),
            hosts=fleet.hosts,
            store=StoreSettings(url=str(tmp_path / "store")),
            ssh=fleet.ssh,
            base=tmp_path,
        )
        yield attrs.evolve(plan, layout=attrs.evolve(plan.layout, root="~/ghost"))


# --- Inventory -------------------------------------------------------------------


@attrs.define
class Growing:
    """An inventory that says something else every time, the last thing for ever."""

    says: list[Sequence[Host] | Exception]

    async def hosts(self) -> Sequence[Host]:
        said = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        if isinstance(said, Exception):
            raise said
        return said


async def test_hosts_are_those_of_the_inventory_that_is_handed_in(plan: Plan) -> None:
    inventory = Growing([plan.hosts[:1]])

    report = await deploy(plan, inventory=inventory)
    found = await status(plan, inventory=inventory)

    assert list(report.hosts) == ["host-1"]
    assert list(found.hosts) == ["host-1"]


async def warnings(plan: Plan, inventory: Inventory, **how: object) -> list[str]:
    seen: list[str] = []

    def observe(record: e.Record) -> None:
        if isinstance(record.event, e.Warned):
            seen.append(record.event.text)

    async with start(plan, inventory=inventory, observe=observe, **how) as run:  # type: ignore[arg-type]  # keys
        assert (await run.report()).exit_status == 0
    return seen


async def test_hosts_that_join_and_cannot_be_reached_are_named_at_the_end(
    plan: Plan,
) -> None:
    inventory = Growing([plan.hosts, (Host("new-2"), *plan.hosts)])

    seen = await warnings(plan, inventory)

    cure = "ghostasync converge new-2"
    assert seen == [
        f"joined since the run was planned: new-2; not brought along: {cure}",
    ]


async def test_an_inventory_that_fails_later_fails_no_run(plan: Plan) -> None:
    inventory = Growing([plan.hosts, PlanError("the cloud is away")])

    seen = await warnings(plan, inventory)

    assert seen == ["who has joined meanwhile is not known: the cloud is away"]


async def test_an_inventory_that_hangs_later_holds_no_run_up(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joined, "AGAIN_SECONDS", 0.01)

    @attrs.define
    class Hanging(Growing):
        async def hosts(self) -> Sequence[Host]:
            if not self.says:
                await anyio.sleep_forever()
            self.says.clear()
            return plan.hosts

    seen = await warnings(plan, Hanging([plan.hosts]))

    assert seen == ["who has joined meanwhile is not known: no answer within 0.01 s"]


# --- Balancer --------------------------------------------------------------------


@attrs.define
class Pool:
    """A balancer that keeps books."""

    log: list[tuple[str, str]] = attrs.field(factory=list)
    fails: Exception | None = None
    hangs: bool = False

    async def drain(self, access: HostAccess) -> None:
        self.log.append(("out", access.host.name))
        if self.fails:
            raise self.fails
        if self.hangs:
            await anyio.sleep_forever()

    async def undrain(self, access: HostAccess) -> None:
        self.log.append(("in", access.host.name))


def wave_by_wave(plan: Plan, **changes: object) -> Plan:
    rollout = Rollout(waves=(1,), **changes)  # type: ignore[arg-type]  # keys
    return attrs.evolve(plan, rollout=rollout)


async def test_a_balancer_has_each_host_out_while_it_changes(plan: Plan) -> None:
    pool = Pool()

    report = await deploy(wave_by_wave(plan), balancer=pool)

    assert report.outcome is Outcome.LIVE
    assert pool.log == [
        ("out", "host-1"),
        ("in", "host-1"),
        ("out", "host-2"),
        ("in", "host-2"),
    ]


async def test_a_balancer_puts_back_what_goes_back(plan: Plan) -> None:
    broken = attrs.evolve(plan.modules[0], verify=Verify("false", interval=0.01))
    plan = attrs.evolve(
        wave_by_wave(plan, deadlines=Deadlines(verify=0.05)), modules=(broken,)
    )
    pool = Pool()

    async with start(plan, balancer=pool) as run:
        report = await run.report()

    assert report.hosts["host-1"].state is State.ROLLED_BACK
    assert pool.log == [("out", "host-1"), ("in", "host-1")]


async def test_commands_can_be_run_here_and_there_for_a_host(plan: Plan) -> None:
    class Telling(Pool):
        async def drain(self, access: HostAccess) -> None:
            assert access.variables["GHOST_HOST"] == access.host.name
            await access.run('echo "$GHOST_HOST" >>drained', on="controller")
            await access.run('echo "$GHOST_WAVE" >~/drained', on="host")

    await deploy(wave_by_wave(plan), balancer=Telling())

    assert (plan.base / "drained").read_text() == "host-1\nhost-2\n"
    there = [
        (plan.base / "fleet" / host.name / "drained").read_text() for host in plan.hosts
    ]
    assert there == ["1\n", "2\n"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (HostError("host-1", "pool is full"), "pool is full"),
        (KeyError("x"), "drain: the balancer failed: KeyError('x')"),
        (TimeoutError("t"), "drain: the balancer failed: TimeoutError('t')"),
    ],
)
async def test_a_balancer_that_fails_is_a_failure_of_the_host(
    plan: Plan, error: Exception, reason: str
) -> None:
    pool = Pool(fails=error)

    async with start(wave_by_wave(plan), balancer=pool) as run:
        report = await run.report()

    assert report.hosts["host-1"].reason == reason
    assert report.hosts["host-1"].state is State.ROLLED_BACK
    assert pool.log == [("out", "host-1"), ("in", "host-1")], "half out is put back"


async def test_a_balancer_that_hangs_is_left_at_the_deadline(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "ENDING", 0.01)
    plan = wave_by_wave(plan, deadlines=Deadlines(drain=0.01))

    async with start(plan, balancer=Pool(hangs=True)) as run:
        report = await run.report()

    reason = report.hosts["host-1"].reason
    assert reason == "drain not done within 0.01 s (rollout.deadlines.drain)"


async def test_one_that_is_handed_in_goes_before_the_hooks(plan: Plan) -> None:
    pool = Pool()

    report = await deploy(wave_by_wave(plan, drain=Hook("exit 1")), balancer=pool)

    assert report.outcome is Outcome.LIVE
    assert len(pool.log) == 4


# --- Notifiers -------------------------------------------------------------------


@attrs.define
class Chat:
    """A notifier that keeps what it is told."""

    reports: list[Report] = attrs.field(factory=list)

    async def notify(self, report: Report) -> None:
        self.reports.append(report)


@attrs.define
class Following(Chat):
    """One that wants every record, too."""

    records: list[e.Record] = attrs.field(factory=list)

    def __call__(self, record: e.Record) -> None:
        self.records.append(record)


async def test_a_notifier_is_told_of_the_report_and_may_follow(plan: Plan) -> None:
    chat, following = Chat(), Following()

    report = await deploy(plan, notifiers=[chat, following])

    assert chat.reports == following.reports == [report]
    events = [record.event for record in following.records]
    assert (type(events[0]), type(events[-1])) == (e.Started, e.Finished)


async def test_a_notifier_hears_of_a_run_that_failed(plan: Plan) -> None:
    (plan.base / "tree" / "index").unlink()
    (plan.base / "tree").rmdir()
    chat = Chat()

    async with start(plan, notifiers=[chat]) as run:
        report = await run.report()

    assert report.outcome is Outcome.FAILED
    assert chat.reports == [report]


async def test_a_notifier_hears_of_a_run_that_is_cancelled(plan: Plan) -> None:
    chat = Chat()

    with anyio.CancelScope() as scope:
        async with start(plan, notifiers=[chat]):
            scope.cancel()
            await anyio.sleep_forever()

    assert [report.outcome for report in chat.reports] == [Outcome.INTERRUPTED]


async def test_notifiers_that_raise_or_hang_break_nothing(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(notify, "NOTIFY_SECONDS", 0.01)

    class Raising(Chat):
        async def notify(self, report: Report) -> None:
            raise RuntimeError("no network")

    class Hanging(Chat):
        async def notify(self, report: Report) -> None:
            await anyio.sleep_forever()

    class Deaf(Chat):
        def __call__(self, record: e.Record) -> None:
            raise RuntimeError("not again")

    deaf = Deaf()

    with caplog.at_level(logging.ERROR, "ghostasync"):
        report = await deploy(plan, notifiers=[Raising(), Hanging(), deaf])

    assert report.outcome is Outcome.LIVE
    assert deaf.reports == [report], "it has its say at the end"
    said = sorted(record.getMessage().partition(" ")[0] for record in caplog.records)
    assert said == ["notifier", "notifier", "observer"], "each once"


async def test_nobody_is_held_up_by_a_notifier(plan: Plan) -> None:
    class Waiting(Chat):
        async def notify(self, report: Report) -> None:
            await known.wait()
            await super().notify(report)

    known, chat = anyio.Event(), Waiting()

    async with start(plan, notifiers=[chat]) as run:
        report = await run.report()
        assert chat.reports == []
        known.set()

    assert chat.reports == [report]
