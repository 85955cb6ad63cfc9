"""A command imports what it needs, and its process ends at once, with all done."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from anyio import to_thread

from ghostasync.testing import InProcessFleet

HEAVY = (
    "anyio",
    "asyncio",
    "asyncssh",
    "cattrs",
    "cryptography",
    "ghostasync._api",
    "hypothesis",
    "importlib.metadata",
    "rich",
    "ssl",
    "uvloop",
)

IMPORTED = """\
import sys
from ghostasync.cli import execute

status = execute(sys.argv[2:])
print(status, *(name for name in sys.argv[1].split() if name in sys.modules))
"""

CONFIG = """\
[app]
name = "shop"
env = "test"
role = "web"
[store]
url = "store"
[inventory]
hosts = ["web1"]
[[modules]]
name = "site"
path = "/srv/site"
source = { dir = "tree" }
allow_empty = true
"""


def imported(folder: Path, *words: str) -> set[str]:
    """Return what heavy modules a command leaves imported, which must succeed."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, " ".join(HEAVY), *words],
        check=True,
        capture_output=True,
        cwd=folder,
        # One of its own: others build at the same second.
        env={**os.environ, "XDG_CACHE_HOME": str(folder / "cache")},
        text=True,
    )
    status, *names = done.stdout.splitlines()[-1].split()
    assert status == "0", done.stderr
    return set(names)


def test_a_version_needs_nothing(tmp_path: Path) -> None:
    assert imported(tmp_path, "--version") == {"importlib.metadata"}


@pytest.mark.parametrize("words", [("init",), ("init", "--full"), ("explain", "6")])
def test_a_template_and_the_manual_need_no_engine(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    assert imported(tmp_path, *words) == set()


@pytest.mark.parametrize("output", ["auto", "lines", "json"])
def test_what_draws_nothing_and_contacts_nobody_needs_neither_rich_nor_ssh(
    tmp_path: Path, output: str
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/index.html").write_text("one")
    (tmp_path / "ghostasync.toml").write_text(CONFIG)

    names = imported(tmp_path, "build", "--output", output)

    assert "ghostasync._api" in names
    assert names & {"asyncssh", "cryptography", "hypothesis", "rich"} == set()


@pytest.mark.parametrize("command", ["deploy --output lines", "deploy", "status"])
async def test_what_contacts_hosts_needs_ssh_and_no_more(
    tmp_path: Path, command: str
) -> None:
    (tmp_path / "tree").mkdir()
    async with InProcessFleet(1, tmp_path / "hosts") as fleet:
        (web1,) = fleet.hosts
        host = f'{{ name = "web1", address = "{web1.address}", port = {web1.port} }}'
        reached = f"""
[ssh]
user = "{fleet.ssh.user}"
identity = "{fleet.ssh.identity}"
known_hosts = "{fleet.ssh.known_hosts}"
config = false
[layout]
root = "~/ghost"
"""
        config = CONFIG.replace('"web1"', host).replace("/srv", "~")
        (tmp_path / "ghostasync.toml").write_text(config + reached)

        names = await to_thread.run_sync(imported, tmp_path, *command.split())

    assert "asyncssh" in names
    assert names & {"hypothesis", "importlib.metadata", "rich"} == set()


def test_a_board_needs_rich(tmp_path: Path) -> None:
    """The name that others must not have is the right one."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/index.html").write_text("one")
    (tmp_path / "ghostasync.toml").write_text(CONFIG)

    assert "rich" in imported(tmp_path, "build", "--output", "board")


def ended(script: str) -> subprocess.CompletedProcess[str]:
    """Return how a process ended in which the command *execute* is ours."""
    return subprocess.run(
        [sys.executable, "-c", f"from ghostasync import cli\n{script}"],
        check=False,
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"},
        timeout=30,
    )


TORN = """
class Torn:
    def __del__(self):
        print("taken apart", flush=True)

torn = Torn()
"""

BUSY = """
import atexit, threading

def work():
    threading.main_thread().join()
    print("thread")

def execute(tokens):
    threading.Thread(target=work).start()
    atexit.register(print, "registered")
    print("shown")
    return 5

cli.execute = execute
cli.main()
"""


def test_threads_and_exit_handlers_come_to_their_end_and_no_object_does() -> None:
    done = ended(TORN + BUSY)

    assert done.stdout.split() == ["shown", "thread", "registered"]
    assert (done.returncode, done.stderr) == (5, "")


def test_what_is_no_command_failure_has_its_traceback_and_status_1() -> None:
    done = ended("cli.execute = lambda _: [][0]\ncli.main()")

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "IndexError: list index out of range"


GONE = """
import os, sys

def execute(tokens):
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 1)
    sys.stdout.write("nobody reads this")
    return 5

cli.execute = execute
cli.main()
"""


def test_a_reader_that_is_gone_changes_no_status() -> None:
    done = ended(GONE)

    assert (done.returncode, done.stderr) == (5, "")


COLLECTED = """
import gc, sys
from ghostasync.__main__ import main

looks = []
gc.callbacks.append(lambda phase, _: looks.append(phase))
sys.argv[1:] = ["--version"]
try:
    main()
finally:
    print(len(looks), gc.isenabled(), gc.get_threshold()[0] > 10_000)
"""


def test_nobody_looks_for_garbage_before_there_can_be_any() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COLLECTED], check=True, capture_output=True, text=True
    )

    assert done.stdout.splitlines()[1:] == ["0 True True"]
