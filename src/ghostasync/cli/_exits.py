"""Exit statuses of the command itself; those of a run are in its report."""

from __future__ import annotations

from typing import Final

__all__ = ["FAILED", "INTERRUPTED", "LOCKED", "REFUSED", "Interrupted"]

FAILED: Final = 1
"""A source, a build or the store failed before there was a report."""

REFUSED: Final = 2
"""Refused as asked, and nothing was changed."""

LOCKED: Final = 4
"""Another run has the hosts, or a person has frozen the app."""

INTERRUPTED: Final = 130
"""Exit status after SIGINT or SIGTERM: every link is as before."""


class Interrupted(Exception):
    """A signal came while there was no run to stop; no host was changed."""
