from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_ladder_is_the_one_that_is_enforced() -> None:
    """One list is the tree, what CI enforces, and what people read."""
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = [c["layers"] for c in rules["contracts"] if c["type"] == "layers"]
    text = (ROOT / "CONTRIBUTING.md").read_text()
    table = text.partition("|---|---|")[2].partition("\n\n")[0]

    rungs = re.findall(r"^\| `(.+?)` \| ", table, re.MULTILINE)

    assert [rung.replace("\\|", "|") for rung in rungs] == layers


def test_files_that_it_names_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`([\w/]+\.(?:py|sh|md|toml))`", text)
    homes = (ROOT, ROOT / "src/ghostasync", ROOT / "src/ghostasync/_remote")

    lost = {name for name in named if not any((home / name).exists() for home in homes)}

    assert len(named) > 10
    assert lost <= {"ghostasync.toml"}  # the user's
