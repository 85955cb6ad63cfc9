from __future__ import annotations

import io
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread

from ghostasync._packaging.unpack import unpack
from ghostasync.errors import PackageError
from tests._packaging.trees import Node, create, packed, snapshot

if sys.version_info >= (3, 14):
    from compression.zstd import compress
else:
    from backports.zstd import compress


@pytest.fixture
def into(tmp_path: Path) -> Path:
    made = tmp_path / "into"
    made.mkdir()
    return made


def archive_of(path: Path, *members: tuple[str, dict[str, Any]]) -> Path:
    """Write an archive that nobody has packaged here."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, about in members:
            info = tarfile.TarInfo(name)
            for key, value in about.items():
                setattr(info, key, value)
            info.size = 4 if info.isreg() else 0
            tar.addfile(info, io.BytesIO(b"evil"))
    path.write_bytes(compress(out.getvalue()))
    return path


async def test_a_packaged_tree_comes_back(tmp_path: Path, into: Path) -> None:
    nodes = [
        Node(b"app/main", "f", 0o755, 1_700_000_002, b"print()\n" * 100),
        Node(b"app", "d", 0o755, 1_700_000_001),
        Node(b"\xff", "f", 0o644, 1_700_000_002, b""),
        Node(b"now", "l", 0o777, 1_700_000_004, b"/nowhere"),
    ]
    create(tmp_path / "tree", nodes)
    made = await to_thread.run_sync(packed, tmp_path / "tree", tmp_path / "packages")

    await to_thread.run_sync(unpack, made.archive, into)

    found, was = snapshot(into), snapshot(tmp_path / "tree")
    assert {**found, b".": None} == {**was, b".": None}


LINK = {"type": tarfile.SYMTYPE}


@pytest.mark.parametrize(
    "members",
    [
        [("release/../../evil", {})],
        [("release//evil", {})],
        [("release/l", {**LINK, "linkname": "../outside"}), ("release/l/evil", {})],
        [("release/l", {**LINK, "linkname": ".."}), ("release/l/outside/evil", {})],
        [("release/f", {}), ("release/f", {**LINK, "linkname": "../outside/evil"}),
         ("release/f", {})],
    ],
)  # fmt: skip
async def test_nothing_is_written_outside(
    tmp_path: Path, into: Path, members: list[tuple[str, dict[str, Any]]]
) -> None:
    (tmp_path / "outside").mkdir()
    archive = archive_of(tmp_path / "a.tar.zst", *members)

    with pytest.raises(PackageError, match=r"a\.tar\.zst: "):
        await to_thread.run_sync(unpack, archive, into)

    assert list((tmp_path / "outside").iterdir()) == []
    assert not (tmp_path / "evil").exists()


async def test_what_is_no_part_of_the_release_is_left_out(
    tmp_path: Path, into: Path
) -> None:
    device = {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}
    archive = archive_of(
        tmp_path / "a.tar.zst",
        ("ghost/seal", {}),
        ("release/a", {"mode": 0o644}),
        ("release/dev", device),
    )

    await to_thread.run_sync(unpack, archive, into)

    assert [path.name for path in into.iterdir()] == ["a"]


@pytest.mark.parametrize("damage", [b"", b"no archive"])
async def test_a_damaged_archive_is_one_line(
    tmp_path: Path, into: Path, damage: bytes
) -> None:
    (tmp_path / "a.tar.zst").write_bytes(damage)

    with pytest.raises(PackageError, match=r"a\.tar\.zst: ") as caught:
        await to_thread.run_sync(unpack, tmp_path / "a.tar.zst", into)

    assert "\n" not in str(caught.value)
