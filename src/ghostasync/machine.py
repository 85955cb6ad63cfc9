"""
The life of one host, as a table.

Rule 1: whatever decides where a host may go next is in this file.
Rule 2: this file does no I/O, reads no clock and knows no fleet.

A host starts in ``CONNECTING``. Its state selects the stage to run; the stage's event
selects the next state. An event that the table does not know for the state raises
:class:`IllegalTransition` and changes nothing.
"""

from __future__ import annotations

from typing import Final

import attrs

from . import events as e
from .model import State as S  # noqa: N817  the table reads better with one letter

__all__ = [
    "AFTER_SWITCH",
    "RESTING",
    "TERMINAL",
    "TRANSITIONS",
    "HostMachine",
    "IllegalTransition",
    "mermaid",
]

_back = {e.Failed: S.ROLLING_BACK, e.RollbackRequested: S.ROLLING_BACK}
_lost = {e.Failed: S.FAILED, e.Halted: S.FAILED}

TRANSITIONS: Final[dict[S, dict[type[e.HostEvent], S]]] = {
    # Nothing a visitor can see has changed yet: a failure costs nothing.
    S.CONNECTING: {e.Connected: S.CHECKING, **_lost},
    S.CHECKING: {
        e.Checked: S.UPLOADING,
        # A run that only takes back what another one did goes no further than here.
        e.Unchanged: S.UNCHANGED,
        e.RollbackRequested: S.ROLLING_BACK,
        **_lost,
    },
    S.UPLOADING: {
        e.Uploaded: S.PREPARING,
        e.Unchanged: S.UNCHANGED,
        # The run that this one resumes brought the host here.
        e.Resumed: S.LIVE,
        **_lost,
    },
    S.PREPARING: {e.Prepared: S.READY, **_lost},
    S.READY: {
        e.Admitted: S.DRAINING,
        e.Failed: S.FAILED,
        # Where a run that was killed had moved the link already.
        e.RollbackRequested: S.ROLLING_BACK,
    },
    # From here on it may have: a failure must be undone.
    S.DRAINING: {e.Drained: S.SWITCHING, **_back},
    S.SWITCHING: {e.Switched: S.ACTIVATING, **_back},
    S.ACTIVATING: {e.Activated: S.VERIFYING, **_back},
    S.VERIFYING: {e.Verified: S.UNDRAINING, **_back},
    S.UNDRAINING: {e.Undrained: S.LIVE, **_back},
    S.LIVE: {**_back},
    # The way back has one exit that is good and one that needs a person.
    S.ROLLING_BACK: {e.RolledBack: S.ROLLED_BACK, e.Failed: S.STRANDED},
    S.UNCHANGED: {},
    # Where a run that was killed had moved the link already.
    S.FAILED: {e.RollbackRequested: S.ROLLING_BACK},
    S.ROLLED_BACK: {},
    S.STRANDED: {},
}

TERMINAL: Final = frozenset({S.UNCHANGED, S.FAILED, S.ROLLED_BACK, S.STRANDED})
"""States in which a run is over for a host, save that FAILED may be taken back."""

RESTING: Final = TERMINAL | {S.READY, S.LIVE}
"""States in which a host waits for the fleet, or for nothing."""

AFTER_SWITCH: Final = frozenset(
    {S.SWITCHING, S.ACTIVATING, S.VERIFYING, S.UNDRAINING, S.LIVE, S.ROLLING_BACK}
)
"""States in which a link of the host may have moved."""


class IllegalTransition(Exception):
    """The event cannot happen in this state; a bug, never an expected failure."""

    def __init__(self, state: S, event: e.HostEvent) -> None:
        super().__init__(f"{type(event).__name__} cannot happen in {state.name}")
        self.state, self.event = state, event


@attrs.define
class HostMachine:
    """One host's place in the table."""

    state: S = S.CONNECTING

    def apply(self, event: e.HostEvent) -> S:
        """
        Take note of *event* and return the state it led to.

        Raises:
            IllegalTransition: The table has no such way; the state is untouched.
        """
        try:
            self.state = TRANSITIONS[self.state][type(event)]
        except KeyError:
            raise IllegalTransition(self.state, event) from None
        return self.state


def mermaid() -> str:
    """Draw the table as a mermaid state diagram, failures folded where alike."""
    lines = ["stateDiagram-v2", "    [*] --> CONNECTING"]
    for state, ways in TRANSITIONS.items():
        folded: dict[S, list[str]] = {}
        for event, target in ways.items():
            folded.setdefault(target, []).append(event.__name__)
        lines += [
            f"    {state.name} --> {target.name}: {' / '.join(names)}"
            for target, names in folded.items()
        ]
        if state in TERMINAL:
            lines.append(f"    {state.name} --> [*]")
    return "\n".join(lines)
