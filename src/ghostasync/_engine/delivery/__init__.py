"""
Deliveries: a file for each way in which the bytes of a release get to a host.

``stages/upload.py`` picks one (``_DELIVERY``), once it has found out that the host
lacks the release and has room for it.
"""

from __future__ import annotations

from typing import Protocol

from ..._build.release import Release
from ..host import HostRun

__all__ = ["Delivery"]


class Delivery(Protocol):
    """One way to get a release to a host."""

    async def deliver(self, ctx: HostRun, release: Release) -> None:
        """
        Return when the release is whole on the host, and on its disk.

        Bytes that are sent from here are counted in ``ctx.attempt.sent`` as they go,
        those that the host fetches in ``ctx.attempt.fetched``.

        Raises:
            Refused: The package cannot be read here.
            DeadlinePassed: No byte moved for ``rollout.deadlines.stall`` seconds.
            RemoteError: The host could not extract it, or it did not arrive whole.
            ConnectionDied: The connection is gone.
        """
