"""
Draw ``docs/board.svg``: the board of a real run, while the second wave switches.

    .venv/bin/python docs/picture.py

Twelve hosts within one process, each with its own home folder, sh and tar.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

import anyio
from rich.console import Console

from ghostasync import (
    App,
    GitSource,
    Host,
    Layout,
    Module,
    Plan,
    Rollout,
    Script,
    StoreSettings,
    Verify,
    deploy,
)
from ghostasync.cli._view import lines
from ghostasync.events import Record
from ghostasync.testing import InProcessFleet
from ghostasync.views.board import Board

WIDTH, HEIGHT = 96, 24
PICTURE = Path(__file__).with_name("board.svg")


def repository(path: Path) -> None:
    """Make a small git repository with something to build."""
    path.mkdir()
    (path / "index.html").write_text("<h1>Hello</h1>")
    for number in range(400):
        (path / f"page-{number}.html").write_bytes(os.urandom(2000))
    git = ["git", "-C", str(path), "-c", "user.name=Ann", "-c", "user.email=a@b.c"]
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "1"]):
        subprocess.run([*git, *words], check=True)


def draw(board: Board, now: float) -> None:
    """Write the picture."""
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=WIDTH, file=nowhere, force_terminal=True)
        for line in lines(board, now, WIDTH, HEIGHT):
            console.print(line)
        console.save_svg(str(PICTURE), title="ghostasync deploy")


async def main(folder: Path) -> None:
    """Deploy, and draw the board when the second wave is half way."""
    repository(folder / "shop")
    board, moved = Board(), 0

    def observe(record: Record) -> None:
        nonlocal moved
        board.apply(record)
        moved += type(record.event).__name__ == "Activated"
        if moved == 5 and type(record.event).__name__ == "Activated":
            draw(board, time.time())

    async with InProcessFleet(12, folder / "fleet") as fleet:
        names = [f"web-{zone}{number}" for zone in "abc" for number in range(1, 5)]
        hosts = tuple(
            Host(name, host.address, host.port, host.user)
            for name, host in zip(names, fleet.hosts, strict=True)
        )
        module = Module(
            name="site",
            path="~/site",
            source=GitSource(str(folder / "shop"), "main"),
            buildpack=Script(inline="echo compiling assets"),
            pre_deploy=Script(inline="echo migrations are in place"),
            post_deploy=Script(inline="echo reloading php-fpm; sleep 0.$(($$ % 9))"),
            verify=Verify(command="test -f index.html"),
        )
        plan = Plan(
            app=App("shop", "prod", "web"),
            modules=(module,),
            hosts=hosts,
            store=StoreSettings(url=str(folder / "store")),
            ssh=fleet.ssh,
            layout=Layout(root="~/ghost"),
            rollout=Rollout(waves=(1, "100%")),
            base=folder,
        )
        await deploy(plan, observe=observe, actor="ann")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        os.environ["XDG_CACHE_HOME"] = f"{name}/cache"
        anyio.run(main, Path(name))
