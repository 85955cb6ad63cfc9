"""Connections that die and locks that others hold, over a transport of fakes."""

from __future__ import annotations

from pathlib import Path

import anyio
import attrs
import pytest

from ghostasync import (
    DeployFailed,
    Outcome,
    Plan,
    Report,
    State,
    deploy,
    start,
)
from ghostasync import events as e
from ghostasync._engine.host import Attempt
from ghostasync._engine.locks import beat
from ghostasync.errors import ConnectionDied, Unreachable
from ghostasync.fold import folded
from ghostasync.model import Deadlines, Hook, Host
from ghostasync.testing import Answer, Break, Call, FakeHosts, FakeTransport, step
from ghostasync.testing._fake import FakeSession
from tests.deploying import fails, of, run, with_rollout

HOSTS = tuple(f"h{number}" for number in range(1, 7))
QUICK = Deadlines(connect=0.2, check=0.4, rollback=0.4)


def dies(what: str, host: str, times: int = 1) -> Break:
    """Have the connection to *host* die under *what*, so many times."""
    left = times

    def breaks(call: Call) -> Answer | None:
        nonlocal left
        if call.host == host and step(call) == what and left:
            left -= 1
            raise ConnectionDied(host, "gone")
        return None

    return breaks


@pytest.mark.parametrize(
    "what",
    [
        "check",
        "receive",
        "environment",
        "pre_deploy",
        "record_moves",
        "switch",
        "post_deploy",
    ],
)
async def test_a_host_whose_connection_died_goes_on(plan: Plan, what: str) -> None:
    hosts = FakeHosts(breaks=dies(what, "h2"))

    report, seen = await run(plan, hosts)

    assert report.outcome is Outcome.LIVE
    (warned,) = of(e.HostWarned, seen)
    assert isinstance(warned, e.HostWarned)
    assert (warned.host, "connected again after" in warned.text) == ("h2", True)
    assert hosts.asked("lock").count("h2") == 2
    assert hosts.asked(what).count("h2") == 2
    assert hosts.asked(what).count("h3") == 1


async def test_a_login_whose_connection_died_is_tried_once_more(plan: Plan) -> None:
    hosts = FakeHosts(breaks=dies("probe", "h2"))

    report, _ = await run(plan, hosts)

    assert report.outcome is Outcome.LIVE
    assert hosts.asked("probe").count("h2") == 2


async def test_a_login_that_always_hangs_up_runs_no_commands(plan: Plan) -> None:
    hosts = FakeHosts(breaks=dies("probe", "h2", times=99))

    report, _ = await run(plan, hosts)

    assert "the login does not run commands" in report.hosts["h2"].reason
    assert hosts.asked("probe").count("h2") == 2


async def test_a_switch_whose_answer_was_lost_is_looked_at_and_goes_on(
    plan: Plan,
) -> None:
    hosts = FakeHosts()
    lose = dies("switch", "h2")

    def breaks(call: Call) -> Answer | None:
        if call.name == "switch":
            hosts.links[call.host] = call.args[5]
        return lose(call)

    hosts.breaks = breaks

    report, _ = await run(plan, hosts)

    assert report.outcome is Outcome.LIVE
    assert hosts.asked("switch").count("h2") == 2


async def test_a_link_that_went_back_meanwhile_takes_the_host_back(plan: Plan) -> None:
    hosts = FakeHosts()
    lose = dies("post_deploy", "h2")

    def breaks(call: Call) -> Answer | None:
        try:
            return lose(call)
        except ConnectionDied:
            hosts.links["h2"] = ""
            raise

    hosts.breaks = breaks

    report, _ = await run(plan, hosts)

    assert report.outcome is Outcome.FAILED
    assert "is absent, not /ghost" in report.hosts["h2"].reason
    assert set(hosts.links.values()) == {""}


async def test_a_connection_that_dies_again_and_again_fails_its_host(
    plan: Plan,
) -> None:
    hosts = FakeHosts(breaks=dies("receive", "h2", times=99))

    report, _ = await run(with_rollout(plan, max_failures=1), hosts)

    assert report.outcome is Outcome.PARTIAL
    assert report.hosts["h2"].stage is State.UPLOADING
    assert hosts.asked("receive").count("h2") == 4


def stays_away_from(what: str, host: str) -> tuple[FakeHosts, FakeTransport]:
    """Have a host be lost under *what*, and not be reached again."""
    hosts, lose = FakeHosts(), dies(what, host)
    transport = FakeTransport(hosts)

    def breaks(call: Call) -> Answer | None:
        try:
            return lose(call)
        except ConnectionDied:
            transport.unreachable = frozenset({host})
            raise

    hosts.breaks = breaks
    return hosts, transport


async def test_a_host_that_stays_away_fails_at_the_connect_deadline(
    plan: Plan,
) -> None:
    hosts, transport = stays_away_from("pre_deploy", "h2")

    with pytest.raises(DeployFailed) as failed:
        await deploy(with_rollout(plan, deadlines=QUICK), transport=transport)

    row = failed.value.report.hosts["h2"]
    assert (row.stage, row.state) == (State.PREPARING, State.FAILED)
    assert row.reason.endswith("not connected again within 0.2 s")
    assert hosts.asked("switch") == []


async def test_a_host_lost_after_its_switch_is_stranded(plan: Plan) -> None:
    hosts, transport = stays_away_from("post_deploy", "h2")

    with pytest.raises(DeployFailed) as failed:
        await deploy(with_rollout(plan, deadlines=QUICK), transport=transport)

    report = failed.value.report
    assert report.exit_status == 3
    assert report.hosts["h2"].state is State.STRANDED
    assert {h for h, link in hosts.links.items() if link} == {"h2"}


async def test_a_way_back_that_loses_its_connection_runs_the_old_post_deploy(
    plan: Plan,
) -> None:
    hosts = FakeHosts(links={"h2": "/ghost/shop/prod/web/site/1_site_0000000"})
    broken = fails("post_deploy", "h2")
    lost = False

    def breaks(call: Call) -> Answer | None:
        nonlocal lost
        if "GHOST_ACTION=rollback" in call.args and call.host == "h2" and not lost:
            lost = True
            raise ConnectionDied("h2", "gone")
        return broken(call)

    hosts.breaks = breaks

    report, _ = await run(plan, hosts)

    assert lost
    assert report.hosts["h2"].state is State.ROLLED_BACK
    back = [c for c in hosts.calls if "GHOST_ACTION=rollback" in c.args]
    assert [c.host for c in back if c.host == "h2"] == ["h2", "h2"]


async def test_a_connection_lost_while_a_wave_soaks_costs_nobody_anything(
    plan: Plan,
) -> None:
    asked = 0

    def breaks(call: Call) -> Answer | None:
        nonlocal asked
        if call.host == "h2" and call.name == "run" and not call.args[1]:
            asked += 1
            if asked == 2:
                raise ConnectionDied("h2", "gone")
        return None

    plan = with_rollout(plan, waves=(3, "100%"), soak=0.01)

    report, _ = await run(plan, FakeHosts(breaks=breaks))

    assert report.outcome is Outcome.LIVE
    assert asked == 3


async def test_what_was_lost_on_the_way_there_does_not_count_on_the_way_back(
    plan: Plan,
) -> None:
    there, back = dies("receive", "h2", times=3), dies("post_deploy", "h2")
    broken = fails("post_deploy", "h3")
    hosts = FakeHosts(links=dict.fromkeys(HOSTS, "/ghost/shop/prod/web/site/1_site_0"))

    def breaks(call: Call) -> Answer | None:
        there(call)
        if "GHOST_ACTION=rollback" in call.args:
            return back(call)
        return broken(call)

    hosts.breaks = breaks

    report, _ = await run(with_rollout(plan, waves=(2, "100%")), hosts)

    assert report.hosts["h2"].state is State.ROLLED_BACK


async def test_a_run_that_lost_its_fleet_drains_nobody(
    plan: Plan, tmp_path: Path
) -> None:
    """Another run has the hosts: they may be in good health by now."""
    hosts = FakeHosts()
    lost = False

    def breaks(call: Call) -> Answer | None:
        nonlocal lost
        if call.name == "run" and not call.args[1]:
            lost = lost or call.host == "h6"
        if lost and call.name in {"run", "assert_lock", "restore"}:
            return Answer(lost_to=OLDER)
        return None

    hosts.breaks = breaks
    drained = tmp_path / "drained"
    hook = Hook(run=f'[ "$GHOST_ACTION" = deploy ] || echo "$GHOST_HOST" >>{drained}')
    plan = with_rollout(plan, waves=(1,), drain=hook)

    report, _ = await run(plan, hosts)

    assert report.exit_status == 3
    assert {row.state for row in report.hosts.values()} == {State.STRANDED}
    assert not drained.exists()


# --- Logins that are refused -----------------------------------------------------


class Refusing(FakeTransport):
    """Hosts that refuse the login, but for those in *lets_in*."""

    lets_in: frozenset[str] = frozenset()
    opened: anyio.Event

    def session(self, host: Host) -> FakeSession:
        transport = self

        class Session(FakeSession):
            async def open(self) -> None:
                if host.name not in transport.lets_in:
                    await transport.opened.wait()
                    raise Unreachable(host.name, "login refused", denied=True)
                await super().open()

        return Session(self, host)


def refusing(hosts: FakeHosts, *lets_in: str) -> Refusing:
    transport = Refusing(hosts)
    transport.lets_in, transport.opened = frozenset(lets_in), anyio.Event()
    if not lets_in:
        transport.opened.set()
    return transport


async def test_a_run_stops_where_the_first_hosts_all_refuse_the_login(
    plan: Plan,
) -> None:
    """Whatever the budget: servers lock out those who go on trying."""
    plan = with_rollout(plan, max_failures="100%")

    with pytest.raises(DeployFailed, match="first 5 hosts all refused") as failed:
        await deploy(plan, transport=refusing(FakeHosts()))

    assert failed.value.report.exit_status == 1


async def test_a_run_goes_on_where_one_host_lets_us_in(plan: Plan) -> None:
    hosts = FakeHosts()
    transport = refusing(hosts, "h1")

    def breaks(call: Call) -> None:
        if call.name == "lock":
            transport.opened.set()

    hosts.breaks = breaks

    plan = with_rollout(plan, max_failures="100%")
    report = await deploy(plan, transport=transport)

    assert report.outcome is Outcome.PARTIAL


# --- Locks that others hold ------------------------------------------------------

OLDER = "run 20000101T000000Z-aaaaaa by bob on c2 (pid 1) since 2000-01-01 00:00:00 UTC"
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
