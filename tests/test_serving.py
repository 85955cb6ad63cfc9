"""The bound that no wave undercuts: who may stop serving, and when nobody ever may."""

from __future__ import annotations

import random

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostasync._engine.serving import NoRoom, Serving

HOSTS = ("h1", "h2", "h3", "h4")


async def test_without_a_bound_nobody_waits() -> None:
    serving = Serving()

    with anyio.fail_after(1):
        for host in HOSTS:
            await serving.leave(host)


async def test_hosts_leave_in_the_order_they_asked() -> None:
    serving, left = Serving(HOSTS, 3), []

    async def leave(host: str) -> None:
        await serving.leave(host)
        left.append(host)

    async with anyio.create_task_group() as tasks:
        for host in HOSTS:
            tasks.start_soon(leave, host)
        for number in range(1, 5):
            await anyio.wait_all_tasks_blocked()
            assert left == list(HOSTS[:number])
            serving.back(left[-1])


async def test_where_too_few_are_left_whoever_waits_is_told() -> None:
    serving = Serving(HOSTS, 2)
    await serving.leave("h1")
    await serving.leave("h2")
    refused: list[str] = []

    async def leave(host: str) -> None:
        with pytest.raises(NoRoom, match="2 hosts must serve and no more than 2 can"):
            await serving.leave(host)
        refused.append(host)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(leave, "h3")
        tasks.start_soon(leave, "h4")
        await anyio.wait_all_tasks_blocked()
        assert not refused
        serving.lose("h1")
        await anyio.wait_all_tasks_blocked()
        assert not refused, "h2 may still come back"
        serving.lose("h2")

    assert sorted(refused) == ["h3", "h4"]


async def test_one_that_waits_and_gives_up_keeps_its_place_from_nobody() -> None:
    serving = Serving(HOSTS, 3)
    await serving.leave("h1")
    with anyio.move_on_after(0):
        await serving.leave("h2")

    serving.back("h1")

    with anyio.fail_after(1):
        await serving.leave("h3")


async def test_one_that_is_called_while_it_is_cancelled_serves_on() -> None:
    serving = Serving(HOSTS, 3)
    await serving.leave("h1")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serving.leave, "h2")
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
        serving.back("h1")

    with anyio.fail_after(1):
        await serving.leave("h3")


@given(
    total=st.integers(2, 8),
    least=st.integers(1, 7),
    seed=st.integers(0, 2**32),
    lost=st.floats(0, 0.5),
)
def test_the_bound_holds_whatever_becomes_of_hosts(
    total: int, least: int, seed: int, lost: float
) -> None:
    least = min(least, total - 1)
    dice = random.Random(seed)
    hosts = [f"h{number}" for number in range(total)]
    up, ends = set(hosts), []

    async def main() -> None:
        serving = Serving(hosts, least)

        async def go(host: str) -> None:
            try:
                await serving.leave(host)
            except NoRoom:
                ends.append("refused")
                return
            up.discard(host)
            assert len(up) >= least
            for _ in range(dice.randrange(5)):
                await anyio.lowlevel.checkpoint()
            if dice.random() < lost:
                serving.lose(host)
                ends.append("lost")
            else:
                up.add(host)
                serving.back(host)
                ends.append("back")

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                for host in hosts:
                    tasks.start_soon(go, host)

    anyio.run(main)

    assert len(ends) == total, "everybody is told"
    if "refused" in ends:
        assert total - ends.count("lost") <= least
