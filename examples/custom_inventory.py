"""
Hosts from wherever you have them: here from a CSV file with name, address and zone.

    python custom_inventory.py hosts.csv [ghostasync.toml]
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import anyio
import attrs

from ghostasync import Host, Plan, dry_run, load_plan


def hosts_from(path: Path) -> tuple[Host, ...]:
    """Read one host a line; the order is the order of the rollout."""
    with path.open(newline="") as file:
        return tuple(
            Host(
                name=row["name"],
                address=row["address"],
                port=int(row.get("port") or 0),
                labels={"zone": row["zone"]},
            )
            for row in csv.DictReader(file)
        )


async def main(hosts: str, config: str) -> None:
    """Print the waves that a deploy to those hosts would have."""
    plan: Plan = attrs.evolve(load_plan(config), hosts=hosts_from(Path(hosts)))
    preview = await dry_run(plan)
    for number, wave in enumerate(preview.waves, start=1):
        print(f"wave {number}: {', '.join(wave)}")


if __name__ == "__main__":
    config = sys.argv[2] if sys.argv[2:] else "ghostasync.toml"
    anyio.run(main, sys.argv[1], config)
