"""A swap of the active color: two specs of a run that become one."""

from __future__ import annotations

import attrs

from .._engine.spec import RunSpec
from ..errors import PlanError
from ..goal import Swap
from ..model import App
from ..protocols import ColorStore

__all__ = ["paired"]

_OTHER = {"blue": "green", "green": "blue"}


def paired(goal: Swap, spec: RunSpec, partner: RunSpec) -> RunSpec:
    """
    Return the spec of a swap, whose *partner* is the part of the other color.

    Raises:
        PlanError: The two are no colors of one app, or nobody knows which is active.
    """
    ours, theirs = spec.plan.app, partner.plan.app
    _require_colors(ours, theirs)
    if _are_apart(spec, partner):
        text = f"{spec.store.url} and {partner.store.url} lie in different folders"
        raise PlanError(f"swap: {text}: let store.url be the same for both colors")
    if names := {h.name for h in spec.hosts} & {h.name for h in partner.hosts}:
        text = f"{', '.join(sorted(names))} in both colors"
        raise PlanError(f"swap: {text}: give each host a name of its own")
    to = goal.active_color or _next(ours, theirs)
    if not (spec if ours.color == to else partner).hosts:
        raise PlanError(f"swap: nothing is deployed to {to} yet: deploy to it first")
    goal = attrs.evolve(goal, active_color=to)
    warnings = [text for text in partner.warnings if text not in spec.warnings]
    return attrs.evolve(
        spec,
        goal=goal,
        warnings=(*spec.warnings, *warnings),
        partner=attrs.evolve(partner, goal=goal, id=spec.id, holder=spec.holder),
    )


def _are_apart(*both: RunSpec) -> bool:
    """Tell whether each color would have a record of its own, and neither be true."""
    sides = {(side.store.url, side.plan.app.color) for side in both}
    homes = {url.removesuffix(c) for url, c in sides if url.endswith(f"/{c}")}
    same = both[0].active == both[1].active and len(homes) < len(both)
    return not same or not all(isinstance(side.store, ColorStore) for side in both)


def _require_colors(ours: App, theirs: App) -> None:
    """
    Do nothing, unless two apps are anything but both colors of one.

    Raises:
        PlanError: They are.
    """
    if {ours.color, theirs.color} != {*_OTHER}:
        colors = f"{ours.color or 'empty'} and {theirs.color or 'empty'}"
        raise PlanError(f"swap: app.color is {colors}: one is to be blue, one green")
    for key in ("name", "env", "role"):
        if getattr(ours, key) != getattr(theirs, key):
            both = f"{getattr(ours, key)} and {getattr(theirs, key)}"
            raise PlanError(f"swap: app.{key} is {both}: these are two apps")


def _next(ours: App, theirs: App) -> str:
    """
    Return the color that is not active.

    Raises:
        PlanError: The configurations do not say which one is, or contradict each other.
    """
    said = {app.active_color for app in (ours, theirs)} - {""}
    if len(said) != 1:
        raise PlanError("swap: nobody has said which color is active: say --to COLOR")
    return _OTHER[said.pop()]
