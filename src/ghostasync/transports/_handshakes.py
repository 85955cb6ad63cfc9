"""How many logins may be under way at once."""

from __future__ import annotations

import os
from typing import Final

import anyio

__all__ = ["Handshakes"]

PER_ENDPOINT: Final = 8
"""Handshakes at once with one server, which drops some from ten on (MaxStartups)."""


class Handshakes:
    """
    How many logins may be under way at once; shared by the runs of one loop.

    *connects* bounds those that cost this machine time (0: four a core),
    *per_endpoint* those with one server, a bastion above all.
    """

    def __init__(self, connects: int = 0, per_endpoint: int = PER_ENDPOINT) -> None:
        cores = len(os.sched_getaffinity(0))
        self.working = anyio.CapacityLimiter(connects or 4 * cores)
        self._per_endpoint = min(per_endpoint, connects or per_endpoint)
        self._endpoints: dict[str, anyio.CapacityLimiter] = {}

    def endpoint(self, name: str) -> anyio.CapacityLimiter:
        """Return the limiter of one server."""
        if name not in self._endpoints:
            self._endpoints[name] = anyio.CapacityLimiter(self._per_endpoint)
        return self._endpoints[name]

    def slow_down(self, name: str) -> None:
        """Take note that a server hung up on us: halve what it gets at once."""
        limiter = self.endpoint(name)
        limiter.total_tokens = max(1, int(limiter.total_tokens) // 2)
