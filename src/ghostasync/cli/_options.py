"""
Options that several commands share, and the plan and the goal that they lead to.

The docstrings of fields and commands are the help texts.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import attrs
from cyclopts import Parameter
from cyclopts.validators import Number

from ..config import parse_budget, parse_waves
from ..errors import PlanError

if TYPE_CHECKING:
    from ..goal import Deploy
    from ..model import Plan

__all__ = [
    "COMMON",
    "CONFIG_NAME",
    "LIMITS",
    "LOCKING",
    "MODE",
    "PICK",
    "Common",
    "Flag",
    "Limits",
    "Locking",
    "Mode",
    "Output",
    "Pick",
    "Repeatable",
    "parse_time",
]

CONFIG_NAME: Final = "ghostasync.toml"

Output = Literal["auto", "board", "lines", "json"]
"""Kind of front end; ``auto``: a board on a terminal, lines elsewhere."""

Flag = Annotated[bool, Parameter(negative=())]
"""An option that is there or not; it has no ``--no-`` form."""

Repeatable = Annotated[tuple[str, ...], Parameter(negative=())]
"""An option that may come again and adds up."""


@Parameter(name="*")
@attrs.frozen
class Common:
    """The options of every command."""

    config: Path | None = None
    """The configuration; else $GHOSTASYNC_CONFIG, else ghostasync.toml here."""

    output: Output = "auto"
    """How it is shown; auto is a board on a terminal, and lines elsewhere."""

    def path(self) -> Path:
        """Return the path of the configuration: as typed, as exported, or the usual."""
        path = self.config or os.environ.get("GHOSTASYNC_CONFIG") or CONFIG_NAME
        return Path(path)

    def plan(self) -> Plan:
        """
        Read the configuration.

        Raises:
            ConfigError: It cannot be read, or is wrong.
        """
        from ..config import load_plan

        return load_plan(self.path())


@Parameter(name="*")
@attrs.frozen
class Locking:
    """Conduct where another run holds a host."""

    wait: Annotated[float, Parameter(validator=Number(gte=0))] = 0.0
    """Seconds to wait for a run that holds a host; else the command ends with 4."""

    break_lock: Flag = False
    """Take the hosts of another run at once, and end what it has running there."""

    reason: str = ""
    """Why; kept in the journal, on hosts, and in the history."""

    inventory_shrank: Flag = False
    """Believe an inventory that names fewer than 80 % of the last whole run's hosts."""


@Parameter(name="*")
@attrs.frozen
class Pick:
    """The hosts and revisions that a command is about."""

    rev: str = ""
    """A branch, tag or commit instead of the configured one; for one repository."""

    package: Repeatable = ()
    """A stored package by its id, its commit, or how one begins. Repeatable."""

    limit: Repeatable = ()
    """Hosts: globs, !x, label=v, @failed, @behind; a comma is "and". Repeatable."""

    def goal(self, modules: Sequence[str], mode: Mode) -> Deploy:
        """Return what a run is for that deploys *modules*."""
        from ..goal import Deploy

        words = tuple(modules), self.rev, self.package
        return Deploy(*words, mode.force, mode.back, mode.why)


@Parameter(name="*")
@attrs.frozen
class Mode:
    """Whether a deploy is meant in earnest, and how much so."""

    dry_run: Flag = False
    """Look at sources and hosts, and say what would be done; nothing is changed."""

    force: Flag = False
    """Build and deploy again what is unchanged."""

    back: Flag = False
    """Deploy a commit all the same that is older than what serves."""

    why: Flag = False
    """Say by what each release differs from the one that hosts serve."""


@Parameter(name="*")
@attrs.frozen
class Limits:
    """Keys of the plan's rollout that a deploy may override."""

    waves: str = ""
    """Sizes of waves, such as 1,25%."""

    max_failures: str = ""
    """Hosts that may fail: a number, or a percentage of those selected."""

    concurrency: Annotated[int | None, Parameter(validator=Number(gte=1))] = None
    """Hosts that transfer or run a script at once."""

    def applied(self, plan: Plan) -> Plan:
        """
        Return *plan* with these limits.

        Raises:
            PlanError: One cannot be read.
        """
        # A changed plan counts as unchecked, so planning judges these values by the
        # rules of the file.
        rollout = plan.rollout
        if self.waves:
            rollout = attrs.evolve(rollout, waves=parse_waves(self.waves))
        if self.max_failures:
            budget = parse_budget(self.max_failures)
            rollout = attrs.evolve(rollout, max_failures=budget)
        if self.concurrency is not None:
            rollout = attrs.evolve(rollout, concurrency=self.concurrency)
        same = rollout is plan.rollout
        return plan if same else attrs.evolve(plan, rollout=rollout)


COMMON: Final = Common()
PICK: Final = Pick()
MODE: Final = Mode()
LOCKING: Final = Locking()
LIMITS: Final = Limits()


def parse_time(text: str) -> float:
    """
    Return a time of this machine's clock in POSIX seconds; 0 for an empty text.

    Raises:
        PlanError: It is no time, or it is over.
    """
    if not text:
        return 0.0
    now = datetime.now(UTC).astimezone()
    try:
        if "-" in text:
            ends = datetime.fromisoformat(text).astimezone()
        else:
            ends = datetime.combine(now, time.fromisoformat(text)).astimezone()
            ends += timedelta(days=ends <= now)
    except ValueError:
        raise PlanError(
            f"--until {text}: no time; allowed: 18:00 or 2026-01-31T18:00"
        ) from None
    if ends <= now:
        raise PlanError(f"--until {text}: that is over")
    return ends.timestamp()
