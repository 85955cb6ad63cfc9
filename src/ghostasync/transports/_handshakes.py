"""
The limits on logins under way at once, on this machine and with each server.

Two limits differ in what they protect. *working* protects this machine: a key exchange
is computed on the loop's thread, and too many at once time each other out. A
:class:`ServerLimit` protects one server, which drops or punishes those who come in
crowds: halved when the server hangs up, one more after a round of logins, as TCP does
with its window.
"""

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
"""Handshakes at once with one server: sshd drops some from ten on (MaxStartups 10)."""

LOOKUPS: Final = 256
"""Names looked up at once: each takes a thread, and a fleet has thousands."""

PATIENCE: Final = 3.0
"""Seconds after which a login gives its turn back: by then the host is the slow one."""


@attrs.define(eq=False)
class ServerLimit:
    """The logins under way with one server; never more than *most*, never none."""

    most: int
    places: anyio.CapacityLimiter
    _let_in: int = 0

    def slow_down(self) -> None:
        """Take note that the server hung up: halve the logins it gets at once."""
        self._let_in = 0
        self.places.total_tokens = max(1, int(self.places.total_tokens) // 2)

    def speed_up(self) -> None:
        """Take note of a login: after a round of logins the server gets one more."""
        self._let_in += 1
        now = int(self.places.total_tokens)
        if self._let_in >= now and now < self.most:
            self._let_in = 0
            self.places.total_tokens = now + 1


class Handshakes:
    """
    The limits on logins and lookups; shared by the runs of one loop.

    *connects* bounds the logins that cost this machine time (0: four a core),
    *per_endpoint* the logins with one server, a bastion above all.
    """

    def __init__(self, connects: int = 0, per_endpoint: int = PER_ENDPOINT) -> None:
        cores = len(os.sched_getaffinity(0))
        self.working = anyio.CapacityLimiter(connects or 4 * cores)
        self.lookups = anyio.CapacityLimiter(LOOKUPS)
        self._per_endpoint = min(per_endpoint, connects or per_endpoint)
        self._endpoints: dict[str, ServerLimit] = {}

    def endpoint(self, name: str) -> ServerLimit:
        """Return the limit of one server, whatever transport asks for it."""
        if name not in self._endpoints:
            most = self._per_endpoint
            self._endpoints[name] = ServerLimit(most, anyio.CapacityLimiter(most))
        return self._endpoints[name]

    @contextlib.asynccontextmanager
    async def turn(self, patience: float = PATIENCE) -> AsyncIterator[None]:
        """Wait for one of the *working* places; give it back after *patience* s."""
        # The token belongs to an object, not to this task: a timer may give it back
        # while the task goes on logging in.
        login = object()
        await self.working.acquire_on_behalf_of(login)

        def give_back() -> None:
            # The second of the two who give it back finds that it is gone.
            with contextlib.suppress(RuntimeError):
                self.working.release_on_behalf_of(login)

        late = asyncio.get_running_loop().call_later(patience, give_back)
        try:
            yield
        finally:
            late.cancel()
            give_back()
