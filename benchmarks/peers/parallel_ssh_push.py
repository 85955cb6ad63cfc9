"""parallel-ssh: send the gzip archive by SCP, then unpack it, all hosts at once."""

from __future__ import annotations

import json
import sys
from pathlib import Path

# All three are in another venv.
from gevent import joinall  # type: ignore[import-untyped]
from pssh.clients import ParallelSSHClient  # type: ignore[import-not-found]
from pssh.config import HostConfig  # type: ignore[import-not-found]

ports = json.loads(Path("ports.json").read_text())
client = ParallelSSHClient(
    ["127.0.0.1"] * len(ports),
    user="root",
    pkey="identity",
    host_config=[HostConfig(port=port) for port in ports.values()],
    pool_size=len(ports),
    allow_agent=False,
)
joinall(client.scp_send("archive.tar.gz", "/ghost/archive.tar.gz"), raise_error=True)
output = client.run_command(
    "mkdir -p /ghost/bench && tar -xzf /ghost/archive.tar.gz -C /ghost/bench "
    "&& rm /ghost/archive.tar.gz"
)
client.join(output)
sys.exit(any(host.exit_code for host in output))
