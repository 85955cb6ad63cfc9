from __future__ import annotations

from pathlib import Path

from ghostasync.manual import entries, reference

PAGE = Path(__file__).parents[2] / "docs" / "reference.md"


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text("utf-8") == reference(), "python docs/reference.py writes it"


def test_the_page_has_every_entry() -> None:
    headings = [line[5:-1] for line in reference().splitlines() if line[:4] == "### "]

    assert headings == [entry.name for entry in entries()]


def test_angle_brackets_are_seen() -> None:
    assert "<" not in reference()
    assert "&lt;root>" in reference()
