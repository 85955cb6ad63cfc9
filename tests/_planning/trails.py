"""What hosts have on record, made by hand: moves of links, and facts around them."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from ghostasync._remote.activation import Activation, Ended
from ghostasync._remote.facts import Facts, ModuleState

__all__ = ["facts", "move", "trail"]


def move(
    number: int,
    release: str,
    goal: str = "deploy",
    *,
    run: str = "",
    outcome: Ended = "live",
    undoes: str = "",
    resumes: str = "",
    origin: str = "",
    store: str = "ours",
) -> Activation:
    """Return the record of a move by the run numbered *number*, ``r1`` for 1."""
    return Activation(
        number,
        run or f"r{number}",
        release,
        goal,
        outcome,
        undoes=undoes,
        resumes=resumes,
        origin=origin,
        store=store,
    )


def trail(*moves: Activation, serves: str = "") -> ModuleState:
    """
    Return a module's state after *moves*, the oldest first.

    The host serves what the last one brought that was not taken back, or *serves*.
    """
    now, made = "", []
    for each in moves:
        text = f"/releases/{now}" if now else ""
        made.append(attrs.evolve(each, previous=text))
        now = now if each.outcome == "reverted" else each.release
    live = serves or now
    return ModuleState(
        kind="link" if live else "absent",
        link=f"/releases/{live}" if live else "",
        live=live,
        releases=frozenset(each.release for each in moves),
        activations=tuple(reversed(made)),
    )


def facts(modules: Mapping[str, ModuleState]) -> Facts:
    """Return the facts of a host that has these modules."""
    return Facts(
        uid=0,
        gid=0,
        tools=frozenset(),
        rename="mv",
        unwritable="",
        free_bytes=None,
        free_inodes=None,
        targets=modules,
    )
