"""
How fast is packaging with a manifest, against ``tar czf`` of the same tree?

Ours reads every file once, digests it, and writes tar and zstd on all cores. Printed
are wall time, CPU of all threads, and the size of what comes out.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import anyio

from benchmarks.harness.rounds import interleave, machine, show_table
from benchmarks.harness.tree import FILES, NBYTES, make_tree
from ghostasync._packaging import pack
from ghostasync.model import DirectorySource, Module, Revision

PACKAGE: Final = "1700000000_site_0000000"

COLUMNS: Final = {
    "wall": ("wall s", 1.0, 2),
    "cpu": ("CPU s", 1.0, 2),
    "nbytes": ("MB", 1e-6, 2),
}


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.packaging")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--files", type=int, default=FILES)
    parser.add_argument("--nbytes", type=int, default=NBYTES)
    parser.add_argument("--folder", default="/dev/shm", help="on tmpfs")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="packaging-", dir=args.folder) as name:
        folder = Path(name)
        make_tree(folder / "tree", files=args.files, nbytes=args.nbytes)
        turns = {
            "ghostasync": lambda: _cost(lambda: _ours(folder)),
            "tar czf": lambda: _cost(lambda: _tar(folder, "-czf")),
            "tar | zstd -3": lambda: _cost(
                lambda: _tar(folder, "-I zstd -3 -T0", "-cf")
            ),
        }
        results = interleave(turns, args.rounds)
    print(show_table(results.medians(), COLUMNS))
    ratios = {
        name: {"wall": wall, "nbytes": results.ratios("ghostasync", "nbytes")[name]}
        for name, wall in results.ratios("ghostasync", "wall").items()
    }
    for name, ratio in ratios.items():
        print(f"to {name}: wall x {ratio['wall']:.2f}, size x {ratio['nbytes']:.3f}")
    if args.json:
        figures = {"rounds": results.turns, "medians": results.medians()}
        about = {"benchmark": "packaging", "machine": machine(), "ratios": ratios}
        args.json.write_text(json.dumps({**about, **figures}, indent=2) + "\n")


def _cost(work: Callable[[], Path]) -> dict[str, float]:
    """Do *work*, which returns the archive, and tell what it cost."""
    before, began = _cpu(), time.monotonic()
    archive = work()
    wall, cpu = time.monotonic() - began, _cpu() - before
    nbytes = archive.stat().st_size
    for path in archive.parent.glob("*"):
        if path.is_file():
            path.unlink()
    return {"wall": wall, "cpu": cpu, "nbytes": nbytes}


def _cpu() -> float:
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _ours(folder: Path) -> Path:
    tree = folder / "tree"
    module = Module("site", "/srv/site", DirectorySource(str(tree)))

    async def work() -> Path:
        packed = await pack(
            tree,
            package_id=PACKAGE,
            module=module,
            revision=Revision(),
            scripts={},
            into=folder,
        )
        return packed.archive

    return anyio.run(work)


def _tar(folder: Path, *how: str) -> Path:
    archive = folder / "archive"
    subprocess.run(["tar", *how, archive, "-C", folder, "tree"], check=True)
    return archive


if __name__ == "__main__":
    main(sys.argv[1:])
