"""after_all_deploy: each module's last script, once nothing can be taken back."""

from __future__ import annotations

import anyio
import attrs

from .. import events as e
from .._build.builder import Builder
from .._engine.host import RunContext
from ..errors import BuildError, GhostasyncError

__all__ = ["AfterAll"]


@attrs.define(eq=False)
class AfterAll:
    """
    The after_all_deploy of every module, in app order.

    They are *due* from the moment MANIFEST moves until the last one has passed:
    whatever keeps them from running, a cancellation included, ends the run with exit
    status 7.
    """

    context: RunContext
    builder: Builder
    due: bool = False
    scope: anyio.CancelScope = attrs.field(factory=anyio.CancelScope)

    def is_to_come(self) -> None:
        """Decide whether the scripts are due; the run is about to be live for good."""
        state, releases = self.context.state, self.context.releases
        # A converge brings hosts what the fleet has already: these scripts have run for
        # its releases.
        goal = self.context.goal
        if not goal.moves_manifest or goal.recalls:
            return
        # Nor do they run again for a fleet that served all of it before.
        moved = state.waves or any(host.moved for host in state.hosts.values())
        self.due = bool(moved) and any(r.module.after_all_deploy for r in releases)

    async def run(self) -> None:
        """Run every after_all_deploy; the fleet stays live however they end."""
        if not self.due:
            return
        reason, tail = "after_all_deploy was interrupted", ""
        try:
            with self.scope:
                for release in self.context.releases:
                    await self.builder.after_all(release)
                self.due, reason = False, ""
        except (GhostasyncError, OSError) as exc:
            reason, tail = str(exc), exc.tail if isinstance(exc, BuildError) else ""
        finally:
            if reason:
                self.context.note(e.AfterAllFailed(reason, tail))
