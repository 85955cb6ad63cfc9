from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.fleet


def test_a_small_rollout_prints_and_writes_its_figures(
    sshd: None, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "benchmarks.rollout", "--only", "ghostasync,ssh"]
    sizes = ["--hosts", "1", "--rounds", "1", "--files", "20", "--nbytes", "100000"]
    out = tmp_path / "figures.json"

    done = subprocess.run(
        [*command, *sizes, "--folder", str(tmp_path), "--json", str(out)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )

    figures = json.loads(out.read_text())
    keys = {"cpu_per_host", "wall", "nbytes", "peak", "anonymous"}
    # What hosts spend is told where this user may make a control group.
    counted = {"host_cpu"} & set(figures["medians"]["ssh"])
    keys |= counted
    assert set(figures) == {
        *("benchmark", "machine", "versions", "hosts", "tree"),
        *("rounds", "medians", "ratios"),
    }
    assert {n: set(row) for n, row in figures["medians"].items()} == {
        "ghostasync": keys,
        "ssh": keys,
    }
    assert set(figures["ratios"]["ssh"]) == {"cpu_per_host", "wall"} | counted
    assert figures["medians"]["ssh"]["nbytes"] > 10_000
    assert "CPU ms/host" in done.stdout
