"""
What does it cost a host that ``known_hosts`` has tens of thousands of hashed lines?

``python -m benchmarks.known_hosts`` prints the time to read such a file, once a run,
and to look for one host's key in it, where it is on record and where it is not. Beside
it stands ``ssh-keygen -F``, which goes through the file as ssh does.
"""

from __future__ import annotations

import argparse
import base64
import hmac
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Final

import asyncssh
from asyncssh.known_hosts import match_known_hosts

from ghostasync.model import Ssh
from ghostasync.transports._endpoint import Endpoint
from ghostasync.transports._trust import Trust

LINES: Final = (1_000, 15_000, 50_000)

KEYS: Final = 200
"""Different keys in a file: making one takes longer than all that is measured."""


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.known_hosts")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args(words)
    keys = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(KEYS)]
    print("lines   read ms   known ms   unknown ms   ssh-keygen -F ms")
    with tempfile.TemporaryDirectory() as folder:
        for lines in LINES:
            path = Path(folder) / str(lines)
            path.touch(mode=0o600)
            path.write_text("".join(_line(n, keys[n % KEYS]) for n in range(lines)))
            print(f"{lines:5}", *_figures(path, lines, keys, args.rounds))


def _figures(
    path: Path, lines: int, keys: Sequence[asyncssh.SSHKey], rounds: int
) -> list[str]:
    rows = [_round(path, lines // 2 + number, keys) for number in range(rounds)]
    return [f"{median(figures):11.2f}" for figures in zip(*rows, strict=True)]


def _round(
    path: Path, number: int, keys: Sequence[asyncssh.SSHKey]
) -> tuple[float, ...]:
    settings = Ssh(known_hosts=str(path))
    trust = Trust(settings)
    known, unknown = Endpoint(f"web{number}", 22, "me"), Endpoint("elsewhere", 22, "me")
    command = ["ssh-keygen", "-F", known.address, "-f", str(path)]
    return (
        _ms(lambda: Trust(settings)),
        _ms(lambda: _look_up(trust, known, keys[number % KEYS])),
        _ms(lambda: _look_up(trust, unknown, keys[0])),
        _ms(lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=False)),
    )


def _look_up(trust: Trust, there: Endpoint, key: asyncssh.SSHKey) -> None:
    """Do what asyncssh does with a key that a server shows."""
    believed, *_ = match_known_hosts(trust.known_for(there), there.address, "", None)
    if key not in believed:
        trust.accept(there, key)


def _line(number: int, key: asyncssh.SSHKey) -> str:
    salt = os.urandom(20)
    digest = hmac.digest(salt, f"web{number}".encode(), "sha1")
    name = "|".join(base64.b64encode(word).decode() for word in (salt, digest))
    return f"|1|{name} {key.export_public_key().decode()}"


def _ms(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


if __name__ == "__main__":
    main(sys.argv[1:])
