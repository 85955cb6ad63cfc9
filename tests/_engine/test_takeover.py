"""Runs that were killed, at every record of the journal: taken up, or taken back."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import attrs
import pytest

from ghostasync import (
    Converge,
    Deploy,
    DeployFailed,
    Goal,
    Host,
    Outcome,
    PlanError,
    Report,
    Resume,
    Revert,
    Rollback,
    State,
    converge,
    deploy,
    resume,
    revert,
    rollback,
    start,
    status,
)
from ghostasync import events as e
from ghostasync.errors import ConnectionDied, NothingToResume, StoreError
from ghostasync.history.replay import read_run
from ghostasync.journal import Journal
from ghostasync.stores.directory import DirectoryRunLog
from ghostasync.testing import Answer, Call, FakeHost, FakeTransport
from tests.killing import HOSTS, STORE, Scene

# --- At every moment -----------------------------------------------------------


@pytest.mark.parametrize("lag", [0, 2])
async def test_a_run_that_was_killed_anywhere_is_finished(
    scene: Scene, lag: int
) -> None:
    new = (await scene.deploy_and_watch()).releases["site"]
    for seq in scene.events():
        scene.kill(seq, lag=lag)
        live = [name for name, release in scene.fleet.serves.items() if release == new]
        before = scene.after_all

        report = await resume(scene.plan, transport=scene.fleet.transport)

        assert report.outcome is Outcome.LIVE, seq
        (release,) = set(scene.fleet.serves.values())
        assert (release, scene.manifest) == (report.releases["site"], release)
        assert scene.after_all == before + 1
        if live:
            assert release == new
            assert set(scene.fleet.ran("pre_deploy")).isdisjoint(live)
        with pytest.raises(PlanError, match="no unfinished run"):
            await resume(scene.plan, transport=scene.fleet.transport)


@pytest.mark.parametrize("lag", [0, 2])
async def test_a_run_that_was_killed_anywhere_is_taken_back(
    scene: Scene, lag: int
) -> None:
    new = (await scene.deploy_and_watch()).releases["site"]
    for seq in scene.events():
        scene.kill(seq, lag=lag)
        moved = [name for name, release in scene.fleet.serves.items() if release == new]

        report = await revert(scene.plan, transport=scene.fleet.transport)

        assert report.exit_status == 0
        back = [n for n, h in report.hosts.items() if h.state is State.ROLLED_BACK]
        assert back == moved, seq
        assert set(scene.fleet.serves.values()) == {scene.old}
        assert scene.manifest == scene.old, seq
        assert scene.fleet.ran("post_deploy") == moved
        with pytest.raises(PlanError, match="no unfinished run"):
            await resume(scene.plan, transport=scene.fleet.transport)


async def test_a_new_deploy_makes_up_for_a_run_that_was_killed_anywhere(
    scene: Scene,
) -> None:
    await scene.deploy_and_watch()
    for seq in scene.events():
        scene.kill(seq)
        scene.version(f"3 after {seq}")

        report = await scene.deploy()

        assert set(scene.fleet.serves.values()) == {report.releases["site"]}
        assert scene.manifest == report.releases["site"]
        with pytest.raises(PlanError, match="no unfinished run"):
            await resume(scene.plan, transport=scene.fleet.transport)


@pytest.mark.parametrize("goal", [Rollback(), Rollback(remove=True)])
@pytest.mark.parametrize("lag", [0, 2])
async def test_a_rollback_that_was_killed_anywhere_is_finished(
    scene: Scene, goal: Rollback, lag: int
) -> None:
    await kill_rollback(scene, goal)
    done = (scene.fleet.serves, scene.manifest)
    for seq in scene.events()[scene.at(e.Numbered) :]:
        scene.kill(seq, lag=lag)
        told = await status(scene.plan, transport=scene.fleet.transport)
        assert told.run is not None

        report = await resume(scene.plan, transport=scene.fleet.transport)

        assert report.exit_status == 0
        assert (scene.fleet.serves, scene.manifest) == done, seq
        with pytest.raises(PlanError, match="no unfinished run"):
            await resume(scene.plan, transport=scene.fleet.transport)


@pytest.mark.parametrize("goal", [Rollback(), Rollback(remove=True)])
@pytest.mark.parametrize("lag", [0, 2])
async def test_a_rollback_that_was_killed_anywhere_is_taken_back(
    scene: Scene, goal: Rollback, lag: int
) -> None:
    left = await kill_rollback(scene, goal)
    for seq in scene.events()[scene.at(e.Numbered) :]:
        scene.kill(seq, lag=lag)
        gone = not any(scene.fleet.serves.values())

        report = await revert(scene.plan, transport=scene.fleet.transport)

        assert report.exit_status == 0
        serves = "" if gone else left
        assert scene.fleet.serves == dict.fromkeys(HOSTS, serves)
        # A link that was removed does not come back, and no host boots what none has.
        assert scene.manifest == serves, seq
        with pytest.raises(PlanError, match="no unfinished run"):
            await resume(scene.plan, transport=scene.fleet.transport)


async def kill_rollback(scene: Scene, goal: Rollback) -> str:
    """Watch a rollback of version 2, or 1 where that goes; return what it leaves."""
    if not goal.remove:
        scene.version("2")
        await scene.deploy()
    left = scene.manifest
    await scene.watch(goal)
    return left


async def test_a_resumed_run_that_fails_takes_every_host_back(scene: Scene) -> None:
    await scene.deploy_and_watch()

    def breaks(call: Call) -> Answer | None:
        last = call.host == "h4" and call.name == "switch"
        return Answer(1, b"broken\n") if last else None

    for seq in range(scene.at(e.Prepared), scene.at(e.Switched, "h4")):
        scene.kill(seq)
        scene.fleet.breaks = breaks

        with pytest.raises(DeployFailed):
            await resume(scene.plan, transport=scene.fleet.transport)

        assert set(scene.fleet.serves.values()) == {scene.old}, seq
        assert scene.manifest == scene.old
        scene.fleet.breaks = lambda _: None


async def test_what_resumes_a_run_can_be_killed_and_resumed(scene: Scene) -> None:
    await scene.deploy_and_watch()
    scene.kill(scene.at(e.Switched, "h3"))
    again = Scene(scene.folder, scene.plan, scene.fleet, scene.old)
    shutil.rmtree(scene.folder / "store.whole")
    async with start(
        scene.plan,
        Resume(),
        observe=again.keep,
        transport=scene.fleet.transport,
    ) as run:
        again.run = run.id
        new = (await run.report()).releases["site"]
    shutil.copytree(scene.folder / "store", scene.folder / "store.whole")

    for seq in again.events():
        again.kill(seq)
        report = await resume(again.plan, transport=again.fleet.transport)
        assert set(again.fleet.serves.values()) == {new}, seq
        assert report.outcome is Outcome.LIVE
        again.kill(seq)
        await revert(again.plan, transport=again.fleet.transport)
        assert set(again.fleet.serves.values()) == {scene.old}, seq
        assert again.manifest == scene.old


# --- What was asked for survives ---------------------------------------------------


async def kill_at(scene: Scene, kind: type[e.Event], host: str = "") -> str:
    """Kill a deploy of version 2 after the last event of a kind; return its release."""
    new = (await scene.deploy_and_watch()).releases["site"]
    scene.kill(scene.at(kind, host))
    return new


async def test_a_run_of_few_hosts_stays_one_and_leaves_the_manifest(
    scene: Scene,
) -> None:
    scene.version("2")
    async with start(
        scene.plan, limit=["h1", "h2"], transport=scene.fleet.transport
    ) as run:
        await run.report()
    journal = scene.folder / STORE / "runs" / run.id / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]))

    report = await resume(scene.plan, transport=scene.fleet.transport)

    assert set(report.hosts) == {"h1", "h2"}
    assert report.outcome is Outcome.LIVE
    assert scene.manifest == scene.old
    assert scene.fleet.serves["h3"] == scene.old


async def test_a_run_of_few_hosts_says_how_the_others_get_what_they_have(
    scene: Scene,
) -> None:
    scene.version("2")
    said: list[e.Event] = []
    first = await deploy(
        scene.plan,
        limit=["h1"],
        observe=lambda record: said.append(record.event),
        transport=scene.fleet.transport,
    )
    new = first.releases["site"]
    assert (
        e.Warned(
            "MANIFEST stays: the run was under --limit; to take the other hosts along: "
            f"ghostasync deploy --package {new}"
        )
        in said
    )

    report = await deploy(
        scene.plan,
        packages=[new],
        transport=scene.fleet.transport,
    )

    assert report.hosts["h1"].state is State.UNCHANGED
    assert set(scene.fleet.serves.values()) == {new}
    assert scene.manifest == new


async def test_a_forced_run_is_forced_again_where_it_was_not_live(scene: Scene) -> None:
    seqs: list[int] = []

    def observe(record: e.Record) -> None:
        if isinstance(record.event, e.Undrained) and record.event.host == "h1":
            seqs.append(record.seq)

    async with start(
        scene.plan,
        Deploy(packages=[scene.old], force=True),
        observe=observe,
        transport=scene.fleet.transport,
    ) as run:
        await run.report()
    journal = scene.folder / STORE / "runs" / run.id / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[: seqs[0]]))
    for host in scene.fleet.hosts.values():
        host.ran.clear()

    report = await resume(scene.plan, transport=scene.fleet.transport)

    assert report.releases == {"site": scene.old}
    assert scene.fleet.ran("post_deploy") == ["h2", "h3", "h4"]


async def test_hosts_that_are_live_with_another_environment_prove_themselves_again(
    scene: Scene,
) -> None:
    new = await kill_at(scene, e.Undrained, "h2")
    app = attrs.evolve(scene.plan.app, env_vars={"GREETING": "changed"})
    scene.plan = attrs.evolve(scene.plan, app=app)

    report = await resume(scene.plan, transport=scene.fleet.transport)

    assert report.releases == {"site": new}
    assert scene.fleet.ran("post_deploy") == list(HOSTS)
    assert scene.fleet.ran("pre_deploy") == ["h4"]
    await rollback(scene.plan, transport=scene.fleet.transport)
    assert set(scene.fleet.serves.values()) == {scene.old}


async def test_a_package_that_is_gone_is_made_again(scene: Scene) -> None:
    made = await kill_at(scene, e.Prepared)
    lose(scene, made)

    report = await resume(scene.plan, transport=scene.fleet.transport)

    again = report.releases["site"]
    assert set(scene.fleet.serves.values()) == {again}


async def test_a_package_that_is_gone_is_not_made_again_beside_hosts_that_have_it(
    scene: Scene,
) -> None:
    """They would go back to it, not to what they served before."""
    made = await kill_at(scene, e.Switched, "h2")
    lose(scene, made)

    with pytest.raises(PlanError, match=f"brought hosts to {made}, which cannot be"):
        await resume(scene.plan, transport=scene.fleet.transport)

    await revert(scene.plan, transport=scene.fleet.transport)
    assert set(scene.fleet.serves.values()) == {scene.old}


def lose(scene: Scene, package: str) -> None:
    for file in (scene.folder / STORE / "packages").glob(f"{package}*"):
        file.unlink()


# --- What stands in the way -------------------------------------------------------


async def test_a_finished_run_is_not_resumed(scene: Scene) -> None:
    run = (await scene.deploy()).run

    with pytest.raises(PlanError) as refused:
        await resume(scene.plan, run=run, transport=scene.fleet.transport)

    assert str(refused.value) == (
        f"run {run} has ended unchanged: nothing is left to resume; to go back from "
        f"it: ghostasync rollback {run}"
    )


async def test_only_who_goes_on_has_what_was_asked_for(scene: Scene) -> None:
    """A finished run is not taken back by a resumption, and must not seem so."""
    run = (await scene.deploy()).run

    with pytest.raises(NothingToResume):
        await resume(scene.plan, run=run, transport=scene.fleet.transport)
    with pytest.raises(PlanError) as refused:
        await revert(scene.plan, run=run, transport=scene.fleet.transport)

    assert not isinstance(refused.value, NothingToResume)
    assert f"ghostasync rollback {run}" in str(refused.value)


async def test_a_killed_run_is_not_resumed_over_a_later_one(scene: Scene) -> None:
    await kill_at(scene, e.Switched, "h2")
    killed = scene.run
    scene.version("3")
    await scene.deploy()

    with pytest.raises(PlanError, match="a later run has gone live"):
        await resume(scene.plan, run=killed, transport=scene.fleet.transport)
    report = await revert(scene.plan, run=killed, transport=scene.fleet.transport)

    assert report.outcome is Outcome.UNCHANGED


async def test_a_module_that_is_gone_from_the_configuration_is_named(
    scene: Scene,
) -> None:
    await kill_at(scene, e.Switched, "h2")
    other = attrs.evolve(scene.plan.modules[0], name="other", path="/srv/other")
    scene.plan = attrs.evolve(scene.plan, modules=(other,))

    with pytest.raises(PlanError, match=f"run {scene.run} had a module 'site'"):
        await resume(scene.plan, transport=scene.fleet.transport)


async def test_a_host_that_is_gone_from_the_inventory_is_told(scene: Scene) -> None:
    await kill_at(scene, e.Switched, "h2")
    scene.plan = attrs.evolve(scene.plan, hosts=scene.plan.hosts[1:])
    seen: list[e.Event] = []

    report = await resume(
        scene.plan,
        observe=lambda record: seen.append(record.event),
        transport=scene.fleet.transport,
    )

    assert list(report.hosts) == ["h2", "h3", "h4"]
    assert e.Warned("h1 is not in the inventory any more") in seen


async def resume_grown(scene: Scene, *, back: bool = False) -> set[str]:
    """Resume with a host that has joined since; return what was warned of."""
    scene.fleet.hosts["h5"] = FakeHost()
    plan = attrs.evolve(scene.plan, hosts=(*scene.plan.hosts, Host("h5")))
    seen: list[e.Event] = []
    report = await (revert if back else resume)(
        plan,
        observe=lambda record: seen.append(record.event),
        transport=scene.fleet.transport,
    )
    assert list(report.hosts) == [*HOSTS, *["h5"] * (not back)]
    return {event.text for event in seen if isinstance(event, e.Warned)}


@pytest.mark.parametrize("kind", [e.WaveFinished, e.ManifestMoved])
async def test_a_host_that_joined_since_is_brought_along_by_a_resumption(
    scene: Scene, kind: type[e.Event]
) -> None:
    new = await kill_at(scene, kind)

    warned = await resume_grown(scene)

    assert (warned, scene.manifest) == (set(), new)
    assert scene.fleet.serves == dict.fromkeys([*HOSTS, "h5"], new)


async def test_a_host_that_joined_since_is_no_part_of_a_way_back(scene: Scene) -> None:
    await kill_at(scene, e.ManifestMoved)

    warned = await resume_grown(scene, back=True)

    assert warned == {"h5 is new and not part of this run: ghostasync converge h5"}
    assert scene.manifest == scene.old


@pytest.mark.parametrize(
    ("away", "exit_status"), [("h1", 3), ("h4", 1)], ids=["moved", "not moved"]
)
async def test_a_host_out_of_reach_keeps_no_other_from_its_way_back(
    scene: Scene, away: str, exit_status: int
) -> None:
    await kill_at(scene, e.Switched, "h2")
    transport = FakeTransport(scene.fleet, unreachable=frozenset({away}))

    with pytest.raises(DeployFailed) as failed:
        await revert(scene.plan, transport=transport)

    assert failed.value.report.exit_status == exit_status
    reached = {n: r for n, r in scene.fleet.serves.items() if n != away}
    assert set(reached.values()) == {scene.old}
    if away == "h1":
        await resume(scene.plan, transport=scene.fleet.transport)
        assert set(scene.fleet.serves.values()) == {scene.old}


@pytest.mark.parametrize(
    ("name", "answer"),
    [("check", Answer(1, b"it broke")), ("lock", Answer(76, b"", b"run (pid 7)"))],
)
async def test_a_host_that_could_not_be_looked_at_may_serve_what_was_to_go(
    scene: Scene, name: str, answer: Answer
) -> None:
    new = await kill_at(scene, e.Switched, "h3")
    scene.fleet.breaks = lambda call: (
        answer if (call.host, call.name) == ("h1", name) else None
    )

    with pytest.raises(DeployFailed) as failed:
        await revert(scene.plan, transport=scene.fleet.transport)

    assert failed.value.report.exit_status == 3
    assert scene.fleet.serves.pop("h1") == new
    scene.fleet.breaks = lambda _: None
    again = await resume(scene.plan, transport=scene.fleet.transport)
    assert again.exit_status == 0
    assert set(scene.fleet.serves.values()) == {scene.old}


async def test_a_host_that_cannot_leave_for_its_way_back_says_why(
    scene: Scene,
) -> None:
    rollout = attrs.evolve(scene.plan.rollout, min_serving=3, waves=(1, 1))
    scene.plan = attrs.evolve(scene.plan, rollout=rollout)
    await kill_at(scene, e.Switched, "h2")
    transport = FakeTransport(scene.fleet, unreachable=frozenset({"h4"}))

    with pytest.raises(DeployFailed) as failed:
        await revert(scene.plan, transport=transport)

    report = failed.value.report
    assert report.exit_status == 3
    stays = {n for n, h in report.hosts.items() if "stays on the new" in h.reason}
    assert stays
    assert {scene.fleet.serves[name] for name in stays} != {scene.old}


async def test_a_moved_host_that_is_lost_once_it_was_looked_at_is_for_later(
    scene: Scene,
) -> None:
    new = await kill_at(scene, e.Undrained, "h3")
    transport = FakeTransport(scene.fleet)

    def breaks(call: Call) -> Answer | None:
        if (call.host, call.name) != ("h1", "check"):
            return None
        transport.unreachable = frozenset({"h1"})
        scene.fleet["h1"].tools = ("zstd",)
        return None

    def hangs_up(call: Call) -> Awaitable[Answer]:
        if call.host == "h1" and transport.unreachable and call.name != "check":
            raise ConnectionDied("h1", "lost")
        return scene.fleet(call)

    scene.fleet.breaks = breaks
    transport.handler = hangs_up
    deadlines = attrs.evolve(scene.plan.rollout.deadlines, connect=2)
    rollout = attrs.evolve(scene.plan.rollout, deadlines=deadlines)
    scene.plan = attrs.evolve(scene.plan, rollout=rollout)

    with pytest.raises(DeployFailed) as failed:
        await resume(scene.plan, transport=transport)

    assert failed.value.report.exit_status == 3
    serves = scene.fleet.serves
    assert serves.pop("h1") == new
    assert set(serves.values()) == {scene.old}


async def test_a_resumption_that_is_interrupted_while_it_waits_has_changed_nothing(
    scene: Scene,
) -> None:
    """It holds no host then; all may be another run's by now."""
    new = await kill_at(scene, e.Undrained, "h2")
    before = scene.fleet.serves
    scene.fleet.breaks = lambda call: (
        Answer(75) if call.name == "lock" and call.host == "h4" else None
    )

    async with start(
        scene.plan,
        Resume(),
        wait=600,
        transport=scene.fleet.transport,
    ) as run:
        async for record in run.events():
            if isinstance(record.event, e.LockAwaited):
                run.interrupt()
                break
        report = await run.report()

    assert (report.outcome, report.exit_status) == (Outcome.INTERRUPTED, 130)
    assert {host.state for host in report.hosts.values()} == {State.HALTED}
    assert scene.fleet.serves == before
    assert not any(host.ran for host in scene.fleet.hosts.values())
    journal = scene.folder / STORE / "runs" / report.run / "journal.jsonl"
    with journal.open("rb") as lines:
        found = read_run(lines)
    assert found is not None
    assert found.finished is not None
    scene.fleet.breaks = lambda _: None
    again = await resume(scene.plan, transport=scene.fleet.transport)
    assert set(scene.fleet.serves.values()) == {new}
    assert again.exit_status == 0


async def test_a_resumption_that_stops_early_takes_back_what_was_moved_before_it(
    scene: Scene,
) -> None:
    await kill_at(scene, e.Undrained, "h3")
    transport = FakeTransport(scene.fleet, unreachable=frozenset({"h4"}))

    with pytest.raises(DeployFailed) as failed:
        await resume(scene.plan, transport=transport)

    assert failed.value.report.exit_status == 1
    assert set(scene.fleet.serves.values()) == {scene.old}


async def test_a_moved_host_that_is_out_of_reach_is_for_a_person_and_for_later(
    scene: Scene,
) -> None:
    new = await kill_at(scene, e.Undrained, "h3")
    transport = FakeTransport(scene.fleet, unreachable=frozenset({"h1"}))

    with pytest.raises(DeployFailed) as failed:
        await resume(scene.plan, transport=transport)

    assert failed.value.report.outcome is Outcome.STRANDED
    assert failed.value.report.exit_status == 3
    assert scene.fleet.serves.pop("h1") == new
    assert set(scene.fleet.serves.values()) - {new} == {scene.old}
    again = await resume(scene.plan, transport=scene.fleet.transport)
    assert again.exit_status == 0
    assert set(scene.fleet.serves.values()) == {scene.old}


@pytest.mark.parametrize(
    ("host", "what"),
    [
        *(
            ("h3", what)
            for what in ("check", "environment", "record_moves", "post_deploy")
        ),
        *(
            ("h4", what)
            for what in ("check", "environment", "pre_deploy", "record_moves")
        ),
    ],
)
async def test_a_resumption_that_fails_anywhere_takes_all_back(
    scene: Scene, host: str, what: str
) -> None:
    """A host that was moved already is not left behind, wherever it is stopped."""
    await kill_at(scene, e.Switched, "h3")
    broken = [(host, what)]
    scene.fleet.calls.clear()

    def breaks(call: Call) -> Answer | None:
        step = call.args[1].rpartition("/")[2] if call.name == "run" else call.name
        # Planning looks at hosts as well, and takes no lock.
        locked = any((c.host, c.name) == (host, "lock") for c in scene.fleet.calls)
        if (call.host, step) not in broken or not locked:
            return None
        broken.clear()
        return Answer(1, b"it broke\n")

    scene.fleet.breaks = breaks

    with pytest.raises(DeployFailed) as failed:
        await resume(scene.plan, transport=scene.fleet.transport)

    assert not broken
    assert failed.value.report.exit_status == 1
    assert set(scene.fleet.serves.values()) == {scene.old}


async def test_a_host_is_told_whether_the_run_before_had_moved_its_link(
    scene: Scene,
) -> None:
    """Its environment of before is then what a way back leads to, and no other."""
    await kill_at(scene, e.Switched, "h3")
    transport = FakeTransport(scene.fleet)

    await resume(scene.plan, transport=transport)
    scene.version("3")
    await deploy(scene.plan, transport=transport)

    told = [(c.host, c.args[-2]) for c in transport.calls if c.name == "record_moves"]
    assert sorted(told[:3]) == [("h2", "kept"), ("h3", "kept"), ("h4", "")]
    assert sorted(told[3:]) == [(host, "") for host in HOSTS]


@pytest.mark.parametrize("back", [False, True])
async def test_a_fleet_that_another_run_holds_is_left_alone(
    scene: Scene, *, back: bool
) -> None:
    new = await kill_at(scene, e.Undrained, "h2")
    before = scene.fleet.serves
    scene.fleet.breaks = lambda call: (
        Answer(75) if call.name == "lock" and call.host == "h4" else None
    )

    with pytest.raises(DeployFailed) as failed:
        await (revert if back else resume)(scene.plan, transport=scene.fleet.transport)

    assert failed.value.report.exit_status == 4
    assert scene.fleet.serves == before
    scene.fleet.breaks = lambda _: None
    report = await resume(scene.plan, transport=scene.fleet.transport)
    expected = scene.old if back else new
    assert set(scene.fleet.serves.values()) == {expected}
    assert report.exit_status == 0


async def test_a_converge_takes_nothing_back_that_came_after_it_was_planned(
    scene: Scene,
) -> None:
    new = await deploy_meanwhile(scene)

    with pytest.raises(DeployFailed, match="MANIFEST has moved since the run was pl"):
        await converge(scene.plan, transport=scene.fleet.transport)

    assert (set(scene.fleet.serves.values()), scene.manifest) == ({new}, new)


async def test_a_revert_leaves_what_came_after_it_was_planned(scene: Scene) -> None:
    await kill_at(scene, e.ManifestMoved)
    third = await deploy_meanwhile(scene)

    await revert(scene.plan, transport=scene.fleet.transport)

    assert (set(scene.fleet.serves.values()), scene.manifest) == ({third}, third)


async def deploy_meanwhile(scene: Scene) -> str:
    """Have a version come between the plan of the next run and its first lock."""
    path = scene.folder / STORE / "MANIFEST"
    before, text = copy.deepcopy(scene.fleet.hosts), path.read_bytes()
    scene.version("meanwhile")
    release = (await scene.deploy()).releases["site"]
    after, new_text = scene.fleet.hosts, path.read_bytes()
    scene.fleet.hosts = before
    path.write_bytes(text)

    def breaks(call: Call) -> Answer | None:
        if call.name == "lock" and scene.fleet.hosts is before:
            scene.fleet.hosts = after
            path.write_bytes(new_text)
        return None

    scene.fleet.breaks = breaks
    return release


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_revert_that_is_stopped_while_it_is_numbered_is_finished_later(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, *, cancelled: bool
) -> None:
    await kill_at(scene, e.Undrained, "h2")
    before, reached = scene.fleet.serves, anyio.Event()

    async def never(*_: object) -> None:
        reached.set()
        await anyio.sleep_forever()

    with monkeypatch.context() as patch, anyio.CancelScope() as scope:
        patch.setattr(DirectoryRunLog, "reserve", never)
        async with start(scene.plan, Revert(), transport=scene.fleet.transport) as run:
            await reached.wait()
            if cancelled:
                scope.cancel()
            else:
                run.interrupt()
            report = await run.report()
        assert (report.outcome, report.exit_status) == (Outcome.INTERRUPTED, 130)

    assert scope.cancelled_caught == cancelled
    assert scene.fleet.serves == before
    await resume(scene.plan, transport=scene.fleet.transport)
    assert set(scene.fleet.serves.values()) == {scene.old}
    assert (await status(scene.plan, transport=scene.fleet.transport)).run is None


async def test_an_interrupted_revert_has_changed_nothing(scene: Scene) -> None:
    await kill_at(scene, e.Undrained, "h2")
    before = scene.fleet.serves

    async with start(
        scene.plan,
        Revert(),
        transport=scene.fleet.transport,
    ) as run:
        run.interrupt()
        report = await run.report()

    assert (report.outcome, report.exit_status) == (Outcome.INTERRUPTED, 130)
    assert scene.fleet.serves == before


async def test_a_revert_that_cannot_be_recorded_has_failed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await kill_at(scene, e.Undrained, "h2")
    before = scene.fleet.serves

    def full(*_: object, **__: object) -> None:
        raise StoreError("journal: No space left on device")

    monkeypatch.setattr(Journal, "append", full)

    with pytest.raises(DeployFailed, match="No space left") as failed:
        await revert(scene.plan, transport=scene.fleet.transport)

    report = failed.value.report
    assert report.exit_status == 1
    assert {host.state for host in report.hosts.values()} == {State.HALTED}
    assert scene.fleet.serves == before


async def test_a_moved_host_that_cannot_be_looked_at_again_still_goes_back(
    scene: Scene,
) -> None:
    await kill_at(scene, e.Switched, "h1")
    scene.fleet.breaks = look_again_at_h1(Answer(1, b"busy\n"))

    with pytest.raises(DeployFailed) as failed:
        await resume(scene.plan, transport=scene.fleet.transport)

    assert set(scene.fleet.serves.values()) == {scene.old}
    assert failed.value.report.hosts["h1"].state is State.ROLLED_BACK


async def test_a_bug_while_hosts_are_looked_at_again_keeps_none_from_its_way_back(
    scene: Scene,
) -> None:
    await kill_at(scene, e.Switched, "h1")
    scene.fleet.breaks = look_again_at_h1(LookupError("a bug"))

    with pytest.raises(LookupError):
        await resume(scene.plan, transport=scene.fleet.transport)

    assert set(scene.fleet.serves.values()) == {scene.old}


def look_again_at_h1(answer: Answer | Exception) -> Callable[[Call], Answer | None]:
    """Stop a run before it knows what h1 serves; then h1 is asked, and answers so."""
    broken: list[str] = []

    def breaks(call: Call) -> Answer | None:
        back = "GHOST_ACTION=rollback" in call.args
        if call.name == "run" and call.args[1].endswith("pre_deploy") and not back:
            broken.append(call.host)
            return Answer(1, b"no\n")
        if (call.host, call.name) == ("h1", "environment"):
            broken.append(call.host)
            return Answer(1, b"no\n")
        if call.host == "h1" and call.name == "check" and broken:
            if isinstance(answer, Exception):
                raise answer
            return answer
        return None

    return breaks


async def test_a_revert_that_has_begun_to_go_back_is_not_stopped(scene: Scene) -> None:
    await kill_at(scene, e.Undrained, "h2")
    answers: list[bool] = []

    def observe(record: e.Record) -> None:
        if isinstance(record.event, e.FleetRollbackStarted):
            answers.append(run.interrupt())

    async with start(
        scene.plan, Revert(), observe=observe, transport=scene.fleet.transport
    ) as run:
        report = await run.report()

    assert answers == [False]
    assert (report.outcome, report.exit_status) == (Outcome.LIVE, 0)
    assert set(scene.fleet.serves.values()) == {scene.old}


async def test_a_revert_that_stops_as_it_sorts_hosts_out_leaves_none_waiting(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await kill_at(scene, e.Undrained, "h2")
    append = Journal.append

    def full(self: Journal, record: e.Record, *, sync: bool = False) -> None:
        if isinstance(record.event, e.Unchanged):
            raise StoreError("journal: No space left on device")
        append(self, record, sync=sync)

    monkeypatch.setattr(Journal, "append", full)

    with pytest.raises(DeployFailed, match="No space left") as failed:
        await revert(scene.plan, transport=scene.fleet.transport)

    states = {host.state for host in failed.value.report.hosts.values()}
    assert states == {State.HALTED, State.UNCHANGED}


async def test_a_revert_that_fails_on_a_host_strands_it(scene: Scene) -> None:
    new = await kill_at(scene, e.ManifestMoved)
    scene.fleet.breaks = lambda call: (
        Answer(1, b"no\n") if call.name == "restore" and call.host == "h2" else None
    )
    seen: list[e.Event] = []

    with pytest.raises(DeployFailed) as failed:
        await revert(
            scene.plan,
            observe=lambda record: seen.append(record.event),
            transport=scene.fleet.transport,
        )

    assert failed.value.report.exit_status == 3
    assert scene.manifest == new
    assert e.Warned(f"MANIFEST still names {new}: not every host is back") in seen


async def test_a_run_that_nobody_knows_cannot_be_taken_back(scene: Scene) -> None:
    await kill_at(scene, e.Undrained, "h2")
    before = scene.fleet.serves

    with pytest.raises(PlanError, match="there is no run 20260101-typo"):
        await revert(
            scene.plan,
            run="20260101-typo",
            transport=scene.fleet.transport,
        )
    with pytest.raises(DeployFailed) as failed:
        await revert(
            scene.plan,
            run="20200101T000000Z-abcdef",
            transport=scene.fleet.transport,
        )

    report = failed.value.report
    assert report.exit_status == 1
    assert report.reason == (
        "neither a journal nor a host has a record of run 20200101T000000Z-abcdef"
    )
    assert scene.fleet.serves == before
    await revert(scene.plan, transport=scene.fleet.transport)
    assert set(scene.fleet.serves.values()) == {scene.old}


@pytest.mark.parametrize("killed", [False, True])
async def test_a_secret_of_what_served_before_is_in_no_log(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, *, killed: bool
) -> None:
    """It was rotated before the run that moved MANIFEST, and was killed or was not."""
    app = attrs.evolve(scene.plan.app, secrets=("TOKEN",))
    scene.plan = attrs.evolve(scene.plan, app=app)
    monkeypatch.setenv("TOKEN", "old-secret-123456")
    scene.version("1.5")
    await scene.deploy()
    monkeypatch.setenv("TOKEN", "new-secret-654321")
    await kill_at(scene, e.ManifestMoved)
    if not killed:
        await resume(scene.plan, transport=scene.fleet.transport)
    scene.fleet.breaks = lambda call: (
        Answer(0, b"using old-secret-123456\n")
        if call.name == "run" and call.args[1].endswith("post_deploy")
        else None
    )

    if killed:
        report = await revert(scene.plan, transport=scene.fleet.transport)
    else:
        report = await rollback(scene.plan, transport=scene.fleet.transport)

    texts = [p.read_bytes() for p in Path(report.log).rglob("*") if p.is_file()]
    assert any(b"using " in text for text in texts)
    assert not any(b"old-secret" in text for text in texts)


async def test_the_fleet_goes_back_in_reverse_wave_order(scene: Scene) -> None:
    await kill_at(scene, e.ManifestMoved)
    transport = scene.fleet.transport

    await revert(scene.plan, transport=transport)

    restored = [call.host for call in transport.calls if call.name == "restore"]
    assert restored[-1] == "h1"
    assert restored[0] == "h4"


async def test_status_tells_of_a_killed_run(scene: Scene) -> None:
    new = await kill_at(scene, e.Undrained, "h2")

    found = await status(scene.plan, transport=scene.fleet.transport)

    assert found.run is not None
    assert (found.run.id, found.run.action) == (scene.run, "deploy")
    assert (found.run.moved, found.run.committed) == (True, False)
    assert found.run.releases == {"site": new}
    assert found.hosts["h1"].runs == {"site": scene.run}
    assert found.hosts["h4"].state == "in-line"


async def cut(scene: Scene, run: str, kind: type[e.Event]) -> None:
    """Cut the journal of a run after the first event of a kind."""
    journal = scene.folder / STORE / "runs" / run / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    name = f'"event":"{kind.__name__}"'.encode()
    at = next(number for number, line in enumerate(lines) if name in line)
    journal.write_bytes(b"".join(lines[: at + 1]))


async def test_a_stranded_host_proves_itself_though_it_serves_what_it_should(
    scene: Scene,
) -> None:
    """Its link was put back, but the post-deploy of what it serves failed."""
    scene.version("2")
    scene.fleet.breaks = lambda call: (
        Answer(1, b"it broke\n")
        if call.host == "h1" and call.name == "run" and "post_deploy" in call.args[1]
        else None
    )
    with pytest.raises(DeployFailed) as failed:
        await scene.deploy()
    assert failed.value.report.hosts["h1"].state is State.STRANDED
    assert set(scene.fleet.serves.values()) == {scene.old}
    scene.fleet.breaks = lambda _: None
    for host in scene.fleet.hosts.values():
        host.ran.clear()

    report = await converge(scene.plan, transport=scene.fleet.transport)

    assert report.hosts["h1"].state is State.LIVE
    assert scene.fleet.ran("post_deploy") == ["h1"]
    again = await converge(scene.plan, transport=scene.fleet.transport)
    assert again.hosts["h1"].state is State.UNCHANGED


async def test_a_killed_converge_stays_one(scene: Scene) -> None:
    scene.fleet.hosts["h4"] = FakeHost()
    async with start(scene.plan, Converge(), transport=scene.fleet.transport) as run:
        await run.report()
    await cut(scene, run.id, e.Switched)
    before = scene.after_all

    report = await resume(scene.plan, transport=scene.fleet.transport)

    assert report.releases == {"site": scene.old}
    assert set(scene.fleet.serves.values()) == {scene.old}
    assert scene.after_all == before


async def test_what_a_killed_rollback_had_sent_runs_its_pre_deploy(
    scene: Scene,
) -> None:
    """Only what has served on a host has run its own there."""
    scene.version("2")
    await scene.deploy()
    lacks = scene.fleet["h3"].module("/ghost/shop/prod/web/site")
    lacks.releases.discard(scene.old)
    lacks.served.discard(scene.old)
    await scene.watch(Rollback())
    scene.kill(scene.at(e.Uploaded, "h3"))

    await resume(scene.plan, transport=scene.fleet.transport)

    assert set(scene.fleet.serves.values()) == {scene.old}
    assert scene.fleet.ran("pre_deploy") == ["h3"]
    assert scene.fleet.ran("receive") == []


async def test_a_rollback_with_recorded_secrets_is_resumed_with_them(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "secret-of-then")
    app = attrs.evolve(scene.plan.app, secrets=("TOKEN",))
    scene.plan = attrs.evolve(scene.plan, app=app)
    scene.version("2")
    await scene.deploy()
    monkeypatch.delenv("TOKEN")
    await scene.watch(Rollback(recorded_secrets=True))
    scene.kill(scene.at(e.Numbered))
    scene.fleet.calls.clear()

    await resume(scene.plan, transport=scene.fleet.transport)

    # Else hosts would be asked for the secret of what serves now.
    asked = [call.args for call in scene.fleet.calls if call.name == "recall"]
    assert len(asked) == len(HOSTS)
    assert all("TOKEN" not in args for args in asked)


async def test_a_killed_rollback_is_finished_as_one(scene: Scene) -> None:
    scene.version("2")
    await scene.deploy()
    scene.version("3")
    await scene.deploy()
    back = await rollback(scene.plan, transport=scene.fleet.transport)
    await cut(scene, back.run, e.WaveStarted)

    report = await resume(scene.plan, transport=scene.fleet.transport)

    assert report.releases == back.releases
    await rollback(scene.plan, transport=scene.fleet.transport)
    assert set(scene.fleet.serves.values()) == {scene.old}


@pytest.mark.parametrize("goal", [Rollback(), Converge(), Deploy(packages=["old"])])
async def test_stored_packages_are_taken_however_early_a_run_of_them_was_killed(
    scene: Scene, goal: Goal
) -> None:
    """None of them had been loaded, so no other record names them."""
    if isinstance(goal, Deploy):
        goal = Deploy(packages=[scene.old])
    scene.version("2")
    new = (await scene.deploy()).releases["site"]
    if isinstance(goal, Converge):
        scene.fleet.hosts["h4"] = FakeHost()
    await scene.watch(goal)
    scene.kill(scene.at(e.Started))
    scene.version("3")

    report = await resume(scene.plan, transport=scene.fleet.transport)

    expected = new if isinstance(goal, Converge) else scene.old
    assert report.releases == {"site": expected}
    assert set(scene.fleet.serves.values()) == {expected}
    assert scene.manifest == expected


# --- Races, made certain ------------------------------------------------------------


SO_FAR = (e.Resumed("h1"), e.Prepared("h2"), e.Prepared("h3"))


async def resume_with_late_failure(
    scene: Scene, step: str, status: int, *, after: tuple[e.HostEvent, ...]
) -> Report:
    """Resume; a step of h4 fails once other hosts are known to be so far."""
    due = anyio.Event()
    left = {(type(event), event.host) for event in after}

    def observe(record: e.Record) -> None:
        left.discard((type(record.event), getattr(record.event, "host", "")))
        if not left:
            due.set()

    async def answer(call: Call) -> Answer:
        what = call.args[1].rpartition("/")[2] if call.name == "run" else call.name
        if call.host == "h4" and what == step:
            with anyio.fail_after(20):
                await due.wait()
            return Answer(status)
        return await scene.fleet(call)

    with pytest.raises(DeployFailed) as failed:
        await resume(scene.plan, observe=observe, transport=FakeTransport(answer))
    return failed.value.report


async def test_what_was_moved_and_is_ready_goes_back_with_the_fleet(
    scene: Scene,
) -> None:
    await kill_at(scene, e.Switched, "h3")
    assert list(scene.fleet.serves.values()).count(scene.old) == 1

    report = await resume_with_late_failure(
        scene,
        "pre_deploy",
        9,
        after=SO_FAR,
    )

    assert report.exit_status == 1
    states = [report.hosts[name].state for name in HOSTS[:3]]
    assert states == [State.ROLLED_BACK] * 3
    assert set(scene.fleet.serves.values()) == {scene.old}


async def test_what_was_moved_stays_where_another_run_holds_a_host(
    scene: Scene,
) -> None:
    new = await kill_at(scene, e.Switched, "h3")
    before = scene.fleet.serves
    # No host gets further than this before the last one is locked and checked.
    so_far = (e.Resumed("h1"), e.Uploaded("h2"), e.Uploaded("h3"))

    report = await resume_with_late_failure(scene, "lock", 75, after=so_far)

    assert (report.outcome, report.exit_status) == (Outcome.LOCKED, 4)
    assert scene.fleet.serves == before
    await resume(scene.plan, transport=scene.fleet.transport)
    assert set(scene.fleet.serves.values()) == {new}


@pytest.mark.parametrize("again", [resume, revert])
async def test_the_beginning_of_an_id_names_the_killed_run(
    scene: Scene, again: Callable[..., Awaitable[Report]]
) -> None:
    await scene.deploy_and_watch()
    scene.kill(scene.at(e.Switched, "h2"))

    report = await again(
        scene.plan, run=scene.run[:-2], transport=scene.fleet.transport
    )

    assert report.exit_status == 0
    with pytest.raises(PlanError, match="there is no run 1999"):
        await again(scene.plan, run="1999", transport=scene.fleet.transport)
