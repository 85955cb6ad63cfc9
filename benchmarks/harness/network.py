"""A loopback of our own, so that its counter counts nobody else's bytes."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path
from typing import Final

__all__ = ["carried", "enter_own_network"]

CLONE_NEWNET: Final = 0x40000000
SIOCSIFFLAGS: Final = 0x8914
IFF_UP: Final = 0x1


def enter_own_network() -> bool:
    """
    Leave for a network that has nothing but a loopback; tell whether it worked.

    Only root may. All that is started from this thread afterwards is in it too.
    """
    if os.geteuid() != 0 or ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        fcntl.ioctl(probe, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))
    return True


def carried() -> int:
    """Return the bytes that loopback has carried, both ways, headers included."""
    for line in Path("/proc/thread-self/net/dev").read_text().splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == "lo":
            return int(counters.split()[0])
    return 0
