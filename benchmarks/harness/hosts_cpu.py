"""What hosts spend, counted by a control group that all their processes are in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.fleet.sshd import SshdFleet

__all__ = ["hosts_cpu"]

FIRST_VERSION: Final = Path("/sys/fs/cgroup/cpuacct")
SECOND_VERSION: Final = Path("/sys/fs/cgroup")
MEMBERS: Final = "cgroup.procs"


@contextmanager
def hosts_cpu(fleets: Iterable[SshdFleet]) -> Iterator[Callable[[], float] | None]:
    """
    Yield a function that returns the CPU seconds of *fleets* since this began.

    It counts what their servers start from now on, and yields None where this user may
    make no control group.
    """
    root = FIRST_VERSION if FIRST_VERSION.is_dir() else SECOND_VERSION
    group = root / f"ghostasync-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        yield None
        return
    servers = [
        pid
        for fleet in fleets
        for host in fleet.hosts
        for pid in fleet.processes(host.name)
    ]
    try:
        _move(servers, group)
        yield lambda: _seconds(group)
    finally:
        _move((group / MEMBERS).read_text().split(), root)
        group.rmdir()


def _move(processes: Iterable[int | str], group: Path) -> None:
    for pid in processes:
        (group / MEMBERS).write_text(str(pid))


def _seconds(group: Path) -> float:
    usage = group / "cpuacct.usage"
    if usage.exists():
        return int(usage.read_text()) / 1e9
    pairs = map(str.split, (group / "cpu.stat").read_text().splitlines())
    return int(dict(pairs)["usage_usec"]) / 1e6
