"""The way that ssh's configuration leads, with ssh beside us on the same servers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import anyio
import pytest

from ghostasync.errors import Unreachable
from ghostasync.model import Host, Ssh
from ghostasync.transports.ssh import SshTransport
from tests.fleet.conftest import Connect, StartFleet
from tests.fleet.sshd import SshdFleet
from tests.transports.commands import run

pytestmark = pytest.mark.fleet

RELAY = f"{sys.executable} {{folder}}/relay"

RELAY_SCRIPT = """\
import os, socket, sys, threading
s = socket.create_connection(("127.0.0.1", sys.argv[2]))
def up():
    for data in iter(lambda: os.read(0, 65536), b""):
        s.sendall(data)
    os._exit(0)  # ssh may have ended before it has told the server
threading.Thread(target=up, daemon=True).start()
for data in iter(lambda: s.recv(65536), b""):
    os.write(1, data)
"""

END = """
Host *
  User root
  HostName 127.0.0.1
  IdentityFile {key}
  UserKnownHostsFile {known}
  ConnectTimeout 1m # as long as it takes
  ControlPersist 30s
  TunnelDevice any:any
"""

SITUATIONS: dict[str, tuple[str, dict[str, str]]] = {
    "files in the order of their names": (
        "Include {folder}/part-*.conf\n",
        {
            "part-b.conf": "Host web\n Port {h1}\n",
            "part-a.conf": "Host web\n Port {h2}",
        },
    ),
    "a command of the host, a bastion of all": (
        "Host web\n Port {h2}\n ProxyCommand RELAY %h %p\nHost *\n ProxyJump gate:1\n",
        {},
    ),
    "the last word": ("Match final host 127.0.0.1\n Port {h2}\n", {}),
    "a condition that is a command": (
        'Match exec "test %n = web"\n Port {h2}\nHost *\n Port {h1}\n',
        {},
    ),
    "tokens of an included file": (
        "Include {folder}/more\nHost web\n Port {h2}\n",
        {"more": f"Host *\n ProxyCommand {RELAY} %h %p\n"},
    ),
    "tokens of the name": (
        "Port {h2}\nProxyCommand sh -c 'test %n%k = webweb && RELAY %h %p'\n",
        {},
    ),
    "a jump host as a URL": (
        "Host web\n Port {h2}\n ProxyJump ssh://root@127.0.0.1:{h1}\n",
        {},
    ),
    "a jump host with a name of its own, and a command": (
        "Host web\nPort {h2}\nProxyJump g\nHost g\nPort {h1}\nProxyCommand RELAY x %p",
        {},
    ),
    "quotes and comments": ('Host "web" # this one\n Port "{h2}" # there\n', {}),
    "a byte of Latin-1": (
        "# caf\xe9\nHost web\n Port={h2}\nHost caf\xe9\n Port 1\n",
        {},
    ),
    "a variable": ("Host web\n Port {h2}\n IdentityFile ${{HOME}}/none\n", {}),
}


def configure(fleet: SshdFleet, folder: Path, text: str, files: dict[str, str]) -> Path:
    ports = {host.name: str(host.port) for host in fleet.hosts}
    key, known = fleet.ssh.identity, fleet.ssh.known_hosts
    values = {"folder": str(folder), "key": key, "known": known, **ports}
    values["near"] = os.path.relpath(folder)  # a socket's path is short
    for name, content in {"config": text + END, **files}.items():
        whole = content.replace("RELAY", RELAY).format(**values)
        (folder / name).write_bytes(whole.encode("latin-1"))
    (folder / "relay").write_text(RELAY_SCRIPT)
    return folder / "config"


async def by_ssh(config: Path, host: str) -> str:
    words = ("ssh", "-F", str(config), "-oBatchMode=yes", host, "hostname")
    done = await anyio.run_process(words, check=False)
    return done.stdout.decode()


def settings(fleet: SshdFleet, config: Path) -> Ssh:
    return Ssh(known_hosts=fleet.ssh.known_hosts, config=str(config))


@pytest.mark.parametrize("situation", SITUATIONS)
async def test_the_configuration_leads_us_where_it_leads_ssh(
    sshd_fleet: StartFleet, connect: Connect, tmp_path: Path, situation: str
) -> None:
    fleet = sshd_fleet(2)
    config = configure(fleet, tmp_path, *SITUATIONS[situation])
    session = connect.session(SshTransport(settings(fleet, config)), Host("web"))
    assert await by_ssh(config, "web") == "h2\n"

    await session.open()

    assert await run(session, "hostname") == (0, "h2\n")


async def test_a_typo_in_the_configuration_strands_no_host_that_was_reached(
    sshd_fleet: StartFleet, connect: Connect, tmp_path: Path
) -> None:
    fleet = sshd_fleet(3)
    text = "Host web\n Port {h2}\n ProxyJump gate\nHost gate\n Port {h1}\n"
    config = configure(fleet, tmp_path, text, {})
    session = connect.session(SshTransport(settings(fleet, config)), Host("web"))
    await session.open()

    config.write_text("Hots *\n")
    for name in ("h1", "h2"):
        fleet.kill(name)
        fleet.start(name)
    with anyio.fail_after(10):
        while session.is_open:  # noqa: ASYNC110  another process ends it
            await anyio.sleep(0.01)
    await session.open()

    assert await run(session, "hostname") == (0, "h2\n")


async def test_a_resolver_that_is_away_strands_no_host_that_was_reached(
    sshd_fleet: StartFleet,
    connect: Connect,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fleet = sshd_fleet(1)
    config = configure(fleet, tmp_path, "Host web\n HostName localhost\n", {})
    known = Path(fleet.ssh.known_hosts)
    known.write_text(known.read_text().replace("127.0.0.1", "localhost"))
    host = Host("web", "", fleet.hosts[0].port)
    session = connect.session(SshTransport(settings(fleet, config)), host)
    await session.open()
    await session.close()

    def away(*_: object, **__: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_AGAIN, "no name server")

    monkeypatch.setattr(socket, "getaddrinfo", away)
    await session.open()

    assert await run(session, "hostname") == (0, "h1\n")


@pytest.fixture
def masters() -> Iterator[ExitStack]:
    """Hold connections that ssh shares, and end them with the test."""
    with ExitStack() as stack:
        yield stack


async def test_a_connection_to_the_jump_host_that_ssh_shares_is_used(
    sshd_fleet: StartFleet, connect: Connect, tmp_path: Path, masters: ExitStack
) -> None:
    """As people have it whose jump host asks for a second factor: we have none."""
    fleet = sshd_fleet(2)
    text = (
        "Host web\n Port {h2}\n ProxyJump gate\n"
        "Host gate\n Port {h1}\n ControlPath {near}/c\n"
    )
    config = configure(fleet, tmp_path, text, {})
    words = ["ssh", "-F", str(config)]
    master = [*words, "-oControlPersist=yes", "-M", "-f", "-N", "gate"]
    await anyio.run_process(master, stderr=subprocess.DEVNULL)
    masters.callback(
        subprocess.run, [*words, "-O", "exit", "gate"], capture_output=True, check=False
    )
    fleet.path("h1", "~/.ssh/authorized_keys").write_text("")
    assert await by_ssh(config, "web") == "h2\n"

    session = connect.session(SshTransport(settings(fleet, config)), Host("web"))
    await session.open()

    assert await run(session, "hostname") == (0, "h2\n")
    await anyio.run_process([*words, "-O", "exit", "gate"])
    later = connect.session(SshTransport(settings(fleet, config)), Host("web"))
    with pytest.raises(Unreachable, match="jump host gate: login refused"):
        await later.open()
