"""
The parts for tests of deployments: hosts without machines, and a store without a disk.

There are three kinds of hosts, from the fastest to the truest: :class:`FakeHosts` keep
books behind a :class:`FakeTransport` and run nothing, :class:`LocalTransport` runs the
real scripts in local processes, and :class:`InProcessFleet` is reached over SSH like
any other hosts.
"""

from __future__ import annotations

from ._fake import Answer, Call, FakeTransport, Handler
from ._hosts import Break, FakeHost, FakeHosts, FakeModule, step
from ._inprocess import InProcessFleet
from ._local import LocalTransport
from ._memory_store import MemoryStore

__all__ = [
    "Answer",
    "Break",
    "Call",
    "FakeHost",
    "FakeHosts",
    "FakeModule",
    "FakeTransport",
    "Handler",
    "InProcessFleet",
    "LocalTransport",
    "MemoryStore",
    "step",
]
