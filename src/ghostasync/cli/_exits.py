"""The end of a command that ran nothing; that of a run is in its report."""

from __future__ import annotations

__all__ = ["Interrupted"]


class Interrupted(Exception):
    """A signal came while there was no run to stop; no host was changed."""
