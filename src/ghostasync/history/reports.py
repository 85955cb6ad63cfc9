"""How each host stands: what became of it in the last runs, as their reports say."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

from ..errors import StoreError
from ..model import State
from ..protocols import Store

__all__ = ["last_states", "still_stranded"]

_RUNS: Final = 50
"""How many runs are looked at."""

_STRANDED: Final = State.STRANDED.value
_IN_ORDER: Final = {State.LIVE.value, State.UNCHANGED.value, State.ROLLED_BACK.value}


async def last_states(store: Store) -> dict[str, str]:
    """
    Return how each host's last run ended; a run of few hosts hides no other.

    A host that was stranded stays so until a run has put it in order.

    Raises:
        StoreError: The store cannot be read.
    """
    states: dict[str, str] = {}
    async for report in _reports(store):
        for name, state in _states(report).items():
            if states.get(name) != _STRANDED or state in _IN_ORDER:
                states[name] = state
    return states


async def still_stranded(store: Store) -> frozenset[str]:
    """
    Return the hosts that no run has put in order since they were stranded.

    Raises:
        StoreError: The store cannot be read.
    """
    stranded: set[str] = set()
    async for report in _reports(store):
        # Reports of large fleets are long, and hosts seldom stranded.
        if not stranded and _STRANDED.encode() not in report:
            continue
        for name, state in _states(report).items():
            if state == _STRANDED:
                stranded.add(name)
            elif state in _IN_ORDER:
                stranded.discard(name)
    return frozenset(stranded)


async def _reports(store: Store) -> AsyncIterator[bytes]:
    """Yield the last runs' reports, the oldest first; those under way have none."""
    for run in list(await store.runs())[-_RUNS:]:
        with suppress(StoreError):
            yield await store.load(run, "report.json")


def _states(report: bytes) -> dict[str, str]:
    try:
        hosts = json.loads(report)["hosts"]
        return {name: str(host["state"]) for name, host in hosts.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}  # damaged
