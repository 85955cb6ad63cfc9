"""
The life of one host, as a table.

Rule 1: whatever decides where a host may go next is in this file.
Rule 2: this file does no I/O, reads no clock and knows no fleet.

A host starts in ``CONNECTING``. Its state selects the stage to run; the stage's event
selects the next state. An event that the table does not know for the state raises
:class:`IllegalTransition` and changes nothing.

The bar stands between READY and DRAINING. Left of it a host that fails is FAILED and a
host that is stopped because of others is HALTED, and the old release serves. Right of
it a failure leads through ROLLING_BACK. A killed run may have moved links already, and
a run that takes it up finds such hosts left of the bar: so ROLLING_BACK can be reached
from there too, by RollbackRequested. A host that was terminated is HALTED, wherever
it was on its way there: nothing is left to be put back.
"""

from __future__ import annotations

from typing import Final

import attrs

from . import events as e
from .model import State as S  # noqa: N817  the table reads better with one letter

__all__ = [
    "AFTER_SWITCH",
    "BACK_FOR_KILLED_RUN",
    "GONE_BACK",
    "IN_ORDER",
    "LEFT_ALONE",
    "MAY_BE_DRAINED",
    "MAY_HAVE_MOVED",
    "NOT_BACK",
    "NOT_LOOKED",
    "NOT_MOVED",
    "NOT_UPLOADED",
    "RESTING",
    "SERVES_NEW",
    "SETTLED",
    "SPARED",
    "SWITCHED",
    "TERMINAL",
    "TRANSITIONS",
    "HostMachine",
    "IllegalTransition",
    "after",
    "mermaid",
]

_Ways = dict[type[e.HostEvent], S]

_gone: Final[_Ways] = {e.Gone: S.HALTED}
_back: Final[_Ways] = {
    e.Failed: S.ROLLING_BACK,
    e.RollbackRequested: S.ROLLING_BACK,
    **_gone,
}
_lost: Final[_Ways] = {e.Failed: S.FAILED, e.Halted: S.HALTED, **_gone}

TRANSITIONS: Final[dict[S, _Ways]] = {
    # Left of the bar visitors see no change yet, so a failure costs nothing.
    S.CONNECTING: {e.Connected: S.CHECKING, **_lost},
    S.CHECKING: {
        e.Checked: S.UPLOADING,
        # A run that only takes back what another one did, or runs a script, makes no
        # release, so a host goes no further than here: it is as it was, or goes back.
        e.Unchanged: S.UNCHANGED,
        e.RollbackRequested: S.ROLLING_BACK,
        **_lost,
    },
    S.UPLOADING: {
        e.Uploaded: S.PREPARING,
        # A host is found unchanged only once the release is known, after the build.
        e.Unchanged: S.UNCHANGED,
        # The run that this one resumes had brought the host live.
        e.Resumed: S.LIVE,
        **_lost,
    },
    S.PREPARING: {e.Prepared: S.READY, **_lost},
    S.READY: {
        e.Admitted: S.DRAINING,
        **_lost,
        # A killed run had moved the link already, or left the host drained.
        e.RollbackRequested: S.ROLLING_BACK,
    },
    # Right of the bar visitors may see a change, so a failure must be undone: even
    # DRAINING has told a balancer something.
    S.DRAINING: {e.Drained: S.SWITCHING, **_back},
    S.SWITCHING: {e.Switched: S.ACTIVATING, **_back},
    S.ACTIVATING: {e.Activated: S.VERIFYING, **_back},
    S.VERIFYING: {e.Verified: S.UNDRAINING, **_back},
    S.UNDRAINING: {e.Undrained: S.LIVE, **_back},
    # A live host fails where a soak verifies it again.
    S.LIVE: {**_back},
    # The way back has one exit that is good and one that needs a person.
    S.ROLLING_BACK: {
        e.RolledBack: S.ROLLED_BACK,
        e.Failed: S.STRANDED,
        # Not HALTED, from where a way back may begin.
        e.Gone: S.STRANDED,
    },
    S.UNCHANGED: {},
    # A killed run had moved the link already. This run stopped before it could finish
    # the host, so it takes that back.
    S.HALTED: {e.RollbackRequested: S.ROLLING_BACK},
    S.FAILED: {e.RollbackRequested: S.ROLLING_BACK},
    S.ROLLED_BACK: {},
    S.STRANDED: {},
}

# Every named set of states stands here, and each is tested state by state: a new state
# then asks for its place in all of them, and no file has a set of its own that is
# forgotten.

TERMINAL: Final = frozenset(
    {S.UNCHANGED, S.HALTED, S.FAILED, S.ROLLED_BACK, S.STRANDED}
)
"""A run is over for the host, save that HALTED and FAILED may still be taken back."""

RESTING: Final = TERMINAL | {S.READY, S.LIVE}
"""A host waits for the fleet, or for nothing."""

SWITCHED: Final = frozenset({S.ACTIVATING, S.VERIFYING, S.UNDRAINING, S.LIVE})
"""Every link of the host is the new one."""

AFTER_SWITCH: Final = SWITCHED | {S.SWITCHING, S.ROLLING_BACK}
"""A link of the host may have moved, and this run can still put it back."""

MAY_HAVE_MOVED: Final = AFTER_SWITCH | {S.STRANDED}
"""A link of the host may have moved, and may not be back."""

NOT_MOVED: Final = frozenset(
    {S.CONNECTING, S.CHECKING, S.UPLOADING, S.PREPARING, S.READY, S.HALTED, S.FAILED}
)
"""No link of the host was moved by the run that left it in this state."""

LEFT_ALONE: Final = frozenset({S.CONNECTING, S.CHECKING, S.HALTED, S.FAILED})
"""Nothing on the host was replaced for certain, not even a release's environment."""

MAY_BE_DRAINED: Final = frozenset({S.DRAINING, *(AFTER_SWITCH - {S.LIVE})})
"""A balancer may have been told not to send the host work."""

SERVES_NEW: Final = frozenset({S.LIVE, S.UNCHANGED})
"""The host serves the run's releases."""

IN_ORDER: Final = SERVES_NEW | {S.ROLLED_BACK}
"""The host has proven that it serves one whole release as it should."""

GONE_BACK: Final = frozenset({S.ROLLED_BACK, S.STRANDED})
"""The host's way back is over, well or not."""

NOT_LOOKED: Final = frozenset({S.HALTED, S.FAILED})
"""A run that only goes back may have ended for the host before it was looked at."""

NOT_BACK: Final = NOT_LOOKED | {S.STRANDED}
"""The host may still serve what was to be taken back."""

BACK_FOR_KILLED_RUN: Final = NOT_LOOKED | {S.CHECKING, S.READY}
"""A way back that begins here takes back what a killed run moved or drained: this run
has moved nothing yet. Hosts at work between CHECKING and READY fail or halt first."""

SETTLED: Final = IN_ORDER | {S.STRANDED}
"""The host is in its balancers again, or a person was told that it is not."""

NOT_UPLOADED: Final = frozenset({S.CONNECTING, S.CHECKING, S.UPLOADING})
"""The host does not have the releases of the run yet."""

SPARED: Final = frozenset({S.UNCHANGED, S.HALTED, S.FAILED, S.LIVE, S.ROLLING_BACK})
"""A host may come here without having finished its upload; it is due no bytes then."""


class IllegalTransition(Exception):
    """The event cannot happen in this state; a bug, never an expected failure."""

    def __init__(self, state: S, event: e.HostEvent) -> None:
        super().__init__(f"{type(event).__name__} cannot happen in {state.name}")
        self.state, self.event = state, event


def after(state: S, event: e.HostEvent) -> S:
    """
    Return where *event* leads from *state*.

    Raises:
        IllegalTransition: The table has no such way.
    """
    try:
        return TRANSITIONS[state][type(event)]
    except KeyError:
        raise IllegalTransition(state, event) from None


@attrs.define
class HostMachine:
    """Place of one host in the table."""

    state: S = S.CONNECTING

    def apply(self, event: e.HostEvent) -> S:
        """
        Take note of *event* and return the state it led to.

        Raises:
            IllegalTransition: The table has no such way; the state is untouched.
        """
        self.state = after(self.state, event)
        return self.state


def mermaid() -> str:
    """Draw the table as a mermaid state diagram, one arrow for all events alike."""
    lines = ["stateDiagram-v2", "    [*] --> CONNECTING"]
    for state, ways in TRANSITIONS.items():
        folded: dict[S, list[str]] = {}
        for event, target in ways.items():
            folded.setdefault(target, []).append(event.__name__)
        lines += [
            f"    {state.name} --> {target.name}: {' / '.join(names)}"
            for target, names in folded.items()
        ]
    return "\n".join(lines)
