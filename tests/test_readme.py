from __future__ import annotations

import re
from pathlib import Path

import ghostasync
from ghostasync.machine import mermaid

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_diagram_is_the_table() -> None:
    drawn = re.search(r"```mermaid\n(.*?)\n```", README, re.DOTALL)

    assert drawn
    assert drawn[1] == mermaid()


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_the_python_in_it_compiles_and_imports_what_there_is() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)

    compile(code, "README.md", "exec")
    imported = re.search(r"from ghostasync import (.*)", code)
    assert imported
    assert set(imported[1].split(", ")) <= set(ghostasync.__all__)


def test_files_it_links_to_are_there() -> None:
    root = Path(__file__).parents[1]

    links = re.findall(r"\]\(((?!http)[^)]+)\)", README)

    assert [link for link in links if not (root / link).exists()] == []
