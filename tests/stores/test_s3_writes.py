"""Turns of writers, where a store's conditions do not hold."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import anyio
import pytest

from ghostasync._s3.client import Bucket, Entry
from ghostasync.errors import StoreError
from ghostasync.stores import _s3_writes
from ghostasync.stores._s3_writes import Writer
from tests.s3_servers import BUCKET, S3Server, make_bucket

pytestmark = pytest.mark.fleet

LEASE = 3.0


class Still(Bucket):
    """A bucket of a process that can be made to stand still before it looks."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]  # as they come
        self.waits, self.still, self.goes_on = (anyio.Event() for _ in range(3))
        self.stands, self.looks = False, 0

    async def listed(self, folder: str) -> list[Entry]:
        found = await super().listed(folder)
        # The first look is for a number, the second for those in front.
        self.looks += 1
        if self.looks > 1:
            self.waits.set()
        if self.stands:
            self.still.set()
            await self.goes_on.wait()
        return found


@pytest.fixture
async def buckets(
    ministack_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[list[Still]]:
    for name, value in ministack_server.environ.items():
        monkeypatch.setenv(name, value)
    for name, seconds in {"LEASE": LEASE, "RENEW": 0.6, "HOLD": 5.0}.items():
        monkeypatch.setattr(_s3_writes, name, seconds)
    await make_bucket(ministack_server)
    url = f"s3://{BUCKET}/{secrets.token_hex(4)}"
    found = [Still(url, ministack_server.settings) for _ in range(2)]
    await found[0].put("CONDITIONS", b"do not hold\n")
    yield found
    for each in found:
        await each.aclose()


async def test_who_died_in_a_turn_is_waited_for_no_longer_than_its_lease(
    buckets: list[Still],
) -> None:
    await buckets[0].put("turns/has-000000000001-dead", b"")
    await buckets[0].put("turns/draws-dead", b"")

    with anyio.fail_after(4 * LEASE):
        assert await Writer(buckets[1]).create("key", b"mine")

    assert await buckets[1].listed("turns/") == []


@pytest.mark.parametrize("place", ["drawing", "waiting"])
async def test_who_stood_still_does_not_join_one_who_has_the_turn(
    buckets: list[Still], place: str
) -> None:
    slow, quick = (Writer(bucket) for bucket in buckets)
    inside: list[str] = []
    first, entered = anyio.Event(), anyio.Event()

    async def takes(name: str, writer: Writer, until: anyio.Event) -> None:
        async with writer.alone():
            inside.append(name)
            assert inside == [name]
            entered.set()
            await until.wait()
            inside.remove(name)

    done = anyio.Event()
    done.set()
    async with anyio.create_task_group() as tasks:
        if place == "waiting":
            # Another has the turn, and then is gone.
            await buckets[1].put("turns/has-000000000001-other", b"")
        buckets[0].stands = place == "drawing"
        tasks.start_soon(takes, "slow", slow, done)
        if place == "waiting":
            await buckets[0].waits.wait()
            buckets[0].stands = True
        await buckets[0].still.wait()
        await buckets[1].delete(["turns/has-000000000001-other"])
        # Its lease is over, and somebody else has the turn.
        with anyio.fail_after(4 * LEASE):
            tasks.start_soon(takes, "quick", quick, first)
            await entered.wait()
        buckets[0].stands = False
        buckets[0].goes_on.set()
        await anyio.sleep(1)
        first.set()

    assert inside == []


async def test_a_turn_that_takes_too_long_is_an_error(
    buckets: list[Still], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_s3_writes, "HOLD", 0.5)

    with pytest.raises(StoreError, match="took too long"):
        async with Writer(buckets[0]).alone():
            await anyio.sleep(5)
