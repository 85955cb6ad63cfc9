"""What may end hosts rests while links move, and works again whatever happens."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import anyio
import anyio.lowlevel
import attrs
import pytest

from ghostasync import (
    Deploy,
    Goal,
    Host,
    Outcome,
    Report,
    Resume,
    Revert,
    Rollback,
    start,
)
from ghostasync import events as e
from ghostasync._run import suspension
from ghostasync.errors import PlanError, StoreError
from ghostasync.protocols import Inventory, SuspendableInventory
from ghostasync.stores.directory import DirectoryRunLog
from ghostasync.testing import Answer, Call, step
from tests.deploying import fails, of
from tests.killing import STORE, Scene

ALL = ("HealthCheck", "Terminate")


@attrs.define
class Group:
    """An Auto Scaling group that the hosts of a scene are in."""

    scene: Scene
    at_work: set[str] = attrs.field(factory=lambda: {*ALL})
    log: list[str] = attrs.field(factory=list)
    recorded: list[object] = attrs.field(factory=list)
    refuses: str = ""
    hangs: bool = False

    async def hosts(self) -> Sequence[Host]:
        return self.scene.plan.hosts

    async def processes(self) -> Mapping[str, Sequence[str]]:
        names = sorted({*ALL} & self.at_work)
        return {"blue": names} if names else {}

    async def suspend(self, processes: Mapping[str, Sequence[str]]) -> None:
        self.recorded.append(record_of(self.scene))
        await self._do("suspend", processes)
        self.at_work -= {name for names in processes.values() for name in names}

    async def resume(self, processes: Mapping[str, Sequence[str]]) -> None:
        await self._do("resume", processes)
        self.at_work |= {name for names in processes.values() for name in names}

    async def _do(self, what: str, processes: Mapping[str, Sequence[str]]) -> None:
        await (anyio.sleep_forever() if self.hangs else anyio.lowlevel.checkpoint())
        if self.refuses == what:
            raise PlanError(f"autoscaling: {what} is denied")
        self.log.append(f"{what} {dict(processes)}")


@pytest.fixture
def group(scene: Scene) -> Group:
    group: Inventory = Group(scene)
    assert isinstance(group, SuspendableInventory)
    assert isinstance(group, Group)
    return group


def record_of(scene: Scene, run: str = "") -> object:
    """Return what the store has on record for the newest run, or another."""
    runs = scene.folder / STORE / "runs"
    newest = max(path.name for path in runs.iterdir() if path.name[0] == "2")
    file = runs / (run or newest) / suspension.RECORD
    return json.loads(file.read_text()) if file.exists() else None


async def go(
    scene: Scene, group: Group, goal: Goal | None = None, limit: Sequence[str] = ()
) -> tuple[Report, list[e.Event]]:
    seen: list[e.Event] = []
    async with start(
        scene.plan,
        goal or Deploy(),
        limit=limit,
        inventory=group,
        transport=scene.fleet.transport,
        observe=lambda record: seen.append(record.event),
    ) as run:
        return await run.report(), seen


def order(seen: Sequence[e.Event], *kinds: type[e.Event]) -> list[str]:
    return [type(event).__name__ for event in seen if isinstance(event, kinds)]


async def killed(scene: Scene, group: Group) -> str:
    """Have a run be killed that has switched one host; return its id."""
    scene.inventory = group
    await scene.deploy_and_watch()
    scene.kill(scene.at(e.Switched, "h1"))
    runs = scene.folder / STORE / "runs" / scene.run
    (runs / suspension.RECORD).write_text(json.dumps({"blue": ALL}))
    group.at_work.clear()
    group.log.clear()
    return scene.run


async def test_they_rest_from_before_the_first_link_to_after_the_last(
    scene: Scene, group: Group
) -> None:
    scene.version("2")

    report, seen = await go(scene, group)

    assert report.outcome is Outcome.LIVE
    way = order(seen, e.Judged, e.ScalingSuspended, e.Switched, e.ScalingResumed)
    assert way == ["Judged", "ScalingSuspended", *["Switched"] * 4, "ScalingResumed"]
    told = {"blue": ALL}
    assert of(e.ScalingSuspended, seen) == [e.ScalingSuspended(told)]
    assert group.at_work == {*ALL}
    assert group.recorded == [{"blue": [*ALL]}], "on record before they are told"
    assert record_of(scene) == {}


async def test_what_somebody_else_has_suspended_stays_so(
    scene: Scene, group: Group
) -> None:
    scene.version("2")
    group.at_work.discard("Terminate")

    await go(scene, group)

    assert group.log == [
        "suspend {'blue': ('HealthCheck',)}",
        "resume {'blue': ('HealthCheck',)}",
    ]
    assert group.at_work == {"HealthCheck"}


async def test_where_no_link_moves_nothing_is_suspended(
    scene: Scene, group: Group
) -> None:
    report, _ = await go(scene, group)

    assert report.outcome is Outcome.UNCHANGED
    assert group.log == []


async def test_they_are_resumed_when_the_fleet_has_gone_back(
    scene: Scene, group: Group
) -> None:
    scene.version("2")
    scene.fleet.breaks = fails("post_deploy", "h3")

    _, seen = await go(scene, group)

    assert order(seen, e.RolledBack, e.ScalingResumed)[-1] == "ScalingResumed"
    assert set(scene.fleet.serves.values()) == {scene.old}
    assert group.at_work == {*ALL}


async def test_they_are_resumed_when_the_run_is_cancelled(
    scene: Scene, group: Group
) -> None:
    scene.version("2")
    switched = anyio.Event()

    async def answer(call: Call) -> Answer:
        if step(call) == "post_deploy" and "GHOST_ACTION=rollback" not in call.args:
            switched.set()
            await anyio.sleep_forever()
        return await plain(call)

    plain = scene.fleet.__call__
    transport = type(scene.fleet.transport)(answer)
    with anyio.CancelScope() as scope:
        async with start(scene.plan, inventory=group, transport=transport):
            await switched.wait()
            assert group.at_work == set()
            scope.cancel()
            await anyio.sleep_forever()

    assert group.at_work == {*ALL}


async def test_where_they_cannot_be_suspended_no_link_moves(
    scene: Scene, group: Group
) -> None:
    scene.version("2")
    group.refuses = "suspend"

    report, _ = await go(scene, group)

    assert (report.outcome, report.exit_status) == (Outcome.FAILED, 1)
    assert report.reason == (
        "what may end hosts could not be suspended: autoscaling: suspend is denied"
    )
    assert set(scene.fleet.serves.values()) == {scene.old}


async def test_a_group_that_does_not_answer_is_not_waited_for(
    scene: Scene, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspension, "SECONDS", 0.05)
    scene.version("2")
    group.hangs = True

    report, _ = await go(scene, group)

    assert report.reason.endswith("suspended: no answer within 0.05 s")


async def test_what_cannot_be_put_on_record_is_not_suspended(
    scene: Scene, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.version("2")
    save = DirectoryRunLog.save

    async def full(self: DirectoryRunLog, run: str, name: str, data: bytes) -> None:
        if name == suspension.RECORD:
            raise StoreError("the store is full")
        await save(self, run, name, data)

    monkeypatch.setattr(DirectoryRunLog, "save", full)

    report, _ = await go(scene, group)

    assert report.reason.endswith("could not be suspended: the store is full")
    assert group.log == []


async def test_hosts_go_back_though_nothing_can_be_suspended(
    scene: Scene, group: Group
) -> None:
    scene.version("2")
    await go(scene, group)
    group.refuses = "suspend"

    report, seen = await go(scene, group, Rollback())

    assert report.outcome is Outcome.LIVE
    assert set(scene.fleet.serves.values()) == {scene.old}
    why = "what may end hosts could not be suspended: autoscaling: suspend is denied"
    assert e.Warned(why) in seen


async def test_what_was_not_resumed_is_told_and_left_to_the_next_run(
    scene: Scene, group: Group
) -> None:
    scene.version("2")
    group.refuses = "resume"
    report, seen = await go(scene, group)
    assert report.outcome is Outcome.LIVE
    text = (
        "not resumed, until the next run on the whole fleet: blue: HealthCheck"
        " Terminate: autoscaling: resume is denied"
    )
    assert e.Warned(text) in seen
    group.refuses = ""

    await go(scene, group)

    assert group.at_work == {*ALL}
    assert record_of(scene, report.run) == {}


@pytest.mark.parametrize("goal", [Deploy(), Resume(), Revert()])
async def test_another_controller_resumes_what_a_killed_one_has_suspended(
    scene: Scene, group: Group, goal: Goal
) -> None:
    run = await killed(scene, group)

    report, _ = await go(scene, group, goal)

    assert report.exit_status == 0, report.reason
    assert group.at_work == {*ALL}
    assert record_of(scene, run) == record_of(scene, report.run) == {}


async def test_a_run_on_a_part_of_the_fleet_leaves_them_to_one_that_may_be_alive(
    scene: Scene, group: Group
) -> None:
    run = await killed(scene, group)
    scene.version("3")

    await go(scene, group, limit=["h4"])

    assert group.at_work == set()
    assert record_of(scene, run) == {"blue": [*ALL]}


async def test_a_record_that_is_damaged_is_told(scene: Scene, group: Group) -> None:
    run = await killed(scene, group)
    (scene.folder / STORE / "runs" / run / suspension.RECORD).write_text("[1")
    scene.version("3")

    report, _ = await go(scene, group)

    assert f"run {run}: suspended.json is damaged" in report.reason
