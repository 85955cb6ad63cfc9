"""
Two controllers and one fleet: what each command does, and says, after the other's run.

Ann has deployed versions 1 and 2, and 3 in one of four ways; then she or Bob types a
command. They share a store, or know nothing of each other; no clock makes a difference.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
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

NOTHING: Final = "nothing is left to resume"
FINISH: Final = "finish it:       ghostasync resume"
BY_HAND: Final = "or take it back, ghostasync resume RUN --revert"
OTHER: Final = "brought what all hosts serve, from another store"
NEVER: Final = "MANIFEST names no module of this app yet"
TO_1: Final = "2 -> 1, on h[1-3]"
TO_2: Final = "3 -> 2, on h[1-3]"

# For each command, Ann's line and Bob's, or one for both: exit status; what h1 to h3
# serve; what MANIFEST names, Ann's and Bob's; what is said.
TABLE: Final[dict[tuple[str, str], dict[str, Sequence[tuple[int, str, str, str]]]]] = {
    ("killed", "one store"): {
        "status": [(6, "322", "2/2", FINISH)],
        "resume": [(0, "333", "3/3", "")],
        "resume --revert": [(0, "222", "2/2", "")],
        "rollback": [(0, "222", "2/2", "")],
        "rollback --dry-run": [(0, "322", "2/2", "3 -> 2, on h1")],
        "converge": [(0, "222", "2/2", "")],
        "deploy": [(0, "444", "4/4", "")],
    },
    ("killed", "own stores"): {
        "status": [
            (6, "322", "2/-", FINISH),
            (6, "322", "2/-", "brought what h1 serves, from another store"),
        ],
        "resume": [(0, "333", "3/-", ""), (2, "322", "2/-", BY_HAND)],
        "resume --revert": [(0, "222", "2/-", ""), (2, "322", "2/-", BY_HAND)],
        "rollback": [(0, "222", "2/-", "")],
        "rollback --dry-run": [(0, "322", "2/-", "3 -> 2, on h1")],
        "converge": [(0, "222", "2/-", ""), (2, "322", "2/-", NEVER)],
        "deploy": [(0, "444", "4/-", ""), (0, "444", "2/4", "")],
    },
    ("live", "one store"): {
        "status": [(0, "333", "3/3", "in-line     h[1-3]")],
        "resume": [(0, "333", "3/3", NOTHING)],
        "resume --revert": [(0, "333", "3/3", NOTHING)],
        "rollback": [(0, "222", "2/2", "")],
        "rollback --dry-run": [(0, "333", "3/3", TO_2)],
        "converge": [(0, "333", "3/3", "")],
        "deploy": [(0, "444", "4/4", "")],
    },
    ("live", "own stores"): {
        "status": [
            (0, "333", "3/-", "in-line     h[1-3]"),
            (6, "333", "3/-", OTHER),
        ],
        "resume": [(0, "333", "3/-", NOTHING)],
        "resume --revert": [(0, "333", "3/-", NOTHING)],
        # Bob's store has no package of version 2 for a host that boots.
        "rollback": [(0, "222", "2/-", ""), (0, "222", "3/-", "")],
        "rollback --dry-run": [(0, "333", "3/-", TO_2)],
        "converge": [(0, "333", "3/-", ""), (2, "333", "3/-", NEVER)],
        "deploy": [(0, "444", "4/-", ""), (0, "444", "3/4", "")],
    },
    ("rolled back", "one store"): {
        "status": [(0, "222", "2/2", "in-line     h[1-3]")],
        "resume": [(0, "222", "2/2", NOTHING)],
        "resume --revert": [(0, "222", "2/2", NOTHING)],
        "rollback": [(0, "111", "1/1", "")],
        "rollback --dry-run": [(0, "222", "2/2", TO_1)],
        "converge": [(0, "222", "2/2", "")],
        "deploy": [(0, "444", "4/4", "")],
    },
    ("rolled back", "own stores"): {
        "status": [
            (0, "222", "2/-", "in-line     h[1-3]"),
            (6, "222", "2/-", OTHER),
        ],
        "resume": [(0, "222", "2/-", NOTHING)],
        "resume --revert": [(0, "222", "2/-", NOTHING)],
        "rollback": [(0, "111", "1/-", ""), (0, "111", "2/-", "")],
        "rollback --dry-run": [(0, "222", "2/-", TO_1)],
        "converge": [(0, "222", "2/-", ""), (2, "222", "2/-", NEVER)],
        "deploy": [(0, "444", "4/-", ""), (0, "444", "2/4", "")],
    },
    # Ann's run was killed, and Bob has deployed version 4 since.
    ("overtaken", "one store"): {
        "status": [(0, "444", "4/4", "in-line     h[1-3]")],
        "resume": [(0, "444", "4/4", NOTHING)],
        "resume --revert": [(0, "444", "4/4", NOTHING)],
        "rollback": [(0, "222", "2/2", "")],
        "rollback --dry-run": [(0, "444", "4/4", "4 -> 2, on h[1-3]")],
        "converge": [(0, "444", "4/4", "")],
        "deploy": [(0, "555", "5/5", "")],
    },
    ("overtaken", "own stores"): {
        "status": [
            (6, "444", "2/4", "take back:       ghostasync converge h1 h2 h3"),
            (0, "444", "2/4", "in-line     h[1-3]"),
        ],
        "resume": [(0, "444", "2/4", NOTHING)],
        "resume --revert": [(0, "444", "2/4", NOTHING)],
        "rollback": [(0, "222", "2/4", "")],
        "rollback --dry-run": [(0, "444", "2/4", "4 -> 2, on h[1-3]")],
        "converge": [(0, "222", "2/4", ""), (0, "444", "2/4", "")],
        "deploy": [(0, "555", "5/4", ""), (0, "555", "2/5", "")],
    },
}
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
