"""Rounds of A B C …, what they cost at the median, and ratios within a round."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import attrs

__all__ = ["Results", "interleave", "machine", "show_table"]

Row = Mapping[str, float]
"""What one turn cost: quantities by name."""


@attrs.frozen
class Results:
    """The turns of each contestant, one a round, in the same order for all."""

    turns: Mapping[str, Sequence[Row]]

    def medians(self) -> dict[str, dict[str, float]]:
        """Return the median of each quantity of each contestant."""
        return {
            name: {key: statistics.median(row[key] for row in rows) for key in rows[0]}
            for name, rows in self.turns.items()
        }

    def ratios(self, ours: str, key: str) -> dict[str, float]:
        """Return the medians of *ours* to each other one, pair by pair in a round."""
        return {
            name: statistics.median(
                mine[key] / its[key]
                for mine, its in zip(self.turns[ours], rows, strict=True)
            )
            for name, rows in self.turns.items()
            if name != ours
        }


def interleave(contestants: Mapping[str, Callable[[], Row]], rounds: int) -> Results:
    """Give each contestant its turn, *rounds* times over."""
    turns: dict[str, list[Row]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, turn in contestants.items():
            turns[name].append(turn())
    return Results(turns)


def machine() -> dict[str, object]:
    """Return what the figures depend on besides the code."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu(),
        "kernel": platform.release(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def show_table(
    rows: Mapping[str, Row], columns: Mapping[str, tuple[str, float, int]]
) -> str:
    """
    Return *rows* as text.

    Args:
        rows: Quantities by contestant.

        columns: The quantities to show: heading, factor, digits after the point.
    """
    first = max(map(len, rows), default=0)
    lines = [" " * first + "".join(f"  {head}" for head, _, _ in columns.values())]
    for name, row in rows.items():
        cells = (
            f"  {row[key] * factor:>{len(head)}.{digits}f}"
            for key, (head, factor, digits) in columns.items()
        )
        lines.append(name.ljust(first) + "".join(cells))
    return "\n".join(lines)


def _cpu() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123  a stream
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
