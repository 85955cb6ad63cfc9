"""A coroutine for each step: one host, one effect, one fact that became true."""

from __future__ import annotations

from ._context import Context, Logs, Move, Release, RunContext
from ._rights import rights
from .activate import activate
from .before_switch import before_switch
from .check import check, findings, inspect, take_lock
from .connect import connect
from .drain import drain, undrain
from .prepare import prepare
from .prune import prune
from .reconnect import reconnect
from .resume import drained_by_past, still_drained, to_name_again, to_undo
from .rollback import rollback
from .switch import switch
from .upload import upload
from .verify import verify

__all__ = [
    "Context",
    "Logs",
    "Move",
    "Release",
    "RunContext",
    "activate",
    "before_switch",
    "check",
    "connect",
    "drain",
    "drained_by_past",
    "findings",
    "inspect",
    "prepare",
    "prune",
    "reconnect",
    "rights",
    "rollback",
    "still_drained",
    "switch",
    "take_lock",
    "to_name_again",
    "to_undo",
    "undrain",
    "upload",
    "verify",
]
