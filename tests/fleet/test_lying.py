"""
A host that lies is one host that failed: no other notices, and no person is misled.

h2 of a real fleet has a shell that answers a script of ours by a lie; see ``lies``.
"""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest

from ghostasync import Rollout
from ghostasync.model import Deadlines
from tests.fleet.conftest import StartFleet, need
from tests.fleet.console import Console, Outcome
from tests.fleet.lies import be_honest, have_lying, lie
from tests.fleet.sample_app import SampleApp
from tests.fleet.sshd import namespaces_work

pytestmark = pytest.mark.fleet

DEADLINES = Deadlines(connect=8, check=8, upload=10, pre_deploy=8, rollback=8)


@attrs.frozen
class Liar:
    """Three hosts that serve a release, of which h2 can lie."""

    sample: SampleApp
    console: Console

    def tell(self, script: str, what: str) -> None:
        lie(self.sample.fleet, "h2", script, what)

    def deploy(self, version: str, *words: str) -> Outcome:
        self.sample.repositories["site"].commit(version)
        return self.console.deploy(*words)

    @property
    def serves(self) -> dict[str, str]:
        return self.sample.serves("site")


@pytest.fixture
def liar(sshd_fleet: StartFleet, tmp_path: Path) -> Liar:
    need(namespaces_work(), "needs root, and unshare with CAP_SYS_ADMIN")
    sample = SampleApp.create(tmp_path, sshd_fleet(3), "site")
    have_lying(sample.fleet, "h2")
    console = Console(sample)
    rollout = Rollout(max_failures=1, deadlines=DEADLINES)
    console.configure(sample.plan(sample.module("site"), rollout=rollout))
    assert console.deploy().exit == 0
    return Liar(sample, console)


def require_one_line(text: str) -> None:
    """What a person reads is no traceback, and obeys nothing."""
    assert "Traceback" not in text
    assert all(line.isprintable() for line in text.split("\n")), text


BEFORE = [
    ("probe", "nothing"),
    ("probe", "half"),
    ("probe", "no frame"),
    ("probe", "tricks"),
    ("check", "nothing"),
    ("check", "half"),
    ("check", "half and a status"),
    ("check", "noise"),
    ("check", "another folder"),
    ("check", "another status"),
    ("check", "no end"),
    ("check", "lines without end"),
    ("check", "errors without end"),
    ("check", "a wild number"),
    ("check", "a high number"),
    ("check", "tricks"),
    ("lock", "nothing"),
    ("lock", "a lock"),
    ("lock", "no end"),
    ("lock", "tricks"),
    ("receive", "tricks"),
    ("receive", "lines without end"),
    ("environment", "noise"),
    ("record_moves", "another status"),
]
"""Scripts before the first link moves, and lies about them."""


def test_a_host_that_lies_before_the_switch_is_one_host_that_failed(
    liar: Liar,
) -> None:
    """One fleet for all: what a lie breaks is mended by the next deploy."""
    for number, (script, what) in enumerate(BEFORE):
        before = liar.serves["h2"]
        liar.tell(script, what)

        outcome = liar.deploy(str(number))

        told = f"{script}: {what}: {outcome.stderr}\n{outcome.stdout[-500:]}"
        assert outcome.exit == 0, told
        assert outcome.last["outcome"] == "partial", told
        assert outcome.states == {"h1": "LIVE", "h2": "FAILED", "h3": "LIVE"}, told
        new = outcome.last["releases"]["site"]
        assert liar.serves == {"h1": new, "h2": before, "h3": new}, told
        require_one_line(outcome.stderr)
        reason = outcome.event("Failed", "h2")["reason"]
        assert len(reason) < 1000, told
        require_one_line(outcome.stdout)
        assert outcome.event("Numbered")["generation"] == number + 2
        be_honest(liar.sample.fleet, "h2")
    assert liar.deploy("last").exit == 0
    assert len({*liar.serves.values()}) == 1


@pytest.mark.parametrize("what", ["nothing", "noise", "half", "another status"])
def test_a_host_that_lies_about_its_way_back_is_stranded(liar: Liar, what: str) -> None:
    liar.sample.repositories["site"].script("post_deploy", "exit 7")
    liar.tell("restore", what)
    before = liar.serves

    outcome = liar.deploy("2")

    assert outcome.exit == 3, outcome.stderr
    assert outcome.states == {
        "h1": "ROLLED_BACK",
        "h2": "STRANDED",
        "h3": "ROLLED_BACK",
    }
    assert {h: r for h, r in liar.serves.items() if h != "h2"} == {
        h: r for h, r in before.items() if h != "h2"
    }
    require_one_line(outcome.stderr)
    assert "restore" in outcome.stderr


@pytest.mark.parametrize(
    "what",
    ["nothing", "half", "another folder", "a wild number", "a high number", "no end"],
)
def test_status_and_check_tell_of_a_liar_and_of_all_others(
    liar: Liar, what: str
) -> None:
    liar.tell("check", what)

    status, checked = liar.console("status"), liar.console("check")

    assert (status.exit, checked.exit) == (6, 1)
    for text in (status.stdout, checked.stdout):
        require_one_line(text)
        assert re.search(r"\bh2\b", text)
    assert re.search(r"^in-line +h\[1,3\] ", status.stdout, re.MULTILINE)
    assert status.stderr == checked.stderr == ""


def test_a_log_that_never_ends_fills_no_store(liar: Liar) -> None:
    flood = 'case $(hostname) in h2) head -c 60000000 /dev/zero | tr "\\000" y ;; esac'
    liar.sample.repositories["site"].script("pre_deploy", flood)

    outcome = liar.deploy("2")

    assert outcome.exit == 0, outcome.stderr
    log = Path(outcome.last["log"]) / "hosts" / "h2.log"
    assert log.stat().st_size < 13_000_000
    text = log.read_bytes()
    assert re.search(rb"\n--- +\d+ bytes are left out here", text)
    assert text.rstrip().endswith(b"exited 0")
