"""
What does a command cost before and after its work?

``python -m benchmarks.startup`` prints CPU and wall time of whole commands against one
real host and a small tree: the work is little, so what is left is the start of the
interpreter, the imports, what these start, and the end. Beside them stand Python alone,
the import of asyncssh, and ``ssh host true``. ``--beside FOLDER`` measures a second
checkout of ours in the same rounds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.harness.meter import measure
from benchmarks.harness.rounds import Results, Row, interleave, machine, show_table
from benchmarks.harness.site import BYTECODE, Site, Size, open_site

SIZE: Final = Size(hosts=1, files=20, nbytes=100_000)

COLUMNS: Final = {"cpu": ("CPU ms", 1e3, 0), "wall": ("wall ms", 1e3, 0)}

PEER: Final = "import asyncssh"

COMMANDS: Final = ("--version", "deploy", "status")
"""A deploy comes before the status that looks at it."""

OURS: Final = Path(__file__).parent.parent


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--beside", type=Path, help="another checkout of ghostasync")
    parser.add_argument("--folder", default="/dev/shm", help="on tmpfs")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    args = parser.parse_args(words)
    with (
        tempfile.TemporaryDirectory(prefix="startup-", dir=args.folder) as folder,
        open_site(Path(folder) / "site", SIZE) as site,
    ):
        turns = dict(_turns(site, args.beside))
        for turn in turns.values():
            turn()  # bytecode and caches are made once
        results = interleave(turns, args.rounds)
    print(show_table(results.medians(), COLUMNS))
    _show_ratios(results)
    if args.json:
        args.json.write_text(json.dumps(_as_json(results), indent=2) + "\n")


def _turns(site: Site, beside: Path | None) -> Iterator[tuple[str, Callable[[], Row]]]:
    """Name what takes part."""
    python = ["env", *BYTECODE, sys.executable]
    yield "python", partial(_turn, site, [*python, "-c", "pass"])
    yield PEER, partial(_turn, site, [*python, "-c", "import asyncssh"])
    host = site.fleet.hosts[0].name
    yield "ssh", partial(_turn, site, ["ssh", "-F", "ssh_config", host, "true"])
    for folder in filter(None, (OURS, beside)):
        source = f"PYTHONPATH={folder.resolve() / 'src'}"
        command = ["env", *BYTECODE, source, sys.executable, "-m", "ghostasync"]
        of = "" if folder is OURS else f" of {folder.name}"
        deploy = [*command, "deploy", "--package", site.package, "--output", "json"]
        yield f"--version{of}", partial(_turn, site, [*command, "--version"])
        yield f"deploy{of}", partial(_deploy, site, deploy)
        yield f"status{of}", partial(_turn, site, [*command, "status"])


def _deploy(site: Site, command: Sequence[str]) -> Row:
    site.wipe()
    shutil.rmtree(site.folder / "store/shop/prod/web/runs", ignore_errors=True)
    return _turn(site, command)


def _turn(site: Site, command: Sequence[str]) -> Row:
    log = site.folder / "turn.log"
    cost = measure(command, log=log, folder=site.folder)
    if cost.status:
        raise SystemExit(f"{' '.join(command)}: {log.read_text()[-2000:]}")
    return {"cpu": cost.cpu, "wall": cost.wall}


def _show_ratios(results: Results) -> None:
    """Say what each of our commands takes of its peer, and of its like beside it."""
    for name in results.turns:
        if name in COMMANDS:
            for other, ratio in results.ratios(name, "cpu").items():
                if other == PEER or other.startswith(f"{name} of "):
                    print(f"{name}: CPU x {ratio:.2f} of {other}")


def _as_json(results: Results) -> dict[str, object]:
    return {
        "benchmark": "startup",
        "machine": machine(),
        "rounds": results.turns,
        "medians": results.medians(),
        "ratios": {name: results.ratios(name, "cpu") for name in COMMANDS},
    }


if __name__ == "__main__":
    main(sys.argv[1:])
