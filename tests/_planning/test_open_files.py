"""A run that would need more open files than it may have is refused beforehand."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from ghostasync import App, DirectorySource, Host, Module, Plan, StoreSettings, deploy
from ghostasync._planning.open_files import PROXIED, SPARE, needed
from ghostasync.errors import PlanError
from ghostasync.model import Ssh
from ghostasync.testing import InProcessFleet
from tests.cli.typed import config

HOSTS = 12
LIMITED = 'ulimit -S -n "$1" && ulimit -H -n "$2" && shift 2 && exec "$@"'


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[InProcessFleet]:
    async with InProcessFleet(HOSTS, tmp_path / "hosts") as fleet:
        (tmp_path / "tree").mkdir()
        (tmp_path / "tree/pre_deploy.sh").write_text("echo ready\n")
        (tmp_path / "ghostasync.toml").write_text(config(tmp_path, fleet))
        yield fleet


async def ghostasync(
    folder: Path, limit: tuple[int, int], *words: str
) -> subprocess.CompletedProcess[bytes]:
    """Run a command whose soft and hard limit of open files are *limit*."""
    command = (sys.executable, "-m", "ghostasync")
    with anyio.fail_after(60):
        return await anyio.run_process(
            ["/bin/sh", "-c", LIMITED, "sh", *map(str, limit), *command, *words],
            cwd=folder,
            env={**os.environ, "XDG_CACHE_HOME": str(folder / "cache")},
            check=False,
        )


async def test_a_run_that_needs_too_many_files_is_told_how_many_will_do(
    tmp_path: Path, fleet: InProcessFleet
) -> None:
    refused = await ghostasync(tmp_path, (70, 70), "deploy", "--output", "json")

    assert (refused.returncode, refused.stdout) == (2, b"")
    (line,) = refused.stderr.decode().splitlines()
    assert "12 hosts at once" in line
    assert "may have 70" in line
    named = re.search(r"ulimit -n (\d+)", line)
    assert named is not None
    assert not any(
        fleet.home(host.name).joinpath("ghost").exists() for host in fleet.hosts
    )

    limit = int(named[1])
    deployed = await ghostasync(tmp_path, (limit, limit), "deploy")
    assert deployed.returncode == 0, deployed.stderr
    assert deployed.stderr == b""


async def test_the_command_raises_a_soft_limit_that_is_too_low(
    tmp_path: Path, fleet: InProcessFleet
) -> None:
    deployed = await ghostasync(tmp_path, (30, 1000), "deploy")

    assert deployed.returncode == 0, deployed.stderr


async def test_looking_at_a_fleet_needs_files_for_those_looked_at_together(
    tmp_path: Path, fleet: InProcessFleet
) -> None:
    # Enough for two besides what the process has open, with either event loop.
    limit = (SPARE + 17, SPARE + 17)
    refused = await ghostasync(tmp_path, limit, "status")
    text = (tmp_path / "ghostasync.toml").read_text()
    (tmp_path / "ghostasync.toml").write_text(text + "[rollout]\nconcurrency = 2\n")
    status = await ghostasync(tmp_path, limit, "status")

    assert refused.returncode == 2
    assert status.returncode == 0, status.stderr


async def test_a_library_user_gets_a_plan_error(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    plan = Plan(
        app=App("shop", "test", "web"),
        modules=(Module("site", "/srv/site", DirectorySource("tree")),),
        hosts=tuple(Host(f"h{number}", "192.0.2.1") for number in range(soft)),
        store=StoreSettings(str(tmp_path / "store")),
        base=tmp_path,
    )

    with pytest.raises(PlanError, match="LimitNOFILE="):
        await deploy(plan)

    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("ssh", "each"),
    [
        (Ssh(), 1),
        (Ssh(proxy_command="nc %h %p"), PROXIED),
        (Ssh(jump="bastion"), 0),
    ],
)
def test_what_is_counted_depends_on_the_road(ssh: Ssh, each: int) -> None:
    assert needed(ssh, 1000) == SPARE + 1000 * each
