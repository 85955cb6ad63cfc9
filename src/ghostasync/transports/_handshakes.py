"""How many logins may be under way at once, here and with each server."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Final

import anyio
import attrs

__all__ = ["Handshakes", "ServerLimit"]

PER_ENDPOINT: Final = 8
"""Handshakes at once with one server, which drops some from ten on (MaxStartups)."""

LOOKUPS: Final = 256
"""Names looked up at once: each takes a thread, and a fleet has thousands."""

PATIENCE: Final = 3.0
"""Seconds after which a login counts no more: it waits for its host, and we do not."""


@attrs.define(eq=False)
class ServerLimit:
    """The logins under way with one server: half when it hangs up, one more later."""

    most: int
    places: anyio.CapacityLimiter
    _let_in: int = 0

    def slow_down(self) -> None:
        """Take note that the server hung up on us: halve what it gets at once."""
        self._let_in = 0
        self.places.total_tokens = max(1, int(self.places.total_tokens) // 2)

    def speed_up(self) -> None:
        """Take note of a login: after a round of them the server gets one more."""
        self._let_in += 1
        now = int(self.places.total_tokens)
        if self._let_in >= now and now < self.most:
            self._let_in = 0
            self.places.total_tokens = now + 1


class Handshakes:
    """
    How many logins may be under way at once; shared by the runs of one loop.

    *connects* bounds those that cost this machine time (0: four a core),
    *per_endpoint* those with one server, a bastion above all.
    """

    def __init__(self, connects: int = 0, per_endpoint: int = PER_ENDPOINT) -> None:
        cores = len(os.sched_getaffinity(0))
        self.working = anyio.CapacityLimiter(connects or 4 * cores)
        self.lookups = anyio.CapacityLimiter(LOOKUPS)
        self._per_endpoint = min(per_endpoint, connects or per_endpoint)
        self._endpoints: dict[str, ServerLimit] = {}

    def endpoint(self, name: str) -> ServerLimit:
        """Return what is known of one server."""
        if name not in self._endpoints:
            most = self._per_endpoint
            self._endpoints[name] = ServerLimit(most, anyio.CapacityLimiter(most))
        return self._endpoints[name]

    @contextlib.asynccontextmanager
    async def turn(self, patience: float = PATIENCE) -> AsyncIterator[None]:
        """Wait for one of the *working* places; give it back after *patience*."""
        login = object()
        await self.working.acquire_on_behalf_of(login)

        def give_back() -> None:
            with contextlib.suppress(RuntimeError):  # it has been given back
                self.working.release_on_behalf_of(login)

        late = asyncio.get_running_loop().call_later(patience, give_back)
        try:
            yield
        finally:
            late.cancel()
            give_back()
