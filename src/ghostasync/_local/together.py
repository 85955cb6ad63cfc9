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
    failures: list[Exception] = []
    done: dict[int, R] = {}
    # A task for each item would take kilobytes for each of a hundred thousand.
    rest = enumerate(items)

    async def work() -> None:
        for number, item in rest:
            try:
                done[number] = await act(item)
            except Exception as exc:  # noqa: BLE001  raised below, without a group
                failures.append(exc)
                tasks.cancel_scope.cancel()
                return

    async with anyio.create_task_group() as tasks:
        for _ in range(limit):
            tasks.start_soon(work)
    if failures:
        raise failures[0]
    return [done[number] for number in range(len(done))]
