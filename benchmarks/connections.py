"""
Does one controller hold 1,000 connections, and what do they cost it?

A small package goes to real OpenSSH sessions, each on an address and in a home folder
of its own. All connections and locks stay open from login to the end, so that at the
barrier the whole fleet is READY at once: printed are files, memory and connections
then, and for the run CPU per host, wall time and how long the event loop was late. The
time from the first to the last link is told twice: as the controller heard of it, and
by the links themselves.
Exits 1 where a connection was lost or a host is not live. Needs root, for namespaces.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import anyio
import attrs

from benchmarks.harness.crowd import Crowd, enter, running
from benchmarks.harness.rounds import machine
from benchmarks.harness.tree import make_tree
from ghostasync import (
    App,
    DirectorySource,
    Module,
    Plan,
    Rollout,
    Script,
    StoreSettings,
    deploy,
)
from ghostasync import events as e
from ghostasync.cli._running import run_async
from ghostasync.errors import DeployFailed
from ghostasync.model import Deadlines, Layout, Outcome, Report

TICK: Final = 0.05
"""Seconds between two looks at how late the event loop is."""

PATIENCE: Final = 600
"""Seconds for each step: the hosts share this machine's cores with the controller."""


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.connections")
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--folder", type=Path, default="/dev/shm", help="on tmpfs")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(words)
    if not args.inside:
        with tempfile.TemporaryDirectory(prefix="crowd-", dir=args.folder) as folder:
            again = ["-m", "benchmarks.connections", *words]
            return enter([*again, "--inside", "--folder", folder])
    folder = args.folder
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    make_tree(folder / "tree", files=20, nbytes=50_000)
    folder.chmod(0o755)  # the hosts' users have their homes below it
    (folder / "hosts").mkdir()
    load = os.getloadavg()[0]
    with running(folder / "hosts", args.hosts) as crowd:
        figures = run_async(lambda: _measure(folder, crowd))
    about = {"benchmark": "connections", "machine": {**machine(), "load": load}}
    print(json.dumps(figures, indent=2))
    if args.json:
        text = json.dumps({**about, "figures": figures}, indent=2)
        args.json.write_text(text + "\n")
    return 1 if figures["lost"] or figures["not_live"] else 0


@attrs.define
class _Watch:
    """
    What is true of this process while all hosts are connected.

    *late* are the seconds that the loop came late, *busy* the most CPU that it took
    before it came: what is more than that was taken by hosts on the same cores.
    """

    late: list[float] = attrs.field(factory=list)
    busy: float = 0.0
    ready: dict[str, float] = attrs.field(factory=dict)
    at: dict[str, float] = attrs.field(factory=dict)

    def observe(self, record: e.Record) -> None:
        name = type(record.event).__name__
        self.at.setdefault(name, time.monotonic())
        if isinstance(record.event, e.Judged):
            held = _memory()
            self.ready = {
                "ready": record.event.ready,
                "files": len(os.listdir("/proc/self/fd")),  # noqa: PTH208  a count
                "rss": held["VmRSS"],
                "anonymous": held["RssAnon"],
            }

    async def tick(self) -> None:
        while True:
            due, cpu = anyio.current_time() + TICK, time.thread_time()
            await anyio.sleep_until(due)
            self.late.append(anyio.current_time() - due)
            self.busy = max(self.busy, time.thread_time() - cpu)


async def _measure(folder: Path, crowd: Crowd) -> dict[str, float]:
    module = Module(
        name="site",
        path="~/site",
        source=DirectorySource(str(folder / "tree")),
        pre_deploy=Script(inline='echo "$GHOST_HOST is to serve $GHOST_RELEASE_ID"'),
        post_deploy=Script(inline="pwd -P"),
    )
    fields = attrs.fields_dict(Deadlines)
    plan = Plan(
        app=App("shop", "prod", "web"),
        modules=(module,),
        hosts=crowd.hosts,
        store=StoreSettings(str(folder / "store")),
        ssh=crowd.ssh,
        layout=Layout(root="~/ghost"),
        rollout=Rollout(deadlines=Deadlines(**dict.fromkeys(fields, PATIENCE))),
        base=folder,
    )
    watch, before = _Watch(), _memory()
    cpu, began = time.process_time(), time.monotonic()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch.tick)
        report = await _deploy(plan, watch)
        tasks.cancel_scope.cancel()
    wall, cpu = time.monotonic() - began, time.process_time() - cpu
    count, late = len(crowd.hosts), sorted(watch.late)
    links = [crowd.home(host) / "site" for host in crowd.hosts]
    live = [link.lstat().st_ctime for link in links if link.is_symlink()]
    after = _memory()
    return {
        "hosts": count,
        "not_live": count - len(live),
        "lost": crowd.logins() - count,
        **watch.ready,
        "anonymous_per_host": (watch.ready["anonymous"] - before["RssAnon"]) / count,
        "rss_peak": after["VmHWM"],
        "wall": wall,
        "wall_until_ready": watch.at["Judged"] - began,
        "skew": report.skew,
        "skew_on_hosts": max(live) - min(live),
        "cpu_per_host": cpu / count,
        "late_max": late[-1],
        "busy_max": watch.busy,
        "late_p99": late[len(late) * 99 // 100],
    }


async def _deploy(plan: Plan, watch: _Watch) -> Report:
    try:
        report = await deploy(plan, observe=watch.observe)
    except DeployFailed as failed:
        report = failed.report
    if report.outcome is not Outcome.LIVE:
        reasons = {host.reason for host in report.hosts.values() if host.reason}
        print(report.outcome.value, report.reason, *reasons, sep="\n", file=sys.stderr)
    return report


def _memory() -> dict[str, int]:
    """Return what this process holds, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    pairs = (line.split() for line in lines if line.endswith(" kB"))
    return {name.rstrip(":"): int(size) * 1024 for name, size, _ in pairs}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
