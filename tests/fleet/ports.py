"""TCP ports that stay free for the one server that a test is about to start."""

from __future__ import annotations

import socket

__all__ = ["reserve"]


def reserve(address: str = "127.0.0.1") -> socket.socket:
    """
    Reserve a port of *address* until the returned socket is closed.

    The socket is bound and never listens: connections are refused, the kernel gives
    the port to nobody, and a server that sets SO_REUSEADDR, as all of them do, may
    listen there as often as it likes.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    held = socket.socket(family, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind((address, 0))
    return held
