from __future__ import annotations

import os
import sys
import tarfile
from pathlib import Path

import pytest

from ghostasync._packaging.manifest import Kind
from ghostasync._packaging.tar import TarWriter
from ghostasync.errors import PackageError

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdError, decompress
else:
    from backports.zstd import ZstdError, decompress


def never() -> None:
    """A pulse that lets everything go on."""


@pytest.mark.parametrize("owner", [(0, 0), (1000, 33), (2**31, 2**31)])
@pytest.mark.parametrize(
    ("name", "target", "size", "mtime"),
    [
        (b"release/a", b"", 0, 0),
        (b"release/\xff\n'", b"", 700, 1_700_000_000),
        (b"n" * 100, b"t" * 100, 0, 8**11 - 1),
        (b"n" * 101, b"", 3, -1),
        (b"n", b"t" * 101, 0, 8**11),
        (b"d/" * 300 + b"f", b"t" * 300, 0, 5),
    ],
)
def test_members_are_what_the_standard_library_writes(  # noqa: PLR0917  # a table
    tmp_path: Path,
    owner: tuple[int, int],
    name: bytes,
    target: bytes,
    size: int,
    mtime: int,
) -> None:
    info = tarfile.TarInfo(os.fsdecode(name))
    info.type = tarfile.SYMTYPE if target else tarfile.REGTYPE
    info.linkname = os.fsdecode(target)
    info.mode, info.mtime, info.size = 0o4755, mtime, size
    info.uid, info.gid = owner
    writer = TarWriter(tmp_path / "a", never)
    writer.owned_by(*owner)

    kind = Kind.LINK if target else Kind.FILE
    writer.member(name, kind, mode=0o4755, mtime=mtime, size=size, target=target)
    writer.write(b"x" * size)
    writer.finish()

    head = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    tar = decompress((tmp_path / "a").read_bytes())
    assert tar[: len(head) + size] == head + b"x" * size
    assert len(tar) % tarfile.RECORDSIZE == 0
    assert tar[len(head) + size :].strip(b"\0") == b""


def test_a_size_over_8_gib_is_written(tmp_path: Path) -> None:
    writer = TarWriter(tmp_path / "a", never)

    writer.member(b"big", Kind.FILE, mode=0o644, mtime=0, size=2**33)
    head = tarfile.TarInfo.frombuf(writer._pending[0], "utf-8", "strict")
    writer.discard()

    assert head.size == 2**33
    assert not (tmp_path / "a").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_no_room_is_a_package_error(tmp_path: Path) -> None:
    writer = TarWriter(tmp_path / "a", never)
    writer._file.close()
    writer._file = open("/dev/full", "wb", buffering=0)  # noqa: PTH123, SIM115

    writer.member(b"a", Kind.FOLDER, mode=0o755, mtime=0)
    with pytest.raises(PackageError, match="No space left on device"):
        writer.finish()
    writer.discard()


def test_an_archive_carries_a_checksum_of_its_content(tmp_path: Path) -> None:
    """Hosts rely on it: proof by metadata reads no content back."""
    writer = TarWriter(tmp_path / "a", never)
    writer.member(b"f", Kind.FILE, mode=0o644, mtime=5, size=3)
    writer.write(b"abc")
    writer.finish()

    data = bytearray((tmp_path / "a").read_bytes())
    data[-1] ^= 1

    with pytest.raises(ZstdError, match="checksum"):
        decompress(data)
