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
import itertools
import socket
import threading

import attrs

__all__ = ["Address", "resolve"]


@attrs.frozen
class Address:
    """
    One address of a host, with its scope if it has one (``fe80::1%eth0``).

    *family* is the socket's, AF_INET or AF_INET6.
    """

    address: str
    family: int


async def resolve(name: str, family: int = socket.AF_UNSPEC) -> tuple[Address, ...]:
    """
    Return the addresses of *name*, in the order in which to try them.

    Only those of *family*, where one is given.

    Raises:
        OSError: There is no such name, or no thread to look it up.
    """
    # An address needs no lookup, and so no thread.
    with contextlib.suppress(ValueError):
        address = Address(name, _family(name))
        if family in (socket.AF_UNSPEC, address.family):
            return (address,)
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
        result = _addresses(name, family)
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


def _addresses(name: str, family: int) -> tuple[Address, ...] | OSError:
    try:
        rows = socket.getaddrinfo(
            name, None, family=socket.AddressFamily(family), type=socket.SOCK_STREAM
        )
    except OSError as exc:
        return exc
    except UnicodeError:
        # A text that is too long for a name, or empty between two dots, fails in the
        # IDNA codec before any resolver sees it; to people it is an unknown name.
        return socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return _by_turns([_address(family, *to) for family, _, _, _, to in rows])


def _address(family: int, address: str | int, *rest: object) -> Address:
    """Return an address of getaddrinfo: *rest* is the port, and for IPv6 the scope."""
    scope = rest[-1] if family == socket.AF_INET6 else 0
    return Address(f"{address}%{scope}" if scope else str(address), family)


def _by_turns(addresses: list[Address]) -> tuple[Address, ...]:
    """Return them with the families by turns: a family as a whole may lead nowhere."""
    first = [one for one in addresses if one.family == addresses[0].family]
    others = [one for one in addresses if one.family != addresses[0].family]
    pairs = itertools.zip_longest(first, others)
    return tuple(one for pair in pairs for one in pair if one is not None)
