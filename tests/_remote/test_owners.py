"""Whose the folders on the way are, as each shell tells it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ghostasync._remote.script import body
from tests._remote.shells import SHELLS

pytestmark = [
    pytest.mark.parametrize("shell", SHELLS),
    pytest.mark.skipif(os.getuid() != 0, reason="others' folders are made by root"),
]

NOBODY, DAEMON = 65534, 1
TEXT = body("parts/owners").decode() + '\nstrangers "$@"\n'


@pytest.fixture
def strangers(shell: str, tmp_path: Path) -> Callable[..., list[str]]:
    """Return what others may change on the way to paths, below the test's folder."""
    # The folders of pytest itself are for its user alone.
    tmp_path.chmod(0o755)

    def ask(*paths: str, trusted: str = "", uid: int = 0) -> list[str]:
        command = [
            *SHELLS[shell],
            TEXT,
            "sh",
            *(f"{tmp_path}/{path}" for path in paths),
        ]
        env = {"PATH": os.environ["PATH"], "trusted": trusted}
        done = subprocess.run(
            command, env=env, user=uid, capture_output=True, text=True, check=True
        )
        assert done.stderr == ""
        return done.stdout.replace(f"{tmp_path}/", "").splitlines()

    return ask


def test_folders_of_root_are_nobody_elses(
    strangers: Callable[..., list[str]], tmp_path: Path
) -> None:
    (tmp_path / "a/b").mkdir(parents=True)

    assert strangers("a/b", "a/b/not/there", "a/../a//b/.") == []


def test_a_folder_of_another_user_is_named_wherever_it_is(
    strangers: Callable[..., list[str]], tmp_path: Path
) -> None:
    (tmp_path / "a/b/c").mkdir(parents=True)
    os.chown(tmp_path / "a", NOBODY, 0)
    os.chown(tmp_path / "a/b/c", DAEMON, 0)

    assert strangers("a/b/c/d") == ["owner daemon a/b/c", "owner nobody a"]
    assert strangers("a/b/c", trusted="daemon nobody") == []
    # Root and the user who asks are no strangers.
    assert strangers("a/b", uid=NOBODY) == []


@pytest.mark.parametrize(
    ("mode", "gid", "told"),
    [
        (0o757, 0, ["others . a"]),
        (0o777, 0, ["others . a"]),
        (0o775, 0, []),
        (0o1777, 0, []),
        (0o2775, DAEMON, []),
    ],
)
def test_a_folder_that_others_may_write_to_is_named(
    strangers: Callable[..., list[str]],
    tmp_path: Path,
    mode: int,
    gid: int,
    told: list[str],
) -> None:
    """But for a sticky one of root, where nobody touches what is another's."""
    (tmp_path / "a/b").mkdir(parents=True)
    os.chown(tmp_path / "a", NOBODY if gid else 0, gid)
    (tmp_path / "a").chmod(mode)

    # The group daemon has the member daemon.
    told = told or (["group daemon a"] if gid else [])

    assert strangers("a/b", trusted="nobody") == told
    assert strangers("a/b", trusted="nobody daemon") == told[: 1 - (gid == DAEMON)]
    assert strangers("a/b", trusted="nobody @daemon") == told[: 1 - (gid == DAEMON)]


def test_a_sticky_folder_is_no_place_for_a_link(
    strangers: Callable[..., list[str]], tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(0o1777)
    (tmp_path / "to").symlink_to("a")

    assert strangers("a") == strangers("to") == ["anybody . a"]
    # Anybody could make there what is not there yet.
    assert strangers("a/not/there") == ["anybody . a"]
    (tmp_path / "a/b").mkdir()
    assert strangers("a/b", "a/b/not/there") == []


def test_a_sticky_folder_of_another_user_keeps_nothing(
    strangers: Callable[..., list[str]], tmp_path: Path
) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a").chmod(0o1777)
    os.chown(tmp_path / "a", NOBODY, 0)

    assert strangers("a/b", trusted="nobody") == ["anybody . a"]


def test_links_are_followed_and_have_owners_themselves(
    strangers: Callable[..., list[str]], tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "theirs/inner").mkdir(parents=True)
    os.chown(tmp_path / "theirs", NOBODY, 0)
    (tmp_path / "a/l123456789").symlink_to("../theirs/inner")
    (tmp_path / "whole").symlink_to(tmp_path / "a/l123456789")
    (tmp_path / "mine").symlink_to(tmp_path / "a")
    os.lchown(tmp_path / "mine", NOBODY, 0)
    (tmp_path / "loop").symlink_to("loop")

    assert strangers("a/l123456789/x") == ["owner nobody theirs"]
    assert strangers("whole") == ["owner nobody theirs"]
    assert strangers("mine/x") == ["owner nobody mine"]
    assert strangers("loop/x") == []


def test_a_folder_named_like_a_link_s_mode_is_looked_at(
    strangers: Callable[..., list[str]], tmp_path: Path
) -> None:
    (tmp_path / "lrwxrwxrwx/a").mkdir(parents=True)
    (tmp_path / "lrwxrwxrwx").chmod(0o777)

    assert strangers("lrwxrwxrwx/a") == ["others . lrwxrwxrwx"]


@pytest.mark.skipif(not shutil.which("setfacl"), reason="setfacl is missing")
def test_an_acl_that_lets_others_write_is_named(
    strangers: Callable[..., list[str]], shell: str, tmp_path: Path
) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    # On a file system without ACLs there is nothing to be found.
    acl = subprocess.run(
        ["setfacl", "-m", "u:nobody:rwx", tmp_path / "a"], check=False, timeout=9
    )
    if acl.returncode:
        pytest.skip("the file system has no ACLs")

    assert strangers("a/b") == ["acl . a"]
    assert strangers("a/b", trusted="nobody") == ["acl . a"]
    assert shell


def test_folders_of_ours_have_our_mode_below_a_default_acl(
    shell: str, tmp_path: Path
) -> None:
    setfacl = shutil.which("setfacl")
    if (
        not setfacl
        or subprocess.run(
            [setfacl, "-dm", "u:nobody:rwx", tmp_path], check=False
        ).returncode
    ):
        pytest.skip("no ACLs here")
    text = f"umask 0\n{body('parts/ours').decode()}\nours '{tmp_path}/a/b'\n"

    subprocess.run([*SHELLS[shell], text], check=True)

    for folder in ("a", "a/b"):
        assert (tmp_path / folder).stat().st_mode & 0o777 == 0o755
        touched = subprocess.run(
            ["touch", tmp_path / folder / "x"], user=NOBODY, check=False
        )
        assert touched.returncode != 0
