"""The balancer that the plan's own commands talk to: ``rollout.drain``, ``undrain``."""

from __future__ import annotations

from typing import Literal

import attrs

from ..model import Hook
from ..protocols import HostAccess

__all__ = ["Commands"]


@attrs.frozen
class Commands:
    """
    A balancer of two commands, run for each host on the controller or on the host.

    *out* takes a host out, *back* puts it back; an empty command is done at once.
    """

    out: Hook
    back: Hook

    def has_work(self, key: Literal["drain", "undrain"]) -> bool:
        """Tell whether there is a command for *key*."""
        return bool(self.out if key == "drain" else self.back)

    async def drain(self, access: HostAccess) -> None:
        """
        Run the command that takes a host out.

        Raises:
            HostError: The command failed, took too long, or could not be run.
        """
        await _run(self.out, access)

    async def undrain(self, access: HostAccess) -> None:
        """
        Run the command that puts a host back.

        Raises:
            HostError: The command failed, took too long, or could not be run.
        """
        await _run(self.back, access)


async def _run(hook: Hook, access: HostAccess) -> None:
    where: Literal["controller", "host"] = "host" if hook.on == "host" else "controller"
    # Only one of the two commands may be there.
    if hook:
        await access.run(hook.run, on=where)
