"""What surrounds a switch, over a transport that answers at once."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from pathlib import Path

import anyio
import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ghostasync import (
    Deadlines,
    Gate,
    Hook,
    Host,
    Outcome,
    Plan,
    PlanError,
    Rollout,
    Script,
    State,
    converge,
    deploy,
    start,
)
from ghostasync import events as e
from ghostasync.errors import ConnectionDied
from ghostasync.testing import Answer, Break, Call, FakeHosts, FakeTransport, step
from tests.deploying import of, run, states

DRAIN, UNDRAIN = Hook("drain", "host"), Hook("undrain", "host")


@attrs.define
class Fleet(FakeHosts):
    """A fleet whose hosts are drained and undrained by commands on them."""

    def steps(self, *names: str) -> list[tuple[str, str]]:
        """Return the steps of these names, in the order they came, with their host."""
        return [(c.host, step(c)) for c in self.calls if step(c) in names]

    def of(self, host: str) -> list[str]:
        """Return what one host did from its drain on."""
        known = ("drain", "switch", "post_deploy", "verify", "restore", "undrain")
        return [step(c) for c in self.calls if c.host == host and step(c) in known]


def breaks(*what: tuple[str, str], back: bool = False) -> Break:
    """Have steps fail, given as host and step; only going back, or only not."""

    def on(call: Call) -> Answer | None:
        going_back = "GHOST_ACTION=rollback" in call.args
        if (call.host, step(call)) in what and going_back is back:
            return Answer(1, b"it broke\n")
        return None

    return on


def both(*given: Break) -> Break:
    def on(call: Call) -> Answer | None:
        answers = (one(call) for one in given)
        return next((answer for answer in answers if answer is not None), None)

    return on


def rolled(plan: Plan, **changes: object) -> Plan:
    keys = {"drain": DRAIN, "undrain": UNDRAIN, **changes}
    return attrs.evolve(plan, rollout=Rollout(**keys))  # type: ignore[arg-type]  # keys


def module(plan: Plan, **changes: object) -> Plan:
    changed = attrs.evolve(plan.modules[0], **changes)  # type: ignore[arg-type]  # keys
    return attrs.evolve(plan, modules=(changed,))


def serving_old(plan: Plan) -> dict[str, str]:
    """Links as a first release left them."""
    old = "/ghost/shop/prod/web/site/1_site_0000000"
    return {host.name: old for host in plan.hosts}


# --- Drain and undrain ---------------------------------------------------------


async def test_a_host_is_drained_around_its_switch(plan: Plan) -> None:
    fleet = Fleet()

    report, seen = await run(rolled(plan), fleet)

    assert report.outcome is Outcome.LIVE
    way = ["drain", "switch", "post_deploy", "verify", "undrain"]
    assert all(fleet.of(host.name) == way for host in plan.hosts)
    assert len(of(e.Drained, seen)) == len(of(e.Undrained, seen)) == 6


async def test_a_hook_on_the_host_sees_what_a_balancer_needs(plan: Plan) -> None:
    fleet = Fleet()
    hosts = (Host("h1", "192.0.2.1", labels={"az": "a", "role": "web"}), Host("h2"))
    plan = attrs.evolve(rolled(plan, waves=(1,)), hosts=hosts)

    await run(plan, fleet)

    (call,) = [c for c in fleet.calls if c.host == "h1" and step(c) == "drain"]
    cwd, file, _, environment, *pairs = call.args
    told = dict(pair.partition("=")[::2] for pair in pairs)
    assert (cwd, file, environment) == ("/", "", "/dev/null")
    assert told["GHOST_HOST_ADDRESS"] == "192.0.2.1"
    assert told["GHOST_HOST_LABELS"] == "az=a\nrole=web"
    assert (told["GHOST_WAVE"], told["GHOST_WAVES"]) == ("1", "2")
    assert (told["GHOST_APP"], told["GHOST_ACTION"]) == ("shop", "deploy")
    assert told["GHOST_MODULE_NAME"] == ""


async def test_hooks_run_on_the_controller_by_default(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "s3cret-token")
    app = attrs.evolve(plan.app, env_vars={"LB": "it's `x`"}, secrets=("TOKEN",))
    hook = 'echo "$GHOST_HOST $GHOST_HOST_ADDRESS $LB $TOKEN $(pwd)" | tee -a'
    plan = attrs.evolve(
        rolled(
            plan,
            drain=Hook(f"{hook} drained"),
            undrain=Hook(f"#!/bin/sh -e\n{hook} undrained"),
        ),
        app=app,
    )

    report, seen = await run(plan, Fleet())

    expected = [f"h{n} h{n} it's `x` s3cret-token {tmp_path}" for n in range(1, 7)]
    for name in ("drained", "undrained"):
        assert sorted((tmp_path / name).read_text().splitlines()) == expected
    said = [o for o in seen if isinstance(o, e.Output) and o.script == "drain"]
    assert {o.text for o in said if o.host == "h1"} == {
        f"h1 h1 it's `x` *** {tmp_path}\n"
    }
    log = Path(report.hosts["h1"].log).read_text()
    assert "--- drain in" in log
    assert "--- undrain exited 0" in log
    assert "s3cret" not in log


async def test_a_drain_that_fails_moves_no_link_and_undrains(plan: Plan) -> None:
    fleet = Fleet(breaks=breaks(("h2", "drain")), links=serving_old(plan))

    report, _ = await run(rolled(plan), fleet)

    assert report.exit_status == 1
    assert states(report)["h2"] is State.ROLLED_BACK
    assert report.hosts["h2"].stage is State.DRAINING
    assert report.hosts["h2"].reason == "drain exited 1: it broke"
    assert fleet.of("h2") == ["drain", "undrain"]
    assert fleet.links == serving_old(plan)


async def test_a_drain_ends_at_its_deadline(plan: Plan) -> None:
    plan = rolled(plan, drain=Hook("sleep 60 & wait"), deadlines=Deadlines(drain=0.2))

    with anyio.fail_after(30):
        report, _ = await run(plan, Fleet())

    reasons = {host.reason for host in report.hosts.values()}
    assert "drain not done within 0.2 s (rollout.deadlines.drain)" in reasons


async def test_a_host_is_undrained_once_its_old_release_verifies(plan: Plan) -> None:
    old = serving_old(plan)
    fleet = Fleet(breaks=breaks(("h2", "post_deploy")), links=dict(old))

    report, _ = await run(rolled(plan), fleet)

    assert set(states(report).values()) == {State.ROLLED_BACK}
    assert fleet.of("h2") == [
        *("drain", "switch", "post_deploy"),
        *("restore", "post_deploy", "undrain"),
    ]
    assert fleet.links == old


async def test_a_live_host_that_goes_back_is_drained_meanwhile(plan: Plan) -> None:
    fleet = Fleet(breaks=breaks(("h2", "post_deploy")), links=serving_old(plan))

    await run(rolled(plan, waves=(1,)), fleet)

    assert fleet.of("h1")[4:] == [
        *("undrain", "drain", "restore", "post_deploy", "undrain"),
    ]


async def test_a_drain_that_fails_on_the_way_back_does_not_hold_it_up(
    plan: Plan,
) -> None:
    on = both(breaks(("h2", "post_deploy")), breaks(("h1", "drain"), back=True))
    fleet = Fleet(breaks=on, links=serving_old(plan))

    report, seen = await run(rolled(plan, waves=(1,)), fleet)

    assert states(report)["h1"] is State.ROLLED_BACK
    assert of(e.HostWarned, seen) == [
        e.HostWarned("h1", "goes back with visitors on it: drain exited 1: it broke")
    ]


async def test_a_stranded_host_stays_drained_and_the_report_says_so(
    plan: Plan,
) -> None:
    on = both(breaks(("h2", "post_deploy")), breaks(("h2", "post_deploy"), back=True))
    fleet = Fleet(breaks=on, links=serving_old(plan))

    report, _ = await run(rolled(plan), fleet)

    assert report.exit_status == 3
    assert states(report)["h2"] is State.STRANDED
    assert report.hosts["h2"].reason.endswith("; it stays drained")
    assert fleet.steps("undrain").count(("h2", "undrain")) == 0


async def test_an_undrain_that_fails_takes_the_host_back(plan: Plan) -> None:
    fleet = Fleet(breaks=breaks(("h2", "undrain")), links=serving_old(plan))

    report, _ = await run(rolled(plan), fleet)

    assert report.exit_status == 1
    assert states(report)["h2"] is State.ROLLED_BACK
    assert report.hosts["h2"].stage is State.UNDRAINING


async def test_an_undrain_that_fails_on_the_way_back_strands_the_host(
    plan: Plan,
) -> None:
    on = both(breaks(("h2", "drain")), breaks(("h2", "undrain"), back=True))
    fleet = Fleet(breaks=on, links=serving_old(plan))

    report, _ = await run(rolled(plan), fleet)

    assert (report.exit_status, states(report)["h2"]) == (3, State.STRANDED)
    assert report.hosts["h2"].reason == "undrain exited 1: it broke; it stays drained"


async def test_a_drain_that_is_cut_short_is_undone(plan: Plan) -> None:
    class Slow(Fleet):
        async def __call__(self, call: Call) -> Answer:
            if (call.host, step(call)) == ("h3", "drain"):
                self.calls.append(call)
                await anyio.sleep_forever()
            return await super().__call__(call)

    fleet = Slow(breaks=breaks(("h2", "post_deploy")), links=serving_old(plan))

    report, _ = await run(rolled(plan), fleet)

    assert states(report)["h3"] is State.ROLLED_BACK
    assert fleet.of("h3") == ["drain", "undrain"]


# --- min_serving ---------------------------------------------------------------


@attrs.define
class Counting(Fleet):
    """A fleet that counts, from outside, how many of its hosts serve."""

    total: int = 6
    out: set[str] = attrs.field(factory=set)
    least: int = 99
    dice: random.Random = attrs.field(factory=random.Random)
    waits: int = 0

    async def __call__(self, call: Call) -> Answer:
        what = step(call)
        if what in {"drain", "undrain", "restore", "post_deploy"}:
            for _ in range(self.dice.randrange(self.waits + 1)):
                await anyio.lowlevel.checkpoint()
        if what == "drain":
            self.out.add(call.host)
        self.least = min(self.least, self.total - len(self.out))
        answer = await super().__call__(call)
        if what == "undrain" and answer.status == 0:
            self.out.discard(call.host)
        return answer


@pytest.mark.parametrize(("asked", "least"), [(4, 4), ("80%", 5), ("50%", 3)])
async def test_no_more_hosts_are_drained_than_may(
    plan: Plan, asked: int | str, least: int
) -> None:
    fleet = Counting()

    report, _ = await run(rolled(plan, min_serving=asked), fleet)

    assert report.outcome is Outcome.LIVE
    assert fleet.least == least


async def test_without_min_serving_a_wave_is_drained_at_once(plan: Plan) -> None:
    fleet = Counting()

    await run(rolled(plan), fleet)

    assert fleet.least == 0


async def test_the_bound_holds_while_the_fleet_goes_back(plan: Plan) -> None:
    fleet = Counting(breaks=breaks(("h6", "post_deploy")), links=serving_old(plan))

    report, _ = await run(rolled(plan, min_serving=5), fleet)

    assert set(states(report).values()) == {State.ROLLED_BACK}
    assert fleet.least == 5


async def test_where_hosts_are_lost_nobody_else_is_drained(plan: Plan) -> None:
    on = both(
        *(breaks((h, "post_deploy")) for h in ("h1", "h2")),
        *(breaks((h, "post_deploy"), back=True) for h in ("h1", "h2")),
    )
    fleet = Counting(breaks=on, links=serving_old(plan))
    plan = rolled(plan, min_serving=4, max_failures=6, on_failure="rollback-host")

    with anyio.fail_after(20):
        report, _ = await run(plan, fleet)

    assert report.exit_status == 3
    assert {h for h, _ in fleet.steps("drain")} == {"h1", "h2"}
    assert {h for h, s in states(report).items() if s is State.HALTED} == {
        *("h3", "h4", "h5", "h6"),
    }
    assert fleet.least == 4


async def test_hosts_that_never_answered_do_not_serve(plan: Plan) -> None:
    fleet = Counting()
    transport = FakeTransport(fleet, unreachable=frozenset({"h1", "h2"}))
    plan = rolled(plan, min_serving=4, max_failures=6)

    async with start(plan, transport=transport) as running:
        report = await running.report()

    assert report.exit_status == 1
    assert report.reason == (
        "4 hosts must serve and no more than 4 can: no other may be drained"
        " (rollout.min_serving)"
    )
    assert fleet.steps("drain") == []


async def test_hosts_that_a_limited_run_leaves_out_serve(plan: Plan) -> None:
    """An instance that has just booted converges, however many must serve."""
    fleet = Fleet()

    report = await deploy(
        rolled(plan, min_serving="80%"),
        limit=["h1"],
        transport=FakeTransport(fleet),
    )

    assert set(report.hosts) == {"h1"}


@pytest.mark.parametrize(
    ("asked", "hosts", "words"),
    [
        (6, 6, "6 of 6 hosts leaves none to switch; allowed: less than 6"),
        ("100%", 6, "100% of 6 hosts leaves none"),
        ("80%", 1, "80% of 1 host leaves none"),
    ],
)
async def test_what_could_never_be_kept_is_refused(
    plan: Plan, asked: int | str, hosts: int, words: str
) -> None:
    fleet = Fleet()
    plan = attrs.evolve(rolled(plan, min_serving=asked), hosts=plan.hosts[:hosts])

    with pytest.raises(PlanError, match=rf"rollout\.min_serving: {words}"):
        await deploy(plan, transport=FakeTransport(fleet))

    assert fleet.calls == []


OUTCOMES = st.dictionaries(
    st.tuples(
        st.sampled_from([f"h{n}" for n in range(1, 7)]),
        st.sampled_from(["drain", "post_deploy", "undrain", "switch"]),
    ),
    st.sampled_from(["fails", "fails back", "dies"]),
    max_size=4,
)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    least=st.integers(0, 5),
    waves=st.sampled_from([("100%",), (1, "50%"), (3,)]),
    policy=st.sampled_from(["rollback-fleet", "rollback-host"]),
    bad=OUTCOMES,
    seed=st.integers(0, 2**32),
)
def test_min_serving_is_never_undercut(
    plan: Plan,
    *,
    least: int,
    waves: tuple[int | str, ...],
    policy: str,
    bad: Mapping[tuple[str, str], str],
    seed: int,
) -> None:
    def on(call: Call) -> Answer | None:
        going_back = "GHOST_ACTION=rollback" in call.args
        match bad.get((call.host, step(call))):
            case "fails" if not going_back:
                return Answer(1, b"it broke\n")
            case "fails back" if going_back:
                return Answer(1, b"it broke\n")
            case "dies" if not going_back:
                raise ConnectionDied(call.host, "gone")
        return None

    fleet = Counting(
        breaks=on, links=serving_old(plan), dice=random.Random(seed), waits=4
    )
    planned = rolled(
        plan,
        waves=waves,
        min_serving=least,
        on_failure=policy,
        max_failures=6,
        deadlines=Deadlines(rollback=2),
    )

    report, _ = anyio.run(run, planned, fleet)

    assert fleet.least >= least
    stay = {h for h, s in states(report).items() if s is State.STRANDED}
    assert fleet.out <= stay, "only a stranded host stays drained"


# --- before_switch -------------------------------------------------------------


def migrating(plan: Plan, **rollout: object) -> Plan:
    return module(
        attrs.evolve(plan, rollout=Rollout(**rollout)),  # type: ignore[arg-type]  # keys
        before_switch=Script(inline="migrate"),
    )


async def test_before_switch_runs_once_before_any_link_moves(plan: Plan) -> None:
    fleet = Fleet()

    report, seen = await run(migrating(plan, waves=(1, 2)), fleet)

    assert report.outcome is Outcome.LIVE
    order = fleet.steps("pre_deploy", "before_switch", "switch")
    assert order[6] == ("h1", "before_switch")
    assert [what for _, what in order].count("before_switch") == 1
    assert {what for _, what in order[:6]} == {"pre_deploy"}
    names = [type(event).__name__ for event in seen]
    assert names.index("Judged") < names.index("BeforeSwitchStarted")
    assert names.index("BeforeSwitchPassed") < names.index("WaveStarted")


async def test_before_switch_sees_the_new_release_where_it_lies(plan: Plan) -> None:
    fleet = Fleet()

    report, _ = await run(migrating(plan), fleet)

    (call,) = [c for c in fleet.calls if step(c) == "before_switch"]
    release = report.releases["site"]
    assert call.args[0] == f"/ghost/shop/prod/web/site/{release}"
    assert call.args[3].endswith(f".ghost/{release}/environment.next")


async def test_a_before_switch_that_fails_moves_no_link(plan: Plan) -> None:
    fleet = Fleet(breaks=breaks(("h1", "before_switch")), links=serving_old(plan))

    report, seen = await run(migrating(plan), fleet)

    assert (report.outcome, report.exit_status) == (Outcome.FAILED, 1)
    assert report.reason == "h1: before_switch of site exited 1: it broke"
    assert set(states(report).values()) == {State.HALTED}
    assert fleet.links == serving_old(plan)
    assert of(e.BeforeSwitchFailed, seen) == [
        e.BeforeSwitchFailed(
            *("site", "h1", "before_switch of site exited 1: it broke"),
            exit_status=1,
            tail="it broke\n",
        )
    ]


async def test_before_switch_runs_on_the_first_host_that_is_ready(plan: Plan) -> None:
    fleet = Fleet(breaks=breaks(("h1", "pre_deploy")))

    await run(migrating(plan, max_failures=1), fleet)

    assert fleet.steps("before_switch") == [("h2", "before_switch")]


async def test_stopping_ends_a_before_switch(plan: Plan) -> None:
    fleet = Fleet(hangs={("h1", "before_switch")})

    async with start(migrating(plan), transport=FakeTransport(fleet)) as running:
        async for record in running.events():
            if isinstance(record.event, e.BeforeSwitchStarted):
                break
        await running.stop()
        report = await running.report()

    assert report.exit_status == 130
    assert fleet.asked("switch") == []


async def test_converge_does_not_migrate_again(plan: Plan) -> None:
    fleet = Fleet()
    plan = migrating(plan)
    await run(plan, fleet)
    fleet.links.clear()

    await converge(plan, transport=FakeTransport(fleet))

    assert len(fleet.asked("switch")) == 12
    assert len(fleet.steps("before_switch")) == 1


# --- after_wave ----------------------------------------------------------------


async def test_after_wave_decides_on_every_wave(plan: Plan, tmp_path: Path) -> None:
    gate = Gate('echo "$GHOST_WAVE/$GHOST_WAVES $GHOST_WAVE_HOSTS" | tee -a gate')
    plan = rolled(plan, waves=(1, 3), after_wave=gate)

    report, seen = await run(plan, Fleet())

    assert report.outcome is Outcome.LIVE
    assert (tmp_path / "gate").read_text().splitlines() == [
        *("1/3 h1", "2/3 h2 h3 h4", "3/3 h5 h6"),
    ]
    assert [type(event).__name__ for event in seen].count("AfterWavePassed") == 3
    assert "1/3 h1" in (Path(report.log) / "build" / "after_wave.log").read_text()


@pytest.mark.parametrize(
    ("policy", "exit_status", "h1"),
    [
        ("rollback-fleet", 1, State.ROLLED_BACK),
        ("rollback-host", 5, State.LIVE),
    ],
)
async def test_an_after_wave_that_fails_stops_the_run(
    plan: Plan, tmp_path: Path, policy: str, exit_status: int, h1: State
) -> None:
    gate = Gate("echo ran >>gate; echo too many errors; exit 9")
    plan = rolled(plan, waves=(1,), after_wave=gate, on_failure=policy)
    fleet = Fleet()

    report, seen = await run(plan, fleet)

    assert report.exit_status == exit_status
    assert report.reason == "wave 1: after_wave exited 9"
    assert (states(report)["h1"], states(report)["h2"]) == (h1, State.HALTED)
    assert of(e.AfterWaveFailed, seen) == [
        e.AfterWaveFailed(1, "after_wave exited 9", 9, "too many errors\n")
    ]
    assert (tmp_path / "gate").read_text() == "ran\n", "not after the way back"


async def test_an_after_wave_ends_at_its_deadline(plan: Plan) -> None:
    plan = rolled(
        plan,
        waves=(1,),
        after_wave=Gate("sleep 60"),
        deadlines=Deadlines(after_wave=0.2),
    )

    with anyio.fail_after(30):
        report, _ = await run(plan, Fleet())

    assert report.reason == "wave 1: after_wave not done within 0.2 s"
    assert states(report)["h1"] is State.ROLLED_BACK


# --- Modules for some hosts ----------------------------------------------------


@pytest.fixture
def two(plan: Plan) -> Plan:
    """Web hosts, one that is a web and a db host, and one that is neither."""
    site = attrs.evolve(plan.modules[0], hosts="role=web")
    data = attrs.evolve(
        plan.modules[0], name="data", path="/srv/data", hosts=("role=db", "h2")
    )
    roles = {"h1": "web", "h2": "web", "h3": "db", "h4": "spare"}
    hosts = tuple(Host(name, labels={"role": role}) for name, role in roles.items())
    return attrs.evolve(plan, modules=(site, data), hosts=hosts)


def served(fleet: Fleet, calls: Iterable[Call]) -> dict[str, list[str]]:
    """Return the targets that each host switched."""
    return {
        call.host: [call.args[at] for at in range(3, len(call.args), 5)]
        for call in calls
        if call.name == "switch"
    }


async def test_a_host_gets_the_modules_that_name_it(two: Plan) -> None:
    fleet = Fleet()

    report, _ = await run(two, fleet)

    assert report.outcome is Outcome.LIVE
    assert served(fleet, fleet.calls) == {
        "h1": ["/srv/site"],
        "h2": ["/srv/site", "/srv/data"],
        "h3": ["/srv/data"],
    }
    checked = {c.host: c.args[2::2] for c in fleet.calls if c.name == "check"}
    assert checked["h3"] == ("/srv/data",)


async def test_a_host_without_a_module_is_not_part_of_the_run(two: Plan) -> None:
    fleet = Fleet()

    report, _ = await run(two, fleet)

    assert set(report.hosts) == {"h1", "h2", "h3"}
    assert not [call for call in fleet.calls if call.host == "h4"]


async def test_manifest_has_all_modules(two: Plan, tmp_path: Path) -> None:
    await run(two, Fleet())

    lines = (tmp_path / "store/shop/prod/web/MANIFEST").read_text().splitlines()

    assert [line.split(":")[0] for line in lines] == ["site", "data"]


async def test_a_module_that_no_selected_host_gets_is_not_built(two: Plan) -> None:
    fleet = Fleet()

    report = await deploy(two, limit=["h1"], transport=FakeTransport(fleet))

    assert set(report.releases) == {"site"}


async def test_a_selection_without_any_module_is_refused(two: Plan) -> None:
    with pytest.raises(PlanError, match="no selected host gets any of them: site, da"):
        await deploy(
            two,
            limit=["h4"],
            transport=FakeTransport(Fleet()),
        )


async def test_before_switch_of_a_module_runs_where_it_goes(two: Plan) -> None:
    site, data = two.modules
    data = attrs.evolve(data, before_switch=Script(inline="migrate"))
    fleet = Fleet()

    await run(attrs.evolve(two, modules=(site, data)), fleet)

    assert fleet.steps("before_switch") == [("h2", "before_switch")]


# --- spread_by -----------------------------------------------------------------


async def test_waves_are_spread_by_a_label(plan: Plan) -> None:
    hosts = tuple(
        Host(f"h{n}", labels={"az": "a" if n <= 3 else "b"}) for n in range(1, 7)
    )
    plan = attrs.evolve(rolled(plan, waves=(2,), spread_by="az"), hosts=hosts)

    report, _ = await run(plan, Fleet())

    assert report.waves == (("h1", "h4"), ("h2", "h5"), ("h3", "h6"))
