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

from .._local.together import at_once
from ..errors import NotInStore
from ..model import Action, State
from ..protocols import RunLog

__all__ = ["REPORT", "failed_hosts", "last_states", "still_stranded"]

REPORT: Final = "report.json"

_RUNS: Final = 50
"""Runs that are looked at, the newest ones."""

AT_ONCE: Final = 16
"""Reports that are read at once; those of large fleets are large."""

_STRANDED: Final = State.STRANDED.value
_FAILED: Final = {State.FAILED.value, State.ROLLED_BACK.value, State.STRANDED.value}
_IN_ORDER: Final = {State.LIVE.value, State.UNCHANGED.value, State.ROLLED_BACK.value}


async def last_states(runs: RunLog) -> dict[str, str]:
    """
    Return the state in which each host's own last run left it.

    A host that was stranded stays so until a run has put it in order: that others have
    failed on it since, or were stopped, has changed nothing there.

    Raises:
        StoreError: The store cannot be read.
    """
    return {name: row["state"] for name, row in (await _last_rows(runs)).items()}


async def failed_hosts(runs: RunLog) -> frozenset[str]:
    """
    Return the hosts that failed, by themselves, in their own last run.

    Hosts that were halted or taken back because of others did not fail by themselves.

    Raises:
        StoreError: The store cannot be read.
    """
    rows = await _last_rows(runs)
    return frozenset(
        name for name, row in rows.items() if row["state"] in _FAILED and row["stage"]
    )


async def _last_rows(runs: RunLog) -> dict[str, dict[str, str]]:
    last: dict[str, dict[str, str]] = {}
    async for report in _reports(runs):
        for name, row in _rows(report).items():
            known = last.get(name)
            stays = known is not None and known["state"] == _STRANDED
            if not stays or row["state"] in _IN_ORDER:
                last[name] = row
    return last


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
        for name, row in _rows(report).items():
            state = row["state"]
            if state == _STRANDED:
                stranded.add(name)
            elif state in _IN_ORDER:
                stranded.discard(name)
    return frozenset(stranded)


async def _reports(runs: RunLog) -> AsyncIterator[bytes]:
    """Yield the last runs' reports, the oldest first; those under way have none."""
    ids = list(await runs.ids())[-_RUNS:]

    async def load(run: str) -> bytes:
        with suppress(NotInStore):
            return await runs.load(run, REPORT)
        return b""

    for at in range(0, len(ids), AT_ONCE):
        # One after the other, they would take many seconds from a bucket.
        for report in await at_once(AT_ONCE, load, ids[at : at + AT_ONCE]):
            if report:
                yield report


def _rows(report: bytes) -> dict[str, dict[str, str]]:
    """Return the state of each host, and the stage in which it failed by itself."""
    try:
        told = json.loads(report)
        # Neither a script of a person nor a swap says anything of a host's release.
        if told.get("action") in {Action.EXEC.value, Action.SWAP.value}:
            return {}
        hosts = told["hosts"]
        return {
            name: {"state": str(host["state"]), "stage": str(host.get("stage") or "")}
            for name, host in hosts.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}  # a damaged report hides no host of other runs
