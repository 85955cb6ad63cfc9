"""
The manual: what keys, states, exit statuses, events and variables mean.

Its words are the docstrings of these things, and its facts those that the program goes
by, so that there is no second text to keep true. ``ghostasync explain``,
``ghostasync init --full`` and ``docs/reference.md`` come from here.
"""

from __future__ import annotations

from ._entries import GROUPS, Entry, Group, entries, find, near
from ._reference import reference
from ._template import complete

__all__ = [
    "GROUPS",
    "Entry",
    "Group",
    "complete",
    "entries",
    "find",
    "near",
    "reference",
]
