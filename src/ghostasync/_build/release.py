"""What a module's part of a run is once it is packaged."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import attrs

from ..model import Module, Package
from .._packaging.spool import Spool

__all__ = ["Release", "fingerprint"]


def fingerprint(package: Package, environment: str) -> str:
    """Return what tells one deployment of a module from another, in hex."""
    return hashlib.sha256(f"{package.content} {environment}".encode()).hexdigest()


@attrs.frozen(eq=False)
class Release:
    """One module's part of a run: what hosts get, and what its scripts see there."""

    module: Module
    package: Package
    spool: Spool
    variables: Mapping[str, str] = attrs.field(repr=False)
    fingerprint: str

    @property
    def id(self) -> str:
        """The release's id, the package's."""
        return self.package.id

