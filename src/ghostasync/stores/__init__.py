"""Where packages, MANIFEST and runs are kept."""

from __future__ import annotations

from .directory import DirectoryStore

__all__ = ["DirectoryStore"]
