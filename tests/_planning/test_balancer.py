"""A balancer that knows how long its visitors may take gives the deadlines."""

from __future__ import annotations

import anyio
import attrs
import pytest

from ghostasync import Deadlines, Deploy, Goal, Outcome, Plan, Report, Rollback, start
from ghostasync import events as e
from ghostasync._planning import balancer as planning
from ghostasync.errors import PlanError
from ghostasync.protocols import HostAccess
from ghostasync.testing import FakeHosts, FakeTransport
from tests.deploying import of, with_rollout


@attrs.define
class Pool:
    """A balancer without hosts."""

    drained: list[float] = attrs.field(factory=list)

    async def drain(self, access: HostAccess) -> None:
        self.drained.append(access.seconds)

    async def undrain(self, access: HostAccess) -> None:
        pass


@attrs.define
class Timed(Pool):
    """One whose visitors may take 330 seconds."""

    fails: Exception | None = None

    async def seconds(self) -> tuple[float, float]:
        if self.fails:
            raise self.fails
        return 330, 120


async def run(
    plan: Plan, pool: Pool, fleet: FakeHosts | None = None, goal: Goal | None = None
) -> tuple[Report, list[e.Event]]:
    seen: list[e.Event] = []
    async with start(
        plan,
        goal or Deploy(),
        transport=FakeTransport(fleet or FakeHosts()),
        balancer=pool,
        observe=lambda record: seen.append(record.event),
    ) as running:
        return await running.report(), seen


async def test_without_any_word_it_is_a_minute(plan: Plan) -> None:
    pool = Pool()

    _, seen = await run(plan, pool)

    assert set(pool.drained) == {60}
    (started,) = of(e.Started, seen)
    assert isinstance(started, e.Started)
    assert started.balancer_seconds == {}


async def test_a_balancer_says_how_long_and_the_run_tells(plan: Plan) -> None:
    pool = Timed()

    _, seen = await run(plan, pool)

    assert set(pool.drained) == {330}
    (started,) = of(e.Started, seen)
    assert isinstance(started, e.Started)
    assert started.balancer_seconds == {"drain": 330, "undrain": 120}


async def test_a_plan_may_give_it_longer(plan: Plan) -> None:
    pool = Timed()

    await run(with_rollout(plan, deadlines=Deadlines(drain=400)), pool)

    assert set(pool.drained) == {400}


async def test_less_than_it_needs_is_refused_before_any_host_is_met(plan: Plan) -> None:
    with pytest.raises(PlanError) as caught:
        await run(with_rollout(plan, deadlines=Deadlines(undrain=119)), Timed())

    assert str(caught.value) == (
        "rollout.deadlines.undrain: is 119; allowed: 0, or at least 120, which the"
        " balancer may take by its own settings"
    )


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PlanError("alb: no credentials"), "alb: no credentials"),
        (KeyError("x"), "rollout.balancer: failed: KeyError('x')"),
    ],
)
async def test_one_that_cannot_say_it_is_refused(
    plan: Plan, error: Exception, reason: str
) -> None:
    with pytest.raises(PlanError) as caught:
        await run(plan, Timed(fails=error))

    assert str(caught.value) == reason


async def test_one_that_hangs_is_not_waited_for(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "ASK_SECONDS", 0.01)

    class Hanging(Timed):
        async def seconds(self) -> tuple[float, float]:
            await anyio.sleep_forever()
            return await super().seconds()

    with pytest.raises(PlanError, match=r"did not answer within 0\.01 s"):
        await run(plan, Hanging())


async def test_hosts_go_back_though_the_balancer_is_away(plan: Plan) -> None:
    fleet = FakeHosts()
    await run(plan, Pool(), fleet)
    (plan.base / "tree" / "index").write_text("2")
    await run(plan, Pool(), fleet)
    pool = Timed(fails=PlanError("alb: no credentials"))

    report, seen = await run(plan, pool, fleet, Rollback())

    assert report.outcome is Outcome.LIVE
    assert set(pool.drained) == {60}
    assert e.Warned("alb: no credentials") in seen
