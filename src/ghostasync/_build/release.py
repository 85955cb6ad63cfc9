"""A release: one module's part of a run, once it is packaged."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import attrs

from ..model import Module, Package
from .._packaging.spool import Spool

__all__ = ["RECALLED", "Release", "fingerprint"]

RECALLED = "recalled"
"""Stands for the fingerprint of a release that hosts have and the store has not."""



def fingerprint(package: Package, environment: str) -> str:
    """Return the SHA-256 of a package's content and its environment's digest, in hex."""
    return hashlib.sha256(f"{package.content} {environment}".encode()).hexdigest()


@attrs.frozen(eq=False)
class Release:
    """
    One module's part of a run: its package, and the environment of its scripts.

    *spool* is the archive, open for all hosts; None where only hosts have the release.
    *fingerprint* is what a host keeps once the release has proven itself there.
    """

    module: Module
    package: Package
    spool: Spool | None
    variables: Mapping[str, str] = attrs.field(repr=False)
    fingerprint: str

    @property
    def id(self) -> str:
        """The release's id, the package's."""
        return self.package.id

