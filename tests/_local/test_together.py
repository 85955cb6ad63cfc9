from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from ghostasync._local.together import at_once


async def test_answers_come_in_the_order_of_what_was_asked() -> None:
    late = anyio.Event()

    async def act(number: int) -> int:
        if number:
            late.set()
        else:
            await late.wait()
        return -number

    assert await at_once(2, act, range(3)) == [0, -1, -2]
    assert await at_once(2, act, []) == []


async def test_no_more_than_the_limit_are_at_work() -> None:
    at_work = most = 0

    async def act(_: int) -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await anyio.lowlevel.checkpoint()
        at_work -= 1

    await at_once(3, act, range(10))

    assert most == 3


async def test_the_first_error_is_raised_as_it_is_and_ends_the_others() -> None:
    begun: list[int] = []

    async def act(number: int) -> None:
        begun.append(number)
        if number == 1:
            raise ValueError("no")
        await anyio.sleep_forever()

    with anyio.fail_after(5), pytest.raises(ValueError, match="no"):
        await at_once(2, act, range(5))

    assert begun == [0, 1]


async def test_a_cancellation_is_none_of_its_errors() -> None:
    async def act(_: int) -> None:
        await anyio.sleep_forever()

    with anyio.move_on_after(0.01) as scope:
        await at_once(2, act, range(3))

    assert scope.cancelled_caught
