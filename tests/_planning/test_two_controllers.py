"""
Two controllers and one fleet: what each command does, and says, after the other's run.

Ann has deployed versions 1 and 2, and 3 in one of four ways; then she or Bob types a
command. They share a store, or know nothing of each other; no clock makes a difference.
"""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any, Final

import pytest

from ghostasync import (
    PlanError,
    converge,
    deploy,
    preview_rollback,
    resume,
    revert,
    rollback,
    status,
)
from ghostasync.cli import _tables as tables
from ghostasync.errors import NothingToResume
from tests._planning.two_people import World, world
from tests.two_controllers import TABLE

RUNS: Final[dict[str, Any]] = {  # functions with options of their own
    "deploy": deploy,
    "resume": resume,
    "resume --revert": revert,
    "rollback": rollback,
    "converge": converge,
}


async def comes_to(state: str, here: World) -> None:
    """Have Ann deploy three versions; how the last one ended is *state*."""
    here.sit_at("a")
    await here.deploy("a")
    await here.deploy("a")
    if state in {"killed", "overtaken"}:
        await here.kill("a", 1)
    else:
        await here.deploy("a")
    if state == "rolled back":
        await here.rollback("a")
    if state == "overtaken":
        here.sit_at("b")
        await here.deploy("b")


async def types(here: World, who: str, command: str) -> tuple[int, str]:
    """Return the exit status of a command, and what it says."""
    keys, store = here.keys(who), here.stores[who]
    if command == "status":
        fleet = await status(here.plan, transport=here.fleet.transport, store=store)
        return fleet.exit_status, "\n".join(tables.status(fleet))
    if command == "rollback --dry-run":
        transport = here.fleet.transport
        way = await preview_rollback(here.plan, transport=transport, store=store)
        return 0, "\n".join(tables.ways(way))
    if command == "deploy":
        here.next_version()
    try:
        report = await RUNS[command](here.plan, **keys)
    except NothingToResume as exc:
        return 0, str(exc)
    except PlanError as exc:
        return 2, str(exc)
    if command == "deploy":
        here.note(who, [*report.releases.values()], here.version)
    return report.exit_status, report.reason


async def named(here: World, who: str) -> str:
    """Return the version that somebody's MANIFEST names."""
    lines = await here.stores[who].manifest.read()
    return "".join(str(here.packages[line.package]) for line in lines) or "-"


@pytest.mark.parametrize("hours", [-3, 0, 3])
@pytest.mark.parametrize(("state", "stores"), TABLE)
async def test_every_command_does_what_it_says(
    state: str, stores: str, hours: int, tmp_path: Path
) -> None:
    with world(shared=stores == "one store", hours=hours) as here:
        await comes_to(state, here)
        kept = copy.deepcopy((here.fleet.hosts, here.stores, here.packages))
        version = here.version
        shutil.copytree(here.folder, tmp_path / "kept")
        for command, lines in TABLE[state, stores].items():
            for who, line in zip("ab", (lines[0], lines[-1]), strict=True):
                here.sit_at(who)

                code, said = await types(here, who, command)

                serves = "".join(map(str, here.serves.values()))
                manifest = "/".join([await named(here, who) for who in "ab"])
                for package, made_of in here.packages.items():
                    said = said.replace(package, str(made_of))
                assert (code, serves, manifest) == line[:3], (command, who, said)
                for words in line[3].split("RUN"):
                    assert words in said, (command, who)
                here.version = version
                # One copy, so that what the two share stays one.
                here.fleet.hosts, here.stores, here.packages = copy.deepcopy(kept)
                shutil.rmtree(here.folder)
                shutil.copytree(tmp_path / "kept", here.folder)
