"""Hosts that join while a run goes on get what MANIFEST names, outside its budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import pytest

from ghostasync import (
    Deploy,
    DeployFailed,
    Goal,
    Host,
    Outcome,
    PlanError,
    Report,
    Rollback,
    State,
    converge,
    logs,
    resume,
    revert,
    start,
)
from ghostasync import events as e
from ghostasync.errors import StoreError
from ghostasync.stores.directory import DirectoryPackages
from ghostasync.testing import Answer, Call, FakeHost, FakeTransport, step
from tests.deploying import fails
from tests.killing import HOSTS, Scene

NEW = Host("h5", labels={"az": "b"})
NOT_BROUGHT = "joined since the run was planned: h5; not brought along"
CURE = "ghostasync converge h5"


@attrs.define
class Growing:
    """An inventory that says something else each time, the last thing for ever."""

    says: list[Sequence[Host] | Exception]
    asked: int = 0

    async def hosts(self) -> Sequence[Host]:
        self.asked += 1
        said = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        if isinstance(said, Exception):
            raise said
        return said


@attrs.define
class Fleet:
    """Four hosts that serve version 1, and a fifth that joins in the next run."""

    scene: Scene
    inventory: Growing
    seen: list[e.Event] = attrs.field(factory=list)

    async def run(
        self,
        goal: Goal = Deploy(),
        *limit: str,
        transport: FakeTransport | None = None,
        then: Callable[[e.Event], None] = lambda _: None,
    ) -> Report:
        def observe(record: e.Record) -> None:
            self.seen.append(record.event)
            then(record.event)

        async with start(
            self.scene.plan,
            goal,
            limit=limit,
            observe=observe,
            inventory=self.inventory,
            transport=transport or self.scene.fleet.transport,
        ) as run:
            return await run.report()

    @property
    def warned(self) -> list[str]:
        return [event.text for event in self.seen if isinstance(event, e.Warned)]

    @property
    def serves(self) -> dict[str, str]:
        return self.scene.fleet.serves

    def has_booted(self, release: str = "") -> None:
        """Have the fifth host serve what MANIFEST named when it booted."""
        host = self.scene.fleet.hosts["h5"] = FakeHost()
        module = host.module("/ghost/shop/prod/web/site")
        module.releases.add(release)
        module.link = f"{module.folder}/{release}" if release else ""

    def grows(self, *before: Sequence[Host] | Exception) -> None:
        """Have the inventory name the fifth host, once it has said *before*."""
        hosts = self.scene.plan.hosts
        self.inventory.says = [hosts, *before, (*hosts, NEW)]
        self.seen.clear()


@pytest.fixture
async def fleet(scene: Scene) -> Fleet:
    """Have the fifth host boot with version 1, while version 2 is deployed."""
    fleet = Fleet(scene, Growing([scene.plan.hosts]))
    fleet.has_booted(scene.old)
    scene.version("2")
    fleet.grows()
    return fleet


async def test_what_scripts_printed_on_a_host_that_joined_is_in_the_logs(
    fleet: Fleet,
) -> None:
    report = await fleet.run()

    (told,) = await logs(fleet.scene.plan, report.run, host="h5")

    assert b"post_deploy of site" in told.text


async def test_a_host_that_joined_is_brought_along(fleet: Fleet) -> None:
    report = await fleet.run()

    new = report.releases["site"]
    assert (report.outcome, report.exit_status) == (Outcome.LIVE, 0)
    assert fleet.serves == dict.fromkeys([*HOSTS, "h5"], new)
    assert report.hosts["h5"].state is State.LIVE
    assert [wave for wave in report.waves if "h5" in wave] == []
    assert fleet.warned == []
    kinds = [type(event) for event in fleet.seen]
    assert kinds.index(e.Committed) < kinds.index(e.Joined)
    (record,) = (
        fleet.scene.fleet.hosts["h5"]
        .module("/ghost/shop/prod/web/site")
        .records.values()
    )
    (number,) = [n.generation for n in fleet.seen if isinstance(n, e.Numbered)]
    told = {"goal": "converge", "run": report.run, "outcome": "live"}
    assert {key: record[key] for key in told} == told
    assert record["generation"] == str(number)
    ran = fleet.scene.fleet.hosts["h5"].ran
    assert [r for r in ran if "deploy" in r] == ["pre_deploy", "post_deploy"]
    assert fleet.scene.after_all == 2, "once for each version"


async def test_a_host_that_joined_after_manifest_moved_is_brought_along(
    fleet: Fleet,
) -> None:
    fleet.grows(fleet.scene.plan.hosts)

    report = await fleet.run()

    assert fleet.serves["h5"] == report.releases["site"]
    assert fleet.inventory.asked == 3


async def test_a_host_that_is_gone_again_is_nobodys(fleet: Fleet) -> None:
    hosts = fleet.scene.plan.hosts
    fleet.inventory.says = [hosts, (*hosts, NEW), hosts]

    report = await fleet.run()

    assert (list(report.hosts), fleet.warned) == (list(HOSTS), [])
    assert fleet.serves["h5"] == fleet.scene.old


async def test_a_host_that_is_blank_gets_all_that_manifest_names(fleet: Fleet) -> None:
    scene = fleet.scene
    site = scene.plan.modules[0]
    api = attrs.evolve(site, name="api", path="/srv/api")
    scene.plan = attrs.evolve(scene.plan, modules=(site, api))
    both = (await scene.deploy()).releases
    scene.version("3")
    fleet.scene.fleet.hosts["h5"] = FakeHost()
    fleet.grows()

    report = await fleet.run(Deploy(("site",)))

    five = scene.fleet.hosts["h5"]
    links = {m.folder.rpartition("/")[2]: m.link for m in five.modules.values()}
    assert {n: link.rpartition("/")[2] for n, link in links.items()} == {
        "site": report.releases["site"],
        "api": both["api"],
    }
    fleet.inventory.says = [(*scene.plan.hosts, NEW)]
    undone = await fleet.run(Rollback(run=report.run[:-1]))
    assert undone.releases == {"site": both["site"]}, "the api is no part of that run"
    assert fleet.warned == []
    assert five.modules["/ghost/shop/prod/web/site"].live == both["site"]


async def test_a_host_in_line_is_left_alone(fleet: Fleet) -> None:
    first = await fleet.run()
    assert first.hosts["h5"].state is State.LIVE
    fleet.grows()

    again = await fleet.run()

    assert again.outcome is Outcome.UNCHANGED
    assert again.hosts["h5"].state is State.UNCHANGED


# --- Outside of the budget ----------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "state"),
    [
        ("pre_deploy", State.FAILED),
        ("post_deploy", State.ROLLED_BACK),
        ("verify", State.ROLLED_BACK),
        ("connect", State.FAILED),
    ],
)
async def test_a_failure_there_is_told_and_takes_nobody_back(
    fleet: Fleet, what: str, state: State
) -> None:
    scene = fleet.scene
    scene.plan = attrs.evolve(
        scene.plan,
        rollout=attrs.evolve(
            scene.plan.rollout,
            deadlines=attrs.evolve(scene.plan.rollout.deadlines, verify=0.05),
        ),
    )
    scene.fleet.breaks = fails(what, "h5")
    dead = frozenset({"h5"} if what == "connect" else ())

    report = await fleet.run(transport=FakeTransport(scene.fleet, unreachable=dead))

    new = report.releases["site"]
    assert (report.outcome, report.exit_status) == (Outcome.LIVE, 0)
    assert report.hosts["h5"].state is state
    assert fleet.serves == {**dict.fromkeys(HOSTS, new), "h5": scene.old}
    assert fleet.warned == [f"{NOT_BROUGHT}: {CURE}"]
    assert (scene.manifest, scene.after_all) == (new, 2)
    scene.fleet.breaks = lambda _: None
    plan = attrs.evolve(scene.plan, hosts=(*scene.plan.hosts, NEW))
    await converge(plan, limit=["h5"], transport=scene.fleet.transport)
    assert set(fleet.serves.values()) == {new}


async def test_a_package_that_cannot_be_loaded_is_told(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(event: e.Event) -> None:
        if isinstance(event, e.Committed):
            monkeypatch.setattr(DirectoryPackages, "package", fail)

    async def fail(*_: object) -> None:
        raise StoreError("the disk is gone")

    report = await fleet.run(then=lose)

    assert report.exit_status == 0
    assert f"{NOT_BROUGHT}, the disk is gone: {CURE}" in fleet.warned


async def test_a_person_may_cut_it_short(fleet: Fleet) -> None:
    scene = fleet.scene
    async with start(
        scene.plan,
        observe=lambda record: fleet.seen.append(record.event),
        inventory=fleet.inventory,
        transport=scene.fleet.transport,
    ) as run:
        async for record in run.events():
            if isinstance(record.event, e.Joined):
                assert not run.interrupt()
        report = await run.report()

    assert report.hosts["h5"].state in {State.HALTED, State.ROLLED_BACK}
    assert fleet.serves["h5"] == scene.old
    assert report.exit_status == 7, "after_all_deploy is cut short as well"
    assert f"{NOT_BROUGHT}: {CURE}" in fleet.warned


# --- The inventory ------------------------------------------------------------------


async def test_an_inventory_that_fails_once_fails_nothing(fleet: Fleet) -> None:
    fleet.grows(PlanError("the cloud is away"))

    report = await fleet.run()

    assert report.hosts["h5"].state is State.LIVE
    assert fleet.warned == []


async def test_an_inventory_that_fails_after_the_move_is_told(fleet: Fleet) -> None:
    hosts = fleet.scene.plan.hosts
    away = PlanError("the cloud is away")
    fleet.inventory.says = [hosts, (*hosts, NEW), away]

    report = await fleet.run()

    assert report.hosts["h5"].state is State.LIVE, "it was named before"
    assert fleet.warned == ["who has joined meanwhile is not known: the cloud is away"]


async def test_a_plan_that_does_not_fit_the_new_hosts_is_told(fleet: Fleet) -> None:
    scene = fleet.scene
    module = attrs.evolve(scene.plan.modules[0], hosts="h1")
    scene.plan = attrs.evolve(scene.plan, modules=(module,))
    fleet.inventory.says = [scene.plan.hosts, (NEW,)]

    report = await fleet.run()

    assert report.exit_status == 0
    assert fleet.warned[0].startswith(f"{NOT_BROUGHT}, ")


async def test_a_host_that_gets_no_module_is_no_part_of_it(fleet: Fleet) -> None:
    scene = fleet.scene
    module = attrs.evolve(scene.plan.modules[0], hosts="az=a")
    hosts = tuple(Host(name, labels={"az": "a"}) for name in HOSTS)
    scene.plan = attrs.evolve(scene.plan, modules=(module,), hosts=hosts)
    fleet.grows()

    report = await fleet.run()

    assert (list(report.hosts), fleet.warned) == (list(HOSTS), [])


@pytest.mark.parametrize("limit", ["h1", "h*"])
async def test_a_run_that_leaves_manifest_alone_does_not_ask(
    fleet: Fleet, limit: str
) -> None:
    report = await fleet.run(Deploy(), limit)

    whole = limit == "h*"
    assert ("h5" in report.hosts, fleet.inventory.asked) == (whole, 3 if whole else 1)


# --- A rollback ---------------------------------------------------------------------


async def test_a_host_that_booted_with_what_is_left_goes_back_as_well(
    fleet: Fleet,
) -> None:
    fleet.inventory.says = [fleet.scene.plan.hosts]
    bad = (await fleet.run()).releases["site"]
    fleet.has_booted(bad)
    fleet.grows()

    report = await fleet.run(Rollback())

    assert report.exit_status == 0
    assert fleet.serves == dict.fromkeys([*HOSTS, "h5"], fleet.scene.old)
    assert fleet.scene.manifest == fleet.scene.old
    assert fleet.inventory.asked == 6, "three times a run"
    fleet.inventory.says = [(*fleet.scene.plan.hosts, NEW)]
    await fleet.run(Rollback(run=report.run))
    assert fleet.serves == dict.fromkeys([*HOSTS, "h5"], bad)


async def test_a_rollback_that_fails_leaves_it_alone(fleet: Fleet) -> None:
    fleet.inventory.says = [fleet.scene.plan.hosts]
    bad = (await fleet.run()).releases["site"]
    fleet.has_booted(bad)
    fleet.grows()

    failed: list[Call] = []

    def breaks(call: Call) -> Answer | None:
        if call.host != "h2" or step(call) != "post_deploy" or failed:
            return None
        failed.append(call)
        return Answer(1)

    fleet.scene.fleet.breaks = breaks

    report = await fleet.run(Rollback())

    assert report.exit_status
    assert (fleet.serves["h5"], list(report.hosts)) == (bad, list(HOSTS))


# --- A controller that is killed ----------------------------------------------------


async def at_every_record_of_it(fleet: Fleet, back: bool) -> int:
    """Kill a run at every record since hosts joined; take it up; return how many."""
    scene = fleet.scene
    scene.inventory = fleet.inventory
    report = await scene.watch()
    new = report.releases["site"]
    everyone = attrs.evolve(scene.plan, hosts=(*scene.plan.hosts, NEW))
    cuts = range(scene.at(e.Joined), scene.cuts[-1].seq)
    for seq in cuts:
        scene.kill(seq)
        begun = scene.fleet.serves["h5"]
        if back:
            await revert(everyone, transport=scene.fleet.transport)
            expected = scene.old
        else:
            await resume(everyone, transport=scene.fleet.transport)
            expected = new
        assert scene.fleet.serves == dict.fromkeys([*HOSTS, "h5"], expected), (
            seq,
            begun,
        )
        assert scene.manifest == expected
        with pytest.raises(PlanError, match="there is no unfinished run"):
            await resume(everyone, transport=scene.fleet.transport)
    return len(cuts)


@pytest.mark.parametrize("back", [False, True])
async def test_a_run_that_is_killed_while_it_brings_hosts_along_is_taken_up(
    fleet: Fleet, *, back: bool
) -> None:
    assert await at_every_record_of_it(fleet, back) > 10


async def test_a_resumption_takes_nobody_back_for_it(fleet: Fleet) -> None:
    scene = fleet.scene
    scene.inventory = fleet.inventory
    await scene.watch()
    scene.kill(scene.at(e.Switched, "h5"))
    scene.fleet.breaks = fails("post_deploy", "h5")
    everyone = attrs.evolve(scene.plan, hosts=(*scene.plan.hosts, NEW))

    report = await resume(everyone, transport=scene.fleet.transport)

    assert report.exit_status == 0
    assert report.hosts["h5"].state is State.ROLLED_BACK
    assert scene.fleet.serves == {
        **dict.fromkeys(HOSTS, report.releases["site"]),
        "h5": scene.old,
    }


async def test_what_it_brought_along_goes_back_though_it_was_killed_twice(
    fleet: Fleet,
) -> None:
    scene = fleet.scene
    scene.inventory = fleet.inventory
    await scene.watch()
    scene.kill(scene.at(e.Switched, "h5"))
    everyone = attrs.evolve(scene.plan, hosts=(*scene.plan.hosts, NEW))
    first = scene.fleet.serves["h5"]
    stops = FakeTransport(scene.fleet, unreachable=frozenset({"h1", "h5"}))
    with pytest.raises(DeployFailed):
        await resume(everyone, transport=stops)
    assert scene.fleet.serves["h5"] == first

    await revert(everyone, transport=scene.fleet.transport)

    assert scene.fleet.serves == dict.fromkeys([*HOSTS, "h5"], scene.old)
