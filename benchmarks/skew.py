"""
How far apart do the links of a wave move, against commands that do nothing?

Each turn deploys to a fleet, whose report says how long it was from the first link to
the last; and then starts ``true`` on all hosts at once over open connections of the
same kind, and takes the time from the first end to the last.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import anyio

from benchmarks.harness.rounds import Results, machine, show_table
from benchmarks.harness.tree import make_tree
from ghostasync import (
    App,
    DirectorySource,
    Module,
    Plan,
    StoreSettings,
    build,
    deploy,
)
from ghostasync.model import Host
from ghostasync.transports.ssh import SshSession, SshTransport
from tests.fleet.sshd import SshdFleet

COLUMNS: Final = {"skew": ("ms first to last", 1e3, 1)}


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.skew")
    parser.add_argument("--hosts", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--folder", default="/dev/shm", help="on tmpfs")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="skew-", dir=args.folder) as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        make_tree(folder / "tree", files=50, nbytes=500_000)
        with SshdFleet(args.hosts, folder / "fleet") as fleet:
            results = anyio.run(_compare, folder, fleet, args.rounds)
    ratio = results.ratios("links", "skew")["no-op commands"]
    print(show_table(results.medians(), COLUMNS))
    print(f"links to no-op commands: x {ratio:.2f}")
    if args.json:
        figures = {"rounds": results.turns, "medians": results.medians()}
        about = {"benchmark": "skew", "machine": machine(), "ratio": ratio}
        args.json.write_text(json.dumps({**about, **figures}, indent=2) + "\n")


async def _compare(folder: Path, fleet: SshdFleet, rounds: int) -> Results:
    module = Module("site", "/srv/site", DirectorySource(str(folder / "tree")))
    plan = Plan(
        app=App("shop", "prod", "web"),
        modules=(module,),
        hosts=fleet.hosts,
        store=StoreSettings(str(folder / "store")),
        ssh=fleet.ssh,
        base=folder,
    )
    package = (await build(plan))["site"].id
    links: list[dict[str, float]] = []
    commands: list[dict[str, float]] = []
    for _ in range(rounds):
        report = await deploy(plan, packages=[package], force=True)
        links.append({"skew": report.skew})
        commands.append({"skew": await _do_nothing(SshTransport(plan.ssh), plan.hosts)})
    return Results({"links": links, "no-op commands": commands})


async def _do_nothing(transport: SshTransport, hosts: Sequence[Host]) -> float:
    """Return the seconds from the first ``true`` that ended to the last."""
    sessions = [transport.session(host) for host in hosts]
    ended: list[float] = []

    async def visit(session: SshSession) -> None:
        channel = await session.execute("true", output=_ignore, errors=_ignore)
        await channel.wait()
        ended.append(anyio.current_time())

    async with anyio.create_task_group() as tasks:
        for session in sessions:
            tasks.start_soon(session.open)
    async with anyio.create_task_group() as tasks:
        for session in sessions:
            tasks.start_soon(visit, session)
    for session in sessions:
        await session.close()
    return max(ended) - min(ended)


def _ignore(data: bytes) -> None:
    del data


if __name__ == "__main__":
    main(sys.argv[1:])
