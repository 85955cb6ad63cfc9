from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

from ghostasync._local.beneath import File
from ghostasync.errors import SourceError
from ghostasync.model import Revision
from ghostasync.sources.directory import Directory


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "site"
    made.mkdir()
    (made / "index").write_text("one")
    return made


@pytest.fixture
def into(tmp_path: Path) -> Path:
    made = tmp_path / "into"
    made.mkdir()
    return made


async def copy(folder: Path, into: Path) -> None:
    await Directory("site", folder).fetch(Revision(), into, lambda _: None)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


async def test_a_folder_has_no_revisions(folder: Path) -> None:
    source = Directory("site", folder / ".." / "site")

    assert await source.resolve() == Revision(repo=str(folder))


@pytest.mark.parametrize("name", ["nowhere", "index"])
async def test_what_is_no_folder_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(SourceError, match=f"^site: {folder}/{name} is not a folder$"):
        await Directory("site", folder / name).resolve()


async def test_a_copy_has_the_same_kinds_modes_times_and_bytes(
    folder: Path, into: Path
) -> None:
    (folder / "bin").mkdir(0o750)
    (folder / "bin" / "run").write_bytes(bytes(range(256)) * 1000)
    (folder / "bin" / "run").chmod(0o751)
    (folder / "empty").mkdir()
    (folder / "link").symlink_to("bin/run")
    (folder / "to-folder").symlink_to("bin")
    (folder / "dangling").symlink_to("/nowhere")
    (folder / "caf\udce9\n").write_text("x")
    (folder / "bin").chmod(0o555)
    for path in (*folder.rglob("*"), folder):
        os.utime(path, ns=(1, 1_600_000_000_123_456_789), follow_symlinks=False)

    await copy(folder, into)

    assert names(into) == names(folder)
    for name in [".", *names(folder)]:
        ours, theirs = into / name, folder / name
        assert ours.lstat().st_mode == theirs.lstat().st_mode
        assert ours.lstat().st_mtime_ns == theirs.lstat().st_mtime_ns
        if theirs.is_symlink():
            assert ours.readlink() == theirs.readlink()
        elif theirs.is_file():
            assert ours.read_bytes() == theirs.read_bytes()


async def test_hard_links_become_files(folder: Path, into: Path) -> None:
    (folder / "other").hardlink_to(folder / "index")

    await copy(folder, into)

    assert (into / "other").stat().st_nlink == 1
    assert not (into / "other").samefile(into / "index")
    assert not (into / "index").samefile(folder / "index")


async def test_a_copy_within_the_folder_does_not_hold_itself(folder: Path) -> None:
    into = folder / "cache" / "tree"
    into.mkdir(parents=True)

    await copy(folder, into)

    assert names(into) == ["cache", "index"]


def fifo(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize("make", [fifo, unix_socket])
async def test_special_files_are_named(
    folder: Path, into: Path, make: Callable[[Path], None]
) -> None:
    make(folder / "special")

    with anyio.fail_after(5), pytest.raises(SourceError) as caught:
        await copy(folder, into)

    assert str(caught.value) == (
        f"site: {folder}/special is neither a file, a folder nor a link: remove it, or "
        "leave it out (modules.exclude)"
    )


def at_each_file(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Have *act* happen while a file is read."""
    real = File.data

    def data(self: File) -> Iterator[tuple[int, bytes]]:
        act()
        yield from real(self)

    monkeypatch.setattr(File, "data", data)


async def test_a_file_that_changes_while_it_is_copied_is_named(
    folder: Path, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_each_file(monkeypatch, lambda: (folder / "index").chmod(0o600))

    with pytest.raises(SourceError, match=r"/index: changed while it was read$"):
        await copy(folder, into)


async def test_a_folder_that_becomes_a_link_is_named_and_not_followed(
    folder: Path, into: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "key").write_text("canary")
    (folder / "later").mkdir()
    (folder / "later" / "key").write_text("harmless")

    def becomes_a_link() -> None:
        if not (folder / "later").is_symlink():
            (folder / "later").rename(tmp_path / "aside")
            (folder / "later").symlink_to(tmp_path / "private")

    at_each_file(monkeypatch, becomes_a_link)

    with pytest.raises(SourceError, match=r"/later: changed while it was read$"):
        await copy(folder, into)

    assert not (into / "later").exists()


async def test_what_is_left_out_is_not_copied(
    folder: Path, into: Path, tmp_path: Path
) -> None:
    (folder / "keys").mkdir()
    (folder / "keys" / "id").touch()
    (folder / "link").symlink_to("index")
    (tmp_path / "outside").touch()
    left_out = [
        folder / "keys" / "id", folder / "link", tmp_path / "outside", folder / "none"
    ]  # fmt: skip

    await Directory("site", folder, left_out).fetch(Revision(), into, lambda _: None)

    # Neither the link that was named nor what it leads to.
    assert names(into) == ["keys"]


async def test_what_is_excluded_is_not_copied(folder: Path, into: Path) -> None:
    """A build folder that holds node_modules twice is a copy that nobody asked for."""
    for path in ("node_modules/a", "web/node_modules/b", "web/tmp/c", "tmp/d"):
        (folder / path).mkdir(parents=True)
    source = Directory("site", folder, exclude=["node_modules", "web/tmp"])

    await source.fetch(Revision(), into, lambda _: None)

    assert names(into) == ["index", "tmp", "tmp/d", "web"]


async def test_holes_stay_holes(folder: Path, into: Path) -> None:
    with (folder / "sparse").open("wb") as file:
        file.truncate(1 << 40)
        file.seek(1 << 30)
        file.write(b"data")
        file.seek((1 << 40) - 3)
        file.write(b"end")

    with anyio.fail_after(10):
        await copy(folder, into)

    made = (into / "sparse").stat()
    assert made.st_size == 1 << 40
    assert made.st_blocks < 100
    with (into / "sparse").open("rb") as file:
        file.seek(1 << 30)
        assert file.read(6) == b"data\0\0"
        file.seek(-5, os.SEEK_END)
        assert file.read() == b"\0\0end"


async def test_what_cannot_be_read_is_named(folder: Path) -> None:
    with pytest.raises(SourceError, match=r"^site: .*nowhere/index: No such file"):
        await copy(folder, folder / "nowhere")


async def test_cancelling_ends_the_copy(
    folder: Path, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        (folder / f"file{number}").write_text("x")
    seen: list[bool] = []
    scope = anyio.CancelScope()

    def first_one_cancels() -> None:
        if not seen:
            anyio.from_thread.run_sync(scope.cancel)
        seen.append(True)

    at_each_file(monkeypatch, first_one_cancels)

    with scope:
        await copy(folder, into)

    assert scope.cancelled_caught
    assert len(seen) < 20
