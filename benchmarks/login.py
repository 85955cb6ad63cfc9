"""
What do connection, login and one command cost, against asyncssh as it comes?

Ours parses key, ``known_hosts`` and options once and hands out objects; asyncssh
by default is given paths, and looks for the rest at every connection. Each turn logs in
to all hosts, runs ``true`` and closes; printed are CPU and wall time per host.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import asyncssh

from benchmarks.harness.rounds import interleave, machine, show_table
from ghostasync.model import Host, Ssh
from ghostasync.transports.ssh import SshTransport
from tests.fleet.sshd import SshdFleet

COLUMNS: Final = {
    "cpu": ("CPU ms/host", 1e3, 2),
    "wall": ("wall ms/host", 1e3, 2),
}


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.login")
    parser.add_argument("--hosts", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--folder", default="/dev/shm", help="on tmpfs")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(words)
    with (
        tempfile.TemporaryDirectory(prefix="login-", dir=args.folder) as folder,
        SshdFleet(args.hosts, Path(folder, "fleet")) as fleet,
    ):
        turns = {
            "ghostasync": partial(_cost, _ours, fleet),
            "asyncssh": partial(_cost, _default, fleet),
        }
        for turn in turns.values():
            turn()  # what is done once per process is no part of the question
        results = interleave(turns, args.rounds)
    print(show_table(results.medians(), COLUMNS))
    ratios = {key: results.ratios("ghostasync", key)["asyncssh"] for key in COLUMNS}
    print(f"to asyncssh: CPU x {ratios['cpu']:.2f}, wall x {ratios['wall']:.2f}")
    if args.json:
        figures = {"rounds": results.turns, "medians": results.medians()}
        about = {"benchmark": "login", "machine": machine(), "ratios": ratios}
        args.json.write_text(json.dumps({**about, **figures}, indent=2) + "\n")


def _cost(
    work: Callable[[Ssh, tuple[Host, ...]], Coroutine[None, None, None]],
    fleet: SshdFleet,
) -> dict[str, float]:
    cpu, wall = time.process_time(), time.monotonic()
    anyio.run(work, fleet.ssh, fleet.hosts)
    count = len(fleet.hosts)
    return {
        "cpu": (time.process_time() - cpu) / count,
        "wall": (time.monotonic() - wall) / count,
    }


async def _ours(ssh: Ssh, hosts: tuple[Host, ...]) -> None:
    transport = SshTransport(ssh)

    async def visit(host: Host) -> None:
        session = transport.session(host)
        await session.open()
        channel = await session.execute("true", output=_ignore, errors=_ignore)
        if await channel.wait() != 0:
            raise RuntimeError(host.name)
        await session.close()

    await _everywhere(visit, hosts)


async def _default(ssh: Ssh, hosts: tuple[Host, ...]) -> None:
    async def visit(host: Host) -> None:
        async with asyncssh.connect(
            host.address,
            host.port,
            username=ssh.user,
            client_keys=[ssh.identity],
            known_hosts=ssh.known_hosts,
        ) as connection:
            await connection.run("true", check=True)

    await _everywhere(visit, hosts)


async def _everywhere(
    visit: Callable[[Host], Coroutine[None, None, None]], hosts: tuple[Host, ...]
) -> None:
    async with anyio.create_task_group() as tasks:
        for host in hosts:
            tasks.start_soon(visit, host)


def _ignore(data: bytes) -> None:
    del data


if __name__ == "__main__":
    main(sys.argv[1:])
