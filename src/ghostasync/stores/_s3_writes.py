"""
Writes of small objects that happen only where nobody else has come first.

How it works. Most stores have conditional writes, and of many writers exactly one wins.
Some take the condition and ignore it, some check it and then write, and two win. So a
store is tried once, with many writers of one object, and its verdict is kept beside
MANIFEST for all controllers. Where its conditions do not hold, writers take turns:
by Lamport's bakery algorithm, which needs nothing but objects that are read as they
were last written, and listings that have them.

A turn is a lease, for its owner may have died. It is as old as the store's clock says.
An owner goes by its own monotonic clock, from before the request was sent, and is done
long before anybody else takes the turn to be over.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Final, Protocol

import anyio
import attrs

from .._s3.client import Bucket, Object
from .._s3.errors import Unsupported
from ..errors import StoreError

__all__ = ["Writer"]

RACERS: Final = 16
"""Writers of one object by which a store is tried."""

LEASE: Final = 60.0
"""Age in seconds, by the store's clock, at which nobody waits for a turn any more."""

RENEW: Final = 10.0
"""Seconds after which one who waits says again that it does."""

HOLD: Final = 15.0
"""Seconds in which a turn has to be over, by its owner's own clock."""

PAUSE: Final = 0.1
"""Seconds to wait for each one in front."""

_VERDICT: Final = "CONDITIONS"
_HOLD: Final = b"hold\n"
_DO_NOT: Final = b"do not hold\n"

# A listing goes through names in order, and need not be of one moment. One who is about
# to draw a number is seen as that, or has its number by then: so "draws" comes first.
_DRAWS: Final = "turns/draws-"
_HAS: Final = "turns/has-"


class Conditional(Protocol):
    """Writes of an object that is as it was last seen, or not there at all."""

    async def create(self, key: str, data: bytes) -> bool:
        """Write an object where there is none; tell whether it is ours."""

    async def swap(self, key: str, data: bytes, before: Object | None) -> bool:
        """Write an object where *before* is there still; tell whether it was."""


class Writer:
    """Writes to *bucket*, by its conditions where these hold, and else in turns."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._conditions: bool | None = None
        # Tasks of one process need not compete over the network.
        self._trying, self._here = anyio.Lock(), anyio.Lock()

    @asynccontextmanager
    async def alone(self) -> AsyncGenerator[Conditional]:
        """
        Hand out the writes; where they take turns, the body has one.

        What was read before a write that is refused has to be read again.

        Raises:
            StoreError: The store failed, or a turn took too long.
        """
        if await self._hold():
            yield self._bucket
        else:
            async with self._here, self._turn():
                yield _Plain(self._bucket)

    async def create(self, key: str, data: bytes) -> bool:
        """Write an object where there is none; tell whether it is ours."""
        async with self.alone() as write:
            return await write.create(key, data)

    async def _hold(self) -> bool:
        """Tell whether the conditions of this store hold; try it, where nobody has."""
        async with self._trying:
            if self._conditions is None:
                known = await self._bucket.get(_VERDICT)
                if known is None:
                    verdict = _HOLD if await self._try() else _DO_NOT
                    await self._bucket.put(_VERDICT, verdict)
                else:
                    verdict = known.data
                self._conditions = verdict == _HOLD
        return self._conditions

    async def _try(self) -> bool:
        """Tell whether of many writers exactly one wins, twice."""
        key = f"probe/{secrets.token_hex(8)}"
        try:
            return await self._one_wins(key, None) and await self._one_wins(
                key, await self._bucket.get(key)
            )
        finally:
            await self._bucket.delete([key])

    async def _one_wins(self, key: str, before: Object | None) -> bool:
        winners, failures = list[int](), list[StoreError]()

        async def race(number: int) -> None:
            # The same content would have the same ETag, and be replaced rightly.
            word = secrets.token_bytes(16)
            try:
                if await self._bucket.swap(key, word, before):
                    winners.append(number)
            except StoreError as exc:
                failures.append(exc)

        async with anyio.create_task_group() as tasks:
            for number in range(RACERS):
                tasks.start_soon(race, number)
        # A store that is away says nothing about its conditions.
        for failure in failures:
            if not isinstance(failure, Unsupported):
                raise failure
        return len(winners) == 1 and not failures

    # --- Turns ------------------------------------------------------------------

    @asynccontextmanager
    async def _turn(self) -> AsyncGenerator[None]:
        """
        Have the only turn of this store.

        Raises:
            StoreError: The store failed, or the body took too long.
        """
        mine: list[str] = []
        try:
            began = await self._wait(mine)
            left = HOLD - (anyio.current_time() - began)
            with anyio.move_on_after(left) as scope:
                yield
            if scope.cancelled_caught:
                text = f"a turn at {self._bucket.address()} took too long"
                raise StoreError(text)
        finally:
            with anyio.move_on_after(HOLD, shield=True), suppress(StoreError):
                await self._bucket.delete(mine)

    async def _wait(self, mine: list[str]) -> float:
        """Wait for the turn; return when it was last said that this one wants it."""
        # Who stood still for long may have been passed over, and must not go on with a
        # number that is lower than that of one who has the turn by now.
        while not (said := await self._queue(mine)):
            await self._bucket.delete(mine)
            mine.clear()
        return said

    async def _queue(self, mine: list[str]) -> float:
        """Draw a number and wait for all in front; 0 after standing still for long."""
        me = secrets.token_hex(8)
        mine.append(_DRAWS + me)
        said = await self._say(mine[0], anyio.current_time())
        _, taken = await self._others(me)
        number = 1 + max([0, *(n for n, _ in taken)])
        ticket = f"{_HAS}{number:012d}-{me}"
        mine.append(ticket)
        said = await self._say(ticket, said)
        await self._bucket.delete([mine[0]])
        while said:
            draw, taken = await self._others(me)
            front = draw + sum(each < (number, me) for each in taken)
            fresh = anyio.current_time() - said < RENEW
            if not front and fresh:
                return said
            if fresh:
                await anyio.sleep(min(PAUSE * front, RENEW / 4))
            else:
                said = await self._say(ticket, said)
        return 0.0

    async def _say(self, name: str, before: float) -> float:
        """Write that this one wants the turn; 0 where *before* is too long ago."""
        now = anyio.current_time()
        await self._bucket.put(name, b"")
        return now if anyio.current_time() - before < LEASE / 2 else 0.0

    async def _others(self, me: str) -> tuple[int, list[tuple[int, str]]]:
        """Return how many others are drawing a number, and the numbers of others."""
        draw, taken, gone = 0, [], []
        for entry in await self._bucket.listed("turns/"):
            if entry.key.endswith(me):
                continue
            if entry.age > LEASE:
                gone.append(entry.key)
            elif entry.key.startswith(_DRAWS):
                draw += 1
            else:
                number, _, name = entry.key.removeprefix(_HAS).partition("-")
                taken.append((int(number), name))
        if gone:
            await self._bucket.delete(gone)
        return draw, taken


@attrs.frozen
class _Plain:
    """Writes of one who is alone: a look is as good as a condition."""

    bucket: Bucket

    async def create(self, key: str, data: bytes) -> bool:
        return await self.swap(key, data, None)

    async def swap(self, key: str, data: bytes, before: Object | None) -> bool:
        there = await self.bucket.get(key)
        if (there and there.etag) != (before and before.etag):
            return False
        await self.bucket.put(key, data)
        return True
