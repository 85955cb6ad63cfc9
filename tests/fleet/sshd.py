"""
Real OpenSSH servers on loopback: one for each host, in namespaces of its own.

Where namespaces work, a host has its own ``/ghost``, ``/srv``, home folder, users and
processes, and its end is that of all its processes. Elsewhere it is a plain sshd of
the user who runs the tests, and only ``~`` is its own.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import attrs

from ghostasync.model import Host, Ssh
from tests.fleet.layout import (
    BUSYBOX,
    USER,
    USER_ID,
    USUAL_PATH,
    lay_out_etc,
    poor_tools,
    write_key,
)
from tests.fleet.ports import reserve
from tests.fleet.processes import command_line, descendants, send

__all__ = ["SSHD", "SshdFleet", "namespaces_work"]

SSHD: Final = "/usr/sbin/sshd"
START_SECONDS: Final = 20

UNSHARE: Final = (
    *("unshare", "--mount", "--pid", "--uts", "--fork"),
    *("--kill-child", "--mount-proc", "--propagation", "private"),
)

# $1 is the host's folder, $2 its name, $3 the login user's home folder.
ENTER: Final = """\
set -eu
hostname "$2"
mount --bind "$1/ghost" /ghost
mount --bind "$1/srv" /srv
. "$1/mounts"
mount --bind "$1/bin" /mnt
for file in passwd group shadow hosts sudoers; do
    [ ! -f "/etc/$file" ] || mount --bind "$1/etc/$file" "/etc/$file"
done
[ "$3" = /root ] || { mount -t tmpfs tmpfs /home; mkdir "$3"; }
mount --bind "$1/home" "$3"
exec /usr/sbin/sshd -D -e -f "$1/sshd_config"
"""

CONFIG: Final = {
    "UsePAM": "no",
    "UseDNS": "no",
    "StrictModes": "no",
    "PasswordAuthentication": "no",
    "KbdInteractiveAuthentication": "no",
    "PermitRootLogin": "prohibit-password",
    "PrintMotd": "no",
    "PidFile": "none",
    "MaxStartups": "500:30:1000",
    "MaxSessions": "50",
    "LogLevel": "VERBOSE",
}


Item = TypeVar("Item")


@attrs.define
class _Server:
    """One host's sshd, while it runs."""

    host: Host
    folder: Path
    disks: Mapping[str, str] = attrs.field(factory=dict)
    process: subprocess.Popen[bytes] | None = None


class SshdFleet:
    """
    *count* hosts, named ``h1`` …, that :attr:`ssh` can log in to.

    Args:
        count: How many.

        folder: Where all of it lives; short, writable, on tmpfs for benchmarks.

        user: ``"root"``, ``"ghostuser"``, or empty for the user of this process.

        poor: Leaves only ``layout.POOR_TOOLS`` on the PATH of what is executed.

        tools: Leaves only these there, one set for each host in turn: names, and what
            they are on this machine. A busybox for ``sh`` is ``/bin/sh`` too.

        shells: Login shells, one for each host in turn; by default those of here.

        disks: For each host in turn, mount options of a tmpfs at ``/ghost``, ``/srv``.

        address: Where all listen, each on a port of its own.

        options: More lines of ``sshd_config``, or other values for those above.

        isolated: Whether in namespaces; by default where they work.
    """

    def __init__(
        self,
        count: int,
        folder: Path,
        *,
        user: str = "root",
        poor: bool = False,
        tools: Sequence[Mapping[str, str]] = (),
        shells: Sequence[str] = (),
        disks: Sequence[Mapping[str, str]] = (),
        address: str = "127.0.0.1",
        options: Mapping[str, str] | None = None,
        isolated: bool | None = None,
    ) -> None:
        self.isolated = namespaces_work() if isolated is None else isolated
        self.user = user if self.isolated else ""
        self._folder = folder
        self._tools = [poor_tools()] if poor else tools
        self._shells = shells
        self._disks = disks
        self._options = {**CONFIG, **(options or {})}
        self._servers: dict[str, _Server] = {}
        self._known: dict[str, str] = {}
        self._ports = ExitStack()
        folder.mkdir(parents=True, exist_ok=True)
        if self.isolated:
            Path("/ghost").mkdir(exist_ok=True)  # a place to mount on
        Path("/run/sshd").mkdir(exist_ok=True)
        self._client_key = write_key(folder / "client_key")
        for number in range(1, count + 1):
            held = self._ports.enter_context(reserve(address))
            self._lay_out(Host(f"h{number}", address, held.getsockname()[1]))
        self._write_known_hosts()

    @property
    def hosts(self) -> tuple[Host, ...]:
        """The hosts, in order."""
        return tuple(server.host for server in self._servers.values())

    @property
    def ssh(self) -> Ssh:
        """How to log in to them."""
        return Ssh(
            user=self.user,
            identity=str(self._folder / "client_key"),
            known_hosts=str(self._folder / "known_hosts"),
            config=False,
        )

    def path(self, host: str, path: str) -> Path:
        """Return where *path* of *host* (``/ghost…``, ``/srv…``, ``~…``) is here."""
        folder = self._servers[host].folder
        if path.startswith("~"):
            return folder / "home" / path[1:].lstrip("/")
        if not path.startswith(("/ghost", "/srv")):
            raise ValueError(path)
        if any(path.startswith(disk) for disk in self._servers[host].disks):
            return Path(f"/proc/{self._inside(host)}/root{path}")
        return folder / path.lstrip("/")

    def shell(self, host: str, script: str) -> str:
        """Run a script on a host as root, past its sshd; return what it prints."""
        enter = ["nsenter", f"--target={self._inside(host)}", "--mount", "--pid"]
        done = subprocess.run(
            [*enter, "/bin/sh", "-euc", script],
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    def start(self, *names: str) -> None:
        """Start some hosts, or all that do not run; returns when they listen."""
        chosen = names or [name for name in self._servers if not self.runs(name)]
        for name in chosen:
            self._launch(self._servers[name])
        for name in chosen:
            self._await_listening(self._servers[name])

    def runs(self, name: str) -> bool:
        """Tell whether a host's sshd is up."""
        process = self._servers[name].process
        return process is not None and process.poll() is None

    def kill(self, name: str) -> None:
        """End a host at once, with all its processes: a crash."""
        process = self._servers[name].process
        if process is None:
            return
        self.freeze(name)  # or a session would report how its command was killed
        self._signal_all(name, signal.SIGKILL)
        process.wait()

    def freeze(self, name: str) -> None:
        """Stop all processes of a host: TCP still answers, nothing else does."""
        self._signal_all(name, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let a frozen host go on."""
        self._signal_all(name, signal.SIGCONT)

    def hang_up(self, name: str) -> None:
        """End a host's open connections; it takes new ones at once."""
        process = self._servers[name].process
        for pid in descendants(process.pid) if process is not None else []:
            if re.match("sshd: [^ ]+@", command_line(pid)):
                send(pid, signal.SIGKILL)

    def change_host_key(self, name: str) -> None:
        """Restart a host with another key; ``known_hosts`` keeps the old one."""
        self.kill(name)
        (self._servers[name].folder / "host_key").unlink()
        write_key(self._servers[name].folder / "host_key")
        self.start(name)

    def processes(self, name: str) -> list[int]:
        """Return all processes of a host, parents first."""
        process = self._servers[name].process
        return [] if process is None else descendants(process.pid)

    def commands(self, name: str) -> list[str]:
        """Return the command lines of what runs on a host, its sshd aside."""
        lines = map(command_line, self.processes(name))
        return [line for line in lines if not line.startswith(("sshd: ", "unshare "))]

    def log(self, name: str) -> str:
        """Return what a host's sshd said."""
        return (self._servers[name].folder / "log").read_text(errors="replace")

    def close(self) -> None:
        """End all hosts; their mounts and processes go with them."""
        for name in self._servers:
            self.kill(name)
        self._ports.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _lay_out(self, host: Host) -> None:
        folder = self._folder / host.name
        for name in ("ghost", "srv", "bin", "etc", "home/.ssh"):
            (folder / name).mkdir(parents=True)
        number = len(self._servers)
        disks = _in_turn(self._disks, number) or {}
        self._servers[host.name] = _Server(host, folder, disks)
        self._known[host.name] = write_key(folder / "host_key")
        tools = _in_turn(self._tools, number) or {}
        shell = _in_turn(self._shells, number) or ""
        path = "/mnt" if tools else USUAL_PATH
        lay_out_etc(folder / "etc", host.name, path=path, shell=shell)
        (folder / "home/.ssh/authorized_keys").write_text(self._client_key + "\n")
        if self.user == USER:
            for path in ("ghost", "srv", "home", "home/.ssh"):
                os.chown(folder / path, USER_ID, USER_ID)
        for tool, place in {"ash": BUSYBOX, **tools}.items():
            (folder / "bin" / tool).symlink_to(place)
        (folder / "mounts").write_text(self._mounts(tools, disks))
        (folder / "sshd_config").write_text(self._sshd_config(host, folder))

    def _sshd_config(self, host: Host, folder: Path) -> str:
        lines = dict(self._options)
        lines["ListenAddress"] = f"{_bracketed(host.address)}:{host.port}"
        lines["HostKey"] = str(folder / "host_key")
        environment: list[str] = []
        if not self.isolated:
            lines["AuthorizedKeysFile"] = str(folder / "home/.ssh/authorized_keys")
            environment.append(f"HOME={folder / 'home'}")
        if self._tools:
            environment.append(f"PATH={'/mnt' if self.isolated else folder / 'bin'}")
        if environment:
            lines["SetEnv"] = " ".join(environment)
        return "".join(f"{key} {value}\n" for key, value in lines.items())

    def _write_known_hosts(self) -> None:
        (self._folder / "known_hosts").write_text(
            "".join(
                f"[{server.host.address}]:{server.host.port} {self._known[name]}\n"
                for name, server in self._servers.items()
            )
        )

    def _mounts(self, tools: Mapping[str, str], disks: Mapping[str, str]) -> str:
        lines = []
        if tools.get("sh") == BUSYBOX:
            lines.append(f'mount --bind {BUSYBOX} "$(readlink -f /bin/sh)"')
        owner = f",uid={USER_ID}" if self.user == USER else ""
        for path, options in disks.items():
            how = f"mode=755{owner},{options}"
            lines.append(f"mount -t tmpfs -o {how} tmpfs {path}")
        return "".join(f"{line}\n" for line in lines)

    def _inside(self, host: str) -> int:
        """Return a process within a host's namespaces."""
        process = self._servers[host].process
        assert process is not None
        return descendants(process.pid)[1]

    def _launch(self, server: _Server) -> None:
        home = "/root" if self.user == "root" else f"/home/{USER}"
        folder = str(server.folder)
        command = [SSHD, "-D", "-e", "-f", f"{folder}/sshd_config"]
        if self.isolated:
            enter = ["/bin/sh", "-c", ENTER, "enter", folder, server.host.name, home]
            command = [*UNSHARE, *enter]
        with (server.folder / "log").open("wb") as log:
            server.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _await_listening(self, server: _Server) -> None:
        """Read its log, rather than knock: sshd holds that against the caller."""
        end = time.monotonic() + START_SECONDS
        while "Server listening" not in self.log(server.host.name):
            if not self.runs(server.host.name) or time.monotonic() > end:
                raise RuntimeError(self.log(server.host.name))
            time.sleep(0.005)

    def _signal_all(self, name: str, number: signal.Signals) -> None:
        process = self._servers[name].process
        if process is not None:
            for pid in descendants(process.pid):
                send(pid, number)


def namespaces_work() -> bool:
    """Tell whether a host can have mounts and processes of its own here."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    return (
        subprocess.run([*UNSHARE, "true"], check=False, capture_output=True).returncode
        == 0
    )


def _in_turn(items: Sequence[Item], number: int) -> Item | None:
    return items[number % len(items)] if items else None


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
