"""Whose files a run believes: real owners, groups, links and lists of access."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ghostasync._local.owners import readable, trespass

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
NOBODY = 65534
WITHOUT_MEMBERS = 54321


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "a" / "b"
    path.mkdir(parents=True)
    (path / "file").touch(mode=0o600)
    return path


def test_our_own_files_are_believed_also_below_a_sticky_folder(folder: Path) -> None:
    folder.parent.chmod(0o1777)

    assert not trespass(folder / "file")
    assert not trespass(folder)
    assert not trespass(folder / "not" / "made" / "yet")


@pytest.mark.parametrize("where", ["", "..", "file"])
def test_what_everybody_can_write_to_is_named_with_its_cure(
    folder: Path, where: str
) -> None:
    at = (folder / where).resolve()
    at.chmod(0o777)

    why = trespass(folder / "file")

    assert why == f"{at} can be changed by everybody here: chmod o-w {at}"
    subprocess.run(why.partition(": ")[2], shell=True, check=True)
    assert not trespass(folder / "file")


def test_a_sticky_folder_may_stand_above_and_not_be_meant_itself(folder: Path) -> None:
    folder.chmod(0o1777)

    assert trespass(folder).endswith(f": chmod o-w {folder}")
    assert not trespass(folder / "file")


@pytest.mark.parametrize("where", ["", "..", "file"])
@needs_root
def test_what_belongs_to_somebody_else_is_named_with_its_cure(
    folder: Path, where: str
) -> None:
    at = (folder / where).resolve()
    os.chown(at, NOBODY, -1)

    why = trespass(folder / "file")

    assert why == f"{at} belongs to nobody, who can change it: chown root {at}"
    subprocess.run(why.rpartition(": ")[2], shell=True, check=True)
    assert not trespass(folder / "file")


@needs_root
def test_the_caller_of_sudo_is_one_of_us(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chown(folder, NOBODY, -1)
    monkeypatch.setenv("SUDO_UID", str(NOBODY))

    assert not trespass(folder / "file")


@needs_root
def test_a_group_without_other_members_is_nobody_else(folder: Path) -> None:
    (folder / "file").chmod(0o660)

    assert not trespass(folder / "file")
    os.chown(folder / "file", -1, WITHOUT_MEMBERS)
    assert not trespass(folder / "file")
    os.chown(folder / "file", -1, NOBODY)

    why = trespass(folder / "file")
    assert "nobody" in why
    assert why.endswith(f": chmod g-w {folder}/file")


@needs_root
def test_a_team_shares_what_its_owner_has_given_to_a_group(folder: Path) -> None:
    os.chown(folder, -1, NOBODY)
    folder.chmod(0o2770)

    assert trespass(folder)
    assert not trespass(folder, shared=True)
    assert not trespass(folder / "new", shared=True)
    folder.chmod(0o2777)
    assert trespass(folder, shared=True).endswith(f": chmod o-w {folder}")
    folder.chmod(0o2770)
    os.chown(folder, NOBODY, -1)
    assert "belongs to nobody" in trespass(folder, shared=True)


@needs_root
@pytest.mark.skipif(not shutil.which("setfacl"), reason="needs setfacl")
def test_a_list_of_access_names_others(folder: Path) -> None:
    subprocess.run(["setfacl", "-m", "u:nobody:rw", folder / "file"], check=True)

    why = trespass(folder / "file")

    assert why.endswith(
        f"can be changed by those on its list: setfacl -b {folder}/file"
    )


@needs_root
def test_a_link_is_followed_with_all_that_it_leads_through(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "far" / "away").mkdir(parents=True)
    (folder / "link").symlink_to("../../far/away/../away")
    assert not trespass(folder / "link" / "file")
    (tmp_path / "far").chmod(0o777)
    assert trespass(folder / "link" / "file").endswith(f"chmod o-w {tmp_path}/far")
    (tmp_path / "far").chmod(0o755)
    os.chown(folder / "link", NOBODY, -1, follow_symlinks=False)

    assert trespass(folder / "link" / "file").startswith(f"{folder}/link belongs to")


def test_a_circle_of_links_and_an_impossible_name_end(folder: Path) -> None:
    (folder / "round").symlink_to("round")

    assert not trespass(folder / "round" / "x")
    assert not trespass(Path("/a\0b"))
    assert not trespass(Path("/dev/null"))


def test_a_private_key_is_for_its_owner_alone(folder: Path) -> None:
    key = folder / "file"
    assert not readable(key)
    assert not readable(folder / "none")
    key.chmod(0o640)

    assert readable(key).endswith(f"so ssh would not use it: chmod 600 {key}")
