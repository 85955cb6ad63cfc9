"""
Who takes part in a rollout, and the command of each.

Every one gets its usual way to put an archive or a tree on many hosts, and the number
of hosts at once that served it best on two cores.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import attrs

from benchmarks.harness.site import BYTECODE, Site

__all__ = ["CONTESTANTS", "Contestant"]

PEERS: Final = Path(__file__).parent.parent / "peers"

PARALLEL: Final = 16
"""Hosts at once for what xargs starts."""

VERSION: Final = ("-m", "ghostasync", "--version")


Command = Callable[[Site, str], list[str]]
"""Makes a command of a site and of the program that is needed."""


@attrs.frozen
class Contestant:
    """
    One way to do the job.

    *program* must be on PATH; *command* is run in the site's folder; *probe* are the
    arguments that make the program tell its version, or fail where a library is
    missing. *bare* contestants go to the hosts without zstd.
    """

    name: str
    program: str
    command: Command
    probe: tuple[str, ...] = ("--version",)
    bare: bool = False

    def find(self, path: str) -> tuple[str, str] | None:
        """Return its program and that one's version, *path* being a PATH."""
        program = shutil.which(self.program, path=path)
        if program is None:
            return None
        done = subprocess.run(
            [program, *self.probe],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said = done.stdout.splitlines() or [""]
        return None if done.returncode else (program, said[0])


def _ours(config: str) -> Command:
    return lambda site, program: [
        *("env", *BYTECODE),
        *(program, "-m", "ghostasync", "deploy", "--config", config),
        *("--package", site.package, "--output", "json"),
    ]


def _xargs(command: str) -> Command:
    """Return a command that runs *command* in a shell once per host, ``$1``."""
    return lambda _, __: [
        *("xargs", "-a", "hosts", "-n1", f"-P{PARALLEL}", "sh", "-c", command, "push")
    ]


def _ssh(archive: str, decoder: str, *options: str) -> Command:
    remote = f"mkdir -p /ghost/bench && cd /ghost/bench && {decoder} -dc | tar -x"
    words = " ".join(("ssh", "-F", "ssh_config", *options))
    return _xargs(f"exec {words} \"$1\" '{remote}' <{archive}")


def _parallel_ssh(_: Site, program: str) -> list[str]:
    return [program, str(PEERS / "parallel_ssh_push.py")]


def _pyinfra(_: Site, program: str) -> list[str]:
    inventory, deploy = PEERS / "pyinfra_hosts.py", PEERS / "pyinfra_deploy.py"
    return [program, "-y", str(inventory), str(deploy)]


def _ansible(site: Site, program: str) -> list[str]:
    args = "-F ssh_config -o ControlMaster=auto -o ControlPersist=60s"
    extra = f"ansible_ssh_common_args='{args}' site={site.folder}"
    forks = f"-f{min(site.size.hosts, 20)}"
    playbook = str(PEERS / "ansible_deploy.yml")
    return [program, "-i", "hosts", forks, "-e", extra, playbook]


CONTESTANTS: Final = (
    Contestant("ghostasync", sys.executable, _ours("ghostasync.toml"), VERSION),
    Contestant("ghostasync-gzip", sys.executable, _ours("bare.toml"), VERSION, True),
    Contestant("ssh", "ssh", _ssh("archive.tar.zst", "zstd"), ("-V",)),
    # Its default, of two exchanges, is most of what a login costs it.
    Contestant(
        "ssh-curve25519",
        "ssh",
        _ssh("archive.tar.zst", "zstd", "-o", "KexAlgorithms=curve25519-sha256"),
        ("-V",),
    ),
    Contestant("ssh-gzip", "ssh", _ssh("archive.tar.gz", "gzip"), ("-V",)),
    Contestant(
        "rsync",
        "rsync",
        _xargs('exec rsync -a -e "ssh -F ssh_config" tree/ "$1:/ghost/bench/"'),
    ),
    Contestant(
        "parallel-ssh",
        "python3",
        _parallel_ssh,
        ("-c", "import pssh; print('parallel-ssh', pssh.__version__)"),
    ),
    Contestant("pyinfra", "pyinfra", _pyinfra),
    Contestant("ansible", "ansible-playbook", _ansible),
)
