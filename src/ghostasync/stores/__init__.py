"""The stores, which keep packages, MANIFEST and runs: one file for each kind."""

from __future__ import annotations

from ._sshsig import Trust
from .directory import DirectoryStore

# ``s3`` is imported where it is used: that takes some of the time of a start.
__all__ = ["DirectoryStore", "Trust"]
