"""A fleet, one package for it, and the same bytes in the shapes that others take."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import attrs

from benchmarks.harness.tree import make_tree
from tests.fleet.sshd import SshdFleet

__all__ = ["BYTECODE", "Site", "Size", "open_site"]

BYTECODE: Final = ("-u", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX=bytecode")
"""
Arguments of env(1) that make Python keep our bytecode, as an installer would.

A checkout may be without, and would then be compiled at every start.
"""

EVERYTHING: Final = "import ghostasync.cli, ghostasync.transports.ssh"

BIN_FOLDERS: Final = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin")

SFTP: Final = "sftp internal-sftp"
"""What parallel-ssh and pyinfra may use."""

TOML: Final = """\
[app]
name = "shop"
env = "prod"
role = "web"
[store]
url = "{folder}/store"
[ssh]
user = "root"
identity = "{identity}"
known_hosts = "{known_hosts}"
config = false
[inventory]
hosts = [
{hosts}]
[[modules]]
name = "site"
path = "/srv/site"
source = {{ dir = "{folder}/tree" }}
"""
HOST: Final = '    {{ name = "{0.name}", address = "{0.address}", port = {0.port} }},\n'

SSH_CONFIG: Final = """\
Host *
  User root
  IdentityFile {identity}
  IdentitiesOnly yes
  UserKnownHostsFile {known_hosts}
  ControlMaster no
  LogLevel ERROR
{hosts}"""
SSH_HOST: Final = "Host {0.name}\n  HostName {0.address}\n  Port {0.port}\n"


@attrs.frozen
class Size:
    """How much of everything: hosts, and the tree's files and bytes."""

    hosts: int
    files: int
    nbytes: int


@attrs.frozen
class Site:
    """
    What every contestant is given, ready made.

    In *folder* are ``tree``; ``archive.tar.zst``, which is our package, and
    ``archive.tar.gz``, both with the tree in ``release/``; ``ssh_config``, ``hosts``
    (a name a line), ``ports.json``, ``identity``, ``known_hosts``, ``ghostasync.toml``
    and, for a fleet without zstd, ``bare.toml``.
    *package* is the id of our package; *bare* are hosts without zstd.
    """

    folder: Path
    size: Size
    package: str
    fleet: SshdFleet
    bare: SshdFleet | None = None

    def wipe(self) -> None:
        """Make every host as new."""
        for fleet in filter(None, (self.fleet, self.bare)):
            for host in fleet.hosts:
                for top in ("/ghost", "/srv"):
                    _empty(fleet.path(host.name, top))

    def require_delivered(self, fleet: SshdFleet) -> None:
        """
        Look whether every host of *fleet* has as many files as the tree.

        Raises:
            RuntimeError: One has not.
        """
        for host in fleet.hosts:
            root = fleet.path(host.name, "/ghost")
            count = sum(len(names) for _, _, names in os.walk(root))
            if count < self.size.files:
                raise RuntimeError(f"{host.name} has {count} files")


@contextmanager
def open_site(folder: Path, size: Size, *, bare: bool = False) -> Iterator[Site]:
    """
    Make the tree, the package and the archives, and start the hosts.

    Args:
        folder: Where all of it lies; new, on tmpfs.

        size: How much of everything.

        bare: Whether hosts without zstd are wanted too.
    """
    folder.mkdir(parents=True)
    make_tree(folder / "tree", files=size.files, nbytes=size.nbytes)
    with ExitStack() as fleets:
        fleet = fleets.enter_context(
            SshdFleet(size.hosts, folder / "fleet", options={"Subsystem": SFTP})
        )
        _configure(folder, "ghostasync.toml", fleet)
        poor = None
        if bare:
            path = _tools_without_zstd(folder / "tools")
            options = {"SetEnv": f"PATH={path}"}
            poor = SshdFleet(size.hosts, folder / "bare", options=options)
            fleets.enter_context(poor)
            _configure(folder, "bare.toml", poor)
        hosts = "".join(map(SSH_HOST.format, fleet.hosts))
        (folder / "ssh_config").write_text(
            SSH_CONFIG.format(
                identity=fleet.ssh.identity,
                known_hosts=fleet.ssh.known_hosts,
                hosts=hosts,
            )
        )
        (folder / "hosts").write_text("".join(f"{h.name}\n" for h in fleet.hosts))
        ports = {host.name: host.port for host in fleet.hosts}
        (folder / "ports.json").write_text(json.dumps(ports))
        (folder / "identity").symlink_to(fleet.ssh.identity)
        (folder / "known_hosts").symlink_to(fleet.ssh.known_hosts)
        yield Site(folder, size, _build(folder), fleet, poor)


def _configure(folder: Path, name: str, fleet: SshdFleet) -> None:
    (folder / name).write_text(
        TOML.format(
            folder=folder,
            identity=fleet.ssh.identity,
            known_hosts=fleet.ssh.known_hosts,
            hosts="".join(map(HOST.format, fleet.hosts)),
        )
    )


def _build(folder: Path) -> str:
    """Build our package; return its id."""
    python = ["env", *BYTECODE, sys.executable]
    subprocess.run([*python, "-c", EVERYTHING], check=True, cwd=folder)
    built = subprocess.run(
        [*python, "-m", "ghostasync", "build", "--output", "lines"],
        check=True,
        cwd=folder,
        env={**os.environ, "XDG_CACHE_HOME": str(folder / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    package = built.stdout.split()[-1]
    (archive,) = (folder / "store").rglob(f"{package}.tar.zst")
    (folder / "archive.tar.zst").symlink_to(archive)
    with (folder / "archive.tar.gz").open("wb") as file:
        zstd = subprocess.Popen(["zstd", "-dc", archive], stdout=subprocess.PIPE)
        subprocess.run(["gzip", "-n"], check=True, stdin=zstd.stdout, stdout=file)
        zstd.wait()
    return package


def _tools_without_zstd(folder: Path) -> Path:
    """Link every command of this machine but zstd's."""
    folder.mkdir()
    for tools in map(Path, BIN_FOLDERS):
        for tool in tools.iterdir() if tools.is_dir() else ():
            link = folder / tool.name
            if "zstd" not in tool.name and not link.is_symlink():
                link.symlink_to(tool)
    return folder


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
