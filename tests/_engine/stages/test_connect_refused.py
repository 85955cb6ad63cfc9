"""Logins that are refused."""

from __future__ import annotations

import anyio
import pytest

from ghostasync import DeployFailed, Outcome, Plan, deploy
from ghostasync.errors import Unreachable
from ghostasync.model import Host
from ghostasync.testing import Call, FakeHosts, FakeTransport
from ghostasync.testing._fake import FakeSession
from tests._engine.losing import dies
from tests.deploying import run, with_rollout


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
