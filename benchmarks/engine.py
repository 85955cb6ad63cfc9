"""
What does the engine alone cost, for 100 to 20,000 hosts that do not exist?

No SSH: a function answers every script at once. Printed are CPU per host of a whole
deploy, journal and report included, and the memory per host. Each fleet is deployed to
in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import anyio

from benchmarks.harness.rounds import interleave, machine, show_table
from ghostasync import (
    App,
    DirectorySource,
    Host,
    Module,
    Plan,
    Rollout,
    StoreSettings,
    build,
    deploy,
)
from ghostasync.testing import Answer, Call, FakeHosts, FakeTransport

FLEETS: Final = (100, 1000, 5000, 20000)

COLUMNS: Final = {
    "cpu": ("CPU ms/host", 1e3, 3),
    "wall": ("wall s", 1.0, 2),
    "memory": ("kB/host", 1e-3, 1),
}

APP: Final = "/ghost/shop/prod/web"

FIRST: Final = {
    "probe": (),
    "lock": (),
    "check": (APP, f"{APP}/site", "/srv/site"),
    "switch": (
        "mv",
        "busy",
        f"{APP}/site",
        "/srv/site",
        "",
        f"{APP}/site/1_site_a",
        "",
    ),
}
"""What a host is first asked; all say the same then, and nobody keeps books."""

ANSWERS: Final = {
    name: FakeHosts().work(Call("web1", name, args)) for name, args in FIRST.items()
}


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine")
    parser.add_argument("--fleets", type=int, nargs="+", default=FLEETS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", default="/dev/shm", help="on tmpfs")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(words)
    if args.one:
        print(json.dumps(anyio.run(_deploy, Path(args.folder), args.one)))
        return
    turns = {
        f"{count} hosts": partial(_apart, args.folder, count) for count in args.fleets
    }
    results = interleave(turns, args.rounds)
    print(show_table(results.medians(), COLUMNS))
    if args.json:
        figures = {"rounds": results.turns, "medians": results.medians()}
        about = {"benchmark": "engine", "machine": machine()}
        args.json.write_text(json.dumps({**about, **figures}, indent=2) + "\n")


def _apart(parent: str, count: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="engine-", dir=parent) as folder:
        one = ["--one", str(count), "--folder", folder]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.engine", *one],
            check=True,
            env={**os.environ, "XDG_CACHE_HOME": f"{folder}/cache"},
            stdout=subprocess.PIPE,
        )
    cost: dict[str, float] = json.loads(done.stdout)
    return cost


async def _deploy(folder: Path, count: int) -> dict[str, float]:
    """Deploy once to *count* hosts and tell what it cost."""
    (folder / "tree").mkdir()
    (folder / "tree/index.html").write_text("hello\n")
    plan = Plan(
        app=App("shop", "prod", "web"),
        modules=(Module("site", "/srv/site", DirectorySource(str(folder / "tree"))),),
        hosts=tuple(Host(f"web{number:05}") for number in range(count)),
        store=StoreSettings(str(folder / "store")),
        rollout=Rollout(concurrency=256),
        base=folder,
    )
    package = (await build(plan))["site"].id
    memory, cpu, wall = _anonymous(), time.process_time(), time.monotonic()
    transport = FakeTransport(_answer)
    await deploy(plan, packages=[package], transport=transport)
    return {
        "cpu": (time.process_time() - cpu) / count,
        "wall": time.monotonic() - wall,
        "memory": (_anonymous() - memory) / count,
    }


def _answer(call: Call) -> Answer:
    return ANSWERS.get(call.name, Answer())


def _anonymous() -> int:
    """Return what this process holds besides mapped files, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise LookupError("RssAnon")


if __name__ == "__main__":
    main(sys.argv[1:])
