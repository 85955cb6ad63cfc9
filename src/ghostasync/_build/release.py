"""A release: one module's part of a run, once it is packaged."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping

import attrs

from ..errors import StoreError
from ..model import Module, Package
from .._packaging.spool import Spool
from ..protocols import ManifestLine

__all__ = ["RECALLED", "Release", "fingerprint", "require_as_named"]

RECALLED = "recalled"
"""Stands for the fingerprint of a release that hosts have and the store has not."""



def fingerprint(package: Package, environment: str) -> str:
    """Return the SHA-256 of a package's content and its environment's digest, in hex."""
    return hashlib.sha256(f"{package.content} {environment}".encode()).hexdigest()


def require_as_named(package: Package, lines: Iterable[ManifestLine]) -> None:
    """
    Do nothing, unless MANIFEST names another package by the id of *package*.

    Raises:
        StoreError: It does: one of the two was changed.
    """
    for line in lines:
        if line.package == package.id and line.sha256 != package.sha256:
            raise StoreError(
                f"{package.id} has sha256 {package.sha256[:12]}…, and MANIFEST names "
                f"{line.sha256[:12]}…: one of them was changed; deploy the commit anew"
            )


async def _at_once() -> None:
    """Wait for nothing: the package came from the store."""


@attrs.frozen(eq=False)
class Release:
    """
    One module's part of a run: its package, and the environment of its scripts.

    *spool* is the archive, open for all hosts; None where only hosts have the release.
    *fingerprint* is what a host keeps once the release has proven itself there.
    *stored* waits until the store has the package, or raises why it has not.
    """

    module: Module
    package: Package
    spool: Spool | None
    variables: Mapping[str, str] = attrs.field(repr=False)
    fingerprint: str
    stored: Callable[[], Awaitable[None]] = _at_once

    @property
    def id(self) -> str:
        """The release's id, the package's."""
        return self.package.id

