"""The active color as a run has planned with it, and as it is once locks are held."""

from __future__ import annotations

from typing import Final

import anyio

from ..errors import StoreError
from ..protocols import ActiveColor, ColorStore
from .spec import RunSpec

__all__ = ["active_now", "why_moved"]

STORE_SECONDS: Final = 60
"""Seconds that the store has to tell the active color."""


async def active_now(spec: RunSpec) -> ActiveColor | None:
    """
    Return the record of the active color as it is now; None without colors.

    Raises:
        StoreError: The store could not be read, or does not answer.
    """
    if not (spec.plan.app.color and isinstance(spec.store, ColorStore)):
        return None
    try:
        with anyio.fail_after(STORE_SECONDS):
            return await spec.store.active_color()
    except TimeoutError:
        text = f"the store did not answer within {STORE_SECONDS} s"
        raise StoreError(text) from None


async def why_moved(spec: RunSpec) -> str:
    """
    Return that another color is active than when the run was planned, else nothing.

    Raises:
        StoreError: The store could not be read, or does not answer.
    """
    # The run may have waited for the locks of a swap. It would drain hosts that have no
    # visitors and give them some, or move the links of hosts that have.
    now = await active_now(spec)
    if now == spec.active:
        return ""
    word = f"it is {now.text}" if now else "its record is gone"
    return f"the active color has moved since the run was planned: {word}"
