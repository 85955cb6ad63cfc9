"""after_all_deploy: the last thing a run does, when nothing can be taken back."""

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

    It is *due* from the moment MANIFEST moves until it has passed: whatever keeps it
    from running, a cancellation included, ends the run with its own exit status.
    """

    context: RunContext
    builder: Builder
    due: bool = False
    scope: anyio.CancelScope = attrs.field(factory=anyio.CancelScope)

    def is_to_come(self) -> None:
        """Say that the run is about to be live for good."""
        state, releases = self.context.state, self.context.releases
        if not self.context.goal.moves_manifest:
            return  # it belongs to releases that are new to the fleet
        # A fleet that served it all before is not told twice.
        moved = state.waves or any(host.moved for host in state.hosts.values())
        self.due = bool(moved) and any(r.module.after_all_deploy for r in releases)

    async def run(self) -> None:
        """Run every after_all_deploy; the fleet stays live whatever comes of it."""
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
