"""Hosts that are terminated while a run goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import pytest

from ghostasync import (
    DeployFailed,
    Host,
    Outcome,
    Plan,
    Report,
    Rollout,
    State,
    deploy,
)
from ghostasync.errors import ConnectionDied
from ghostasync.model import Deadlines
from ghostasync.testing import Answer, Call, FakeHosts, FakeTransport, step
from tests.deploying import states

HOSTS = ("h1", "h2", "h3", "h4", "h5", "h6")
QUICK = Deadlines(connect=0.1, rollback=0.1)


@attrs.define
class Cloud:
    """A fleet of which hosts can be terminated."""

    plan: Plan
    fleet: FakeHosts = attrs.field(factory=FakeHosts)
    gone: set[str] = attrs.field(factory=set)
    named: bool = False

    async def hosts(self) -> Sequence[Host]:
        """Name the hosts that there are."""
        left = [Host(n) for n in HOSTS if n not in self.gone or self.named]
        # Others take their place, as in a fleet that scales by itself.
        return [*left, Host("new")] if self.gone else left

    def terminate(self, host: str, when: Callable[[Call], bool]) -> None:
        """Have a host die at its first call for which *when* says so."""

        def breaks(call: Call) -> Answer | None:
            if call.host == host and (host in self.gone or when(call)):
                self.gone.add(host)
                raise ConnectionDied(host, "connection lost")
            return None

        self.fleet.breaks = breaks

    async def deploy(self, **rollout: object) -> Report:
        changed = Rollout(deadlines=QUICK, **rollout)  # type: ignore[arg-type]  # keys
        plan = attrs.evolve(self.plan, hosts=(), rollout=changed)
        return await deploy(plan, inventory=self, transport=FakeTransport(self.fleet))


@pytest.fixture
def cloud(plan: Plan) -> Cloud:
    return Cloud(plan)


@pytest.mark.parametrize(
    "what", ["check", "environment", "record_moves", "switch", "post_deploy"]
)
async def test_a_host_that_is_terminated_costs_nobody_anything(
    cloud: Cloud, what: str
) -> None:
    cloud.terminate("h4", lambda call: step(call) == what)

    report = await cloud.deploy()

    assert (report.outcome, report.exit_status) == (Outcome.LIVE, 0)
    assert states(report) == {
        **dict.fromkeys([*HOSTS, "new"], State.LIVE),
        "h4": State.HALTED,
    }
    assert report.hosts["h4"].reason == "is not in the inventory any more"
    assert "h4" not in cloud.fleet.ran("restore")


async def test_a_host_that_is_lost_and_still_named_is_a_failure(cloud: Cloud) -> None:
    cloud.named = True
    cloud.terminate("h4", lambda call: step(call) == "switch")

    with pytest.raises(DeployFailed) as failed:
        await cloud.deploy()

    assert failed.value.report.exit_status == 3


async def test_a_wave_of_which_all_hosts_are_gone_stops_nobody(cloud: Cloud) -> None:
    cloud.terminate("h1", lambda call: step(call) == "switch")

    report = await cloud.deploy(waves=(1, 2))

    assert report.exit_status == 0
    assert states(report)["h6"] is State.LIVE


async def test_a_way_back_does_not_wait_for_a_host_that_is_gone(cloud: Cloud) -> None:
    first = await cloud.deploy()
    (cloud.plan.base / "tree" / "index").write_text("2")

    def breaks(call: Call) -> Answer | None:
        if call.host == "h2" and ("h2" in cloud.gone or step(call) == "restore"):
            cloud.gone.add("h2")
            raise ConnectionDied("h2", "connection lost")
        back = "GHOST_ACTION=rollback" in call.args
        fails = call.host == "h6" and step(call) == "post_deploy" and not back
        return Answer(1, b"no\n") if fails else None

    cloud.fleet.breaks = breaks

    with pytest.raises(DeployFailed) as failed:
        await cloud.deploy()

    report = failed.value.report
    assert (report.outcome, report.exit_status) == (Outcome.FAILED, 1)
    assert report.hosts["h2"].reason == "is not in the inventory any more"
    left = {n: r for n, r in cloud.fleet.serves.items() if n != "h2"}
    assert set(left.values()) == {first.releases["site"]}


async def test_a_fleet_that_is_gone_as_a_whole_moves_nothing(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ghostasync._run.fleet._FRESH", 0.0)

    def breaks(call: Call) -> Answer | None:
        if call.name == "environment" or call.host in cloud.gone:
            cloud.gone.add(call.host)
            raise ConnectionDied(call.host, "connection lost")
        return None

    cloud.fleet.breaks = breaks

    with pytest.raises(DeployFailed) as failed:
        await cloud.deploy()

    assert failed.value.report.reason == "no host is left"
