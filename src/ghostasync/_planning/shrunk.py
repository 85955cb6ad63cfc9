"""
Inventories that name far fewer hosts than before: a throttled cloud, most likely.

A run on what such an inventory names would end live, and move MANIFEST, while most of
the fleet has the old release.
"""

from __future__ import annotations

import json
from typing import Final

from ..errors import NotInStore, PlanError
from ..history.reports import REPORT
from ..inventories.static import Static
from ..views.text import plural
from .basis import Basis

__all__ = ["require_no_shrunk"]

_LEAST: Final = 0.8
"""The part of the last whole run's hosts that has to be named."""


async def require_no_shrunk(basis: Basis) -> None:
    """
    Do nothing, unless the inventory names far fewer hosts than the last whole run had.

    Hosts that stand in the plan were written there by a person.

    Raises:
        PlanError: It does.
        StoreError: The store cannot be read.
    """
    if isinstance(basis.inventory, Static):
        return
    before, now = await _last_count(basis), len(basis.plan.hosts)
    if now < before * _LEAST:
        raise PlanError(
            f"the inventory names {plural(now, 'host')}, and the last whole run had "
            f"{before}: a throttled answer? If so many are gone, say --inventory-shrank"
        )


async def _last_count(basis: Basis) -> int:
    """Return how many hosts the run had that moved MANIFEST last; 0 where unknown."""
    runs = basis.store.runs
    number = max((line.generation for line in basis.manifest), default=0)
    named = [run for run, n in (await runs.generations()).items() if n == number]
    if not named or not number:
        return 0
    try:
        return len(json.loads(await runs.load(named[0], REPORT))["hosts"])
    except (NotInStore, ValueError, KeyError, TypeError, RecursionError):
        return 0  # killed once MANIFEST had moved, or damaged
