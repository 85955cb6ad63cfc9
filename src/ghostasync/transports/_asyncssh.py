"""
The import of asyncssh, without the programs that it starts.

asyncssh looks for nettle (MACs: UMAC) and liboqs (key exchange: sntrup761) with the
help of ``ctypes.util.find_library``. That runs ldconfig, and gcc and ld for each name
which ldconfig does not know: 11 programs, and a wait for each. The cache of the dynamic
loader names the same libraries.

asyncssh also asks who runs this, for tokens that we never use, and connects nowhere for
a uid without a name, which a container may have.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import getpass
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Final

__all__ = ["CACHE", "find_library", "without_programs"]

CACHE: Final = Path("/etc/ld.so.cache")
"""The list that ``ldconfig -p`` prints, in glibc's format: names end with a NUL."""

MAGIC: Final = b"glibc-ld.so.cache"


def find_library(name: str, cache: bytes) -> str | None:
    """Return the loader's name of library *name*; None where it cannot load it."""
    pattern = rb"(?<=[\0/])lib%s\.so[.0-9]*(?=\0)" % re.escape(name).encode()
    newest = sorted({*re.findall(pattern, cache)}, key=_version, reverse=True)
    # A library that LD_LIBRARY_PATH leads to is not in the cache: the plain name, tried
    # last, finds it.
    for file in [*map(bytes.decode, newest), f"lib{name}.so"]:
        with contextlib.suppress(OSError):
            ctypes.CDLL(file)
            return file
    return None


def _version(file: bytes) -> list[int]:
    return [int(number) for number in re.findall(rb"\d+", file.partition(b".so")[2])]


@contextlib.contextmanager
def without_programs() -> Iterator[None]:
    """Have ``ctypes.util.find_library`` read the cache, where there is one."""
    cache = b""
    with contextlib.suppress(OSError):
        cache = CACHE.read_bytes()
    # Another C library, as on Alpine, has no such cache: the search stays as it is.
    if MAGIC not in cache:
        yield
        return
    before = ctypes.util.find_library
    ctypes.util.find_library = lambda name: find_library(name, cache)
    try:
        yield
    finally:
        ctypes.util.find_library = before


def _call_a_uid_by_its_number() -> None:
    try:
        getpass.getuser()
    except (KeyError, OSError):
        number = str(os.getuid())
        names = SimpleNamespace(getuser=lambda: number)
        # Its import of the module is replaced, and nobody else's.
        setattr(_asyncssh.connection, "getpass", names)  # noqa: B010  mypy has no such


with without_programs():
    import asyncssh as _asyncssh
_call_a_uid_by_its_number()
