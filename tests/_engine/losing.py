"""Connections to hosts in memory that die, and an older run that holds their locks."""

from __future__ import annotations

from ghostasync.errors import ConnectionDied
from ghostasync.model import Deadlines
from ghostasync.testing import Answer, Break, Call, step

__all__ = ["OLDER", "QUICK", "dies"]

OLDER = "run 20000101T000000Z-aaaaaa by bob on c2 (pid 1) since 2000-01-01 00:00:00 UTC"
QUICK = Deadlines(connect=0.2, check=0.4, rollback=0.4)


def dies(what: str, host: str, times: int = 1) -> Break:
    """Have the connection to *host* die under *what*, so many times."""
    left = times

    def breaks(call: Call) -> Answer | None:
        nonlocal left
        if call.host == host and step(call) == what and left:
            left -= 1
            raise ConnectionDied(host, "gone")
        return None

    return breaks
