"""The engine's policies over a transport that answers at once: no host, no shell."""

from __future__ import annotations

from pathlib import Path

import anyio
import attrs
import pytest

from ghostasync import (
    App,
    DeployFailed,
    DirectorySource,
    Outcome,
    Plan,
    PlanError,
    Redeploy,
    Report,
    Run,
    Script,
    State,
    deploy,
    start,
)
from ghostasync import events as e
from ghostasync.errors import ConnectionDied, StoreError
from ghostasync.journal import Journal
from ghostasync.model import Deadlines, Layout, Proof
from ghostasync.stores.directory import DirectoryManifest
from ghostasync.testing import Answer, Call, FakeHosts, FakeTransport, step
from tests.deploying import fails, of, run, states, with_rollout

# --- The good case -------------------------------------------------------------


async def test_every_host_is_ready_before_the_first_link_moves(plan: Plan) -> None:
    hosts = FakeHosts()

    report, _ = await run(plan, hosts)

    assert report.outcome is Outcome.LIVE
    steps = [call.name for call in hosts.calls]
    assert steps.index("switch") > max(
        at for at, call in enumerate(hosts.calls) if call.name == "record_moves"
    )


@pytest.mark.parametrize("proof", ["metadata", "content"])
async def test_a_host_is_told_how_to_prove_a_release(plan: Plan, proof: Proof) -> None:
    hosts = FakeHosts()

    await run(attrs.evolve(plan, layout=Layout(proof=proof)), hosts)

    told = {call.args[4] for call in hosts.calls if call.name == "receive"}
    assert told == {proof}
    assert Layout().proof == "metadata"


async def test_previous_is_on_record_before_the_wave(plan: Plan) -> None:
    hosts = FakeHosts(
        links=dict.fromkeys(["h1"], "/ghost/shop/prod/web/site/1_site_0000000")
    )

    _, seen = await run(plan, hosts)

    names = [type(event).__name__ for event in seen]
    prepared = [event for event in seen if isinstance(event, e.Prepared)]
    assert {p.host: p.previous["site"] for p in prepared}["h1"].endswith(
        "1_site_0000000"
    )
    assert names.index("WaveStarted") > max(
        at for at, name in enumerate(names) if name == "Prepared"
    )


async def test_waves_go_one_after_the_other(plan: Plan) -> None:
    hosts = FakeHosts()

    report, _ = await run(with_rollout(plan, waves=(1, 2)), hosts)

    assert report.waves == (("h1",), ("h2", "h3"), ("h4", "h5"), ("h6",))
    switched = hosts.asked("switch")
    assert switched[0] == "h1"
    assert set(switched[1:3]) == {"h2", "h3"}


async def test_concurrency_bounds_the_hosts_that_work(plan: Plan) -> None:
    working, most = 0, 0

    class Counting(FakeHosts):
        async def __call__(self, call: Call) -> Answer:
            nonlocal working, most
            if step(call) != "pre_deploy":
                return await super().__call__(call)
            working += 1
            most = max(most, working)
            for _ in range(5):
                await anyio.lowlevel.checkpoint()
            working -= 1
            return Answer()

    report, _ = await run(with_rollout(plan, concurrency=2), Counting())

    assert (report.outcome, most) == (Outcome.LIVE, 2)


async def test_a_redeploy_takes_a_stored_package_and_says_so(
    plan: Plan, tmp_path: Path
) -> None:
    first, _ = await run(plan, FakeHosts())
    (tmp_path / "tree" / "index").write_text("2")
    seen: list[e.Event] = []

    async with start(
        plan,
        Redeploy(first.releases.values()),
        observe=lambda record: seen.append(record.event),
        transport=FakeTransport(FakeHosts()),
    ) as running:
        report = await running.report()

    assert report.outcome is Outcome.LIVE
    assert report.releases == first.releases
    assert [begun.action for begun in seen if isinstance(begun, e.Started)] == [
        "redeploy"
    ]
    assert of(e.Resolved, seen) == []


# --- Budgets -------------------------------------------------------------------


async def test_a_failure_before_the_switch_moves_no_link(plan: Plan) -> None:
    hosts = FakeHosts(breaks=fails("pre_deploy", "h4", status=9))

    report, seen = await run(plan, hosts)

    assert (report.outcome, report.exit_status) == (Outcome.FAILED, 1)
    assert (states(report)["h4"], report.hosts["h4"].exit_status) == (State.FAILED, 9)
    assert hosts.asked("switch") == []
    assert of(e.WaveStarted, seen) == []


async def test_unreachable_hosts_have_a_budget_of_their_own(plan: Plan) -> None:
    hosts = FakeHosts(breaks=fails("pre_deploy", "h4"))
    transport = FakeTransport(hosts, unreachable=frozenset({"h1", "h2"}))
    plan = with_rollout(plan, max_failures=1, max_unreachable=2)

    report = await deploy(plan, transport=transport)

    assert report.outcome is Outcome.PARTIAL
    assert set(hosts.asked("switch")) == {"h3", "h5", "h6"}


async def test_more_unreachable_hosts_than_allowed_stop_the_run(plan: Plan) -> None:
    transport = FakeTransport(FakeHosts(), unreachable=frozenset({"h1", "h2"}))
    plan = with_rollout(plan, max_failures=6, max_unreachable=1)

    with pytest.raises(DeployFailed) as failed:
        await deploy(plan, transport=transport)

    assert failed.value.report.exit_status == 1
    assert "2 hosts unreachable, 1 allowed" in str(failed.value)


async def test_a_spent_budget_stops_the_build(plan: Plan, tmp_path: Path) -> None:
    marker = tmp_path / "built"
    module = attrs.evolve(
        plan.modules[0], buildpack=Script(inline=f"sleep 30; touch {marker}")
    )
    plan = attrs.evolve(plan, modules=(module,))
    transport = FakeTransport(FakeHosts(), unreachable=frozenset({"h1"}))

    with anyio.fail_after(10), pytest.raises(DeployFailed):
        await deploy(plan, transport=transport)

    assert not marker.exists()


async def test_a_failure_in_the_first_wave_stops_whatever_the_budget(
    plan: Plan,
) -> None:
    hosts = FakeHosts(breaks=fails("post_deploy", "h1"))
    plan = with_rollout(plan, waves=(2, "100%"), max_failures=5)

    report, _ = await run(plan, hosts)

    assert report.outcome is Outcome.FAILED
    assert states(report)["h6"] is State.HALTED
    assert states(report)["h2"] is State.ROLLED_BACK


async def test_a_wave_in_which_every_host_failed_stops_the_run(plan: Plan) -> None:
    hosts = FakeHosts(breaks=fails("post_deploy", "h3", "h4"))
    plan = with_rollout(plan, waves=(2,), max_failures=5)

    report, _ = await run(plan, hosts)

    assert report.outcome is Outcome.FAILED
    assert states(report)["h1"] is State.ROLLED_BACK
    assert states(report)["h5"] is State.HALTED
    assert hosts.links == dict.fromkeys(["h1", "h2", "h3", "h4"], "")


# --- The way back --------------------------------------------------------------


async def test_the_fleet_goes_back_in_reverse_wave_order(plan: Plan) -> None:
    hosts = FakeHosts(breaks=fails("post_deploy", "h6"))

    report, seen = await run(with_rollout(plan, waves=(1,)), hosts)

    assert set(states(report).values()) == {State.ROLLED_BACK}
    assert hosts.asked("restore") == ["h6", "h5", "h4", "h3", "h2", "h1"]
    (started,) = of(e.FleetRollbackStarted, seen)
    assert started == e.FleetRollbackStarted(
        "1 host failed, 0 allowed", ("h6", "h5", "h4", "h3", "h2", "h1")
    )


async def test_no_host_waits_for_the_way_back_of_one_that_cannot_go(
    plan: Plan,
) -> None:
    """Neither for the one that failed, nor for one that is lost on its way."""
    hosts = FakeHosts(breaks=fails("post_deploy", "h6"), hangs={("h6", "restore")})
    transport = FakeTransport(hosts)
    works = hosts.breaks

    def breaks(call: Call) -> Answer | None:
        if (call.host, call.name) == ("h5", "restore"):
            transport.unreachable = frozenset({"h5"})
            raise ConnectionDied("h5", "lost")
        return works(call)

    hosts.breaks = breaks
    plan = with_rollout(plan, waves=(1,), deadlines=Deadlines(rollback=2))

    report, seen = await run(plan, hosts, transport)

    stuck = ("h5", "h6")
    assert {states(report).pop(name) for name in stuck} == {State.STRANDED}
    ends = [ev for ev in seen if isinstance(ev, e.RolledBack | e.Failed)]
    assert [ev.host for ev in ends[1:5]] == ["h4", "h3", "h2", "h1"]
    assert {ev.host for ev in ends[5:]} == {*stuck}


async def test_who_is_stopped_with_others_has_not_failed(plan: Plan) -> None:
    hosts = FakeHosts(breaks=fails("post_deploy", "h3"), hangs={("h4", "post_deploy")})

    with anyio.fail_after(10):
        report, seen = await run(with_rollout(plan, waves=(2,)), hosts)

    assert states(report)["h4"] is State.ROLLED_BACK
    waves = [ev for ev in seen if isinstance(ev, e.WaveFinished)]
    assert [(wave.live, wave.failed) for wave in waves] == [(2, 0), (0, 1)]


async def test_a_wave_without_a_fit_host_is_known_before_a_link_moves(
    plan: Plan,
) -> None:
    hosts = FakeHosts(breaks=fails("pre_deploy", "h5", "h6"))

    report, seen = await run(with_rollout(plan, waves=(2,), max_failures=5), hosts)

    assert report.reason == "every host of wave 3 failed"
    assert not of(e.WaveStarted, seen)
    assert not hosts.links


async def test_rollback_host_keeps_what_is_live(plan: Plan) -> None:
    hosts = FakeHosts(breaks=fails("verify", "h3"))
    deadlines = Deadlines(verify=0.05)
    plan = with_rollout(
        plan, waves=(2,), on_failure="rollback-host", deadlines=deadlines
    )

    report, _ = await run(plan, hosts)

    assert (report.outcome, report.exit_status) == (Outcome.MIXED, 5)
    assert {name for name, s in states(report).items() if s is State.LIVE} == {
        "h1",
        "h2",
        "h4",
    }
    assert states(report)["h3"] is State.ROLLED_BACK


async def test_a_rollback_that_fails_is_stranded(plan: Plan) -> None:
    first = fails("post_deploy", "h2")

    def breaks(call: Call) -> Answer | None:
        if call.name == "restore" and call.host == "h2":
            return Answer(1, b"no\n")
        return first(call)

    report, _ = await run(plan, FakeHosts(breaks=breaks))

    assert (report.outcome, report.exit_status) == (Outcome.STRANDED, 3)
    assert states(report)["h2"] is State.STRANDED


async def test_a_connection_lost_in_the_switch_is_looked_at_again(plan: Plan) -> None:
    hosts = FakeHosts()

    def breaks(call: Call) -> Answer | None:
        if call.name == "switch" and call.host == "h2":
            hosts.links["h2"] = call.args[5]
            raise ConnectionDied("h2", "gone")
        return None

    hosts.breaks = breaks
    report, _ = await run(plan, hosts)

    assert report.outcome is Outcome.FAILED
    assert states(report)["h2"] is State.ROLLED_BACK
    assert hosts.links["h2"] == ""


async def test_a_wave_that_stops_being_healthy_while_it_soaks_goes_back(
    plan: Plan,
) -> None:
    counted = 0

    def breaks(call: Call) -> Answer | None:
        nonlocal counted
        if call.name == "run" and not call.args[1] and call.host == "h1":
            counted += 1
            return Answer(1, b"dead\n") if counted > 1 else None
        return None

    deadlines = Deadlines(verify=0.05)
    plan = with_rollout(plan, waves=(1, "100%"), soak=0.01, deadlines=deadlines)

    report, _ = await run(plan, FakeHosts(breaks=breaks))

    assert report.outcome is Outcome.FAILED
    assert states(report)["h1"] is State.ROLLED_BACK
    assert states(report)["h2"] is State.HALTED


# --- Stopping ------------------------------------------------------------------


async def _until(running: Run, kind: type[e.Event]) -> None:
    async for record in running.events():
        if isinstance(record.event, kind):
            return


@pytest.mark.parametrize(
    ("step", "event"),
    [
        ("probe", e.Started),
        ("receive", e.Checked),
        ("pre_deploy", e.Uploaded),
        ("post_deploy", e.Switched),
        ("verify", e.Activated),
    ],
)
async def test_stop_puts_every_link_back(
    plan: Plan, step: str, event: type[e.Event]
) -> None:
    hosts = FakeHosts(hangs={("h3", step)})

    async with start(plan, transport=FakeTransport(hosts)) as running:
        await _until(running, event)
        await running.stop()
        report = await running.report()

    assert (report.outcome, report.exit_status) == (Outcome.INTERRUPTED, 130)
    assert set(hosts.links.values()) <= {""}
    assert set(states(report).values()) <= {
        State.FAILED,
        State.HALTED,
        State.ROLLED_BACK,
    }


async def test_cancelling_deploy_puts_every_link_back_and_stays_cancelled(
    plan: Plan,
) -> None:
    hosts = FakeHosts(hangs={("h3", "post_deploy")})
    records: list[e.Record] = []

    with anyio.CancelScope() as scope:

        def observe(record: e.Record) -> None:
            records.append(record)
            if isinstance(record.event, e.Switched) and record.event.host == "h3":
                scope.cancel()

        await deploy(plan, observe=observe, transport=FakeTransport(hosts))

    assert scope.cancelled_caught
    assert set(hosts.links.values()) == {""}
    assert isinstance(records[-1].event, e.Finished)
    assert set(records[-1].event.hosts.values()) == {"ROLLED_BACK"}


async def test_detached_a_run_goes_on_to_its_end(plan: Plan) -> None:
    hosts = FakeHosts()

    with anyio.CancelScope() as scope:

        def observe(record: e.Record) -> None:
            if isinstance(record.event, e.Admitted):
                scope.cancel()

        await deploy(
            plan,
            observe=observe,
            transport=FakeTransport(hosts),
            on_cancel="detach",
        )

    assert scope.cancelled_caught
    assert len(set(hosts.links.values())) == 1
    assert "" not in hosts.links.values()


async def test_an_exception_in_the_body_puts_every_link_back(plan: Plan) -> None:
    hosts = FakeHosts(hangs={("h3", "post_deploy")})

    async def body() -> None:
        async with start(plan, transport=FakeTransport(hosts)) as running:
            await _until(running, e.Switched)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await body()

    assert set(hosts.links.values()) == {""}


async def test_a_bug_in_a_stage_rolls_back_and_is_raised(plan: Plan) -> None:
    def breaks(call: Call) -> Answer | None:
        if call.name == "switch" and call.host == "h5":
            raise LookupError("a bug")
        return None

    hosts = FakeHosts(breaks=breaks)

    with pytest.raises(LookupError, match="a bug"):
        await deploy(plan, transport=FakeTransport(hosts))

    assert set(hosts.links.values()) <= {""}


# --- What a review found -------------------------------------------------------


async def test_a_full_disk_here_puts_every_link_back(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = FakeHosts()
    append = Journal.append

    def full(self: Journal, record: e.Record, *, sync: bool = False) -> None:
        if hosts.links:
            raise StoreError("journal: No space left on device")
        append(self, record, sync=sync)

    monkeypatch.setattr(Journal, "append", full)

    with pytest.raises(DeployFailed, match="No space left") as failed:
        await deploy(plan, transport=FakeTransport(hosts))

    assert failed.value.report.exit_status == 1
    assert set(hosts.links.values()) == {""}


async def test_cancelling_goes_back_whatever_on_failure_says(plan: Plan) -> None:
    hosts = FakeHosts()
    plan = with_rollout(plan, waves=(1,), soak=60, on_failure="rollback-host")

    with anyio.CancelScope() as scope:

        def observe(record: e.Record) -> None:
            if isinstance(record.event, e.WaveFinished):
                scope.cancel()

        await deploy(plan, observe=observe, transport=FakeTransport(hosts))

    assert hosts.links == {"h1": ""}


async def test_a_manifest_that_cannot_move_takes_the_fleet_back(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = FakeHosts()

    async def refuse(*_: object) -> None:
        raise StoreError("MANIFEST: Read-only file system")

    monkeypatch.setattr(DirectoryManifest, "move", refuse)

    report, _ = await run(with_rollout(plan, on_failure="rollback-host"), hosts)

    assert (report.outcome, report.exit_status) == (Outcome.FAILED, 1)
    assert "Read-only file system" in report.reason
    assert set(hosts.links.values()) == {""}


async def test_a_store_that_does_not_answer_takes_the_fleet_back(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = FakeHosts()

    async def hang(*_: object) -> None:
        await anyio.sleep_forever()

    monkeypatch.setattr(DirectoryManifest, "move", hang)
    monkeypatch.setattr("ghostasync._run.deploy.COMMIT_SECONDS", 0.1)

    report, _ = await run(plan, hosts)

    assert (report.outcome, report.exit_status) == (Outcome.FAILED, 1)
    assert "the store did not answer within 0.1 s" in report.reason
    assert set(hosts.links.values()) == {""}


async def test_a_bug_in_one_rollback_does_not_keep_others_from_theirs(
    plan: Plan,
) -> None:
    first = fails("post_deploy", "h6")

    def breaks(call: Call) -> Answer | None:
        if call.name == "restore" and call.host == "h4":
            raise LookupError("a bug")
        return first(call)

    hosts = FakeHosts(breaks=breaks)

    with pytest.raises(LookupError):
        await deploy(with_rollout(plan, waves=(1,)), transport=FakeTransport(hosts))

    assert [name for name, link in hosts.links.items() if link] == ["h4"]


async def test_a_stranded_host_keeps_the_manifest_where_it_was(
    plan: Plan, tmp_path: Path
) -> None:
    first = fails("post_deploy", "h2")

    def breaks(call: Call) -> Answer | None:
        if call.name == "restore" and call.host == "h2":
            return Answer(1, b"no\n")
        return first(call)

    report, _ = await run(with_rollout(plan, max_failures=3), FakeHosts(breaks=breaks))

    assert report.exit_status == 3
    assert not (tmp_path / "store/shop/prod/web/MANIFEST").exists()
    assert report.hosts["h2"].stage is State.ROLLING_BACK


async def test_a_canary_that_failed_early_stops_the_others(plan: Plan) -> None:
    hosts = FakeHosts()
    transport = FakeTransport(hosts, unreachable=frozenset({"h1"}))
    plan = with_rollout(plan, waves=(1, "100%"), max_failures=2)

    with pytest.raises(DeployFailed, match="wave 1"):
        await deploy(plan, transport=transport)

    assert hosts.asked("switch") == []


async def test_nothing_is_switched_after_a_stop(plan: Plan) -> None:
    hosts = FakeHosts()
    running: list[Run] = []

    def observe(record: e.Record) -> None:
        if isinstance(record.event, e.WaveStarted):
            running[0].interrupt()

    transport = FakeTransport(hosts)
    async with start(plan, observe=observe, transport=transport) as run_:
        running.append(run_)
        report = await run_.report()

    assert report.exit_status == 130
    assert hosts.asked("switch") == []


async def test_a_rollback_goes_on_trying_until_its_deadline(plan: Plan) -> None:
    hosts = FakeHosts()
    tries = 0

    def breaks(call: Call) -> Answer | None:
        nonlocal tries
        if call.host == "h2" and call.name == "restore":
            tries += 1
            if tries == 1:
                raise ConnectionDied("h2", "gone")
        return fails("post_deploy", "h2")(call)

    hosts.breaks = breaks
    report, _ = await run(plan, hosts)

    assert states(report)["h2"] is State.ROLLED_BACK
    assert hosts.links["h2"] == ""


async def test_a_missing_after_all_deploy_is_known_before_a_link_moves(
    plan: Plan,
) -> None:
    module = attrs.evolve(plan.modules[0], after_all_deploy=Script(path="nope.sh"))
    hosts = FakeHosts()

    with anyio.fail_after(20):
        report, _ = await run(attrs.evolve(plan, modules=(module,)), hosts)

    assert report.exit_status == 1
    assert "after_all_deploy: nope.sh" in report.reason
    assert hosts.asked("switch") == []


async def test_a_cache_that_cannot_be_written_is_one_clear_reason(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))

    with pytest.raises(DeployFailed, match="Not a directory"):
        await deploy(plan, transport=FakeTransport(FakeHosts()))


# --- Around a run --------------------------------------------------------------


async def test_an_observer_that_raises_is_dropped(
    plan: Plan, caplog: pytest.LogCaptureFixture
) -> None:
    told = 0

    def observe(_: e.Record) -> None:
        nonlocal told
        told += 1
        raise ValueError

    report = await deploy(plan, observe=observe, transport=FakeTransport(FakeHosts()))

    assert (report.outcome, told) == (Outcome.LIVE, 1)
    assert "is dropped" in caplog.text


async def test_an_observer_that_stops_the_run_and_raises_breaks_nothing(
    plan: Plan,
) -> None:
    def observe(record: e.Record) -> None:
        if record.seq > 1:
            running.interrupt()
            raise LookupError

    async with start(
        plan, observe=observe, transport=FakeTransport(FakeHosts())
    ) as running:
        report = await running.report()

    assert (report.outcome, report.exit_status) == (Outcome.INTERRUPTED, 130)


async def test_events_can_be_followed_from_any_number_on(plan: Plan) -> None:
    async with start(plan, transport=FakeTransport(FakeHosts())) as running:
        everything = [record async for record in running.events()]
        later = [record async for record in running.events(since=10)]

    assert [record.seq for record in everything] == list(range(1, len(everything) + 1))
    assert later == everything[10:]
    assert isinstance(everything[-1].event, e.Finished)


async def test_a_plan_that_is_wrong_contacts_nobody(plan: Plan) -> None:
    hosts = FakeHosts()
    plan = with_rollout(plan, on_failure="pray")

    with pytest.raises(PlanError, match=r"rollout\.on_failure"):
        await deploy(plan, transport=FakeTransport(hosts))

    assert hosts.calls == []


async def test_what_the_sources_show_to_be_wrong_contacts_nobody(plan: Plan) -> None:
    tree = plan.base / "tree"
    (tree / "crlf.sh").write_bytes(b"#!/bin/sh\r\ntrue\r\n")
    (module,) = plan.modules
    wrongs = {
        "line 1": attrs.evolve(module, post_deploy=Script(path="crlf.sh")),
        "buildpack: nope.sh": attrs.evolve(module, buildpack=Script(path="nope.sh")),
        "gone": attrs.evolve(module, source=DirectorySource(str(tree / "gone"))),
    }
    # The first one is fetched, and the second one is wrong.
    good = attrs.evolve(module, name="good", path="/srv/good")
    for what, wrong in wrongs.items():
        transport = FakeTransport(FakeHosts(), unreachable=frozenset({"h1"}))

        with anyio.fail_after(10), pytest.raises(DeployFailed, match=what) as failed:
            await deploy(attrs.evolve(plan, modules=(good, wrong)), transport=transport)

        report = failed.value.report
        assert report.exit_status == 1
        assert {host.state for host in report.hosts.values()} == {State.HALTED}
        assert transport.calls == []


async def test_a_script_is_what_the_buildpack_has_made_of_it(plan: Plan) -> None:
    (plan.base / "tree" / "post.sh").write_bytes(b"#!/bin/sh\r\ntrue\r\n")
    mend = Script(inline="tr -d '\\r' <post.sh >new; mv new post.sh")
    module = attrs.evolve(
        plan.modules[0], buildpack=mend, post_deploy=Script(path="post.sh")
    )

    report, _ = await run(attrs.evolve(plan, modules=(module,)), FakeHosts())

    assert report.outcome is Outcome.LIVE


async def test_two_runs_can_go_on_in_one_loop(plan: Plan, tmp_path: Path) -> None:
    other = attrs.evolve(plan, app=App("other", "prod", "web"))
    reports: list[Report] = []

    async def one(what: Plan) -> None:
        reports.append(await deploy(what, transport=FakeTransport(FakeHosts())))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one, plan)
        tasks.start_soon(one, other)

    assert [report.outcome for report in reports] == [Outcome.LIVE] * 2


async def test_a_run_that_is_over_is_stopped_in_vain(plan: Plan) -> None:
    seen: list[e.Record] = []
    hosts = FakeHosts(breaks=fails("pre_deploy", "h4"))

    async with start(
        plan, observe=seen.append, transport=FakeTransport(hosts)
    ) as running:
        await running.report()
        await running.stop()

        assert not running.interrupt()

    assert isinstance(seen[-1].event, e.Finished)


async def test_a_run_that_is_summed_up_is_stopped_in_vain(plan: Plan) -> None:
    seen: list[e.Event] = []
    answers: list[bool] = []
    hosts = FakeHosts(breaks=fails("pre_deploy", "h4"))

    def observe(record: e.Record) -> None:
        seen.append(record.event)
        if isinstance(record.event, e.Finished):
            answers.append(running.interrupt())

    async with start(plan, observe=observe, transport=FakeTransport(hosts)) as running:
        await running.report()

    assert answers == [False]
    assert isinstance(seen[-1], e.Finished)


async def test_a_bug_while_manifest_moves_leaves_nothing_due(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = FakeHosts()
    seen: list[e.Event] = []
    module = attrs.evolve(plan.modules[0], after_all_deploy=Script(inline="true"))

    async def bug(*_: object) -> None:
        raise LookupError("a bug")

    monkeypatch.setattr(DirectoryManifest, "move", bug)

    with pytest.raises(LookupError):
        await deploy(
            attrs.evolve(plan, modules=(module,)),
            observe=lambda record: seen.append(record.event),
            transport=FakeTransport(hosts),
        )

    assert set(hosts.links.values()) == {""}
    (finished,) = of(e.Finished, seen)
    assert isinstance(finished, e.Finished)
    assert (finished.outcome, finished.exit) == ("failed", 1)
