"""
What does the controller save where hosts fetch a release from S3 by themselves?

``python -m benchmarks.pull`` deploys one stored package to real OpenSSH hosts, by push
and by pull in turn, and prints the CPU of the controller, the bytes that it sent and
the wall time. Hosts and a server of S3 are on this machine too, on tmpfs, so the wall
time says little of a network; hosts are made as new before every turn.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import anyio

from benchmarks.harness import sent
from benchmarks.harness.meter import measure
from benchmarks.harness.rounds import interleave, machine, show_table
from benchmarks.harness.site import Site, Size, open_site
from benchmarks.harness.tree import FILES, NBYTES
from tests.s3_servers import BUCKET, S3Server, make_bucket, ministack

COLUMNS: Final = {
    "cpu": ("CPU s", 1.0, 2),
    "cpu_per_host": ("CPU ms/host", 1e3, 1),
    "sent": ("sent MB", 1e-6, 2),
    "sent_per_host": ("sent kB/host", 1e-3, 1),
    "wall": ("wall s", 1.0, 2),
}


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pull")
    parser.add_argument("--hosts", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=FILES)
    parser.add_argument("--nbytes", type=int, default=NBYTES)
    parser.add_argument("--folder", default="/dev/shm", help="on tmpfs")
    args = parser.parse_args(words)
    size = Size(args.hosts, args.files, args.nbytes)
    with (
        tempfile.TemporaryDirectory(prefix="pull-", dir=args.folder) as name,
        open_site(Path(name) / "site", size) as site,
        ministack(Path(name)) as server,
    ):
        os.environ.update(server.environ)
        anyio.run(make_bucket, server)
        package = _build(site, server)
        ways = ("push", "pull")
        turns = {way: partial(_turn, site, package, way) for way in ways}
        results = interleave(turns, args.rounds)
    about = machine()
    print(
        f"{size.hosts} hosts, {size.files} files, {size.nbytes / 1e6:.0f} MB, medians "
        f"of {args.rounds} rounds; {about['cores']} cores shared with hosts and store, "
        f"{about['cpu']}, load {about['load']:.1f}"
    )
    print(show_table(results.medians(), COLUMNS))


def _build(site: Site, server: S3Server) -> str:
    text = (site.folder / "ghostasync.toml").read_text()
    store = (
        f'[store]\nurl = "s3://{BUCKET}/x"\nendpoint_url = "{server.endpoint}"\n'
        'region = "us-east-1"\npath_style = true\n'
    )
    text = text.replace(f'[store]\nurl = "{site.folder}/store"\n', store)
    for way in ("push", "pull"):
        more = f'[rollout]\ntransfer = "{way}"\n'
        (site.folder / f"{way}.toml").write_text(more + text)
    command = (sys.executable, "-m", "ghostasync", "build", "--config", "push.toml")
    done = subprocess.run(
        [*command, "--output", "json"],
        cwd=site.folder,
        env={**os.environ, "XDG_STATE_HOME": str(site.folder / "state")},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    events = map(json.loads, done.stdout.splitlines())
    package: str = next(e["package"] for e in events if e["event"] == "Packaged")
    return package


def _turn(site: Site, package: str, way: str) -> dict[str, float]:
    site.wipe()
    shutil.rmtree(site.folder / "state", ignore_errors=True)
    log, out = site.folder / f"{way}.log", site.folder / f"{way}.sent"
    os.environ["XDG_STATE_HOME"] = str(site.folder / "state")
    command = (sys.executable, sent.__file__, str(out), "deploy")
    words = ("--config", f"{way}.toml", "--package", package, "--output", "json")
    cost = measure([*command, *words], log=log, folder=site.folder)
    if cost.status:
        raise SystemExit(f"{way}: {log.read_text()[-2000:]}")
    site.require_delivered(site.fleet)
    nbytes = float(out.read_text())
    hosts = site.size.hosts
    return {
        "cpu": cost.cpu,
        "cpu_per_host": cost.cpu / hosts,
        "sent": nbytes,
        "sent_per_host": nbytes / hosts,
        "wall": cost.wall,
    }


if __name__ == "__main__":
    main(sys.argv[1:])
