"""One host, and a session with it."""

from __future__ import annotations

from ghostasync.model import Host
from ghostasync.protocols import Session, Transport

__all__ = ["WEB", "opened"]

WEB = Host("web1")


async def opened(transport: Transport, host: Host = WEB) -> Session:
    session = transport.session(host)
    await session.open()
    return session
