"""
Take a server out of HAProxy while its release changes, and put it back.

In ``ghostasync.toml``, for a backend whose servers are named like the hosts::

    [app]
    env_vars = { HAPROXY_SOCKET = "/run/haproxy/admin.sock", HAPROXY_BACKEND = "shop" }
    [rollout]
    drain = { run = "python3 haproxy.py drain" }
    undrain = { run = "python3 haproxy.py undrain" }

The socket is an admin one (``stats socket PATH mode 600 level admin``). With several
balancers, do this with each of them.
"""

from __future__ import annotations

import csv
import os
import socket
import sys
import time
from collections.abc import Callable

BACKEND, SERVER = os.environ["HAPROXY_BACKEND"], os.environ["GHOST_HOST"]
PAUSE = 0.1  # seconds


def ask(command: str) -> str:
    """Return what HAProxy says to *command*; it hangs up after one."""
    with socket.socket(socket.AF_UNIX) as admin:
        admin.connect(os.environ["HAPROXY_SOCKET"])
        admin.sendall(command.encode() + b"\n")
        return b"".join(iter(lambda: admin.recv(65536), b"")).decode()


def change(state: str) -> None:
    """Set the server's state; silence is consent."""
    if said := ask(f"set server {BACKEND}/{SERVER} state {state}").strip():
        sys.exit(f"{BACKEND}/{SERVER}: {said}")


def server() -> dict[str, str]:
    """Return the server's row of the statistics."""
    rows = csv.DictReader(ask("show stat").removeprefix("# ").splitlines())
    return next(r for r in rows if (r["pxname"], r["svname"]) == (BACKEND, SERVER))


def wait(for_: Callable[[dict[str, str]], bool]) -> None:
    """Wait; the deadline is ghostasync's (``rollout.deadlines``)."""
    while not for_(row := server()):
        print(f"{SERVER}: {row['scur']} at work, {row['qcur']} queued, {row['status']}")
        time.sleep(PAUSE)


if sys.argv[1:] == ["drain"]:
    # Not "maint": a server that is drained is still checked, so that it comes back
    # only when it answers.
    change("drain")
    wait(lambda row: row["scur"] == row["qcur"] == "0")
elif sys.argv[1:] == ["undrain"]:
    wait(lambda row: row["check_status"] == "L7OK")
    change("ready")
else:
    sys.exit("usage: haproxy.py drain|undrain")
