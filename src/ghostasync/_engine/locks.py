"""The locks of a run on its hosts: keep them, give them back, wait for them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

import anyio

from ..errors import ConnectionDied, HostError, LockHeld
from .host import Context
from .stages.check import take_lock

__all__ = ["beat", "beat_every", "is_free_within", "release"]

BEAT_EVERY: Final = 15.0
"""Seconds between two signs of life to every host; after 90 s without, another run may
take its lock over."""

_LETTING_GO: Final = 3.0
"""Seconds that a host has to give its lock back before the connection is closed."""

_POLL_EVERY: Final = (1.0, 4.0)
"""Seconds between two looks at a lock that another run holds, at random in between."""


def beat_every(confirm: float) -> float:
    """Return the seconds between two beats, where hosts wait *confirm* for one."""
    return min(BEAT_EVERY, confirm / 3) if confirm else BEAT_EVERY


async def beat(hosts: Sequence[Context], every: float = BEAT_EVERY) -> None:
    """Give every host whose lock is held a sign of life, again and again."""
    while True:
        await anyio.sleep(every)
        with anyio.move_on_after(every):
            async with anyio.create_task_group() as tasks:
                for ctx in hosts:
                    if ctx.lock is not None:
                        tasks.start_soon(_beat, ctx)


async def _beat(ctx: Context) -> None:
    try:
        if ctx.lock is not None:
            await ctx.lock.write(b"\n")
    except (ConnectionDied, BrokenPipeError):
        return  # whoever uses the connection next finds out


async def release(hosts: Sequence[Context]) -> None:
    """
    Give all locks back at once, and close the connections.

    When this returns the hosts' locks are free: the next run may begin at once, and is
    not refused by what has not heard the end yet.
    """
    async with anyio.create_task_group() as tasks:
        for ctx in hosts:
            tasks.start_soon(_release, ctx)


async def _release(ctx: Context) -> None:
    if ctx.lock is not None:
        ctx.lock.write_eof()
        with anyio.move_on_after(_LETTING_GO, shield=True):
            await ctx.lock.wait()
    await ctx.session.close()


async def is_free_within(held: Context, seconds: float) -> bool:
    """
    Wait until nobody holds the lock of *held*; the host may be another run's again at
    once.

    Returns:
        Whether that was so within *seconds*, or the host cannot be asked any more.
    """
    held.had_lock = False  # whoever had it meanwhile: it all begins anew
    with anyio.move_on_after(seconds):
        while True:
            await anyio.sleep(random.uniform(*_POLL_EVERY))  # noqa: S311  jitter
            try:
                await take_lock(held)
            except LockHeld:
                continue
            except HostError:
                pass  # something else is wrong with it, and will be told
            return True
    return False
