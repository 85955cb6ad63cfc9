"""A script that is in no release, under every shell."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests._remote.shells import SHELLS, read, run_on_full_disk, run_open, start

pytestmark = pytest.mark.parametrize("shell", SHELLS)

ENVIRONMENT = "export A='it is'\nexport meta='theirs' script='theirs'\n"


def args(root: Path, script: str) -> tuple[str, ...]:
    meta = f"{root}/it's an app/site/.ghost/exec"
    run = (str(root), f"{meta}/exec", "", f"{meta}/environment")
    return (meta, "exec", script, ENVIRONMENT, "why\n\n", *run)


def left(root: Path) -> list[Path]:
    return list((root / "it's an app").rglob("exec"))


def test_a_script_finds_all_it_came_with_and_leaves_nothing(
    shell: str, tmp_path: Path
) -> None:
    script = (
        'pwd; echo "$A $meta $script"; cd "it\'s an app/site/.ghost/exec"; '
        "stat -c '%a %n' . *; wc -c <commit_message; umask\n"
    )
    meta = Path(args(tmp_path, "")[0])
    meta.mkdir(parents=True)
    (meta / "of a host that went down").touch()

    status, output = run_open(shell, "execute", *args(tmp_path, script))

    assert (status, output.splitlines()) == (
        0,
        [
            str(tmp_path),
            "it is theirs theirs",
            *("700 .", "600 commit_message", "600 environment", "600 exec"),
            "5",
            "0022",
        ],
    )
    assert left(tmp_path) == []


def test_its_first_line_says_what_runs_it(shell: str, tmp_path: Path) -> None:
    status, output = run_open(
        shell, "execute", *args(tmp_path, "#!/bin/cat\nits own text\n")
    )

    assert (status, output) == (0, "#!/bin/cat\nits own text\n")


def test_it_ends_with_the_status_of_the_script(shell: str, tmp_path: Path) -> None:
    assert run_open(shell, "execute", *args(tmp_path, "exit 7")) == (7, "")
    assert left(tmp_path) == []


def test_it_is_ended_and_goes_where_its_controller_has_gone(
    shell: str, tmp_path: Path
) -> None:
    process, _ = start(shell, "execute", *args(tmp_path, "echo on; sleep 60"))
    while b"on\n" not in read(process):
        pass

    process.communicate(timeout=20)

    assert left(tmp_path) == []


def test_one_that_has_no_room_says_so(shell: str, tmp_path: Path) -> None:
    status, output, _ = run_on_full_disk(
        shell, tmp_path, "execute", *args(tmp_path, "x" * 50_000)
    )

    assert status
    assert "No space left on device" in output


def test_its_own_end_by_a_signal_is_told(shell: str, tmp_path: Path) -> None:
    status, _ = run_open(shell, "execute", *args(tmp_path, "kill -KILL $$"))

    assert status == 128 + signal.SIGKILL
