"""
What does a first deploy cost this machine, by us and by others?

``python -m benchmarks.rollout`` prints for each contestant the CPU of the controller
per host, that of a host, the wall time, the bytes on the network and the memory.
Packages and archives are made beforehand for all; hosts are real OpenSSH servers on
tmpfs, made as new before every turn. Ours checks the manifest on every host, flushes,
locks and switches; the others only copy.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.harness.contestants import CONTESTANTS, Contestant
from benchmarks.harness.hosts_cpu import hosts_cpu
from benchmarks.harness.meter import measure
from benchmarks.harness.network import carried, enter_own_network
from benchmarks.harness.rounds import Results, interleave, machine, show_table
from benchmarks.harness.site import Site, Size, open_site
from benchmarks.harness.tree import FILES, NBYTES

OURS: Final = "ghostasync"

COLUMNS: Final = {
    "cpu_per_host": ("CPU ms/host", 1e3, 1),
    "host_cpu": ("host's CPU ms", 1e3, 0),
    "wall": ("wall s", 1.0, 2),
    "nbytes": ("MB", 1e-6, 1),
    "peak": ("largest process MB", 1e-6, 0),
    "anonymous": ("anonymous MB, all", 1e-6, 0),
}


RATIOS: Final = {"cpu_per_host": "CPU", "host_cpu": "host's CPU", "wall": "wall"}


def main(words: Sequence[str]) -> None:
    args = _arguments().parse_args(words)
    found = _take_part(args.only, args.peers)
    size = Size(args.hosts, args.files, args.nbytes)
    counted = enter_own_network()
    with tempfile.TemporaryDirectory(prefix="rollout-", dir=args.folder) as folder:
        bare = any(contestant.bare for contestant, _, _ in found)
        with (
            open_site(Path(folder) / "site", size, bare=bare) as site,
            hosts_cpu(filter(None, (site.fleet, site.bare))) as spent,
        ):
            turns = {
                contestant.name: partial(_turn, site, spent, contestant, program)
                for contestant, program, _ in found
            }
            results = interleave(turns, args.rounds)
    versions = {contestant.name: version for contestant, _, version in found}
    _show(results, versions, size, args.rounds)
    if not counted:
        print("bytes were counted on a loopback that others use too")
    if args.json:
        text = json.dumps(_as_json(results, versions, size), indent=2)
        args.json.write_text(text + "\n")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rollout")
    parser.add_argument("--hosts", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--files", type=int, default=FILES)
    parser.add_argument("--nbytes", type=int, default=NBYTES)
    parser.add_argument("--only", default="", help="names, with commas between")
    parser.add_argument("--peers", default="", help="bin folder of a venv with peers")
    parser.add_argument("--folder", default="/dev/shm", help="on tmpfs")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    return parser


def _take_part(only: str, peers: str) -> list[tuple[Contestant, str, str]]:
    """Return who is wanted and installed: contestant, program, version."""
    path = os.pathsep.join(filter(None, [peers, os.environ.get("PATH", "")]))
    found: list[tuple[Contestant, str, str]] = []
    for contestant in CONTESTANTS:
        if only and contestant.name not in only.split(","):
            continue
        if program := contestant.find(path):
            found.append((contestant, *program))
        else:
            print(f"{contestant.name} is not installed", file=sys.stderr)
    return found


def _turn(
    site: Site,
    spent: Callable[[], float] | None,
    contestant: Contestant,
    program: str,
) -> dict[str, float]:
    """Let one contestant do the job once; *spent* tells the CPU seconds of hosts."""
    site.wipe()
    shutil.rmtree(site.folder / "store/shop/prod/web/runs", ignore_errors=True)
    fleet = site.bare if contestant.bare and site.bare else site.fleet
    log = site.folder / f"{contestant.name}.log"
    before, began = carried(), spent() if spent else 0.0
    cost = measure(contestant.command(site, program), log=log, folder=site.folder)
    nbytes = carried() - before
    if cost.status:
        raise SystemExit(f"{contestant.name}: {log.read_text()[-2000:]}")
    site.require_delivered(fleet)
    of_hosts = {"host_cpu": (spent() - began) / site.size.hosts} if spent else {}
    return {
        **of_hosts,
        "cpu_per_host": cost.cpu / site.size.hosts,
        "wall": cost.wall,
        "nbytes": nbytes,
        "peak": cost.peak,
        "anonymous": cost.anonymous,
    }


def _ratios(results: Results) -> dict[str, dict[str, float]]:
    """Return ours to each other one, where we took part."""
    if OURS not in results.turns:
        return {}
    ratios: dict[str, dict[str, float]] = {}
    for key in RATIOS:
        # What no control group could count is in no turn.
        if key in results.turns[OURS][0]:
            for name, ratio in results.ratios(OURS, key).items():
                ratios.setdefault(name, {})[key] = ratio
    return ratios


def _show(results: Results, versions: dict[str, str], size: Size, rounds: int) -> None:
    about = machine()
    print(
        f"{size.hosts} hosts, {size.files} files, {size.nbytes / 1e6:.0f} MB, medians "
        f"of {rounds} rounds; {about['cores']} cores shared with the hosts, "
        f"{about['cpu']}, load {about['load']:.1f}"
    )
    medians = results.medians()
    rows = [*medians.values()]
    columns = {key: column for key, column in COLUMNS.items() if key in rows[0]}
    print(show_table(medians, columns))
    for name, ratio in _ratios(results).items():
        told = (f"{RATIOS[key]} x {value:.2f}" for key, value in ratio.items())
        print(f"to {name}: {', '.join(told)}")
    for name, version in versions.items():
        print(f"{name}: {version}")


def _as_json(
    results: Results, versions: dict[str, str], size: Size
) -> dict[str, object]:
    return {
        "benchmark": "rollout",
        "machine": machine(),
        "versions": versions,
        "hosts": size.hosts,
        "tree": {"files": size.files, "nbytes": size.nbytes},
        "rounds": results.turns,
        "medians": results.medians(),
        "ratios": _ratios(results),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
