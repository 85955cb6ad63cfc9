"""
The resolver: names to addresses, in threads that nobody has to wait for.

The event loop's own lookups share a few threads, and a process does not end before they
have: a name server that never answers would keep all other hosts waiting, and the run
from ending. Here each lookup has a daemon thread, which dies with the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading

import attrs

__all__ = ["Address", "resolve"]


@attrs.frozen
class Address:
    """One address of a host; *family* is the socket's, AF_INET or AF_INET6."""

    address: str
    family: int


async def resolve(name: str) -> tuple[Address, ...]:
    """
    Return the addresses of *name*, in the order in which to try them.

    Raises:
        OSError: There is no such name, or no thread to look it up.
    """
    # An address needs no lookup, and so no thread.
    with contextlib.suppress(ValueError):
        return (Address(name, _family(name)),)
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[tuple[Address, ...]] = loop.create_future()

    def tell(result: tuple[Address, ...] | OSError) -> None:
        # A caller whose deadline has passed has cancelled the future.
        if answer.done():
            return
        if isinstance(result, OSError):
            answer.set_exception(result)
        else:
            answer.set_result(result)

    def look_up() -> None:
        result = _addresses(name)
        # A late answer may find the loop closed, with nobody left to tell.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(tell, result)

    try:
        threading.Thread(target=look_up, name=f"resolve {name}", daemon=True).start()
    except RuntimeError as exc:
        raise OSError(f"{name} cannot be looked up: {exc}") from exc
    return await answer


def _family(address: str) -> int:
    """Return the socket family of an address; ValueError where it is a name."""
    version = ipaddress.ip_address(address).version
    return socket.AF_INET if version == 4 else socket.AF_INET6  # noqa: PLR2004


def _addresses(name: str) -> tuple[Address, ...] | OSError:
    try:
        rows = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError as exc:
        return exc
    except UnicodeError:
        # A text that is too long for a name, or empty between two dots, fails in the
        # IDNA codec before any resolver sees it; to people it is an unknown name.
        return socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return tuple(Address(str(to[0]), family) for family, _, _, _, to in rows)
