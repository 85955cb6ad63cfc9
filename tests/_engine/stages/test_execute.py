"""A script of a person, on hosts in memory: whose turn comes, and whose does not."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest

from ghostasync import DeployFailed, Host, Outcome, Plan, PlanError, Report, State
from ghostasync import events as e
from ghostasync import execute as execute_plan
from ghostasync.errors import ConnectionDied
from ghostasync.testing import Answer, Call, FakeHosts, FakeTransport, step
from ghostasync.testing._fake import FakeSession
from tests.deploying import fails, of, run, states, with_rollout

GONE = "h2"


async def execute(
    plan: Plan,
    hosts: FakeHosts,
    transport: FakeTransport | None = None,
    *,
    limit: Sequence[str] = (),
    wait: float = 0,
) -> tuple[Report, list[e.Event]]:
    """Run a script on fakes; return the report and all events."""
    seen: list[e.Event] = []
    transport = transport or hosts.transport
    try:
        report = await execute_plan(
            plan,
            "true",
            limit=limit,
            wait=wait,
            observe=lambda record: seen.append(record.event),
            transport=transport,
        )
    except DeployFailed as failed:
        report = failed.report
    return report, seen


async def test_each_host_runs_it_once_and_nothing_is_numbered(plan: Plan) -> None:
    hosts = FakeHosts()
    deployed, _ = await run(plan, hosts)
    links, fences = hosts.serves, {n: h.fence for n, h in hosts.hosts.items()}
    hosts.calls.clear()

    report, seen = await execute(plan, hosts)

    assert (report.outcome, report.exit_status) == (Outcome.UNCHANGED, 0)
    assert set(states(report).values()) == {State.UNCHANGED}
    assert hosts.asked("exec") == [f"h{n}" for n in range(1, 7)]
    assert {call.name for call in hosts.calls} == {"probe", "lock", "check", "execute"}
    assert (of(e.Numbered, seen), of(e.ManifestMoved, seen)) == ([], [])
    assert hosts.serves == links
    assert {n: h.fence for n, h in hosts.hosts.items()} == fences
    variables = next(c.args[3] for c in hosts.calls if c.name == "execute")
    assert "export GHOST_ACTION='exec'\n" in variables
    assert f"export GHOST_RELEASE_ID='{deployed.releases['site']}'\n" in variables


async def test_a_wave_is_judged_at_its_end_by_those_that_had_their_turn(
    plan: Plan,
) -> None:
    hosts = FakeHosts(breaks=fails("exec", "h2", status=3))
    await run(plan, hosts)
    plan = with_rollout(plan, waves=(3, 2, 1), concurrency=1)

    report, _ = await execute(plan, hosts)
    allowed, seen = await execute(with_rollout(plan, waves=(3,), max_failures=1), hosts)

    assert report.exit_status == 1
    assert report.reason == "1 host failed, 0 allowed"
    assert [*states(report).values()] == [
        *(State.UNCHANGED, State.FAILED, State.UNCHANGED),
        *[State.HALTED] * 3,
    ]
    assert report.hosts["h2"].exit_status == 3
    assert (allowed.outcome, allowed.exit_status) == (Outcome.PARTIAL, 0)
    told = [(w.live, w.failed) for w in seen if isinstance(w, e.WaveFinished)]
    assert told == [(2, 1), (3, 0)]


async def test_a_host_out_of_reach_counts_in_its_own_wave(plan: Plan) -> None:
    hosts = FakeHosts()
    await run(plan, hosts)
    plan = with_rollout(plan, waves=(2, 2, 2))
    dead = FakeTransport(hosts, unreachable=frozenset({"h3", "h4"}))

    report, seen = await execute(plan, hosts, dead)

    assert report.exit_status == 1
    assert report.reason == "every host of wave 2 failed"
    assert hosts.asked("exec") == ["h1", "h2"]
    assert states(report)["h5"] is State.HALTED
    waves = [w.hosts for w in seen if isinstance(w, e.WaveStarted)]
    assert waves == [("h1", "h2"), ()]


async def test_a_connection_that_dies_repeats_nothing(plan: Plan) -> None:
    def dies(call: Call) -> Answer | None:
        if (call.host, step(call)) == (GONE, "exec"):
            raise ConnectionDied(GONE, "connection lost")
        return None

    hosts = FakeHosts(breaks=dies)
    await run(plan, hosts)

    report, _ = await execute(plan, hosts)

    assert hosts.asked("exec").count(GONE) == 1
    assert report.hosts[GONE].reason == "connection lost during execute"
    assert states(report)["h1"] is State.UNCHANGED


async def test_a_connection_that_died_before_its_turn_is_made_again(plan: Plan) -> None:
    sessions: dict[str, FakeSession] = {}

    class Keeping(FakeTransport):
        def session(self, host: Host) -> FakeSession:
            return sessions.setdefault(host.name, super().session(host))

    def breaks(call: Call) -> Answer | None:
        if (call.host, step(call)) == ("h1", "exec"):
            sessions[GONE].abort()
        return None

    hosts = FakeHosts()
    await run(plan, hosts)
    hosts.breaks, locks = breaks, hosts.asked("lock").count(GONE)

    report, seen = await execute(with_rollout(plan, waves=(1,)), hosts, Keeping(hosts))

    assert report.exit_status == 0
    assert hosts.asked("exec").count(GONE) == 1
    assert hosts.asked("lock").count(GONE) == locks + 2
    assert len(of(e.Reconnected, seen)) == 1


async def test_who_serves_something_else_is_told_whose_variables_it_gets(
    plan: Plan,
) -> None:
    hosts = FakeHosts()
    deployed, _ = await run(plan, hosts)
    folder, _, release = hosts["h1"].link.rpartition("/")
    hosts["h1"].link = f"{folder}/1700000000_site_0000000"
    hosts["h2"].link = ""

    report, seen = await execute(plan, hosts)

    (warned,) = of(e.HostWarned, seen)
    text = f"serves 1700000000_site_0000000; its variables are those of {release}"
    assert warned == e.HostWarned("h1", text)
    assert states(report)["h1"] is State.UNCHANGED
    assert report.hosts["h2"].reason == (
        "serves no release of site: ghostasync converge h2"
    )
    assert deployed.releases == report.releases


async def test_a_host_that_another_run_holds_keeps_all_from_running(plan: Plan) -> None:
    hosts = FakeHosts()
    await run(plan, hosts)
    held = {"h4": 2}

    def holds(call: Call) -> Answer | None:
        if call.name == "lock" and held.get(call.host, 0):
            held[call.host] -= 1
            return Answer(75, b"", b"run 20200101T000000Z-0 by bob")
        return None

    hosts.breaks = holds
    refused, _ = await execute(plan, hosts)
    ran = hosts.asked("exec")
    waited, _ = await execute(plan, hosts, wait=30)

    assert (refused.outcome, refused.exit_status) == (Outcome.LOCKED, 4)
    assert ran == []
    assert (waited.exit_status, len(hosts.asked("exec"))) == (0, 6)


async def test_hosts_without_the_module_are_left_out(plan: Plan) -> None:
    other = attrs.evolve(plan.modules[0], name="data", path="/srv/data", hosts="h1")
    plan = attrs.evolve(plan, modules=(*plan.modules, other))
    hosts = FakeHosts()
    await run(plan, hosts)

    with pytest.raises(PlanError, match="say which module, --module: site, data"):
        await execute_plan(plan, "true", transport=hosts.transport)
    report = await execute_plan(plan, "true", module="data", transport=hosts.transport)

    assert [*report.hosts] == ["h1"]
    assert hosts.calls[-1].args[5] == "/srv/data"


async def test_it_may_run_where_no_host_may_be_drained(plan: Plan) -> None:
    hosts = FakeHosts()
    await run(plan, hosts)

    report, _ = await execute(with_rollout(plan, min_serving=6), hosts)

    assert report.exit_status == 0


async def test_what_it_did_leaves_no_host_failed_and_none_in_order(plan: Plan) -> None:
    hosts = FakeHosts(breaks=fails("post_deploy", "h2"))
    await run(plan, hosts)
    hosts.breaks = lambda _: None
    await run(attrs.evolve(plan, hosts=(*plan.hosts[:1], *plan.hosts[2:])), hosts)
    hosts["h2"].link = hosts["h1"].link
    hosts.breaks = fails("exec", "h3")
    await execute(plan, hosts)

    report, _ = await execute(plan, hosts, limit=["@failed"])

    assert [*report.hosts] == ["h2"]


async def test_a_fleet_out_of_reach_is_a_failure(plan: Plan) -> None:
    hosts = FakeHosts()
    await run(plan, hosts)
    dead = FakeTransport(hosts, unreachable=frozenset(h.name for h in plan.hosts))

    report, seen = await execute(plan, hosts, dead)

    assert report.exit_status == 1
    assert report.reason == "every host of wave 1 failed"
    assert of(e.Committed, seen) == []
