"""What a build leaves goes, or is named with what to type."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ghostasync._local.emptying import remove
from tests._packaging.trees import ROOT

needs_root = pytest.mark.skipif(not ROOT, reason="other users and mounts take root")
NOBODY = 65534
REMOVE = """
import sys
from pathlib import Path
from ghostasync._local.emptying import remove
print(remove(Path(sys.argv[1])))
"""


@pytest.fixture
def top() -> Iterator[Path]:
    """Return a folder that every user can reach."""
    with tempfile.TemporaryDirectory(prefix="empty-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def removed_by_nobody(tree: Path) -> str:
    """Remove *tree* as a user who is not root, to whom it belongs."""
    reader, writer = os.pipe()
    # The interpreter itself may lie where only root can read.
    if not (pid := os.fork()):
        if ROOT:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        os.write(writer, os.fsencode(remove(tree)))
        os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with os.fdopen(reader, encoding="utf-8") as said:
        return said.read()


def give(tree: Path) -> None:
    for path in (tree, *tree.rglob("*")):
        if ROOT:
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


def test_a_tree_that_may_not_be_written_to_goes(top: Path) -> None:
    tree = top / "its/tree"
    (tree / "go/mod").mkdir(parents=True)
    (tree / "go/mod/file").touch()
    (tree / "link").symlink_to(top)
    give(top / "its")
    for path in (tree / "go/mod", tree / "go", tree):
        path.chmod(0o500)

    assert removed_by_nobody(tree) == ""
    assert [*(top / "its").iterdir()] == []


def test_a_link_in_its_place_goes_alone(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/file").touch()
    (tmp_path / "tree").symlink_to("home")

    assert remove(tmp_path / "tree") == ""
    assert [path.name for path in tmp_path.rglob("*")] == ["home", "file"]


def test_what_is_not_there_is_gone(tmp_path: Path) -> None:
    assert remove(tmp_path / "tree") == ""


@pytest.mark.parametrize(("levels", "name"), [(2000, "d"), (40, "n" * 200)])
def test_it_goes_however_deep_it_is(levels: int, name: str, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    folder = os.open(tree, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=folder)
        folder, above = os.open(name, os.O_RDONLY, dir_fd=folder), folder
        os.close(above)
    os.close(folder)

    assert remove(tree) == ""
    assert [*tmp_path.iterdir()] == []


@needs_root
def test_what_belongs_to_others_is_named(top: Path) -> None:
    """Docker in a buildpack makes folders of root."""
    tree = top / "its/tree"
    (tree / "cache").mkdir(parents=True)
    give(top / "its")
    (tree / "cache/made by root").mkdir()
    os.chown(tree / "cache", 0, 0)

    said = removed_by_nobody(tree)

    assert said == (
        f"rm: cannot remove '{tree}/cache/made by root': Permission denied: "
        f"sudo rm -rf {tree}"
    )


@needs_root
def test_what_is_mounted_there_stays_as_it_is(top: Path) -> None:
    home, tree = top / "home", top / "a tree"
    (tree / "cache 1").mkdir(parents=True)
    home.mkdir()
    (home / "precious").touch()
    mount = 'mount --bind "$1" "$2"; shift 2; exec "$@"'
    words = ["unshare", "-m", "sh", "-c", mount, "sh", str(home), f"{tree}/cache 1"]

    done = subprocess.run(
        [*words, sys.executable, "-c", REMOVE, str(tree)],
        check=False,
        capture_output=True,
        text=True,
    )

    if "unshare" in done.stderr:
        pytest.skip("mounting takes CAP_SYS_ADMIN")
    said = f"{tree}/cache 1 is mounted: umount '{tree}/cache 1'\n"
    assert (done.stdout, done.stderr) == (said, "")
    assert (home / "precious").exists()
    assert tree.exists()


@needs_root
def test_a_file_that_may_not_change_is_named(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").touch()
    if subprocess.call(["chattr", "+i", tree / "file"]):
        pytest.skip("this file system has no such attribute")
    try:
        said = remove(tree)
    finally:
        subprocess.check_call(["chattr", "-i", tree / "file"])

    assert said == (
        f"rm: cannot remove '{tree}/file': Operation not permitted: "
        f"chattr -R -i -a {tree}"
    )
