"""The stores, which keep packages, MANIFEST and runs: one file for each kind."""

from __future__ import annotations

from .directory import DirectoryStore

__all__ = ["DirectoryStore"]
