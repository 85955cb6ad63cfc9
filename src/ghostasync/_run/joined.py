"""
Hosts that came into being while a run went on.

A host that boots once MANIFEST has moved gets the new release by itself. One that did
so before has the old one, and the run has not seen it.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection
from typing import Final

import anyio

from .. import events as e
from ..errors import PlanError
from ..model import Host
from ..protocols import Inventory

__all__ = ["tell_who_joined"]

AGAIN_SECONDS: Final = 15.0
"""How long the inventory may take here: the fleet is live, and somebody waits."""


async def tell_who_joined(
    inventory: Inventory, hosts: Collection[Host], note: Callable[[e.Event], None]
) -> None:
    """Ask *inventory* again, and warn of hosts that are not among *hosts*."""
    known = {host.name for host in hosts}
    try:
        with anyio.fail_after(AGAIN_SECONDS):
            now = await inventory.hosts()
    except (PlanError, TimeoutError) as exc:
        why = str(exc) or f"no answer within {AGAIN_SECONDS:g} s"
        note(e.Warned(f"who has joined meanwhile is not known: {why}"))
        return
    new = [host.name for host in now if host.name not in known]
    if new:
        cure = f"ghostasync converge {shlex.join(new)}"
        note(e.Warned(f"joined since the run was planned: {' '.join(new)}: {cure}"))
