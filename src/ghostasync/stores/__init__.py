"""The stores, which keep packages, MANIFEST and runs: one file for each kind."""

from __future__ import annotations

from .directory import DirectoryStore
from .s3 import S3Store

__all__ = ["DirectoryStore", "S3Store"]
