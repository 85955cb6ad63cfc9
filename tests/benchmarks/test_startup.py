from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.fleet


def test_one_round_has_all_commands_and_those_of_a_checkout_beside(
    sshd: None, tmp_path: Path
) -> None:
    (tmp_path / "before").symlink_to(ROOT)
    out = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.startup", "--rounds", "1"]
    where = ["--beside", str(tmp_path / "before"), "--folder", str(tmp_path)]

    done = subprocess.run(
        [*command, *where, "--json", str(out)],
        check=True,
        capture_output=True,
        cwd=ROOT,
        text=True,
        timeout=120,
    )

    figures = json.loads(out.read_text())
    ours = {"--version", "deploy", "status"}
    beside = {f"{name} of before" for name in ours}
    assert set(figures["medians"]) == {"python", "import asyncssh", "ssh"} | (
        ours | beside
    )
    assert all(set(row) == {"cpu", "wall"} for row in figures["medians"].values())
    assert set(figures["ratios"]) == ours
    assert "deploy: CPU x " in done.stdout
