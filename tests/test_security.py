"""Each promise of SECURITY.md names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROMISES = [
    line.split(" | ")
    for line in (ROOT / "SECURITY.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and line != "| promise | test |"
]


def test_there_are_promises() -> None:
    assert len(PROMISES) > 20


@pytest.mark.parametrize(("promise", "tests"), PROMISES)
def test_a_promise_names_tests_that_are_there(promise: str, tests: str) -> None:
    named = re.findall(r"`([^`]+)`", tests)

    assert promise
    assert named
    folder = ROOT / "tests"
    for name in named:
        path, _, test = name.partition("::")
        file = ROOT / path if path == ".ci/run" else folder / path
        assert file.exists(), name
        assert not test or f"def {test}(" in file.read_text(encoding="utf-8"), name
