"""
The package: a built tree as an archive, and the archive's bytes on their way to hosts.

An archive is a tar with two folders: ``release/``, the tree as it will be served, and
``ghost/``, the files that a host checks and settles it with, by no more than sh and its
own tools. An archive is the same for every environment.
"""

from __future__ import annotations

from .build import Packed, pack
from .manifest import Entry, Kind, parse_manifest
from .spool import Encoded, Spool

__all__ = [
    "Encoded",
    "Entry",
    "Kind",
    "Packed",
    "Spool",
    "pack",
    "parse_manifest",
]
