"""What scripts print: bounded in the log and here, harmless to whoever looks on."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import attrs
import pytest

from ghostasync import Script
from ghostasync._local.logs import MOST
from tests.fleet.conftest import StartFleet
from tests.fleet.console import Console
from tests.fleet.sample_app import SampleApp
from tests.fleet.terminal import on_a_terminal

pytestmark = pytest.mark.fleet

MEGABYTES = 300
RESIDENT = 160_000_000
"""Bytes: a run of one host that prints nothing takes some 70 MB here."""

CONTROLS = re.compile("\x1b\\]0;owned|\x1b\\[2J|\x1b\\[38;5;201|\x1bc|\0|\x9b|\x07")
HOSTILE = (
    r"""printf '\033[2J\033]0;owned\007\033c\233\000\033[38;5;201mlast words\a\n'"""
)


@attrs.frozen
class Scene:
    sample: SampleApp
    console: Console

    def scripts(self, **texts: str) -> None:
        """Have the module's scripts be these, and no other."""
        scripts = {key: Script(inline=text) for key, text in texts.items()}
        none = dict.fromkeys(("buildpack", "pre_deploy", "post_deploy"), Script())
        module = attrs.evolve(
            self.sample.module("site"),
            after_all_deploy=Script(),
            **{**none, **scripts},  # type: ignore[arg-type]  # all are scripts
        )
        self.console.configure(self.sample.plan(module))

    def log(self) -> Path:
        (path,) = self.sample.store.glob("runs/*/hosts/h1.log")
        return path


@pytest.fixture
def scene(sshd_fleet: StartFleet, tmp_path: Path) -> Scene:
    sample = SampleApp.create(tmp_path, sshd_fleet(1), "site")
    return Scene(sample, Console(sample))


def peak(pid: int) -> int:
    """Return the most memory that a process had resident; 0 once it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def test_of_300_mb_of_anything_both_ends_are_in_the_log(scene: Scene) -> None:
    zeros = f"dd if=/dev/zero bs=1000000 count={MEGABYTES} 2>/dev/null"
    scene.scripts(pre_deploy=f"{HOSTILE}\n{zeros}\necho; {HOSTILE}\nexit 3")

    with scene.console.running("deploy", "--output", "json") as process:
        assert process.stdout is not None
        resident = 0
        events: list[dict[str, Any]] = []
        for line in process.stdout:
            events.append(json.loads(line))
            # What the system tells at its end is of who started it, too.
            resident = peak(process.pid) or resident
        process.wait(30)

    assert (process.returncode, events[-1]["hosts"]) == (1, {"h1": "FAILED"})
    assert 0 < resident < RESIDENT
    said = [event["text"] for event in events if event["event"] == "Output"]
    assert said
    assert max(map(len, said)) <= 4096
    log = scene.log().read_bytes()
    assert len(log) <= MOST
    printed, _, _ = log.partition(b"\n--- pre_deploy of site exited")
    (left_out,) = re.findall(rb"\n--- +(\d+) bytes are left out here", printed)
    assert printed.count(b"\0") + int(left_out) == MEGABYTES * 1_000_000 + 2
    assert printed.count(b"last words\a\n") == 2


@pytest.mark.parametrize("output", ["board", "lines", "json"])
def test_what_a_script_prints_steers_no_terminal(scene: Scene, output: str) -> None:
    binary = "dd if=/dev/urandom bs=100000 count=20 2>/dev/null"
    scene.scripts(
        buildpack=f"{HOSTILE}\nsleep 0.6\n{HOSTILE}",
        pre_deploy=f"{binary}\n{HOSTILE}\nsleep 0.6\n{HOSTILE}\nexit 3",
    )

    _, shown = on_a_terminal(scene.console, "deploy", "--output", output)

    assert b"last words" in shown
    # Nothing in it is cut or invalid; a byte of a letter is no control character.
    text = shown.decode()
    assert not CONTROLS.search(text.replace("\x1b[?25", ""))


def test_a_line_without_end_is_cut_for_people(scene: Scene) -> None:
    scene.scripts(pre_deploy="tr -dc a-z </dev/urandom | head -c 300000; exit 3")

    outcome = scene.console("deploy", "--output", "lines")

    assert outcome.exit == 1
    said = (outcome.stdout + outcome.stderr).splitlines()
    assert max(map(len, said)) < 500
    assert re.search(rb"[a-z]{300000}", scene.log().read_bytes())


@pytest.mark.parametrize(
    "child", ["sleep 600 & echo $! >pid", "while :; do echo noise; done & echo $! >pid"]
)
def test_a_child_that_keeps_the_output_open_does_not_hold_the_run(
    scene: Scene, child: str
) -> None:
    scene.scripts(post_deploy=f"{child}\necho started\n")

    outcome = scene.console.deploy()

    assert outcome.exit == 0, outcome.stderr
    assert outcome.states == {"h1": "LIVE"}
    assert b"started\n" in scene.log().read_bytes()


def test_a_daemon_that_post_deploy_leaves_behind_lives_on(scene: Scene) -> None:
    scene.scripts(post_deploy="sleep 600 &")

    assert scene.console.deploy().exit == 0
    assert scene.console.deploy("--force").exit == 0

    assert scene.sample.fleet.commands("h1").count("sleep 600") == 2
