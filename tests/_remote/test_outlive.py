"""A script that outlives the session which started it, under every shell."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from ghostasync._remote.fence import app_word
from ghostasync._remote.script import outliving
from tests._remote.shells import BOOT, SHELLS, read, run, run_open, start

pytestmark = pytest.mark.parametrize("shell", SHELLS)


@attrs.define
class Migration:
    """A before_switch that says what it sees and waits for the file *gate*."""

    shell: str
    meta: Path
    gate: Path
    app: str
    text: str = """
        echo "begun $A $B"
        while [ ! -e gate ]; do sleep 0.05; done
        echo over
        exit 3
    """

    @classmethod
    def create(cls, shell: str, root: Path) -> Migration:
        meta = root / "it's an app" / "site/.ghost/1_a_0"
        meta.mkdir(parents=True)
        (meta.parents[2] / ".ghost").mkdir()
        (meta.parents[2] / ".ghost/scripts").write_text(BOOT.read_text())
        (meta / "environment.next").write_text("export A='it is'\n")
        return cls(shell, meta, root / "gate", app_word(str(root)))

    def args(self, run: str = "r1") -> tuple[str, ...]:
        environment = str(self.meta / "environment.next")
        text = outliving((str(self.gate.parent), "", self.text, environment, "B=1"))
        return (str(self.meta), "before_switch", self.app, run, text)

    def ends(self, run: str = "r1") -> tuple[int, str]:
        return run_open(self.shell, "outlive", *self.args(run))

    @property
    def processes(self) -> list[int]:
        mark = f"before_switch@{self.app}@".encode()
        return [
            int(entry.name)
            for entry in Path("/proc").glob("[0-9]*")
            if mark in _read(entry / "cmdline")
        ]

    @property
    def left(self) -> list[str]:
        """What still works in the folder of the release."""
        return [
            entry.name
            for entry in Path("/proc").glob("[0-9]*")
            if _leads_to(entry / "cwd").is_relative_to(self.meta)
        ]


def _leads_to(link: Path) -> Path:
    try:
        return link.readlink()
    except OSError:
        return Path()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _until(ready: Callable[[], object], seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def migration(shell: str, tmp_path: Path) -> Iterator[Migration]:
    made = Migration.create(shell, tmp_path)
    yield made
    for pid in made.processes:
        os.kill(pid, signal.SIGKILL)
    made.gate.touch()
    _until(lambda: not made.left)


def test_its_output_and_status_are_those_of_the_script(migration: Migration) -> None:
    migration.gate.touch()

    assert migration.ends() == (3, "begun it is 1\nover\n")
    assert migration.processes == []
    # The text had the environment of the login in it.
    assert not (migration.meta / "before_switch.sh").exists()


def test_it_goes_on_where_nobody_looks_on_and_tells_its_end_later(
    migration: Migration,
) -> None:
    with start(migration.shell, "outlive", *migration.args())[0] as looking_on:
        _until(lambda: b"begun" in read(looking_on))
        assert looking_on.stdin
        looking_on.stdin.close()
    assert migration.processes

    migration.gate.touch()
    _until(lambda: not migration.processes)

    assert migration.ends() == (3, "begun it is 1\nover\n")


def test_the_end_of_a_session_with_all_its_children_does_not_end_it(
    migration: Migration,
) -> None:
    """A later session of the run ends what an earlier one has left behind."""
    with start(
        migration.shell,
        "outlive",
        *migration.args(),
        word=f"r1@{migration.app}",
        app=migration.meta.parents[2],
    )[0] as looking_on:
        _until(lambda: b"begun" in read(looking_on))
        folder = migration.meta.parents[2]
        words = (str(folder), "", "run r1", "r1", migration.app, "90", "5")
        lock, frame = start(migration.shell, "lock", *words)
        with lock:
            _until(lambda: b"locked" in frame.feed(read(lock)))
            assert looking_on.wait() is not None
            assert migration.processes
            assert lock.stdin
            lock.stdin.close()
    migration.gate.touch()

    assert migration.ends()[0] == 3


def test_another_run_begins_it_anew(migration: Migration) -> None:
    migration.gate.touch()
    assert migration.ends()[0] == 3
    migration.text = "echo again"

    assert migration.ends("r1") == (3, "begun it is 1\nover\n")
    assert migration.ends("r2") == (0, "again\n")


def test_one_that_is_killed_is_no_success(migration: Migration) -> None:
    with start(migration.shell, "outlive", *migration.args())[0] as looking_on:
        _until(lambda: b"begun" in read(looking_on))
        for pid in migration.processes:
            os.kill(pid, signal.SIGKILL)
        assert looking_on.stdin
        looking_on.stdin.close()
    migration.gate.touch()

    status, output = migration.ends()

    assert status == 1
    assert output.startswith("begun it is 1\n")


@pytest.mark.parametrize(
    ("name", "goes_back", "refused"),
    [("r2", "", True), ("r2", "1", False), ("r1", "", False)],
    ids=["another-run", "a-way-back", "its-own-run"],
)
def test_another_run_waits_for_it_by_name(
    migration: Migration, name: str, goes_back: str, *, refused: bool
) -> None:
    with start(migration.shell, "outlive", *migration.args())[0] as looking_on:
        _until(lambda: b"begun" in read(looking_on))
        before = migration.processes
        folder = migration.meta.parents[2]
        words = (str(folder), "", f"run {name}", name, migration.app, "90", "0", "")
        status, output, err = run(migration.shell, "lock", *words, goes_back)
        assert looking_on.stdin
        looking_on.stdin.close()

    if refused:
        path = f"{migration.meta}/before_switch.sh"
        assert (status, output) == (76, "")
        pid = (migration.meta / "before_switch.begun/pid").read_text().split()[0]
        assert f"{path} before_switch@{migration.app}@r1  (pid {pid})\n" in err
    else:
        assert (status, output.partition(" ")[0]) == (0, "locked")
    assert migration.processes == before
