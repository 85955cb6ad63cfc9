"""Deployments whose store is in S3, while the store is at fault."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest

from ghostasync import Outcome, Plan, Report, State, StoreSettings, start, status
from ghostasync import events as e
from ghostasync._s3 import client
from ghostasync.errors import StoreError
from ghostasync.testing import FakeHosts, FakeTransport
from tests.deploying import six_hosts, states
from tests.s3_proxy import FAULTS, Fault, Proxy, proxy
from tests.s3_servers import BUCKET, S3Server, make_bucket

pytestmark = pytest.mark.fleet

SPREAD = 9
"""One call in so many meets a fault, in each of as many deployments."""


@attrs.define
class Scene:
    plan: Plan
    spoiler: Proxy
    hosts: FakeHosts = attrs.field(factory=FakeHosts)

    @property
    def transport(self) -> FakeTransport:
        return FakeTransport(self.hosts)

    def anew(self, settings: StoreSettings) -> None:
        """Begin with an empty store, and hosts that have served nothing."""
        url = f"s3://{BUCKET}/{secrets.token_hex(4)}"
        self.plan = attrs.evolve(self.plan, store=attrs.evolve(settings, url=url))
        self.hosts = FakeHosts()

    async def deploy(
        self, version: str, *, away_after: type[e.Event] | None = None
    ) -> Report:
        (self.plan.base / "tree" / "index").write_text(version)

        def observe(record: e.Record) -> None:
            if away_after is not None and isinstance(record.event, away_after):
                self.spoiler.away = True

        begun = start(self.plan, observe=observe, transport=self.transport)
        async with begun as run:
            return await run.report()


@pytest.fixture
async def scene(
    ministack_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[Scene]:
    for name, value in ministack_server.environ.items():
        monkeypatch.setenv(name, value)
    for name in ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    await make_bucket(ministack_server)
    async with proxy(ministack_server) as (spoiler, server):
        found = Scene(six_hosts(tmp_path), spoiler)
        found.anew(server.settings)
        yield found


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_at_one_call_of_a_deploy_is_not_seen(
    scene: Scene, fault: Fault
) -> None:
    first = await scene.deploy("0")
    assert first.outcome is Outcome.LIVE
    scene.spoiler.spoil(None, -1)
    assert (await scene.deploy("1")).outcome is Outcome.LIVE
    calls = len(scene.spoiler.calls)

    for at in range(0, calls, -(-calls // SPREAD)):
        scene.spoiler.spoil(fault, at)
        report = await scene.deploy(f"{at + 2}")

        assert report.outcome is Outcome.LIVE
        seen = await status(scene.plan, transport=scene.transport)
        assert {**seen.expected} == {**report.releases}
        assert {h.state for h in seen.hosts.values()} == {"in-line"}


@pytest.fixture
def few_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting between tries is not what is tested."""
    monkeypatch.setattr(client, "TRIES", 2)


async def test_a_store_that_is_away_from_the_first_is_one_line(
    scene: Scene, few_tries: None
) -> None:
    scene.spoiler.away = True

    with pytest.raises(StoreError) as refused:
        await scene.deploy("1")

    assert "\n" not in str(refused.value)
    assert "s3://fleet/" in str(refused.value)


async def test_no_link_moves_before_the_store_has_the_package(
    scene: Scene, few_tries: None
) -> None:
    before = await scene.deploy("1")
    scene.spoiler.cuts = "^PUT .*/packages/"

    report = await scene.deploy("2")

    assert report.outcome is Outcome.FAILED
    assert "PutObject" in report.reason
    assert set(states(report).values()) == {State.HALTED}
    scene.spoiler.cuts = None
    seen = await status(scene.plan, transport=scene.transport)
    assert {**seen.expected} == {**before.releases}
    assert {h.state for h in seen.hosts.values()} == {"in-line"}


async def test_a_fleet_goes_back_whose_manifest_cannot_be_moved(
    scene: Scene, few_tries: None
) -> None:
    before = await scene.deploy("1")

    report = await scene.deploy("2", away_after=e.Switched)

    assert report.outcome is Outcome.FAILED
    assert set(states(report).values()) == {State.ROLLED_BACK}
    assert "MANIFEST could not be moved" in report.reason
    scene.spoiler.away = False
    seen = await status(scene.plan, transport=scene.transport)
    assert {**seen.expected} == {**before.releases}
    assert {h.state for h in seen.hosts.values()} == {"in-line"}
    # What was not handed in is, by the next run on this machine.
    again = await scene.deploy("3")
    assert again.outcome is Outcome.LIVE
