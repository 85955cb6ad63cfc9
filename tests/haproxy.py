"""A real HAProxy, and web servers behind it."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

__all__ = ["HAPROXY", "haproxy", "multiplexer", "socket_of"]

HAPROXY: Final = Path("/usr/sbin/haproxy")

CONFIG: Final = """\
global
  stats socket {folder}/admin.sock mode 600 level admin
  stats socket {folder}/operator.sock mode 600 level operator
  stats socket ipv4@127.0.0.1:{admin} level admin
defaults
  mode http
  retries 0
  timeout connect 5s
  timeout client 30s
  timeout server 30s
  timeout queue 5s
  timeout check 5s
frontend shop
  bind 127.0.0.1:{port}
  default_backend shop
backend shop
  option httpchk GET /health
  default-server check inter 100ms fall 2 rise 1
{servers}
backend unchecked
{servers}
"""

MULTIPLEXER: Final = """\
global
  stats socket {folder}/admin.sock mode 600 level admin
defaults
  mode tcp
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend both
  bind 127.0.0.1:{port}
  tcp-request inspect-delay 5s
  tcp-request content accept if {{ req.ssl_hello_type 1 }}
  tcp-request content accept if {{ req.payload(0,7) -m bin 5353482d322e30 }}
  use_backend ssh if {{ req.payload(0,7) -m bin 5353482d322e30 }}
  default_backend https
backend ssh
  server sshd 127.0.0.1:{ssh}
backend https
  server web 127.0.0.1:1
"""
"""HTTPS and SSH on one port, as HAProxy's own manual and many guides have it."""


@contextlib.contextmanager
def haproxy(
    folder: Path, port: int, servers: Mapping[str, str], admin: int = 1
) -> Iterator[subprocess.Popen[bytes]]:
    """
    Run one until the end; its socket is ``admin.sock`` in *folder*.

    Args:
        folder: Where its files are.

        port: Where visitors come in.

        servers: Addresses by name, with more words of their lines after them.

        admin: A port that is an admin socket, too.
    """
    lines = "\n".join(f"  server {name} {place}" for name, place in servers.items())
    config = CONFIG.format(folder=folder, port=port, admin=admin, servers=lines)
    with _running(folder, config) as process:
        yield process


@contextlib.contextmanager
def multiplexer(folder: Path, port: int, ssh: int) -> Iterator[None]:
    """Run one that leads who speaks SSH to port *ssh*, and all others astray."""
    with _running(folder, MULTIPLEXER.format(folder=folder, port=port, ssh=ssh)):
        yield


@contextlib.contextmanager
def _running(folder: Path, text: str) -> Iterator[subprocess.Popen[bytes]]:
    folder.mkdir(exist_ok=True)
    config = folder / "haproxy.cfg"
    config.write_text(text)
    command = [str(HAPROXY), "-db", "-f", str(config)]
    with (
        (folder / "haproxy.log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        try:
            _listens(folder, process)
            yield process
        finally:
            process.kill()


def socket_of(folder: Path) -> str:
    return str(folder / "admin.sock")


def _listens(folder: Path, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 20
    while not Path(socket_of(folder)).exists():
        said = (folder / "haproxy.log").read_text()
        assert process.poll() is None, said
        assert time.monotonic() < until, said
        time.sleep(0.02)
