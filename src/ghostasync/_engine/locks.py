"""
The locks of a run on its hosts: how they are kept alive, given back and waited for.

How it works. CHECKING takes a host's lock: a process on the host holds it for as long
as its stdin, a channel of the run's connection, is open. A line that is written there
is a beat, a sign of life. A session can stay half open for hours after its controller
has lost power, and its lock with it; so another run may take a lock over whose beat is
90 s old by the host's clock. See ``_remote/lock.sh``.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from typing import Final

import anyio

from ..errors import ConnectionDied, HostError, LockHeld
from .host import HostRun
from .stages.check import take_lock

__all__ = ["beat", "beat_every", "is_free_within", "unlock"]

BEAT_EVERY: Final = 15.0
"""Seconds between two beats to every host. Another run may take a lock over after 90 s
without one: five in a row can be lost."""

_LETTING_GO: Final = 3.0
"""Seconds that a host has to give its lock back before the connection is closed."""

_POLL_EVERY: Final = (1.0, 4.0)
"""Seconds between two looks at a lock that another run holds, at random in between."""


def beat_every(confirm: float) -> float:
    """Return the seconds between two beats; *confirm* is ``rollout.confirm``."""
    # A host puts its links back after *confirm* seconds of silence; with a third of it
    # between two beats, one that is late or lost does not do that.
    return min(BEAT_EVERY, confirm / 3) if confirm else BEAT_EVERY


async def beat(hosts: Collection[HostRun], every: float = BEAT_EVERY) -> None:
    """Send every host whose lock is held a beat, again and again."""
    due = anyio.current_time()
    while True:
        due += every
        await anyio.sleep_until(due)
        # A host that takes no bytes must not keep the others from their next beat.
        with anyio.move_on_after(every):
            async with anyio.create_task_group() as tasks:
                for ctx in hosts:
                    if ctx.attempt.lock is not None:
                        tasks.start_soon(_beat, ctx)


async def _beat(ctx: HostRun) -> None:
    try:
        if ctx.attempt.lock is not None:
            await ctx.attempt.lock.write(b"\n")
    except (ConnectionDied, BrokenPipeError):
        return  # the stage that uses the connection next finds out, and reconnects


async def unlock(hosts: Sequence[HostRun]) -> None:
    """
    Give all locks back at once, and close the connections.

    When this returns, every host that answers has given its lock back: the next of two
    runs in a row does not meet the lock of the first.
    """
    async with anyio.create_task_group() as tasks:
        for ctx in hosts:
            tasks.start_soon(_unlock, ctx)


async def _unlock(ctx: HostRun) -> None:
    if ctx.attempt.lock is not None:
        ctx.attempt.lock.write_eof()
        # Shielded: a run that is cancelled must give its locks back as well.
        with anyio.move_on_after(_LETTING_GO, shield=True):
            await ctx.attempt.lock.wait()
    await ctx.session.close()


async def is_free_within(held: HostRun, seconds: float) -> bool:
    """
    Wait until nobody holds the lock of *held*, by taking it, for *seconds* at most.

    Returns:
        Whether the lock was free, or the host can no longer be asked for it.
    """
    # A run that had the lock before gets it again only if nobody had it in between.
    # Here everything is found out anew afterwards, so anybody may have had it.
    held.attempt.had_lock = False
    with anyio.move_on_after(seconds):
        while True:
            await anyio.sleep(random.uniform(*_POLL_EVERY))  # noqa: S311  jitter
            try:
                await take_lock(held)
            except LockHeld:
                continue
            except HostError:
                pass  # the host's own error; it is told when the host starts over
            return True
    return False
