"""When a run goes no further: what its budgets say of the hosts that failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..model import Rollout
from .host import Context
from .waves import allowed

__all__ = ["DENIALS", "over_budget", "turned_away"]

DENIALS: Final = 5
"""Refused logins, and nothing else, after which no more are tried: it is the key or the
user name, and servers lock out those who go on."""


def over_budget(rollout: Rollout, hosts: Sequence[Context]) -> str:
    """Return why the budget of *rollout* is spent; empty while it is not."""
    failed = [ctx for ctx in hosts if ctx.failure]
    if rollout.max_unreachable != "":
        away = [ctx for ctx in failed if ctx.failure and ctx.failure.unreachable]
        limit = allowed(rollout.max_unreachable, len(hosts))
        if len(away) > limit:
            return f"{len(away)} hosts unreachable, {limit} allowed"
        failed = [ctx for ctx in failed if ctx not in away]
    limit = allowed(rollout.max_failures, len(hosts))
    if len(failed) > limit:
        names = "host" if len(failed) == 1 else "hosts"
        return f"{len(failed)} {names} failed, {limit} allowed"
    return ""


def turned_away(hosts: Sequence[Context]) -> str:
    """Return why no more logins are tried: the first ones were all refused."""
    denied = [ctx for ctx in hosts if ctx.failure and ctx.failure.denied]
    if len(denied) < DENIALS or any(ctx.identity for ctx in hosts):
        return ""
    return f"the first {len(denied)} hosts all refused the login"
