"""What looking at a fleet says: of hosts fit and unfit, in line and stranded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Final

import attrs
import pytest

from ghostasync import (
    DeployFailed,
    DirectorySource,
    Plan,
    PlanError,
    RunOptions,
    State,
    check,
    deploy,
    resume,
    rollback,
    status,
)
from ghostasync.protocols import ActiveColor
from ghostasync.survey.status import Ahead, FleetStatus, OtherStore
from ghostasync.testing import (
    Answer,
    Break,
    Call,
    FakeHost,
    FakeHosts,
    FakeTransport,
    MemoryStore,
    _memory_store,
)
from tests.deploying import fails, run, states, with_rollout


@pytest.mark.parametrize(
    ("uid", "confirm", "warned"), [(1000, 30, True), (1000, 0, False), (0, 30, False)]
)
async def test_a_host_that_would_end_our_timer_is_told_of(
    plan: Plan, uid: int, confirm: int, warned: bool
) -> None:
    hosts = FakeHosts({"h1": FakeHost(uid=uid, ends_logins=True)})
    plan = with_rollout(attrs.evolve(plan, hosts=plan.hosts[:1]), confirm=confirm)

    found = await check(plan, transport=FakeTransport(hosts))

    assert [item.warning for item in found] == [True] * warned
    assert all("KillUserProcesses" in item.text for item in found)


def strands(host: str) -> Break:
    """Have a host fail after its switch, and on its way back."""
    first = fails("post_deploy", host)

    def breaks(call: Call) -> Answer | None:
        if call.name == "restore" and call.host == host:
            return Answer(1, b"no\n")
        return first(call)

    return breaks


async def test_a_stranded_host_stays_so_while_it_cannot_be_reached(plan: Plan) -> None:
    hosts = FakeHosts(breaks=strands("h2"))
    await run(plan, hosts)
    away = FakeTransport(hosts, unreachable=frozenset({"h2", "h3"}))

    found = await status(plan, transport=away)

    assert found.hosts["h2"].state == "stranded"
    assert found.hosts["h2"].text == "connection refused"
    assert found.hosts["h3"].state == "unreachable"


async def test_a_stranded_host_with_the_right_link_is_not_in_line(plan: Plan) -> None:
    """Its post-deploy may have failed on the way back; nobody has looked since."""
    hosts = FakeHosts(breaks=strands("h2"))
    await run(plan, hosts)
    hosts.links.clear()

    found = await status(plan, transport=FakeTransport(hosts))

    assert found.hosts["h2"].state == "stranded"


@pytest.mark.parametrize(
    ("broken", "state"),
    [({"h1"}, State.HALTED), ({f"h{n}" for n in range(1, 7)}, State.FAILED)],
)
async def test_a_run_that_never_touched_a_stranded_host_leaves_it_so(
    plan: Plan, broken: set[str], state: State
) -> None:
    hosts = FakeHosts(breaks=strands("h2"))
    await run(plan, hosts)
    locked = Answer(1, errors=b"no room for the lock")
    hosts.breaks = lambda call: (
        locked if call.name == "lock" and call.host in broken else None
    )
    refused, _ = await run(plan, hosts)

    found = await status(plan, transport=FakeTransport(hosts))

    assert states(refused)["h2"] is state
    assert found.hosts["h2"].state == "stranded"


async def test_a_stranded_host_that_went_live_is_stranded_no_more(plan: Plan) -> None:
    hosts = FakeHosts(breaks=strands("h2"))
    await run(plan, hosts)
    hosts.breaks = lambda _: None
    mended, _ = await run(plan, hosts)

    found = await status(plan, transport=FakeTransport(hosts))

    assert states(mended)["h2"] is State.LIVE
    assert "stranded" not in {host.state for host in found.hosts.values()}


async def test_who_resumes_what_ended_stranded_is_told_the_cure(plan: Plan) -> None:
    hosts = FakeHosts()
    await run(plan, hosts)
    hosts.breaks = strands("h2")
    Path(plan.base, "tree/index").write_text("2")
    report, _ = await run(plan, hosts)

    with pytest.raises(PlanError) as refused:
        await resume(plan, run=report.run, transport=FakeTransport(hosts))

    assert str(refused.value) == (
        f"run {report.run} has ended stranded: nothing is left to resume; to bring its "
        "stranded hosts in line: ghostasync converge h2"
    )


async def test_a_folder_that_is_missing_is_named_with_its_key(plan: Plan) -> None:
    missing = plan.base / "missing"
    module = attrs.evolve(plan.modules[0], source=DirectorySource(str(missing)))
    plan = attrs.evolve(plan, modules=(module,))
    text = f"{missing} is not a folder (modules[0].source.dir)"

    found = await check(plan, transport=FakeTransport(FakeHosts()))
    report, _ = await run(plan, FakeHosts())

    assert [(item.module, item.text) for item in found] == [("site", text)]
    assert report.reason == f"site: {text}"


async def test_the_color_is_told_beside_the_active_one(plan: Plan) -> None:
    blue, transport = MemoryStore(), FakeTransport(FakeHosts())
    green = MemoryStore(other=blue)
    app = attrs.evolve(plan.app, color="green", active_color="green")
    plan = attrs.evolve(plan, app=app)

    before = await status(plan, transport=transport, store=green)
    active = ActiveColor("blue", 1, "R1", "ada", "", 0.0)
    await blue.move_active_color(active, None)
    after = await status(plan, transport=transport, store=green)

    assert (before.color, before.active_color, before.active) == (
        *("green", "green", None),
    )
    assert (after.color, after.active_color, after.active) == ("green", "blue", active)


# --- Which way a host would go -----------------------------------------------------

ALL: Final = tuple(f"h{number}" for number in range(1, 7))


@attrs.define
class Fleet:
    """Six hosts, and two people who deploy to them, each with a store: a and b."""

    plan: Plan
    monkeypatch: pytest.MonkeyPatch
    fakes: FakeHosts = attrs.field(factory=FakeHosts)
    stores: dict[str, MemoryStore] = attrs.field(
        factory=lambda: {who: MemoryStore(f"memory:{who}") for who in "ab"}
    )
    version: int = 0

    def keys(self, who: str, away: Sequence[str] = ()) -> RunOptions:
        transport = FakeTransport(self.fakes, unreachable=frozenset(away))
        return {"transport": transport, "store": self.stores[who]}

    async def deploy(
        self,
        *modules: str,
        who: str = "a",
        limit: Sequence[str] = (),
        away: Sequence[str] = (),
    ) -> str:
        """Deploy the next version; return its release."""
        self.version += 1
        # Two stores would give two packages of the same second the same id.
        clock = SimpleNamespace(time=lambda: 1_700_000_000 + self.version)
        self.monkeypatch.setattr(_memory_store, "time", clock)
        (self.plan.base / "tree" / "index").write_text(str(self.version))
        keys = self.keys(who, away)
        keys["limit"] = limit
        report = await deploy(self.plan, modules=modules, **keys)
        assert report.exit_status == 0
        return report.releases[modules[0] if modules else "site"]

    async def rollback(self, limit: str = "") -> None:
        keys = self.keys("a")
        keys["limit"] = [limit] if limit else ()
        await rollback(self.plan, **keys)

    def stray(self, host: str, release: str = "1600000000_site_0000000") -> None:
        """Have somebody move a link by hand."""
        folder = self.fakes[host].link.rpartition("/")[0]
        self.fakes[host].link = f"{folder}/{release}"

    async def look(self, who: str = "a", away: Sequence[str] = ()) -> FleetStatus:
        transport = FakeTransport(self.fakes, unreachable=frozenset(away))
        return await status(self.plan, transport=transport, store=self.stores[who])

    async def ways(self, who: str = "a", away: Sequence[str] = ()) -> dict[str, str]:
        """Return which way hosts would go, of those that would."""
        hosts = (await self.look(who, away)).hosts
        return {name: host.way for name, host in hosts.items() if host.way}


@pytest.fixture
def fleet(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    return Fleet(with_rollout(plan, max_failures=1), monkeypatch)


async def test_a_host_in_line_would_go_nowhere(fleet: Fleet) -> None:
    await fleet.deploy()
    await fleet.deploy()

    found = await fleet.look()

    assert {host.way for host in found.hosts.values()} == {""}
    assert (found.ahead, found.other) == ({}, None)


async def test_hosts_would_go_nowhere_where_manifest_names_nothing(
    fleet: Fleet,
) -> None:
    await fleet.deploy(limit=["h1"])

    assert await fleet.ways() == {}


async def test_a_host_that_missed_a_release_would_go_forward(fleet: Fleet) -> None:
    await fleet.deploy()
    await fleet.deploy(away=["h6"])

    assert await fleet.ways() == {"h6": "forward"}
    assert await fleet.ways(away=["h6"]) == {}


async def test_a_host_that_serves_nothing_would_go_forward(fleet: Fleet) -> None:
    release = await fleet.deploy(away=["h6"])
    fleet.fakes["h5"].releases.discard(release)

    found = await fleet.look()

    assert await fleet.ways() == {"h5": "forward", "h6": "forward"}
    assert found.hosts["h5"].text == "site: the link leads nowhere"


async def test_a_host_that_missed_a_rollback_would_go_back(fleet: Fleet) -> None:
    await fleet.deploy()
    await fleet.deploy()
    fleet.fakes.breaks = lambda call: (
        Answer(1, errors=b"no room")
        if (call.host, call.name) == ("h6", "lock")
        else None
    )
    await fleet.rollback()
    fleet.fakes.breaks = lambda _: None

    found = await fleet.look()

    assert await fleet.ways() == {"h6": "back"}
    assert found.ahead == {}


async def test_a_host_that_serves_what_nobody_knows_would_go_back(
    fleet: Fleet,
) -> None:
    await fleet.deploy()
    fleet.stray("h6")

    assert await fleet.ways() == {"h6": "back"}


async def test_a_canary_is_ahead_with_the_newest_release(fleet: Fleet) -> None:
    await fleet.deploy(away=["h6"])
    canary = await fleet.deploy(limit=["h1"])

    found = await fleet.look()

    assert await fleet.ways() == {"h1": "ahead", "h6": "forward"}
    assert found.ahead == {"site": Ahead(canary, later=True)}


async def test_a_host_that_alone_went_back_is_ahead_with_an_older_release(
    fleet: Fleet,
) -> None:
    """The run was later than MANIFEST's, and the release was not."""
    first = await fleet.deploy()
    await fleet.deploy()
    await fleet.rollback(limit="h1")

    found = await fleet.look()

    assert await fleet.ways() == {"h1": "ahead"}
    assert found.ahead == {"site": Ahead(first, later=False)}


async def test_of_two_canaries_the_later_one_is_told(fleet: Fleet) -> None:
    await fleet.deploy()
    await fleet.deploy(limit=["h2"])
    last = await fleet.deploy(limit=["h1"])

    found = await fleet.look()

    assert await fleet.ways() == {"h1": "ahead", "h2": "ahead"}
    assert found.ahead == {"site": Ahead(last, later=True)}


async def test_a_canary_is_not_later_than_what_others_got_before_it_was_taken_up(
    fleet: Fleet,
) -> None:
    """A release is as old as the run that set out to bring it."""
    await fleet.deploy()
    await fleet.deploy()
    canary = await fleet.deploy(limit=["h1"])
    (module,) = fleet.fakes["h1"].modules.values()
    module.records[3]["origin"] = "1"

    found = await fleet.look()

    assert found.ahead == {"site": Ahead(canary, later=False)}


async def test_of_several_modules_the_gravest_way_counts(fleet: Fleet) -> None:
    api = attrs.evolve(fleet.plan.modules[0], name="api", path="/srv/api")
    fleet.plan = attrs.evolve(fleet.plan, modules=(*fleet.plan.modules, api))
    await fleet.deploy()
    await fleet.deploy(away=["h1"])
    fleet.stray("h2")
    await fleet.deploy("api", away=["h2"])
    canary = await fleet.deploy("api", limit=["h1"])

    found = await fleet.look()

    assert await fleet.ways() == {"h1": "ahead", "h2": "back"}
    assert found.ahead == {"api": Ahead(canary, later=True)}


async def test_a_stranded_host_would_go_forward_though_its_link_is_right(
    fleet: Fleet,
) -> None:
    await fleet.deploy()
    fleet.fakes.breaks = strands("h2")
    with pytest.raises(DeployFailed):
        await fleet.deploy()
    release = (await fleet.look()).expected["site"]
    fleet.stray("h2", release)

    found = await fleet.look()

    assert (found.hosts["h2"].state, found.hosts["h2"].way) == ("stranded", "forward")


# --- Another store -----------------------------------------------------------------


async def test_what_another_store_brought_is_told_and_not_advised(
    fleet: Fleet,
) -> None:
    await fleet.deploy()
    theirs = await fleet.deploy(who="b", limit=["h1", "h2"])

    found = await fleet.look()

    (record,) = [
        lines
        for module in fleet.fakes["h1"].modules.values()
        for lines in module.records.values()
        if lines["release"] == theirs
    ]
    assert found.other == OtherStore(
        run=record["run"],
        actor=record["actor"],
        at=record["at"],
        url="memory:a",
        hosts=("h1", "h2"),
    )
    assert await fleet.ways() == {"h1": "ahead", "h2": "ahead"}
    # This store has no such package, so nobody can take the others along.
    assert found.ahead == {}


async def test_the_store_that_brought_what_serves_knows_no_other(fleet: Fleet) -> None:
    await fleet.deploy()
    await fleet.deploy(who="b")

    mine, theirs = await fleet.look("a"), await fleet.look("b")

    assert mine.other is not None
    assert mine.other.hosts == ALL
    assert theirs.other is None


async def test_another_store_is_not_told_once_this_one_has_brought_something_later(
    fleet: Fleet,
) -> None:
    await fleet.deploy()
    await fleet.deploy(who="b")
    await fleet.deploy(away=["h6"])

    found = await fleet.look()

    assert found.other is None


async def test_what_another_store_brought_is_never_older_for_sure(
    fleet: Fleet,
) -> None:
    """Numbers of two stores say little, so a converge might take the host back."""
    await fleet.deploy(who="b", limit=["h6"])
    await fleet.deploy(away=["h6"])
    await fleet.deploy(away=["h6"])

    assert await fleet.ways() == {"h6": "back"}
    assert (await fleet.look()).other is None
