"""Names to addresses, in threads that nobody has to wait for."""

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
    """Where a TCP connection can go: the address and what kind it is of."""

    address: str
    family: int


async def resolve(name: str) -> tuple[Address, ...]:
    """
    Return the addresses of *name*, in the order in which to try them.

    The event loop's own lookups share a few threads, and a process does not end before
    they have: a name server that never answers would keep all other hosts waiting, and
    the run from ending.

    Raises:
        OSError: There is no such name, or no thread to look it up.
    """
    with contextlib.suppress(ValueError):
        return (Address(name, _family(name)),)
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[tuple[Address, ...]] = loop.create_future()

    def tell(found: tuple[Address, ...] | OSError) -> None:
        if answer.done():
            return  # whoever asked has gone
        if isinstance(found, OSError):
            answer.set_exception(found)
        else:
            answer.set_result(found)

    def look_up() -> None:
        found = _addresses(name)
        with contextlib.suppress(RuntimeError):  # the loop is closed by now
            loop.call_soon_threadsafe(tell, found)

    try:
        threading.Thread(target=look_up, name=f"resolve {name}", daemon=True).start()
    except RuntimeError as exc:
        raise OSError(f"{name} cannot be looked up: {exc}") from exc
    return await answer


def _family(address: str) -> int:
    """Return what kind of address this is; ValueError where it is a name."""
    version = ipaddress.ip_address(address).version
    return socket.AF_INET if version == 4 else socket.AF_INET6  # noqa: PLR2004


def _addresses(name: str) -> tuple[Address, ...] | OSError:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError as exc:
        return exc
    except UnicodeError:  # too long for a name, or empty between two dots
        return socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return tuple(Address(str(to[0]), family) for family, _, _, _, to in found)
