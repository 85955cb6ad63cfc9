"""Killed runs with drained hosts and migrations: nobody is left out by oversight."""

from __future__ import annotations

import contextlib
from pathlib import Path

import anyio
import anyio.lowlevel
import attrs
import pytest

from ghostasync import (
    Converge,
    DeployFailed,
    Goal,
    Hook,
    Outcome,
    Plan,
    Rollback,
    Script,
    resume,
    revert,
)
from ghostasync import events as e
from ghostasync._engine import locks as _locks
from ghostasync.testing import Answer, Call, FakeHost, FakeHosts, FakeTransport, step
from tests.killing import HOSTS, Scene, four_hosts


@attrs.define
class Balanced(FakeHost):
    """A host that a balancer may have been told to leave out."""

    out: bool = False


@attrs.define(eq=False)
class BalancedHosts(FakeHosts):
    """Hosts that keep books, and are drained and undrained by commands on them."""

    def work(self, call: Call) -> Answer:
        host = self[call.host]
        if step(call) in {"drain", "undrain"}:
            assert isinstance(host, Balanced)
            host.out = step(call) == "drain"
        return super().work(call)

    @property
    def out(self) -> list[str]:
        hosts = self.hosts.items()
        return [n for n, host in hosts if isinstance(host, Balanced) and host.out]


@pytest.fixture
async def scene(tmp_path: Path, cache: None) -> Scene:
    plan = four_hosts(tmp_path)
    module = attrs.evolve(plan.modules[0], before_switch=Script(inline="migrate"))
    rollout = attrs.evolve(
        plan.rollout, drain=Hook("drain", "host"), undrain=Hook("undrain", "host")
    )
    plan = attrs.evolve(plan, modules=(module,), rollout=rollout)
    fleet = BalancedHosts({name: Balanced() for name in HOSTS})
    return await Scene.begin(tmp_path, plan, fleet)


def out(scene: Scene) -> list[str]:
    assert isinstance(scene.fleet, BalancedHosts)
    return scene.fleet.out


async def test_a_run_that_goes_on_migrates_once_and_undrains_all(scene: Scene) -> None:
    await scene.deploy_and_watch()
    migrated = scene.at(e.BeforeSwitchPassed)
    for seq in scene.events():
        scene.kill(seq)

        report = await resume(scene.plan, transport=scene.fleet.transport)

        assert report.outcome is Outcome.LIVE, seq
        assert out(scene) == [], seq
        assert len(scene.fleet.ran("before_switch")) == (seq < migrated), seq


async def test_a_run_that_is_taken_back_leaves_nobody_drained(scene: Scene) -> None:
    await scene.deploy_and_watch()
    for seq in scene.events():
        scene.kill(seq)

        report = await revert(scene.plan, transport=scene.fleet.transport)

        assert report.exit_status == 0, seq
        assert set(scene.fleet.serves.values()) == {scene.old}
        assert out(scene) == [], seq
        assert scene.fleet.ran("before_switch") == []


@pytest.mark.parametrize("back", [False, True])
async def test_a_host_that_stays_drained_is_named_and_put_back_later(
    scene: Scene, *, back: bool
) -> None:
    await scene.deploy_and_watch()
    drained = [cut.seq for cut in scene.cuts if isinstance(cut.event, e.Drained)]
    for seq in (drained[0], drained[-1]):
        scene.kill(seq)
        (left,) = out(scene)
        seen: list[e.Event] = []
        away = FakeTransport(scene.fleet, unreachable=frozenset({left}))

        with pytest.raises(DeployFailed):
            await resume(
                scene.plan,
                observe=lambda record, seen=seen: seen.append(record.event),  # type: ignore[misc]  # a default
                transport=away,
            )

        warned = [event for event in seen if isinstance(event, e.HostWarned)]
        assert [event.host for event in warned] == [left]
        assert warned[0].text.startswith(f"is still drained by run {scene.run}: ")
        assert out(scene) == [left]
        await (revert if back else resume)(scene.plan, transport=scene.fleet.transport)
        assert out(scene) == []
        assert len(set(scene.fleet.serves.values())) == 1


async def test_a_resumption_that_fails_puts_back_who_was_drained(scene: Scene) -> None:
    await scene.deploy_and_watch()
    drained = [cut.seq for cut in scene.cuts if isinstance(cut.event, e.Drained)]
    for seq in (drained[0], drained[-1]):
        scene.kill(seq)
        assert len(out(scene)) == 1
        scene.fleet.breaks = lambda call: (
            Answer(1, b"no\n")
            if call.name == "run" and call.args[1].endswith("pre_deploy")
            else None
        )

        with pytest.raises(DeployFailed) as failed:
            await resume(scene.plan, transport=scene.fleet.transport)

        scene.fleet.breaks = lambda _: None
        assert failed.value.report.exit_status == 1
        assert out(scene) == []
        assert set(scene.fleet.serves.values()) == {scene.old}


async def most_out(scene: Scene, plan: Plan, *, back: bool, fails: str) -> list[str]:
    """Resume while a host's post_deploy fails once; return the most that were out."""
    seen: list[list[str]] = [[]]
    left = [fails]

    async def answer(call: Call) -> Answer:
        await anyio.lowlevel.checkpoint()
        if call.name == "run" and call.args[1].endswith("post_deploy"):
            await anyio.lowlevel.checkpoint()
            if call.host in left:
                left.remove(call.host)
                return Answer(1, b"no\n")
        answered = await scene.fleet(call)
        seen.append(out(scene))
        return answered

    with anyio.fail_after(15), contextlib.suppress(DeployFailed):
        await (revert if back else resume)(plan, transport=FakeTransport(answer))
    return max(seen, key=len)


@pytest.mark.parametrize(("back", "fails"), [(False, "h2"), (True, "")])
async def test_as_many_as_must_serve_do_wherever_a_run_was_killed(
    scene: Scene, *, back: bool, fails: str
) -> None:
    """With hosts that a killed run left drained, no other one may be."""
    rollout = attrs.evolve(scene.plan.rollout, waves=("100%",), min_serving=3)
    scene.plan = plan = attrs.evolve(scene.plan, rollout=rollout)
    await scene.deploy_and_watch()
    for seq in scene.events():
        scene.kill(seq)
        assert len(out(scene)) <= 1

        most = await most_out(scene, plan, back=back, fails=fails)

        assert len(most) <= 1, seq


@pytest.mark.parametrize("goal", [Rollback(), Converge()])
async def test_what_resumes_a_run_that_does_not_migrate_does_not_either(
    scene: Scene, goal: Goal
) -> None:
    scene.version("2")
    await scene.deploy()
    for host in scene.fleet.hosts.values():
        host.link = host.link if goal == Rollback() else ""
        host.ran.clear()
    await scene.watch(goal)
    assert scene.fleet.ran("before_switch") == []
    for seq in scene.events():
        scene.kill(seq)

        report = await resume(scene.plan, transport=scene.fleet.transport)

        assert report.exit_status == 0
        assert scene.fleet.ran("before_switch") == [], seq


async def test_a_run_that_waited_for_a_lock_can_be_killed_anywhere(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_locks, "_POLL_EVERY", (0.01, 0.02))
    left = ["once", "twice"]
    scene.fleet.breaks = lambda call: (
        Answer(75, b"", b"run 20200101T000000Z-aaaaaa by x on y\n")
        if call.name == "lock" and call.host == "h1" and left and left.pop()
        else None
    )
    scene.version("2")
    await scene.watch(wait=60)
    waited, migrated = scene.at(e.LockAwaited), scene.at(e.BeforeSwitchPassed)
    for seq in range(waited, scene.events().stop):
        scene.kill(seq)

        report = await resume(scene.plan, transport=scene.fleet.transport)

        assert report.outcome is Outcome.LIVE, seq
        assert out(scene) == [], seq
        assert len(scene.fleet.ran("before_switch")) == (seq < migrated), seq
        scene.kill(seq)
        await revert(scene.plan, transport=scene.fleet.transport)
        assert set(scene.fleet.serves.values()) == {scene.old}
        assert out(scene) == [], seq


async def test_a_new_deploy_leaves_nobody_drained(scene: Scene) -> None:
    await scene.deploy_and_watch()
    for seq in scene.events():
        scene.kill(seq)
        scene.version(f"3 after {seq}")

        await scene.deploy()

        assert out(scene) == [], seq


async def test_a_host_that_was_half_put_back_is_drained_again_to_go_back(
    scene: Scene,
) -> None:
    """The journal says that it is drained; its balancer has it again by now."""
    await scene.deploy_and_watch()
    verified = next(
        cut.seq
        for cut in scene.cuts
        if isinstance(cut.event, e.Verified) and cut.event.host == "h1"
    )
    scene.kill(verified, lag=1)
    assert out(scene) == []
    drained: list[list[str]] = []

    def breaks(call: Call) -> None:
        if call.name == "restore":
            drained.append(out(scene))

    scene.fleet.breaks = breaks

    await revert(scene.plan, transport=scene.fleet.transport)

    assert drained == [["h1"]]
    assert out(scene) == []
