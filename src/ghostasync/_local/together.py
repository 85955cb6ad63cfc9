"""Many things at once, within a limit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import anyio

__all__ = ["at_once"]

T = TypeVar("T")
R = TypeVar("R")


async def at_once(
    limit: int, act: Callable[[T], Awaitable[R]], items: Iterable[T]
) -> list[R]:
    """
    Return what *act* returns for each of *items*, in their order.

    At most *limit* are acted on at a time.

    Raises:
        Exception: The first of *act*, as it is; it ends what is done for the others.
    """
    slots, failures = anyio.CapacityLimiter(limit), list[Exception]()
    done: dict[int, R] = {}

    async def one(number: int, item: T) -> None:
        async with slots:
            try:
                done[number] = await act(item)
            except Exception as exc:  # noqa: BLE001  raised below, without a group
                failures.append(exc)
                tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for number, item in enumerate(items):
            tasks.start_soon(one, number, item)
    if failures:
        raise failures[0]
    return [done[number] for number in range(len(done))]
