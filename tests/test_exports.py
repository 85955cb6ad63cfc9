"""What users may import is named, sorted and there."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

import ghostasync

EMPTY: tuple[list[str], ...] = ([], ["annotations"])
"""What a package that only says what it is about contains, submodules aside."""

PUBLIC = [
    name
    for _, name, _ in pkgutil.walk_packages(ghostasync.__path__, "ghostasync.")
    if name != "ghostasync.__main__"
]


def own(module: ModuleType) -> list[str]:
    """Return the public names of a module that are no modules themselves."""
    return [
        name
        for name, value in vars(module).items()
        if name[0] != "_" and not isinstance(value, ModuleType)
    ]


@pytest.mark.parametrize("name", ["ghostasync", *PUBLIC])
def test_all_is_there_and_names_what_exists(name: str) -> None:
    module = importlib.import_module(name)

    exported = getattr(module, "__all__", None)

    if exported is None:
        assert own(module) in EMPTY
        return
    assert [item for item in exported if not hasattr(module, item)] == []
    assert len(set(exported)) == len(exported)


def test_the_package_exports_in_order() -> None:
    assert sorted(ghostasync.__all__) == ghostasync.__all__


def test_importing_the_package_does_not_import_what_is_heavy() -> None:
    code = (
        "import sys, ghostasync; "
        "print([m for m in ('asyncssh', 'rich', 'aioboto3') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"
