"""What becomes of hosts that are at work when a run stops before its first link."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import attrs
import pytest

from ghostasync import (
    Deadlines,
    DirectorySource,
    Outcome,
    Plan,
    Report,
    Script,
    State,
    start,
)
from ghostasync import events as e
from ghostasync.testing import Answer, Call, FakeHosts, FakeTransport, step
from tests._engine.losing import OLDER
from tests.deploying import fails, of, run, states, with_rollout


@attrs.define
class Waiting(FakeHosts):
    """Hosts of which some wait, with something they do, until they are told."""

    at: set[tuple[str, str]] = attrs.field(factory=set)
    begun: dict[str, anyio.Event] = attrs.field(factory=dict)
    told: anyio.Event = attrs.field(factory=anyio.Event)

    async def __call__(self, call: Call) -> Answer:
        if (call.host, step(call)) in self.at:
            self.begun.setdefault(call.host, anyio.Event()).set()
            await self.told.wait()
        return await super().__call__(call)

    async def have_begun(self) -> None:
        for host, _ in self.at:
            await self.begun.setdefault(host, anyio.Event()).wait()


async def _deploy(
    plan: Plan, hosts: Waiting, then: Callable[[e.Event], None] = lambda _: None
) -> Report:
    """Deploy; h1 fails once those that wait have begun."""
    failing = fails("pre_deploy", "h1", "h2")

    class First(Waiting):
        async def __call__(self, call: Call) -> Answer:
            if (call.host, step(call)) == ("h1", "pre_deploy"):
                await hosts.have_begun()
            return await hosts(call)

    hosts.breaks = failing
    async with start(
        plan,
        observe=lambda record: then(record.event),
        transport=FakeTransport(First()),
    ) as running:
        return await running.report()


async def test_every_host_that_fails_is_told_and_not_only_the_first(plan: Plan) -> None:
    hosts = Waiting(at={("h2", "pre_deploy"), ("h3", "pre_deploy")})

    def then(event: e.Event) -> None:
        if isinstance(event, e.Stopped):
            hosts.told.set()

    report = await _deploy(plan, hosts, then)

    failed = [name for name, state in states(report).items() if state is State.FAILED]
    assert failed == ["h1", "h2"]
    assert states(report)["h3"] is State.HALTED
    assert report.reason == "2 hosts failed, 0 allowed"
    assert (report.outcome, report.exit_status) == (Outcome.FAILED, 1)


async def test_a_host_that_takes_too_long_to_end_is_halted(plan: Plan) -> None:
    hosts = Waiting(at={("h2", "pre_deploy")})
    plan = with_rollout(plan, deadlines=Deadlines(settle=0.1))

    report = await _deploy(plan, hosts)

    assert states(report)["h2"] is State.HALTED
    assert report.reason == "1 host failed, 0 allowed"


async def test_a_transfer_stops_at_once(plan: Plan) -> None:
    hosts = Waiting(at={("h2", "receive")})

    with anyio.fail_after(20):
        report = await _deploy(plan, hosts)

    assert states(report)["h2"] is State.HALTED


async def test_nothing_new_begins_once_the_run_has_stopped(plan: Plan) -> None:
    """Not even what waits for its turn in the same state."""
    hosts = FakeHosts(breaks=fails("pre_deploy", "h1", "h2", "h3", "h4", "h5", "h6"))

    report, _ = await run(with_rollout(plan, concurrency=1), hosts)

    assert len(hosts.asked("pre_deploy")) == 1
    assert [*states(report).values()].count(State.HALTED) == 5


async def test_nobody_is_contacted_for_a_build_that_cannot_begin(plan: Plan) -> None:
    module = attrs.evolve(plan.modules[0], source=DirectorySource("not-there"))
    hosts = FakeHosts()

    report, _ = await run(attrs.evolve(plan, modules=(module,)), hosts)

    assert report.exit_status == 1
    assert hosts.asked("lock") == []


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (Script(file="crlf"), "site: post_deploy: crlf: line 2 ends in CR LF, "),
        (Script(inline="\ufefftrue"), "site: post_deploy: line 1 begins with a byte "),
    ],
)
async def test_nobody_is_contacted_for_a_script_here_that_cannot_work(
    plan: Plan, script: Script, why: str
) -> None:
    (plan.base / "crlf").write_bytes(b"#!/bin/sh\ntrue\r\n")
    module = attrs.evolve(plan.modules[0], post_deploy=script)
    hosts = FakeHosts()

    report, seen = await run(attrs.evolve(plan, modules=(module,)), hosts)

    (failed,) = of(e.BuildFailed, seen)
    assert isinstance(failed, e.BuildFailed)
    assert failed.reason.startswith(why)
    assert report.exit_status == 1
    assert hosts.asked("lock") == []


async def test_another_run_need_not_wait_for_hosts_that_settle(plan: Plan) -> None:
    hosts = Waiting(at={("h2", "check"), ("h3", "lock")})
    hosts.breaks = lambda call: (
        Answer(1)
        if (call.host, call.name) == ("h1", "check")
        else Answer(75, errors=OLDER.encode())
        if (call.host, call.name) == ("h3", "lock")
        else None
    )

    def observe(record: e.Record) -> None:
        # h2 goes on waiting, and would for 30 s.
        if isinstance(record.event, e.Stopped):
            hosts.at = {("h2", "check")}
            hosts.told.set()
            hosts.told = anyio.Event()

    with anyio.fail_after(20):
        async with start(plan, observe=observe, transport=FakeTransport(hosts)) as run:
            report = await run.report()

    assert states(report)["h3"] is State.FAILED


async def test_a_person_need_not_wait_for_hosts_that_settle(plan: Plan) -> None:
    hosts = Waiting(at={("h2", "pre_deploy")})
    stopped = anyio.Event()
    failing = fails("pre_deploy", "h1")
    hosts.breaks = failing

    def observe(record: e.Record) -> None:
        if isinstance(record.event, e.Stopped):
            stopped.set()

    with anyio.fail_after(20):
        async with start(plan, observe=observe, transport=FakeTransport(hosts)) as run:
            await stopped.wait()
            await run.stop()
            report = await run.report()

    assert report.exit_status == 130
    assert states(report)["h2"] is State.HALTED
