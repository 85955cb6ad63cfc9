from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def demo(tmp_path: Path) -> list[str]:
    """The command; its folders would be in *tmp_path*."""
    return [
        *("env", f"TMPDIR={tmp_path}", sys.executable, "-m", "ghostasync"),
        *("demo", "--hosts", "3"),
    ]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=90, check=False
    )


def test_a_demo_deploys_twice_and_leaves_nothing_behind(
    demo: list[str], tmp_path: Path
) -> None:
    ended = run(demo)

    lines = ended.stdout.splitlines()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert sum("hosts live in" in line for line in lines) == 2
    assert lines[-1] == "host-[1-3] say: Hello from version 2"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("place", ["buildpack", "pre_deploy", "post_deploy", "verify"])
def test_a_demo_that_fails_shows_the_fleet_as_before(
    demo: list[str], place: str
) -> None:
    ended = run([*demo, "--fail", place])

    assert ended.returncode == 0
    assert ended.stdout.splitlines()[-1] == "host-[1-3] say: Hello from version 1"
    assert ended.stderr.startswith("ghostasync: failed")
    assert len(ended.stderr.splitlines()) <= 8


def test_the_first_ctrl_c_puts_every_link_back(demo: list[str]) -> None:
    process = subprocess.Popen(
        [*demo, "--output", "json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    events = []
    for line in process.stdout:
        events.append(json.loads(line))
        if events[-1]["event"] == "Switched":
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGINT)
            break
    rest, err = process.communicate(timeout=60)

    last = json.loads(rest.splitlines()[-1])
    assert (last["event"], last["outcome"]) == ("Finished", "interrupted")
    assert (last["exit"], process.returncode) == (130, 130)
    assert set(last["hosts"].values()) <= {"ROLLED_BACK", "HALTED", "FAILED"}
    assert err.startswith(b"ghostasync: interrupted: SIGINT")


def test_a_demo_kills_its_own_controller_and_goes_on(
    demo: list[str], tmp_path: Path
) -> None:
    ended = run([*demo, "--kill", "--output", "lines"])

    said = ended.stdout
    assert (ended.returncode, ended.stderr) == (0, "")
    steps = ("$ ghostasync deploy", "$ kill -9 ", "$ ghostasync status")
    at = [said.index(step) for step in (*steps, "$ ghostasync resume\n")]
    assert at == sorted(at)
    assert "was killed while it switched" in said
    assert "live already" in said[at[-1] :]
    assert said.splitlines()[-1] == "host-[1-3] say: Hello from version 2"
    assert os.listdir(tmp_path) == []


def test_a_demo_fails_or_is_killed(demo: list[str]) -> None:
    ended = run([*demo, "--kill", "--fail", "verify"])

    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "ghostasync: demo: say --fail or --kill, not both\n"


def test_hosts_that_were_halted_are_told_apart_from_the_one_that_failed(
    demo: list[str],
) -> None:
    ended = run([*demo, "--fail", "pre_deploy", "--output", "json"])

    last = json.loads(ended.stdout.splitlines()[-1])
    assert sorted(last["hosts"].values()) == ["FAILED", "HALTED", "HALTED"]
    assert (last["outcome"], last["exit"]) == ("failed", 1)
    head, *_, now = ended.stderr.splitlines()
    assert head == "ghostasync: failed: 1 host failed, 0 allowed"
    # All of them serve what they served before, the one that failed too.
    assert now.endswith(" on 3 hosts")
