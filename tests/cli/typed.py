"""Commands as people type them, and the configuration that they read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import anyio

from ghostasync.testing import InProcessFleet

__all__ = ["config", "ghostasync"]


def config(folder: Path, fleet: InProcessFleet) -> str:
    hosts = ", ".join(
        f'{{ name = "{h.name}", address = "{h.address}", port = {h.port} }}'
        for h in fleet.hosts
    )
    return f"""
[app]
name = "shop"
env = "test"
role = "web"

[store]
url = "{folder}/store"

[ssh]
user = "{fleet.ssh.user}"
identity = "{fleet.ssh.identity}"
known_hosts = "{fleet.ssh.known_hosts}"
config = false

[layout]
root = "~/ghost"

[inventory]
hosts = [{hosts}]

[[modules]]
name = "site"
path = "~/site"
source = {{ dir = "tree" }}
pre_deploy = "pre_deploy.sh"
"""


async def ghostasync(folder: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    environment.pop("GHOSTASYNC_CONFIG", None)
    with anyio.fail_after(60):
        return await anyio.run_process(
            [sys.executable, "-m", "ghostasync", *words],
            cwd=folder,
            env=environment,
            check=False,
        )
