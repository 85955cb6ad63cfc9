from __future__ import annotations

import os
import resource
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ghostasync._local.beneath import CHANGED, MOST_OPEN, File, find, read, walk

SECRET = b"canary: nothing may read this"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    made = tmp_path / "tree"
    made.mkdir()
    (tmp_path / "secret").write_bytes(SECRET)
    return made


def seen(tree: Path) -> list[tuple[str, bytes]]:
    return [(found.kind, found.path) for found in walk(tree)]


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_folders_come_before_and_after_what_is_in_them(tree: Path) -> None:
    (tree / "b" / "c").mkdir(parents=True)
    (tree / "b" / "c" / "f").touch()
    (tree / "a").symlink_to("/etc")
    os.mkfifo(tree / "z")

    assert seen(tree) == [
        ("d", b"."), ("l", b"a"), ("d", b"b"), ("d", b"b/c"), ("f", b"b/c/f"),
        ("e", b"b/c"), ("e", b"b"), ("?", b"z"), ("e", b"."),
    ]  # fmt: skip


def test_names_may_be_any_bytes(tree: Path) -> None:
    (tree / os.fsdecode(b"\xff\n")).mkdir()

    assert ("d", b"\xff\n") in seen(tree)


def test_what_is_left_out_is_not_entered(tree: Path) -> None:
    (tree / "d" / "e").mkdir(parents=True)

    found = [each.path for each in walk(tree, lambda path, _: path == b"d")]

    assert found == [b".", b"."]


def test_a_tree_may_be_deeper_than_a_process_may_have_files(tree: Path) -> None:
    depth = 4 * MOST_OPEN
    (tree / "/".join(["d"] * depth)).mkdir(parents=True)
    (tree / "e").touch()
    before = open_files()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before + MOST_OPEN + 8, hard))
    try:
        found = seen(tree)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert len(found) == 2 + 2 * depth + 1
    assert found[-2:] == [("f", b"e"), ("e", b".")]
    assert open_files() == before


def test_a_deeper_tree_than_any_path_is_walked(tree: Path) -> None:
    fd = os.open(tree, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("dd", dir_fd=fd)
        below = os.open("dd", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)

    found = seen(tree)

    # pytest could not remove it.
    subprocess.run(["rm", "-r", tree / "dd"], check=True)
    assert len(found) == 2 + 2 * 3000


def becomes_a_link(folder: Path) -> None:
    folder.rename(folder.with_name("aside"))
    folder.symlink_to(folder.parent.parent)


def becomes_another(folder: Path) -> None:
    folder.rename(folder.with_name("aside"))
    folder.mkdir()


def disappears(folder: Path) -> None:
    folder.rename(folder.parent.parent / "away")


def becomes_a_file(folder: Path) -> None:
    folder.rename(folder.with_name("aside"))
    folder.touch()


Change = Callable[[Path], None]
CHANGES = [becomes_a_link, becomes_another, becomes_a_file, disappears]


@pytest.mark.parametrize("change", [becomes_a_link, becomes_a_file, disappears])
def test_a_folder_that_changes_before_it_is_entered_is_named(
    tree: Path, change: Change
) -> None:
    (tree / "a").touch()
    (tree / "d" / "x").mkdir(parents=True)
    steps = walk(tree)
    while next(steps).path != b"a":
        pass
    change(tree / "d")

    with pytest.raises(OSError, match=CHANGED) as caught:
        list(steps)

    assert caught.value.filename == b"d"


@pytest.mark.parametrize("change", CHANGES)
def test_a_folder_that_changes_while_it_is_read_is_named(
    tree: Path, change: Change
) -> None:
    (tree / "d" / "x").mkdir(parents=True)
    (tree / "d" / "x" / "f").write_bytes(b"inside")
    (tree / "secret").touch()
    steps = walk(tree)
    while next(steps).path != b"d/x":
        pass
    change(tree / "d")

    # The file is still that of the folder which was entered.
    with File(next(steps)) as file:
        assert b"".join(file.chunks()) == b"inside"
    with pytest.raises(OSError, match=CHANGED) as caught:
        list(steps)

    assert caught.value.filename == b"d"


def test_a_closed_folder_that_was_moved_is_named(tree: Path) -> None:
    (tree / "/".join(["d"] * 2 * MOST_OPEN)).mkdir(parents=True)
    steps = walk(tree)
    while next(steps).path.count(b"/") < 2 * MOST_OPEN - 1:
        pass
    deep = tree / "d" / "d" / "d"
    deep.rename(tree / "moved")
    before = open_files()

    with pytest.raises(OSError, match=CHANGED):
        list(steps)

    assert open_files() < before


def rewritten(file: Path) -> None:
    was = file.stat()
    file.write_bytes(b"y" * was.st_size)
    os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))


def replaced(file: Path) -> None:
    file.with_name("new").write_bytes(b"x" * 5)
    file.with_name("new").rename(file)


def linked(file: Path) -> None:
    file.unlink()
    file.symlink_to("../secret")


def grown(file: Path) -> None:
    with file.open("a") as more:
        more.write("more")


def shrunk(file: Path) -> None:
    os.truncate(file, 2)


@pytest.mark.parametrize(
    "change", [rewritten, replaced, linked, grown, shrunk, Path.unlink]
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_file_that_changes_while_it_is_read_is_named(
    tree: Path, change: Change, when: str
) -> None:
    (tree / "f").write_bytes(b"x" * 5)
    found = next(each for each in walk_open(tree) if each.kind == "f")

    def read_it() -> None:
        with File(found) as file:
            if when == "before":
                change(tree / "f")
            assert SECRET not in b"".join(file.chunks())
            if when == "after":
                change(tree / "f")

    with pytest.raises(OSError, match=CHANGED) as caught:
        read_it()

    assert caught.value.filename == b"f"


@pytest.mark.parametrize("change", [linked, Path.unlink, os.mkfifo])
def test_a_file_that_is_none_any_more_is_not_read(tree: Path, change: Change) -> None:
    (tree / "f").write_bytes(b"x")
    found = next(each for each in walk_open(tree) if each.kind == "f")
    if change is os.mkfifo:
        (tree / "f").unlink()
    change(tree / "f")

    with pytest.raises(OSError, match=CHANGED) as caught, File(found):
        pass

    assert caught.value.filename == b"f"


def walk_open(tree: Path) -> Iterator:  # type: ignore[type-arg]
    """Walk, and keep folders open while a test looks at what was found."""
    steps = walk(tree)
    KEPT.append(steps)
    return steps


KEPT: list[object] = []


@pytest.mark.parametrize("path", ["f", "to-file", "d/up", "d/../f", "to-d/up", "./f"])
def test_a_link_within_the_tree_is_followed(tree: Path, path: str) -> None:
    (tree / "f").write_bytes(b"here")
    (tree / "d").mkdir()
    (tree / "to-file").symlink_to("./d//up")
    (tree / "d" / "up").symlink_to("../f")
    (tree / "to-d").symlink_to("d")

    assert read(tree, path, 10) == b"here"


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/etc/passwd", "l"),
        ("../secret", "l"),
        ("d/../../secret", "l"),
        ("..", "l/secret"),
        ("/", "l/etc/passwd"),
        ("l", "l"),
        ("chain", "l"),
        ("/proc/self/cwd", "l/pyproject.toml"),
    ],
)
def test_a_link_that_leads_out_is_not_followed(
    tree: Path, target: str, path: str
) -> None:
    (tree / "d").mkdir()
    (tree / "l").symlink_to(target)
    (tree / "chain").symlink_to("d/out")
    (tree / "d" / "out").symlink_to("../../secret")
    before = open_files()

    with pytest.raises(OSError, match="leads out of the tree"):
        read(tree, path, 1000)

    assert open_files() == before


def test_a_link_to_the_trees_own_absolute_path_leads_out(tree: Path) -> None:
    # On a host the tree lies elsewhere.
    (tree / "f").touch()
    (tree / "l").symlink_to(tree / "f")

    with pytest.raises(OSError, match="leads out of the tree"):
        read(tree, "l", 10)


@pytest.mark.parametrize(
    ("path", "why"),
    [("none", "No such file"), ("d", "is no file"), ("fifo", "is no file"),
     ("socket", "is no file"), ("f/x", "Not a directory"), ("f", "more than 3 bytes")],
)  # fmt: skip
def test_what_is_no_small_file_is_an_error(
    tree: Path, path: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tree)
    (tree / "f").write_bytes(b"four")
    (tree / "d").mkdir()
    os.mkfifo("fifo")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket")

    with pytest.raises(OSError, match=why):
        read(tree, path, 3)


def test_the_last_link_is_found_itself_where_it_is_not_followed(tree: Path) -> None:
    (tree / "l").symlink_to("/etc")

    with find(tree, "l", follow=False) as found:
        assert (found.kind, found.target()) == ("l", b"/etc")
