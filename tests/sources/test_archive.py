"""Archives, honest ones and others."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostasync._packaging.new_tree import Tree, chunks
from ghostasync.errors import SourceError
from ghostasync.sources import _archive
from ghostasync.sources._archive import is_archive
from tests.sources.archives import (
    EPOCH,
    Jail,
    Member,
    small_files,
    tar_of,
    umask,
    zip_of,
    zipped,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LINK = stat.S_IFLNK | 0o777
NOBODY = 65534
SYMLINK: dict[str, Any] = {"type": tarfile.SYMTYPE, "linkname": "../a"}


def hard(name: str) -> dict[str, Any]:
    return {"type": tarfile.LNKTYPE, "linkname": name}


@pytest.fixture
def jail(tmp_path: Path) -> Jail:
    return Jail.make(tmp_path / "jail")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A tree with all that a tree can have."""
    made = tmp_path / "site"
    (made / "bin").mkdir(parents=True)
    (made / "bin" / "run").write_bytes(random.Random(1).randbytes(3 << 20))
    (made / "bin" / "run").chmod(0o750)
    (made / ("long" * 50)).mkdir()
    (made / ("long" * 50) / ("name" * 40)).write_text("x")
    (made / "empty").mkdir()
    (made / "locked").mkdir()
    (made / "locked" / "file").write_text("")
    (made / "locked").chmod(0o555)
    (made / "caf\udce9\n'").write_text("odd")
    (made / "\u00e4\u4e2d").write_text("utf-8")
    (made / "link").symlink_to("bin/run")
    (made / "to-folder").symlink_to("bin")
    (made / "dangling").symlink_to("/nowhere")
    for path in (*made.rglob("*"), made):
        os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)
    return made


def expected(site: Path, top: Path) -> dict[bytes, Any]:
    copy = Jail.make(top / "copy")
    copy.into.rmdir()
    shutil.copytree(site, copy.into, symlinks=True)
    return copy.tree()


def tarred(site: Path, *how: str) -> bytes:
    command = ["tar", *how, "-C", str(site), "-c", "."]
    return subprocess.run(command, check=True, capture_output=True).stdout


# --- Honest ones ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "pack"),
    [
        (".tar", bytes),
        (".tar.gz", gzip.compress),
        (".TGZ", gzip.compress),
        (".tar.bz2", bz2.compress),
        (".tbz2", bz2.compress),
        (".tar.xz", lzma.compress),
        (".txz", lzma.compress),
        (".tar.zst", zstd.compress),
    ],
)
async def test_a_tar_of_any_kind_comes_out_as_it_went_in(
    jail: Jail, site: Path, tmp_path: Path, end: str, pack: Callable[[bytes], bytes]
) -> None:
    await jail.unpack(pack(tarred(site)), f"site-1.0{end}")

    assert is_archive(f"site-1.0{end}")
    assert jail.tree() == expected(site, tmp_path)


@pytest.mark.parametrize("form", ["gnu", "oldgnu", "posix"])
async def test_the_formats_of_tar_and_sparse_files_are_understood(
    jail: Jail, site: Path, tmp_path: Path, form: str
) -> None:
    with (site / "sparse").open("wb") as file:
        file.seek(5 << 20)
        file.write(b"x")
        file.truncate(9 << 20)
    os.utime(site / "sparse", (EPOCH, EPOCH))
    os.utime(site, (EPOCH, EPOCH))

    data = tarred(site, f"--format={form}", "--sparse")
    await jail.unpack(data, "site.tar")

    assert len(data) < 5 << 20
    assert jail.tree() == expected(site, tmp_path)


@pytest.mark.skipif(not shutil.which("zip"), reason="zip is not here")
async def test_a_zip_of_info_zip_comes_out_as_it_went_in(
    jail: Jail, site: Path, tmp_path: Path
) -> None:
    (site / "caf\udce9\n'").unlink()  # zip itself cannot have the newline
    os.utime(site, (EPOCH, EPOCH))
    made = tmp_path / "site.zip"
    command = ["zip", "--quiet", "--symlinks", "--recurse-paths", str(made), "."]
    environ = {**os.environ, "TZ": "UTC"}
    await anyio.run_process(command, cwd=site, env=environ)

    await jail.unpack(made.read_bytes(), "site.zip")

    assert jail.tree() == expected(site, tmp_path)


async def test_two_folders_at_the_top_or_one_are_both_kept(jail: Jail) -> None:
    await jail.unpack(tar_of(("site-1.0/index", b"x", {"mode": 0o640})), "x.tar")

    assert jail.tree() == {
        b"site-1.0": ("folder", 0o755, EPOCH, b""),
        b"site-1.0/index": ("file", 0o640, EPOCH, b"x"),
    }


async def test_modes_are_those_of_the_archive_without_setuid_whatever_the_umask(
    jail: Jail,
) -> None:
    members: list[Member] = [
        (".", b"", {"type": tarfile.DIRTYPE, "mode": 0o500}),
        ("dir", b"", {"type": tarfile.DIRTYPE, "mode": 0o3777}),
        ("dir/run", b"x", {"mode": 0o6755}),
    ]

    with umask(0o077):
        await jail.unpack(tar_of(*members), "x.tar")

    assert jail.tree() == {
        b"dir": ("folder", 0o777, EPOCH, b""),
        b"dir/run": ("file", 0o755, EPOCH, b"x"),
    }
    # A buildpack writes there.
    assert jail.into.stat().st_mode & 0o7777 == 0o755


async def test_a_folder_that_nobody_may_enter_is_filled_first(jail: Jail) -> None:
    closed = {"type": tarfile.DIRTYPE, "mode": 0}
    data = tar_of(("dir", b"", closed), ("dir/in", b"", closed), ("dir/in/x", b"", {}))

    with nobody(jail.into):
        await jail.unpack(data, "x.tar")

    assert {name: told[1] for name, told in jail.tree().items()} == {
        b"dir": 0,
        b"dir/in": 0,
        b"dir/in/x": 0o644,
    }


@contextmanager
def nobody(folder: Path) -> Iterator[None]:
    """Be somebody who has no more rights than others, where one is root."""
    if os.geteuid():
        yield
        return
    os.chown(folder, NOBODY, NOBODY)
    for above in folder.parents:
        above.chmod(above.stat().st_mode | 0o011)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


async def test_a_hard_link_becomes_a_file_of_its_own(jail: Jail) -> None:
    members: list[Member] = [
        ("one", b"x", {"mode": 0o644}),
        ("two", b"", {**hard("./one"), "mode": 0o600}),
        ("link", b"", {"type": tarfile.SYMTYPE, "linkname": "one"}),
        ("again", b"", hard("link")),
    ]

    await jail.unpack(tar_of(*members), "x.tar")

    assert (jail.into / "two").stat().st_nlink == 1
    assert jail.tree() == {
        b"one": ("file", 0o644, EPOCH, b"x"),
        b"two": ("file", 0o600, EPOCH, b"x"),
        b"link": ("link", 0, EPOCH, b"one"),
        b"again": ("link", 0, EPOCH, b"one"),
    }


async def test_links_are_kept_wherever_they_lead(jail: Jail) -> None:
    # From git and from a folder they are, too: a virtual environment has such.
    members: list[Member] = [
        ("python", b"", {**SYMLINK, "linkname": "/usr/bin/python3"}),
        ("up", b"", {**SYMLINK, "linkname": "../../a"}),
    ]

    await jail.unpack(tar_of(*members), "x.tar")

    assert jail.tree() == {
        b"python": ("link", 0, EPOCH, b"/usr/bin/python3"),
        b"up": ("link", 0, EPOCH, b"../../a"),
    }


async def test_a_zip_without_modes_and_times_gets_those_of_objects(jail: Jail) -> None:
    members = [
        (zipped("dir/", create_system=0), b""),
        (zipped("dir/file", create_system=0), b"x"),
        (zipped("old", create_system=0), b"x"),
    ]
    # writestr makes a mode; Windows makes none.
    data = without_modes(zip_of(*members), dayless=b"old")

    await jail.unpack(data, "x.zip")

    assert jail.tree() == {
        b"dir": ("folder", 0o755, EPOCH, b""),
        b"dir/file": ("file", 0o644, EPOCH, b"x"),
        b"old": ("file", 0o644, EPOCH, b"x"),
    }


def without_modes(data: bytes, dayless: bytes) -> bytes:
    """Take modes, and the day of one member, out of a zip's directory."""
    out = bytearray(data)
    at = data.find(b"PK\x01\x02")
    while at >= 0:
        out[at + 38 : at + 42] = bytes(4)
        (length,) = struct.unpack_from("<H", data, at + 28)
        if data[at + 46 : at + 46 + length] == dayless:
            out[at + 12 : at + 16] = bytes(4)
        at = data.find(b"PK\x01\x02", at + 1)
    return bytes(out)


@pytest.mark.parametrize(
    ("system", "name"), [(3, b"caf\xe9"), (0, "caf\u0398".encode())]
)
async def test_a_name_in_a_zip_that_is_no_utf_8_is_the_bytes_that_unix_had(
    jail: Jail, system: int, name: bytes
) -> None:
    data = zip_of((zipped("cafX", create_system=system), b"x"))

    await jail.unpack(data.replace(b"cafX", b"caf\xe9"), "x.zip")

    assert list(jail.tree()) == [name]


async def test_a_zip64_with_names_in_utf_8_is_read(jail: Jail) -> None:
    out = io.BytesIO()
    with (
        zipfile.ZipFile(out, "w") as archive,
        archive.open("\u4e2d", "w", force_zip64=True) as file,
    ):
        file.write(b"x" * 100)

    await jail.unpack(out.getvalue(), "x.zip")

    assert jail.tree()["\u4e2d".encode()][3] == b"x" * 100


# --- Others ---------------------------------------------------------------------------

ABSOLUTE = "the name is absolute; it has to be one in the tree"
DOTS = 'the name has ".." in it, which may lead out of the tree'
TAKEN = "its place in the tree is taken already"


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([("/a/x", b"x", {})], f"/a/x: {ABSOLUTE}"),
        ([("../a/x", b"x", {})], f"../a/x: {DOTS}"),
        ([("b/../../a/x", b"x", {})], f"b/../../a/x: {DOTS}"),
        ([("..", b"", {"type": tarfile.DIRTYPE})], f"..: {DOTS}"),
        ([("..", b"", SYMLINK)], f"..: {DOTS}"),
        ([("a", b"", SYMLINK), ("a/x", b"x", {})], f"a: {TAKEN}"),
        ([("a/x", b"x", {}), ("a", b"", SYMLINK)], f"a: {TAKEN}"),
        ([("a", b"", SYMLINK), ("a/b", b"", SYMLINK)], f"a: {TAKEN}"),
        ([("a", b"", SYMLINK), ("a", b"x", {})], f"a: {TAKEN}"),
        ([("a", b"x", {}), ("a", b"", SYMLINK)], f"a: {TAKEN}"),
        ([("a", b"", SYMLINK), ("./a", b"", SYMLINK)], f"./a: {TAKEN}"),
        ([("a", b"x", {}), ("a", b"x", {})], f"a: {TAKEN}"),
        ([("a", b"x", {}), ("a/b", b"x", {})], f"a/b: {TAKEN}"),
        ([(".", b"", SYMLINK)], f".: {TAKEN}"),
        ([("b", b"", hard("../a/x"))], f"b: {DOTS}"),
        ([("b", b"", hard("/a/x"))], f"b: {ABSOLUTE}"),
        (
            [("a", b"", SYMLINK), ("b", b"", hard("a/x"))],
            "b: a hard link to a/x, which is no file so far",
        ),
        ([("b", b"", hard("."))], "b: a hard link to ., which is no file so far"),
        ([("pipe", b"", {"type": tarfile.FIFOTYPE})], "pipe: a fifo cannot be"),
        ([("null", b"", {"type": tarfile.CHRTYPE})], "null: a device cannot be"),
        ([("sda", b"", {"type": tarfile.BLKTYPE})], "sda: a device cannot be"),
        ([("odd", b"", {"type": b"D"})], "odd: a member of an unknown kind cannot be"),
        (
            [("n" * 300, b"x", {})],
            f"{'n' * 300}: cannot be written here: File name too",
        ),
        (
            [("a\nb", b"x", {}), ("a\nb", b"x", {})],
            rf"a\0012b: {TAKEN}",
        ),
        (
            [("nul", b"x", {"pax_headers": {"path": "a\0b"}})],
            r"a\0000b: the name has a NUL in it",
        ),
        ([("x", b"", {"type": tarfile.SYMTYPE, "linkname": ""})], "x: cannot be"),
        (
            [("x", b"x", {"pax_headers": {"size": "-9"}})],
            "damaged: a size is below 0",
        ),
        ([("x", b"x", {"pax_headers": {"mtime": "inf"}})], "damaged: cannot convert"),
    ],
)
async def test_a_tar_that_would_do_harm_is_refused_by_the_name_of_a_member(
    jail: Jail, members: list[Any], reason: str
) -> None:
    before = jail.outside()

    with pytest.raises(SourceError) as caught:
        await jail.unpack(tar_of(*members, format=tarfile.PAX_FORMAT), "x.tar")

    assert str(caught.value).startswith(reason)
    assert "\n" not in str(caught.value)
    assert jail.outside() == before


def unix(mode: int) -> dict[str, Any]:
    return {"external_attr": mode << 16, "create_system": 3}


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([(zipped("/a/x"), b"x")], f"/a/x: {ABSOLUTE}"),
        ([(zipped("../a/x"), b"x")], f"../a/x: {DOTS}"),
        (
            [(zipped("a", **unix(LINK)), b"../a"), (zipped("a/x"), b"x")],
            f"a: {TAKEN}",
        ),
        (
            [(zipped("a/x"), b"x"), (zipped("a", **unix(LINK)), b"../a")],
            f"a: {TAKEN}",
        ),
        ([(zipped("a", **unix(LINK)), b"x" * 5000)], "a: damaged: no link can be as"),
        ([(zipped("a", **unix(stat.S_IFIFO)), b"")], "a: a fifo cannot be unpacked"),
        ([(zipped("a", **unix(stat.S_IFCHR)), b"")], "a: a device cannot be"),
        ([(zipped("a", **unix(stat.S_IFSOCK)), b"")], "a: a member of an unknown"),
        ([(zipped("a", **unix(stat.S_IFDIR)), b"x")], "a: a folder with data in it"),
    ],
)
async def test_a_zip_that_would_do_harm_is_refused_by_the_name_of_a_member(
    jail: Jail, members: list[tuple[zipfile.ZipInfo, bytes]], reason: str
) -> None:
    before = jail.outside()

    with pytest.raises(SourceError) as caught:
        await jail.unpack(zip_of(*members), "x.zip")

    assert str(caught.value).startswith(reason)
    assert jail.outside() == before


def encrypted(data: bytes) -> bytes:
    out = bytearray(data)
    out[6] |= 1
    out[data.find(b"PK\x01\x02") + 8] |= 1
    return bytes(out)


def longer(data: bytes) -> bytes:
    """Say that the member has more bytes than there are."""
    out = bytearray(data)
    out[data.find(b"PK\x01\x02") + 24] += 1
    return bytes(out)


def method(data: bytes, number: int) -> bytes:
    out = bytearray(data)
    out[8] = out[data.find(b"PK\x01\x02") + 10] = number
    return bytes(out)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda data: data.replace(b"name", b"n\0me"), r"n\0000me: the name has a NUL"),
        (encrypted, "name: an encrypted member cannot be unpacked"),
        (lambda data: data.replace(b"text", b"tex!"), "name: damaged: Bad CRC-32"),
        (lambda data: data[:-10], "damaged: File is not a zip file"),
        (lambda data: b"", "damaged: File is not a zip file"),
        (lambda data: method(data, 9), "name: damaged: That compression method"),
        (longer, "name: damaged: it is shorter than the archive says"),
    ],
)
async def test_a_zip_that_is_encrypted_or_damaged_is_one_line(
    jail: Jail, spoil: Callable[[bytes], bytes], reason: str
) -> None:
    info = zipped("name")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(info, b"text")
        archive.writestr(zipped("other"), b"more")

    with pytest.raises(SourceError) as caught:
        await jail.unpack(spoil(out.getvalue()), "x.zip")

    assert str(caught.value).startswith(reason)


TWO = tar_of(("one", b"x" * 700, {}), ("two", b"y", {}))
"""Blocks of 512 bytes: a header, two of data, a header, one of data, and the end."""


@pytest.mark.parametrize("cut", range(0, 5 * 512 + 1, 256))
async def test_a_tar_that_ends_early_is_damaged_wherever_that_is(
    jail: Jail, cut: int
) -> None:
    with pytest.raises(SourceError, match="damaged"):
        await jail.unpack(TWO[:cut], "x.tar")


@pytest.mark.parametrize(
    ("end", "pack"),
    [
        (".tar.gz", gzip.compress),
        (".tar.bz2", bz2.compress),
        (".tar.xz", lzma.compress),
        (".tar.zst", zstd.compress),
    ],
)
async def test_a_tar_whose_last_byte_is_missing_or_wrong_is_damaged(
    jail: Jail, end: str, pack: Callable[[bytes], bytes]
) -> None:
    whole = pack(TWO)
    # bzip2's last byte has bits that mean nothing.
    for data in (whole[:-1], b"", b"no archive", TWO):
        with pytest.raises(SourceError, match="damaged") as caught:
            await Jail.make(jail.top / f"{len(data)}").unpack(data, f"x{end}")
        assert "\n" not in str(caught.value)


async def test_the_checksum_behind_a_tar_is_looked_at(jail: Jail) -> None:
    data = bytearray(gzip.compress(TWO))
    data[-8] ^= 1

    with pytest.raises(SourceError, match="damaged: CRC check failed"):
        await jail.unpack(bytes(data), "x.tar.gz")


@pytest.mark.parametrize("at", [3 * 512 + 5, 3 * 512 + 150])
async def test_a_header_that_is_wrong_is_not_taken_for_the_end(
    jail: Jail, at: int
) -> None:
    data = bytearray(TWO)
    data[at] ^= 1

    with pytest.raises(SourceError, match="damaged: bad checksum"):
        await jail.unpack(bytes(data), "x.tar")


async def test_members_behind_an_end_in_the_middle_are_not_lost(jail: Jail) -> None:
    data = TWO[: 3 * 512] + bytes(512) + TWO[3 * 512 :]

    with pytest.raises(SourceError, match="damaged: it goes on behind its end"):
        await jail.unpack(data, "x.tar")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
@pytest.mark.parametrize("size", [1 << 40, -512])
async def test_a_name_that_would_fill_the_memory_is_not_read(
    jail: Jail, kind: bytes, size: int
) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, size

    with pytest.raises(SourceError, match="damaged: a header is longer than any"):
        await jail.unpack(header.tobuf(tarfile.GNU_FORMAT), "x.tar")


async def test_memory_does_not_grow_with_the_members(jail: Jail) -> None:
    data = tar_of(*((f"file{number}", b"", {}) for number in range(3000)))

    tracemalloc.start()
    try:
        await jail.unpack(data, "x.tar")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert most < 2_000_000


async def test_a_thousand_headers_for_one_member_are_an_error_and_no_crash(
    jail: Jail,
) -> None:
    note = tar_of(("x", b"", {"pax_headers": {"a": "b"}}), format=tarfile.PAX_FORMAT)

    with pytest.raises(SourceError, match="damaged"):
        await jail.unpack(note[:1024] * 3000, "x.tar")


async def test_a_full_disk_is_one_line_that_says_where(jail: Jail) -> None:
    data = tar_of(("small", b"x", {}), ("large", bytes(3 << 20), {}))

    with small_files(1 << 20), pytest.raises(SourceError) as caught:
        await jail.unpack(gzip.compress(data), "x.tar.gz")

    assert str(caught.value) == "large: cannot be written here: File too large"


@pytest.mark.parametrize("then", ["file", "folder", "settled"])
async def test_a_folder_that_becomes_a_link_meanwhile_is_not_followed(
    jail: Jail, then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, before = Tree.file, jail.outside()
    (jail.into / "aside").mkdir()

    def file(self: Tree, name: bytes, *args: Any) -> int:
        nbytes = real(self, name, *args)
        if name == b"e/first":
            (jail.into / "d").rename(jail.into / "aside" / "d")
            (jail.into / "d").symlink_to(jail.top / "a")
        return nbytes

    monkeypatch.setattr(Tree, "file", file)
    last = {"file": "d/late", "folder": "d/new/late", "settled": "late"}[then]
    data = tar_of(*[(name, b"x", {}) for name in ("d/x", "e/first", last)])

    with pytest.raises(SourceError, match=r"cannot be written here: (Not a|changed)"):
        await jail.unpack(data, "site.tar")

    assert jail.outside() == before


async def test_cancelling_ends_the_unpacking(
    jail: Jail, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = gzip.compress(tar_of(("zeros", bytes(64 << 20), {})), 1)
    scope = anyio.CancelScope()
    real = chunks

    def first_one_cancels(file: Any) -> Iterator[bytes]:
        for chunk in real(file):
            anyio.from_thread.run_sync(scope.cancel)
            yield chunk

    monkeypatch.setattr(_archive, "chunks", first_one_cancels)

    with scope:
        await jail.unpack(bomb, "x.tar.gz")

    assert scope.cancelled_caught
    assert (jail.into / "zeros").stat().st_size <= 2 << 20


# --- Whatever they hold ---------------------------------------------------------------

PARTS = st.sampled_from(["a", "b", "x", ".", "..", "", "into", "caf\udce9"])
NAMES = st.lists(PARTS, min_size=1, max_size=3).map("/".join)
TARGETS = st.one_of(NAMES, st.just("/"), NAMES.map(lambda name: f"../{name}"))
KINDS = st.sampled_from(
    [
        *(tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE) * 3,
        *(tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.CONTTYPE),
    ]
)
DATA = st.binary(max_size=9)
MEMBERS = st.lists(st.tuples(NAMES, KINDS, TARGETS, DATA), max_size=5)


def unpacked(data: bytes, name: str) -> dict[bytes, Any] | None:
    """Unpack beside a folder that must stay as it is; None where that was refused."""
    with tempfile.TemporaryDirectory(prefix="jail-") as top:
        jail = Jail.make(Path(top) / "jail")
        before = jail.outside()
        refused = ""
        try:
            anyio.run(jail.unpack, data, name)
        except SourceError as exc:
            refused = str(exc)
        assert "\n" not in refused
        assert jail.outside() == before
        return None if refused else jail.tree()


def plain(name: str) -> bytes:
    parts = [part for part in name.split("/") if part not in {"", "."}]
    return os.fsencode("/".join(parts))


@settings(max_examples=400)
@given(MEMBERS)
def test_a_tar_is_all_in_the_tree_or_refused_whatever_it_holds(
    members: list[tuple[str, bytes, str, bytes]],
) -> None:
    kinds = {tarfile.DIRTYPE: "folder", tarfile.SYMTYPE: "link"}
    data = tar_of(
        *(
            (
                name,
                content if kind in {tarfile.REGTYPE, tarfile.CONTTYPE} else b"",
                {"type": kind, "linkname": target, "mode": 0o644},
            )
            for name, kind, target, content in members
        )
    )

    tree = unpacked(data, "x.tar")

    if tree is not None:
        for name, kind, target, content in members:
            if place := plain(name):
                found = tree[place]
                if kind is tarfile.LNKTYPE:
                    continue
                assert found[0] == kinds.get(kind, "file")
                told = {"link": os.fsencode(target), "file": content}
                assert found[3] == told.get(found[0], b"")


@settings(max_examples=400)
@given(
    st.lists(
        st.tuples(
            NAMES.filter(lambda name: "\udce9" not in name),
            st.sampled_from([stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO]),
            TARGETS.filter(lambda name: "\udce9" not in name),
        ),
        max_size=5,
    )
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_is_all_in_the_tree_or_refused_whatever_it_holds(
    members: list[tuple[str, int, str]],
) -> None:
    kinds = {stat.S_IFDIR: "folder", stat.S_IFLNK: "link", stat.S_IFREG: "file"}
    data = zip_of(
        *(
            (zipped(name, **unix(kind | 0o644)), target.encode() * (kind in LINKS))
            for name, kind, target in members
        )
    )

    tree = unpacked(data, "x.zip")

    if tree is not None:
        for name, kind, target in members:
            if place := plain(name):
                slash = name.endswith("/")
                assert tree[place][0] == ("folder" if slash else kinds[kind])
                if tree[place][0] == "link":
                    assert tree[place][3] == target.encode()


LINKS = {stat.S_IFLNK}

HONEST: list[Member] = [
    ("dir", b"", {"type": tarfile.DIRTYPE, "mode": 0o755}),
    ("dir/file", b"some text" * 99, {"mode": 0o644}),
    ("n" * 150, b"long", {"mode": 0o600}),
    ("link", b"", {"type": tarfile.SYMTYPE, "linkname": "dir/file"}),
]
WHOLE = {
    "x.tar": tar_of(*HONEST),
    "x.tar.gz": gzip.compress(tar_of(*HONEST)),
    "x.tar.zst": zstd.compress(tar_of(*HONEST)),
    "x.tar.xz": lzma.compress(tar_of(*HONEST)),
    "x.zip": zip_of(
        (zipped("dir/", **unix(stat.S_IFDIR | 0o755)), b""),
        (zipped("dir/file", **unix(0o644)), b"some text" * 99),
        (zipped("link", **unix(LINK)), b"dir/file"),
    ),
}


@settings(max_examples=400)
@given(st.sampled_from([*WHOLE]), st.data())
def test_bytes_that_are_wrong_touch_nothing_outside_and_are_no_crash(
    name: str, draw: st.DataObject
) -> None:
    data = bytearray(WHOLE[name])
    for _ in range(draw.draw(st.integers(1, 3))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    cut = draw.draw(st.integers(0, len(data)))

    unpacked(bytes(data[:cut] if cut % 2 else data), name)
