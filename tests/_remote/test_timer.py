"""The timer that puts links back where a run falls silent, under every shell."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from ghostasync._remote.script import timer
from tests._remote.shells import SHELLS, read, run, start

pytestmark = pytest.mark.parametrize("shell", SHELLS)

WHO = "run 1 by ann"


@attrs.define
class Host:
    """An app with one module that was switched from one release to the next."""

    shell: str
    root: Path

    @classmethod
    def create(cls, shell: str, root: Path) -> Host:
        host = cls(shell, root)
        for release in ("1_a_0", "2_a_0"):
            (host.module / release).mkdir(parents=True)
            (host.module / ".ghost" / release).mkdir(parents=True)
        meta = host.module / ".ghost/1_a_0"
        (meta / "environment").write_text("export GREETING='hello'\n")
        (meta / "post_deploy").write_text(
            'echo "$GREETING $GHOST_ACTION $GHOST_FAILED_RELEASE_ID $PWD" >>seen\n'
        )
        host.records.mkdir()
        # The run that moved the link is the one with the highest number.
        for name, release in (("9", "9_a_0"), ("10", "2_a_0"), ("10.new", "")):
            text = f"outcome=moved   \ngeneration={name}\nrelease={release}\nrun=r\n"
            (host.records / name).write_text(text)
        (host.app / ".ghost").mkdir()
        host.target.symlink_to(host.module / "2_a_0")
        return host

    @property
    def app(self) -> Path:
        return self.root / "it's an app"

    @property
    def module(self) -> Path:
        return self.app / "site"

    @property
    def records(self) -> Path:
        return self.module / ".ghost/activations"

    @property
    def target(self) -> Path:
        return self.root / "target"

    @property
    def ghost(self) -> Path:
        return self.app / ".ghost"

    def arm(self, seconds: int = 1, name: str = "1-aa") -> None:
        args = (name, str(self.app), WHO, str(seconds), "9", self.root.name)
        ends = (str(self.module / "1_a_0"), str(self.module / "2_a_0"), "", "10")
        how = ("mv", f"{self.ghost}/switching", "r")
        move = (str(self.module), str(self.target), *ends)
        text = timer(args, (*how, *move))
        words = (self.app, name, str(len(text)))
        status, _, err = run(self.shell, "timer_start", *words, payload=text)
        assert (status, err) == (0, "")

    def disarm(self) -> tuple[int | None, str]:
        status, _, err = run(self.shell, "timer_stop", self.app, "20")
        return status, err

    @property
    def serves(self) -> str:
        return self.target.readlink().name

    @contextlib.contextmanager
    def held(self, who: str) -> Iterator[subprocess.Popen[bytes]]:
        """Hold the app's lock for a run."""
        words = (str(self.app), "", who, "x", self.root.name + "x", "90", "0")
        process, frame = start(self.shell, "lock", *words)
        with process:
            while not frame.feed(read(process)):
                assert process.poll() is None
            yield process
            assert process.stdin
            process.stdin.close()


@pytest.fixture
def host(shell: str, tmp_path: Path) -> Iterator[Host]:
    host = Host.create(shell, tmp_path)
    yield host
    (host.ghost / "timer").unlink(missing_ok=True)


def _until(ready: Callable[[], bool], seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def _timers(host: Host) -> bool:
    """Tell whether a timer of the host runs still."""
    mark = os.fsencode(f"{host.ghost}/timer.sh")
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (entry / "cmdline").read_bytes().split(b"\0"):
                return True
    return False


def test_a_silent_run_has_its_links_put_back(host: Host) -> None:
    host.arm()

    _until((host.ghost / "reverted").exists)

    assert host.serves == "1_a_0"
    seen = (host.module / "1_a_0/seen").read_text()
    assert seen == f"hello rollback 2_a_0 {host.target}\n"
    record = (host.records / "10").read_text()
    lines = "generation=10\nrelease=2_a_0\nrun=r\nreverted_by=r\n"
    assert record == f"outcome=reverted\n{lines}"
    assert (host.records / "9").read_text().startswith("outcome=moved ")
    status, err = host.disarm()
    assert status == 1
    assert err.startswith("it put its links back by itself")
    assert "not all" not in err
    assert {p.name for p in host.ghost.iterdir()} <= {
        "reverted",
        "scripts",
        "timer.log",
    }


def test_a_post_deploy_that_fails_on_the_way_back_is_told(host: Host) -> None:
    (host.module / ".ghost/1_a_0/post_deploy").write_text("exit 3\n")
    host.arm()

    _until((host.ghost / "reverted").exists)

    assert host.serves == "1_a_0"
    assert "not all went well" in host.disarm()[1]


def test_what_a_post_deploy_makes_on_the_way_back_can_be_read_by_others(
    host: Host,
) -> None:
    before = os.umask(0o022)
    try:
        host.arm()
        _until((host.ghost / "reverted").exists)
    finally:
        os.umask(before)

    seen = host.module / "1_a_0/seen"
    assert stat.S_IMODE(seen.stat().st_mode) == 0o644


def test_a_timer_that_is_ended_moves_nothing(host: Host) -> None:
    host.arm()

    assert host.disarm() == (0, "")

    _until(lambda: not _timers(host))
    assert host.serves == "2_a_0"
    assert list(host.ghost.iterdir()) == []


def test_beats_hold_a_timer_back(host: Host) -> None:
    with host.held(WHO) as lock:
        host.arm(seconds=2)
        assert lock.stdin
        for _ in range(16):
            lock.stdin.write(b"\n")
            lock.stdin.flush()
            time.sleep(0.25)  # a run has to be alive for longer than the timer waits

        assert host.serves == "2_a_0"
        assert _timers(host)

    _until((host.ghost / "reverted").exists)
    assert host.serves == "1_a_0"


def test_another_run_in_charge_holds_a_timer_back(host: Host) -> None:
    with host.held("run 2 by bob"):
        host.arm()
        time.sleep(3)  # for longer than the timer waits

        assert (host.serves, _timers(host)) == ("2_a_0", True)

    _until((host.ghost / "reverted").exists)


def test_the_next_run_ends_an_earlier_timer(host: Host) -> None:
    host.arm()
    move = (host.module, str(host.module / "2_a_0"), "", "release=2_a_0")

    status, *_ = run(host.shell, "record_moves", host.app, "11", "r", "moved", *move)

    assert status == 0
    _until(lambda: not _timers(host))
    assert host.serves == "2_a_0"


def test_a_run_that_a_host_refuses_ends_no_timer(host: Host) -> None:
    (host.ghost / "fence").write_text("10 r\n")
    host.arm()

    assert run(host.shell, "record_moves", host.app, "10", "other", "moved")[0] == 1

    _until((host.ghost / "reverted").exists)
    assert host.serves == "1_a_0"
