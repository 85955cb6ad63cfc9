"""Locks that others hold: who gives way, and how a run waits for them."""

from __future__ import annotations

import anyio
import attrs
import pytest

from ghostasync import Outcome, Plan, Report, Script, State, start
from ghostasync import events as e
from ghostasync._engine import pipeline
from ghostasync._engine.host import Attempt
from ghostasync._engine.locks import beat
from ghostasync.errors import ConnectionDied
from ghostasync.fold import folded
from ghostasync.testing import Answer, Break, Call, FakeHosts, FakeTransport
from tests._engine.losing import OLDER, QUICK
from tests.deploying import of, run, states, with_rollout

YOUNGER = OLDER.replace("20000101", "29990101")


def held(host: str, holder: str, times: int) -> Break:
    """Have another run hold *host* for the next *times* times that it is asked."""
    left = times

    def breaks(call: Call) -> Answer | None:
        nonlocal left
        if call.name == "lock" and call.host == host and left:
            left -= 1
            return Answer(75, errors=b"setlocale: no\n" + holder.encode())
        return None

    return breaks


async def test_the_younger_run_gives_way_at_once(plan: Plan) -> None:
    hosts = FakeHosts(breaks=held("h2", OLDER, 1))

    report, _ = await run(plan, hosts)

    assert (report.outcome, report.exit_status) == (Outcome.LOCKED, 4)
    assert OLDER in report.reason
    assert hosts.asked("lock").count("h2") == 1
    assert hosts.asked("switch") == []


async def test_a_lock_that_one_host_claims_does_not_keep_the_others(plan: Plan) -> None:
    hosts = FakeHosts(breaks=held("h2", OLDER, 99))

    report, _ = await run(with_rollout(plan, max_failures=1), hosts)

    assert (report.outcome, report.exit_status) == (Outcome.PARTIAL, 0)
    assert states(report)["h2"] is State.FAILED
    assert OLDER in report.hosts["h2"].reason
    assert len(hosts.asked("switch")) == 5


async def test_locks_that_more_hosts_claim_than_may_fail_stop_the_run(
    plan: Plan,
) -> None:
    claims = [held(host, OLDER, 99) for host in ("h2", "h5")]
    hosts = FakeHosts(breaks=lambda call: claims[0](call) or claims[1](call))

    report, _ = await run(with_rollout(plan, max_failures=1), hosts)

    assert (report.outcome, report.exit_status) == (Outcome.LOCKED, 4)
    assert hosts.asked("switch") == []


async def test_a_host_that_tells_of_ever_new_scripts_is_not_warned_of_without_end(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "_ASK_AGAIN", 0.01)
    pids = iter(range(1, 30))

    def breaks(call: Call) -> Answer | None:
        if call.name == "lock" and call.host == "h2" and (pid := next(pids, 0)):
            text = "/g/site/.ghost/1_site/before_switch.sh before_switch@x@R1 (pid {})"
            return Answer(76, errors=text.format(pid).encode())
        return None

    began = anyio.current_time()
    report, seen = await run(plan, FakeHosts(breaks=breaks))

    assert report.outcome is Outcome.LIVE
    assert anyio.current_time() - began >= 0.25
    told = [event for event in seen if isinstance(event, e.HostWarned)]
    assert len(told) == 5
    assert "which run R1 began, has not ended (pid 1)" in told[0].text


async def test_the_older_run_asks_until_the_younger_has_given_way(plan: Plan) -> None:
    hosts = FakeHosts(breaks=held("h2", YOUNGER, 1))

    report, _ = await run(plan, hosts)

    assert report.outcome is Outcome.LIVE
    assert hosts.asked("lock").count("h2") == 2


async def test_the_older_run_does_not_ask_for_ever(plan: Plan) -> None:
    hosts = FakeHosts(breaks=held("h2", YOUNGER, 99))

    report, _ = await run(with_rollout(plan, deadlines=QUICK), hosts)

    assert (report.outcome, report.exit_status) == (Outcome.LOCKED, 4)


async def _waiting(
    plan: Plan, hosts: FakeHosts, seconds: float
) -> tuple[Report, list[e.Record]]:
    seen: list[e.Record] = []
    transport = FakeTransport(hosts)
    async with start(
        plan, wait=seconds, observe=seen.append, transport=transport
    ) as running:
        return await running.report(), seen


async def test_a_run_that_may_wait_gives_everything_back_and_starts_over(
    plan: Plan,
) -> None:
    hosts = FakeHosts(breaks=held("h2", OLDER, 2))

    report, seen = await _waiting(plan, hosts, 30)

    assert report.outcome is Outcome.LIVE
    (waited,) = of(e.LockAwaited, [record.event for record in seen])
    assert isinstance(waited, e.LockAwaited)
    assert (waited.host, OLDER in waited.holder) == ("h2", True)
    # Nothing was done anywhere while another had a host; then all was done once.
    assert sorted(hosts.asked("receive")) == ["h1", "h2", "h3", "h4", "h5", "h6"]
    machines = folded(seen).hosts
    assert {machine.state for machine in machines.values()} == {State.LIVE}


async def test_no_host_is_halted_while_its_run_waits(plan: Plan) -> None:
    hosts = FakeHosts(breaks=held("h2", OLDER, 2))

    report, seen = await _waiting(plan, hosts, 30)

    assert report.outcome is Outcome.LIVE
    assert of(e.Halted, [record.event for record in seen]) == []


async def test_a_run_that_is_stopped_as_it_begins_to_wait_halts_its_hosts(
    plan: Plan,
) -> None:
    begun = anyio.Event()

    class Hosts(FakeHosts):
        async def __call__(self, call: Call) -> Answer:
            if call.name == "lock" and call.host == "h2":
                await begun.wait()
            if call.name == "lock" and call.host == "h3":
                begun.set()
                try:
                    await anyio.sleep_forever()
                finally:
                    running.interrupt("SIGINT")
            return await super().__call__(call)

    transport = FakeTransport(Hosts(breaks=held("h2", OLDER, 99)))
    async with start(plan, wait=30, transport=transport) as running:
        report = await running.report()

    assert report.outcome is Outcome.INTERRUPTED
    assert set(states(report).values()) == {State.HALTED, State.FAILED}


async def test_a_host_that_failed_by_itself_is_not_tried_again_after_a_wait(
    plan: Plan,
) -> None:
    """A refused login, above all."""
    failed = anyio.Event()

    class Held(FakeHosts):
        async def __call__(self, call: Call) -> Answer:
            if call.name == "lock" and call.host == "h2":
                await failed.wait()
            return await super().__call__(call)

    holding = held("h2", OLDER, 2)

    def breaks(call: Call) -> Answer | None:
        if call.host == "h5" and call.name == "check":
            return Answer(3)
        return holding(call)

    def observe(record: e.Record) -> None:
        seen.append(record.event)
        if isinstance(record.event, e.Failed) and record.event.host == "h5":
            failed.set()

    seen: list[e.Event] = []
    hosts = Held(breaks=breaks)
    async with start(
        with_rollout(plan, max_failures=1),
        wait=30,
        observe=observe,
        transport=FakeTransport(hosts),
    ) as running:
        report = await running.report()

    (waited,) = of(e.LockAwaited, seen)
    assert isinstance(waited, e.LockAwaited)
    assert waited.hosts == ("h1", "h2", "h3", "h4", "h6")
    assert hosts.asked("check").count("h5") == 1
    assert report.outcome is Outcome.PARTIAL


async def test_a_run_that_waited_in_vain_ends_as_locked(plan: Plan) -> None:
    hosts = FakeHosts(breaks=held("h2", OLDER, 99))

    report, _ = await _waiting(plan, hosts, 0.3)

    assert (report.outcome, report.exit_status) == (Outcome.LOCKED, 4)
    assert OLDER in report.reason


async def test_a_build_that_fails_ends_the_wait_for_a_lock(plan: Plan) -> None:
    """And is the reason: to wait again would not help."""
    waits = plan.base / "waits"
    script = f"until [ -e {waits} ]; do sleep 0.05; done; exit 3"
    module = attrs.evolve(plan.modules[0], buildpack=Script(inline=script))
    hosts = FakeHosts(breaks=held("h2", OLDER, 99))

    def observe(record: e.Record) -> None:
        if isinstance(record.event, e.LockAwaited):
            waits.touch()

    plan = attrs.evolve(plan, modules=(module,))
    with anyio.fail_after(20):
        async with start(
            plan, wait=999, observe=observe, transport=FakeTransport(hosts)
        ) as running:
            report = await running.report()

    assert (report.outcome, report.exit_status) == (Outcome.FAILED, 1)
    assert "buildpack of site exited 3" in report.reason
    assert set(states(report).values()) == {State.HALTED}


async def test_a_lock_of_its_own_dead_connection_is_no_other_host(plan: Plan) -> None:
    own = ""

    def breaks(call: Call) -> Answer | None:
        nonlocal own
        if call.name == "lock" and call.host == "h2":
            own = call.args[2]
            return Answer(75, errors=own.encode())
        return None

    report, _ = await run(plan, FakeHosts(breaks=breaks))

    assert own.endswith(" as h2")
    assert (report.outcome, report.exit_status) == (Outcome.LOCKED, 4)


async def test_a_run_can_be_stopped_while_it_waits(plan: Plan) -> None:
    hosts = FakeHosts(breaks=held("h2", OLDER, 99))
    waiting = anyio.Event()

    def observe(record: e.Record) -> None:
        if isinstance(record.event, e.LockAwaited):
            waiting.set()

    transport = FakeTransport(hosts)
    async with start(plan, wait=999, observe=observe, transport=transport) as running:
        await waiting.wait()
        await running.stop()
        report = await running.report()

    assert report.exit_status == 130


async def test_a_lock_that_was_lost_before_the_switch_moves_no_link(plan: Plan) -> None:
    hosts = FakeHosts()

    def breaks(call: Call) -> Answer | None:
        # What a script says behind its fence when another run has the host.
        if call.name == "switch" and call.host == "h2":
            return Answer(lost_to=OLDER)
        return None

    hosts.breaks = breaks

    report, _ = await run(with_rollout(plan, deadlines=QUICK), hosts)

    assert report.outcome is Outcome.FAILED
    assert "h2" not in hosts.asked("restore")
    assert report.hosts["h2"].state is State.ROLLED_BACK


async def test_every_lock_gets_its_beat(plan: Plan) -> None:
    beaten: list[bytes] = []

    class Channel:
        async def write(self, data: bytes) -> None:
            beaten.append(data)
            if len(beaten) == 2:
                raise ConnectionDied("h2", "gone")

    @attrs.define
    class Holder:
        attempt: Attempt

    locks = [Channel(), None, Channel(), Channel()]
    hosts = [Holder(Attempt(lock=lock)) for lock in locks]  # type: ignore[arg-type]

    with anyio.move_on_after(0.5):
        await beat(hosts, every=0.01)  # type: ignore[arg-type]  # no more is used

    assert len(beaten) > 6
    assert set(beaten) == {b"\n"}
