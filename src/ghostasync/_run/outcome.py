"""What a finished run amounts to: pure arithmetic over the states of its hosts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..model import Outcome
from ..model import State as S  # noqa: N817  as in the table

__all__ = ["AFTER_ALL_FAILED", "EXIT_STATUS", "serves_new", "verdict", "verdict_back"]

EXIT_STATUS: Final[dict[Outcome, int]] = {
    Outcome.STRANDED: 3,
    Outcome.MIXED: 5,
    Outcome.INTERRUPTED: 130,
    Outcome.LOCKED: 4,
    Outcome.LIVE: 0,
    Outcome.UNCHANGED: 0,
    Outcome.PARTIAL: 0,
    Outcome.FAILED: 1,
}
"""The exit status of each outcome (DESIGN 4.1)."""

AFTER_ALL_FAILED: Final = 7
"""Live, but after_all_deploy failed."""


def serves_new(state: S) -> bool:
    """Tell whether a host in this state serves the run's release."""
    return state in {S.LIVE, S.UNCHANGED}


def verdict(
    states: Sequence[S],
    *,
    committed: bool,
    interrupted: bool,
    locked: bool,
) -> Outcome:
    """
    Return how a run ended; the first that applies, worst first.

    Args:
        states: Every selected host's last state.

        committed: Whether the run went all the way, within its budgets.

        interrupted: Whether somebody stopped it.

        locked: Whether another run had a host's lock.
    """
    if S.STRANDED in states:
        return Outcome.STRANDED
    if committed:
        if not all(map(serves_new, states)):
            return Outcome.PARTIAL
        return Outcome.LIVE if S.LIVE in states else Outcome.UNCHANGED
    if S.LIVE in states:
        return Outcome.MIXED
    if interrupted:
        return Outcome.INTERRUPTED
    return Outcome.LOCKED if locked else Outcome.FAILED


def verdict_back(
    states: Sequence[S], *, lost: bool, interrupted: bool, locked: bool
) -> Outcome:
    """
    Return how a run ended that only takes back what another one did.

    Args:
        states: Every host's last state.

        lost: Whether a host was not looked at that may serve what was to go.

        interrupted: Whether somebody stopped it before it began.

        locked: Whether another run had a host's lock.
    """
    if S.STRANDED in states or lost:
        return Outcome.STRANDED
    if interrupted:
        return Outcome.INTERRUPTED
    if locked:
        return Outcome.LOCKED
    if S.FAILED in states:
        return Outcome.FAILED
    return Outcome.LIVE if S.ROLLED_BACK in states else Outcome.UNCHANGED
