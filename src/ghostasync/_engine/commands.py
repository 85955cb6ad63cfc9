"""
Commands of the policy to the fleet: frozen values that can go down a pipe as JSON.

A command names hosts and says nothing of tasks, scopes or connections, so that a fleet
in another process can carry it out as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import attrs
import cattrs

from ..events import Cause

__all__ = [
    "Admit",
    "AtWork",
    "AwaitLock",
    "Command",
    "Leave",
    "Stop",
    "TakeBack",
    "TakeNumber",
    "decode",
    "encode",
]


@attrs.frozen
class Admit:
    """Let a host that is READY change: drain it, move its links, and so on."""

    host: str


@attrs.frozen
class TakeBack:
    """Roll a host back to the releases that it served before the run."""

    host: str
    reason: str


@attrs.frozen
class Leave:
    """Leave a host as it is, though it was to go back; *reason* is for people."""

    host: str
    reason: str


@attrs.frozen
class AwaitLock:
    """
    Give back every lock, wait until *host* is free, and begin again with *hosts*.

    A run gives its locks back before it waits: two runs that each kept some hosts would
    wait for each other for ever. *holder* is what the lock is held under.
    """

    host: str
    holder: str
    hosts: tuple[str, ...]


@attrs.frozen
class TakeNumber:
    """Reserve the run's generation: every host was checked, or has failed."""


AtWork = Literal["cut", "settle", "finish"]
"""What becomes of hosts that are at work: they are cut short; those that are checked or
run a pre-deploy may end that, within a deadline; or all go on to LIVE."""


@attrs.frozen
class Stop:
    """Go no further; *at_work* says what becomes of hosts that are at work."""

    reason: str
    cause: Cause = "policy"
    at_work: AtWork = "cut"


Command = Admit | TakeBack | Leave | AwaitLock | TakeNumber | Stop

_KINDS: Final[dict[str, type[Command]]] = {
    kind.__name__: kind
    for kind in (Admit, TakeBack, Leave, AwaitLock, TakeNumber, Stop)
}
# Lists in place of tuples, as JSON reads them back.
_CONVERTER: Final = cattrs.Converter(unstruct_collection_overrides={tuple: list})


def encode(command: Command) -> dict[str, object]:
    """Return *command* as plain values, its kind under ``command``."""
    fields: dict[str, object] = _CONVERTER.unstructure(command)
    return {"command": type(command).__name__, **fields}


def decode(fields: Mapping[str, object]) -> Command:
    """
    Return the command that :func:`encode` made *fields* of.

    Raises:
        ValueError: *fields* are those of no command.
    """
    kind = _KINDS.get(str(fields.get("command")))
    if kind is None:
        raise ValueError(f"{fields.get('command')!r} is no command")
    return _CONVERTER.structure(fields, kind)
