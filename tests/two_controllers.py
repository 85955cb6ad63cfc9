"""
What each command does, and says, after another controller's run.

Ann has deployed versions 1 and 2 to h1, h2 and h3, and 3 in one of four ways; then she
or Bob types a command. They share a store, or know nothing of each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

__all__ = ["TABLE"]

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
