"""
Hosts that joined the fleet while a run went on.

A host that boots once MANIFEST has moved gets the new release by itself. A host that
booted between the run's start and that moment has the old one, and the run has not seen
it.
"""

from __future__ import annotations

import shlex
from typing import Final

import anyio

from .. import events as e
from .._engine.host import RunContext
from ..errors import PlanError

__all__ = ["tell_who_joined"]

AGAIN_SECONDS: Final = 15.0
"""Seconds that the inventory may take here: the fleet is live, and a caller waits."""


async def tell_who_joined(run: RunContext) -> None:
    """Ask the inventory again, and warn of hosts that the run has never seen."""
    spec = run.spec
    # A run that leaves MANIFEST alone has promised new hosts nothing.
    if spec.limited or not spec.goal.moves_manifest:
        return
    known = {host.name for host in spec.plan.hosts}
    try:
        with anyio.fail_after(AGAIN_SECONDS):
            now = await spec.inventory.hosts()
    except (PlanError, TimeoutError) as exc:
        why = str(exc) or f"no answer within {AGAIN_SECONDS:g} s"
        run.note(e.Warned(f"who has joined meanwhile is not known: {why}"))
        return
    new = [host.name for host in now if host.name not in known]
    if new:
        cure = f"ghostasync converge {shlex.join(new)}"
        run.note(e.Warned(f"joined since the run was planned: {' '.join(new)}: {cure}"))
