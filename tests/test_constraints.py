"""Dependencies have a lowest and a highest version that the suite was run with."""

from __future__ import annotations

import tomllib
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def wanted() -> list[Requirement]:
    project, groups = PROJECT["project"], PROJECT["dependency-groups"]
    named = chain(
        project["dependencies"],
        *project["optional-dependencies"].values(),
        *groups.values(),
        PROJECT["build-system"]["requires"],
    )
    return [Requirement(each) for each in named if isinstance(each, str)]


def test_the_version_that_was_tested_is_one_that_is_allowed() -> None:
    # Installed from elsewhere than Debian this one takes a compiler.
    tested = {**pinned(), "gssapi": "1.8.2"}
    for each in wanted():
        version = tested[canonicalize_name(each.name)]
        assert each.specifier.contains(version), f"{each.name} {version}"


def test_each_dependency_has_a_lowest_version() -> None:
    assert [e.name for e in wanted() if ">=" not in str(e.specifier)] == []
