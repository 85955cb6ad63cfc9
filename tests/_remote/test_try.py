"""What try.sh finds out that a deploy would run into, under every shell."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghostasync._remote.script import quote
from tests._remote.shells import SHELLS, may_mount, run, run_mounted

pytestmark = pytest.mark.parametrize("shell", SHELLS)

ONE_NAME = (
    '/usr/bin/env takes "sh -eu" in its first line for one name: write '
    "#!/usr/bin/env -S sh -eu"
)
NO_SUCH = "which its first line names, is not there: install it"
CARRIAGE = (
    "its first line ends with a carriage return: save it with the line ends of Unix"
)
NO_PATH = "which its first line names, is not on the PATH: install it, or set PATH"


def why(shell: str, first: str, folder: Path, *, path: str = "") -> str:
    """Return why a script that begins with the line *first* cannot be started."""
    words = ("post_deploy", first, f"{folder}/target")
    done = run(shell, "try", folder, path, *words, env={"TMPDIR": str(folder)})
    assert done[0] == 0, done
    assert [*folder.glob("**/*ghost*")] == []
    said = done[1].removesuffix("\n")
    return said.removeprefix("unfit=post_deploy ")


@pytest.mark.parametrize(
    "first",
    [
        "echo no interpreter",
        "",
        "#!/bin/sh",
        "#! /bin/sh -eu",
        "#!/usr/bin/env sh",
        "#!/usr/bin/env -S sh -eu",
        "#!/usr/bin/env -Ssh -eu",
        "#!/usr/bin/env -S -u HOME nope",  # options are not for us to read
        "#!/usr/bin/env -i nope",
        "#!/usr/bin/env -S A='one two' nope",
        "#!venv/bin/python",
        "#!{}/target/venv/bin/python",
        "#!",
        "#!/usr/bin/env",
    ],
)
def test_an_interpreter_that_is_there_is_no_finding(
    shell: str, first: str, tmp_path: Path
) -> None:
    assert why(shell, first.format(tmp_path), tmp_path) == ""


@pytest.mark.parametrize(
    ("first", "words"),
    [
        ("#!/usr/bin/nope", f"/usr/bin/nope, {NO_SUCH}"),
        ("#! /usr/bin/nope -x", f"/usr/bin/nope, {NO_SUCH}"),
        ("#!/etc/passwd", f"/etc/passwd, {NO_SUCH}"),
        ("#!/etc", f"/etc, {NO_SUCH}"),
        ("#!/usr/bin/env nope", f"nope, {NO_PATH}"),
        ("#!/usr/bin/env -S nope -u", f"nope, {NO_PATH}"),
        ("#!/usr/bin/env -Snope -u", f"nope, {NO_PATH}"),
        ("#!/usr/bin/env sh -eu", ONE_NAME),
        ("#!/bin/sh\r", CARRIAGE),
    ],
)
def test_a_script_that_cannot_be_started_is_told_with_its_cure(
    shell: str, first: str, words: str, tmp_path: Path
) -> None:
    assert why(shell, first, tmp_path) == words


def test_scripts_have_the_path_of_the_plan(shell: str, tmp_path: Path) -> None:
    tool = tmp_path / "odd tool"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    tool = tool.rename(tmp_path / "tool")

    assert why(shell, "#!/usr/bin/env tool", tmp_path, path=str(tmp_path)) == ""
    assert why(shell, "#!/usr/bin/env sh", tmp_path, path=str(tmp_path)) != ""


def test_an_env_without_split_is_told(shell: str, tmp_path: Path) -> None:
    env = tmp_path / "env"
    env.write_text('#!/bin/sh\n[ "$1" != -S ]\n')
    env.chmod(0o755)

    assert why(shell, f"#!{env} -S sh -eu", tmp_path) == (
        f"{env} knows no -S: name the interpreter itself in its first line"
    )


@pytest.mark.parametrize(
    ("first", "said"),
    [
        ("true", ""),
        ("#!/bin/sh", ""),
        ("#!/usr/bin/env sh", ""),
        ("#!/usr/bin/env -S sh -eu", ""),
        ("#!/usr/bin/env tool", ""),  # on the PATH that scripts have
        ("#!/srv/site/venv/bin/python", ""),
        ("#!/usr/bin/nope", f"unfit=post_deploy /usr/bin/nope, {NO_SUCH}\n"),
    ],
)
def test_scripts_that_have_come_are_tried_with_their_environment(
    shell: str, first: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "post_deploy").write_text(first)  # without an end of the line
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    exports = f"export PATH='{tmp_path}:/usr/bin'\n".encode()

    words = (tmp_path, "/srv/site", str(len(exports)), "pre_deploy", "post_deploy")
    done = run(shell, "environment", *words, payload=exports)

    assert done == (0, said, "")
    assert [*tmp_path.glob(".ghost*")] == []


# --- Disks ------------------------------------------------------------------------


def mounted(shell: str, before: str, folder: Path) -> str:
    """Return what a host says with other disks; *before* mounts them."""
    if not may_mount():
        pytest.skip("mounting a small file system takes CAP_SYS_ADMIN")
    here = quote(str(folder)).decode()
    before = f"export TMPDIR={here}/tmp\n{before.replace('{}', here)}"
    left = f'[ "$(find {here} -name "*ghost*")" = "" ]'
    scripts = (
        "pre_deploy/site",
        "#!/bin/sh",
        "/srv",
        "post_deploy/site",
        "true",
        "/srv",
    )
    words = (folder / "root/app", "", *scripts)
    status, said, _ = run_mounted(shell, before, left, "try", *words)
    assert status == 0
    return said


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("root", "tmp"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_usual_disks_are_no_finding(shell: str, folder: Path) -> None:
    assert mounted(shell, "", folder) == ""


def test_a_disk_from_which_nothing_is_started_is_told(shell: str, folder: Path) -> None:
    before = "mount -t tmpfs -o noexec none {}/root"

    assert mounted(shell, before, folder) == (
        f"noexec= {folder}/root\nnoexec=pre_deploy/site {folder}/root\n"
    )


@pytest.mark.parametrize(
    ("options", "after", "error"),
    [
        ("ro", "", "Read-only file system"),
        ("size=64k", "cat /dev/zero >{}/tmp/full || :", "No space left on device"),
        ("nr_inodes=1", "", "No space left on device"),
    ],
)
def test_a_folder_for_temporary_files_that_takes_none_is_told(
    shell: str, options: str, after: str, error: str, folder: Path
) -> None:
    before = f"mount -t tmpfs -o {options} none {{}}/tmp\n{after}"

    said = mounted(shell, before, folder)

    assert said.startswith(f"tmp={folder}/tmp ")
    assert said.endswith(f": {error}\n")
    assert said.count("\n") == 1
