"""The stores, which keep packages, MANIFEST and runs: one file for each kind."""

from __future__ import annotations

from .directory import DirectoryStore

# The others are imported where they are used: that takes some of the time of a start.
__all__ = ["DirectoryStore"]
