"""As many hosts serve as must, whatever happens."""

from __future__ import annotations

import random
from collections.abc import Mapping

import anyio
import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ghostasync import Deadlines, Outcome, Plan, PlanError, State, deploy, start
from ghostasync import events as e
from ghostasync.errors import ConnectionDied
from ghostasync.testing import Answer, Call, FakeTransport, step
from tests._engine.balanced import Fleet, both, breaks, rolled, serving_old
from tests.deploying import run, states


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


async def test_a_host_that_is_not_admitted_after_all_serves(plan: Plan) -> None:
    """The run stops with the first of two admissions; the second one is void."""
    fleet = Counting(
        breaks=lambda call: (
            Answer(1, b"no\n") if (call.host, call.name) == ("h1", "restore") else None
        ),
        links=serving_old(plan),
    )
    plan = rolled(plan, waves=(2, 4), min_serving=4)

    def observe(record: e.Record) -> None:
        if record.event == e.Admitted("h3", 2):
            running.interrupt()

    async with start(plan, observe=observe, transport=FakeTransport(fleet)) as running:
        report = await running.report()

    assert states(report)["h1"] is State.STRANDED
    assert states(report)["h2"] is State.ROLLED_BACK
    assert states(report)["h4"] is State.HALTED
