"""
What does a host spend on proving a release, against ``zstd -dc | tar x`` of the same?

Each turn receives one release as a host does, in a new folder. Printed are the CPU of
all processes that the host starts, user and system, and what of that is not the
peer's: the proof, the flush, settling and the host's own records.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import anyio

from benchmarks.harness.rounds import interleave, machine, show_table
from benchmarks.harness.tree import FILES, NBYTES, make_tree
from ghostasync._packaging import pack
from ghostasync._remote.script import render
from ghostasync.model import DirectorySource, Module, Proof, Revision
from tests._remote.shells import SHELLS, loader

PACKAGE: Final = "1700000000_site_0000000"
PEER: Final = "zstd -dc | tar x"

COLUMNS: Final = {
    "cpu": ("CPU ms", 1e3, 1),
    "beside": ("beside the peer ms", 1e3, 1),
    "wall": ("wall ms", 1e3, 1),
}


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.proof")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--files", type=int, default=FILES)
    parser.add_argument("--nbytes", type=int, default=NBYTES)
    parser.add_argument("--shell", choices=SHELLS, default="dash")
    parser.add_argument("--folder", default="/dev/shm", help="on tmpfs")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="proof-", dir=args.folder) as name:
        folder = Path(name)
        make_tree(folder / "tree", files=args.files, nbytes=args.nbytes)
        archive = anyio.run(_archive, folder)
        host = folder / "host"
        turns: dict[str, Callable[[], dict[str, float]]] = {
            f"proof of {proof}": partial(_receive, args.shell, proof, archive, host)
            for proof in ("metadata", "content")
        }
        turns[PEER] = partial(_extract, archive, host)
        results = interleave(turns, args.rounds)
    medians = results.medians()
    for row in medians.values():
        row["beside"] = row["cpu"] - medians[PEER]["cpu"]
    print(show_table(medians, COLUMNS))
    for name in turns:
        if name != PEER:
            print(f"{name} to {PEER}: CPU x {results.ratios(name, 'cpu')[PEER]:.2f}")
    if args.json:
        about = {"benchmark": "proof", "machine": machine()}
        figures = {"rounds": results.turns, "medians": medians}
        args.json.write_text(json.dumps({**about, **figures}, indent=2) + "\n")


async def _archive(folder: Path) -> Path:
    tree = folder / "tree"
    packed = await pack(
        tree,
        package_id=PACKAGE,
        module=Module("site", "/srv/site", DirectorySource(str(tree))),
        revision=Revision(),
        scripts={},
        into=folder,
    )
    return packed.archive


def _receive(shell: str, proof: Proof, archive: Path, host: Path) -> dict[str, float]:
    how = (str(host / "site"), PACKAGE, "zstd", "drop", proof)
    text = render("receive", how, "0123456789abcdef")
    command = [*SHELLS[shell], loader(text), "ghost-receive"]
    row = _cost(command, text + archive.read_bytes(), host)
    shutil.rmtree(host)
    return row


def _extract(archive: Path, host: Path) -> dict[str, float]:
    row = _cost(["sh", "-c", "zstd -dc | tar -xpof -"], archive.read_bytes(), host)
    shutil.rmtree(host)
    return row


def _cost(command: Sequence[str], stdin: bytes, host: Path) -> dict[str, float]:
    """Run *command* in the new folder *host*, and tell what its processes cost."""
    host.mkdir()
    before, began = _cpu(), time.monotonic()
    done = subprocess.run(
        command, input=stdin, capture_output=True, check=True, cwd=host
    )
    wall, cpu = time.monotonic() - began, _cpu() - before
    if not any(host.glob("**/release")) and not (host / "site" / PACKAGE).is_dir():
        sys.exit(f"nothing arrived: {done.stderr.decode()}")
    return {"wall": wall, "cpu": cpu}


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(sys.argv[1:])
