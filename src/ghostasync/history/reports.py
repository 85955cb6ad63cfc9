"""
The last state of each host, as the reports of the last runs say.

Reports are read here and no journals: a report is one small file, and is there only
once a run has ended.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

from ..errors import NotInStore
from ..model import State
from ..protocols import RunLog

__all__ = ["REPORT", "last_states", "still_stranded"]

REPORT: Final = "report.json"

_RUNS: Final = 50
"""Runs that are looked at, the newest ones."""

_STRANDED: Final = State.STRANDED.value
_IN_ORDER: Final = {State.LIVE.value, State.UNCHANGED.value, State.ROLLED_BACK.value}


async def last_states(runs: RunLog) -> dict[str, str]:
    """
    Return the state in which each host's own last run left it.

    A host that was stranded stays so until a run has put it in order: that others have
    failed on it since, or were stopped, has changed nothing there.

    Raises:
        StoreError: The store cannot be read.
    """
    states: dict[str, str] = {}
    async for report in _reports(runs):
        for name, state in _states(report).items():
            if states.get(name) != _STRANDED or state in _IN_ORDER:
                states[name] = state
    return states


async def still_stranded(runs: RunLog) -> frozenset[str]:
    """
    Return the hosts that no run has put in order since they were stranded.

    Raises:
        StoreError: The store cannot be read.
    """
    stranded: set[str] = set()
    async for report in _reports(runs):
        # Reports of large fleets are long, and hosts seldom stranded: a report without
        # the word is not parsed.
        if not stranded and _STRANDED.encode() not in report:
            continue
        for name, state in _states(report).items():
            if state == _STRANDED:
                stranded.add(name)
            elif state in _IN_ORDER:
                stranded.discard(name)
    return frozenset(stranded)


async def _reports(runs: RunLog) -> AsyncIterator[bytes]:
    """Yield the last runs' reports, the oldest first; those under way have none."""
    for run in list(await runs.ids())[-_RUNS:]:
        with suppress(NotInStore):
            yield await runs.load(run, REPORT)


def _states(report: bytes) -> dict[str, str]:
    try:
        hosts = json.loads(report)["hosts"]
        return {name: str(host["state"]) for name, host in hosts.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}  # a damaged report hides no host of other runs
