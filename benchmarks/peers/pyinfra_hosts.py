"""pyinfra: the hosts."""

from __future__ import annotations

import json
from pathlib import Path

hosts = [
    (
        name,
        {
            "ssh_hostname": "127.0.0.1",
            "ssh_port": port,
            "ssh_user": "root",
            "ssh_key": "identity",
            "ssh_known_hosts_file": "known_hosts",
            "ssh_allow_agent": False,
            "ssh_look_for_keys": False,
        },
    )
    for name, port in json.loads(Path("ports.json").read_text()).items()
]
