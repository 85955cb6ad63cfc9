"""
A thousand hosts for ten sshds: each has an address, a user and a home of its own.

Started inside network, mount and process namespaces, which end them all: see
:func:`enter`. A server for each host, as ``tests/fleet`` has it, would cost more memory
than what is measured.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import attrs

from ghostasync.model import Host, Ssh
from tests.fleet.layout import write_key
from tests.fleet.sshd import SSHD, UNSHARE

__all__ = ["Crowd", "enter", "running"]

FIRST_PORT: Final = 2200
EACH: Final = 100
"""Hosts of one sshd: it has a backlog of 128, and all are called at once."""

FIRST_ID: Final = 20000
START_SECONDS: Final = 20

CONFIG: Final = """\
ListenAddress 0.0.0.0
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
UsePAM no
UseDNS no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PrintMotd no
MaxStartups 1000:30:2000
"""


@attrs.frozen
class Crowd:
    """The hosts, how to log in to them, and where ``~`` of each is here."""

    folder: Path
    hosts: tuple[Host, ...]
    ssh: Ssh

    def home(self, host: Host) -> Path:
        return self.folder / "homes" / host.user

    def logins(self) -> int:
        """Return how often somebody was let in; more than once a host is a loss."""
        logs = (log.read_text() for log in self.folder.glob("log.*"))
        return sum(log.count("Accepted publickey") for log in logs)


def enter(words: Sequence[str]) -> int:
    """Run ``python WORDS…`` in namespaces of its own; return its exit status."""
    command = [*UNSHARE, "--net", sys.executable, *words]
    return subprocess.run(command, check=False).returncode


@contextmanager
def running(folder: Path, count: int) -> Iterator[Crowd]:
    """Start *count* hosts below *folder*; only for a process of :func:`enter`."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    hosts = tuple(
        Host(
            name=f"web{number:04}",
            address=f"127.1.{number // 250}.{number % 250 + 1}",
            port=FIRST_PORT + number // EACH,
            user=f"u{number:04}",
        )
        for number in range(count)
    )
    client_key = write_key(folder / "client_key")
    host_key = write_key(folder / "host_key")
    (folder / "authorized_keys").write_text(client_key + "\n")
    lines = (f"[{host.address}]:{host.port} {host_key}\n" for host in hosts)
    (folder / "known_hosts").write_text("".join(lines))
    ssh = Ssh(
        identity=str(folder / "client_key"),
        known_hosts=str(folder / "known_hosts"),
        config=False,
    )
    crowd = Crowd(folder, hosts, ssh)
    _add_users(crowd)
    (folder / "sshd_config").write_text(CONFIG.format(folder=folder))
    Path("/run/sshd").mkdir(exist_ok=True)
    with ExitStack() as servers:
        for port in sorted({host.port for host in hosts}):
            servers.enter_context(_serving(folder, port))
        yield crowd


@contextmanager
def _serving(folder: Path, port: int) -> Iterator[None]:
    log = folder / f"log.{port}"
    options = ["-f", str(folder / "sshd_config"), "-E", str(log), "-p", str(port)]
    server = subprocess.Popen([SSHD, "-D", *options])
    try:
        _await_listening(log, server)
        yield
    finally:
        server.terminate()
        server.wait()


def _add_users(crowd: Crowd) -> None:
    """Add the users for this mount namespace alone, and make their homes."""
    passwd, group = Path("/etc/passwd").read_text(), Path("/etc/group").read_text()
    for uid, host in enumerate(crowd.hosts, FIRST_ID):
        home = crowd.home(host)
        home.mkdir(parents=True)
        os.chown(home, uid, uid)
        passwd += f"{host.user}:*:{uid}:{uid}::{home}:/bin/sh\n"
        group += f"{host.user}:x:{uid}:\n"
    for name, text in (("passwd", passwd), ("group", group)):
        (crowd.folder / name).write_text(text)
        mount = ["mount", "--bind", str(crowd.folder / name), f"/etc/{name}"]
        subprocess.run(mount, check=True)


def _await_listening(log: Path, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_SECONDS
    while not (log.exists() and "Server listening" in log.read_text()):
        if server.poll() is not None or time.monotonic() > end:
            raise RuntimeError(log.read_text() if log.exists() else "no sshd")
        time.sleep(0.01)
