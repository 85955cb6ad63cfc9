from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from benchmarks.harness.meter import measure
from benchmarks.harness.rounds import Results, show_table
from benchmarks.harness.tree import make_tree

DIGEST = "5f719f0ccc7a3ec42355e832923f4db81a4da1b7e4cd79be6ffc2ed1dc2e4378"


def digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        total.update(f"{path.relative_to(folder)} {path.stat().st_mtime}\n".encode())
        total.update(path.read_bytes() if path.is_file() else b"")
    return total.hexdigest()


def test_the_tree_is_the_same_everywhere(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree", files=60, nbytes=300_000)

    files = [path for path in (tmp_path / "tree").rglob("*") if path.is_file()]
    assert len(files) == 60
    assert sum(path.stat().st_size for path in files) == 300_000
    assert digest(tmp_path / "tree") == DIGEST


BURN = """\
import signal, time
while time.process_time() < 0.3: pass
print(flush=True)
signal.pause()
"""
LEAVE = """\
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
child.stdout.readline()
os._exit(3)
"""


def test_a_command_is_measured_with_what_it_leaves_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LEAVE, BURN]

    cost = measure(command, log=tmp_path / "log", folder=tmp_path)

    assert cost.status == 3
    assert cost.cpu > 0.3
    assert cost.anonymous > 1 << 20


def test_ratios_are_taken_within_a_round() -> None:
    results = Results(
        {
            "a": [{"cpu": 1.0}, {"cpu": 10.0}, {"cpu": 3.0}],
            "b": [{"cpu": 2.0}, {"cpu": 20.0}, {"cpu": 3.0}],
        }
    )

    assert results.medians() == {"a": {"cpu": 3.0}, "b": {"cpu": 3.0}}
    assert results.ratios("a", "cpu") == {"b": 0.5}


def test_a_table_has_a_line_for_each() -> None:
    rows = {"ours": {"cpu": 0.0123}, "a peer": {"cpu": 0.5}}

    table = show_table(rows, {"cpu": ("CPU ms", 1000, 1)})

    assert table.splitlines() == [
        "        CPU ms",
        "ours      12.3",
        "a peer   500.0",
    ]
