from __future__ import annotations

import gc
import gzip
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from ghostasync._packaging import Spool
from ghostasync.errors import PackageError

if sys.version_info >= (3, 14):
    from compression.zstd import compress
else:
    from backports.zstd import compress

TAR = os.urandom(700_000) + bytes(900_000)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "a.tar.zst"
    path.write_bytes(compress(TAR))
    return path


@pytest.fixture
async def spool(archive: Path) -> AsyncIterator[Spool]:
    spool = Spool(archive, archive.stat().st_size)
    yield spool
    spool.close()


async def test_zstd_is_the_archive_itself(spool: Spool, archive: Path) -> None:
    encoded = await spool.encoded("zstd")

    assert b"".join(encoded.chunks()) == archive.read_bytes()
    assert encoded.nbytes == archive.stat().st_size


async def test_gzip_holds_the_same_tar(spool: Spool) -> None:
    encoded = await spool.encoded("gzip")

    data = b"".join(encoded.chunks())
    assert len(data) == encoded.nbytes
    assert gzip.decompress(data) == TAR


async def test_gzip_is_made_once_for_all_who_ask(spool: Spool) -> None:
    seen = []

    async def ask() -> None:
        seen.append(await spool.encoded("gzip"))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(ask)

    assert all(encoded is seen[0] for encoded in seen)


async def test_a_cancelled_maker_leaves_it_to_the_next(spool: Spool) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await spool.encoded("gzip")

    encoded = await spool.encoded("gzip")

    assert gzip.decompress(b"".join(encoded.chunks())) == TAR


async def test_the_recoded_archive_has_no_name(spool: Spool, archive: Path) -> None:
    await spool.encoded("gzip")

    assert list(archive.parent.iterdir()) == [archive]


async def test_chunks_are_256_kib_from_any_offset(spool: Spool) -> None:
    encoded = await spool.encoded("zstd")

    chunks = list(encoded.chunks(1000))

    assert {len(chunk) for chunk in chunks[:-1]} == {256 << 10}
    assert sum(map(len, chunks)) == encoded.nbytes - 1000
    assert list(encoded.chunks(encoded.nbytes)) == []


async def test_a_chunk_outlives_the_spool(spool: Spool) -> None:
    first = next((await spool.encoded("zstd")).chunks())

    spool.close()
    gc.collect()

    assert len(bytes(first)) == 256 << 10


async def test_an_archive_of_another_size_is_refused(archive: Path) -> None:
    spool = Spool(archive, 5)

    with pytest.raises(PackageError, match="bytes instead of 5"):
        await spool.encoded("zstd")


@pytest.mark.parametrize("encoding", ["zstd", "gzip"])
async def test_a_missing_archive_is_a_package_error(
    tmp_path: Path, encoding: str
) -> None:
    with pytest.raises(PackageError, match="No such file"):
        await Spool(tmp_path / "none", 5).encoded(encoding)


@pytest.mark.parametrize("damage", [slice(0, 9000), slice(4, None)])
async def test_a_damaged_archive_cannot_be_recoded(
    archive: Path, damage: slice
) -> None:
    archive.write_bytes(archive.read_bytes()[damage])

    with pytest.raises(PackageError, match=r"a\.tar\.zst: "):
        await Spool(archive, archive.stat().st_size).encoded("gzip")
