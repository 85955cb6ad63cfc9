"""
Hosts from wherever you have them: here from a CSV file with name, address and zone.

    python custom_inventory.py hosts.csv [ghostasync.toml]

For the command line, register it as a plug-in in a ``pyproject.toml`` of yours::

    [project.entry-points."ghostasync.inventories"]
    csv = "custom_inventory:plugin"

Then ``[inventory]`` has ``plugin = "csv"`` and ``file = "hosts.csv"``.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping
from pathlib import Path

import anyio

from ghostasync import Host, Plan, dry_run, load_plan


class CsvInventory:
    """One host a line; the order is the order of the rollout."""

    def __init__(self, file: Path) -> None:
        self._file = file

    async def hosts(self) -> tuple[Host, ...]:
        """Read the file: whenever a run begins, and once more when it is live."""
        text = await anyio.Path(self._file).read_text()
        return tuple(
            Host(row["name"], row["address"], labels={"zone": row["zone"]})
            for row in csv.DictReader(text.splitlines())
        )


def plugin(options: Mapping[str, object], plan: Plan) -> CsvInventory:
    """Make the inventory of the keys that stand beside ``plugin``."""
    return CsvInventory(plan.base / str(options["file"]))


async def main(hosts: str, config: str) -> None:
    """Print the waves that a deploy to those hosts would have."""
    preview = await dry_run(load_plan(config), inventory=CsvInventory(Path(hosts)))
    for number, wave in enumerate(preview.waves, start=1):
        print(f"wave {number}: {', '.join(wave)}")


if __name__ == "__main__":
    config = sys.argv[2] if sys.argv[2:] else "ghostasync.toml"
    anyio.run(main, sys.argv[1], config)
