"""
What ssh would do for a host, as ssh says itself: ``ssh -G``.

Nothing else reads ssh's configuration as ssh does: it has patterns, conditions that run
commands, files that include others, names that the resolver completes. So ssh is asked,
once for each host, user and port, without a terminal, and its answer is kept: a file
that is edited while a run is at work changes nothing for the hosts of that run.

Where there is no ssh, or none for a user without a name, :mod:`_config_file` reads the
configuration and refuses what it cannot tell.

Rule: all here blocks, for as long as a command in the configuration takes, so it
belongs into threads.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Final, Self

import attrs

from .._local.owners import trespass
from ..errors import ConfigError
from ._config_file import Options, counts, evaluate, files_of, home
from ._files import expanded, unusable

__all__ = ["Answer", "Asked", "SshConfig"]

SECONDS: Final = 10.0
"""Seconds that ssh may take to answer: a ``Match exec`` may ask the network."""

SYSTEM: Final = Path("/etc/ssh/ssh_config")
OWN: Final = "~/.ssh/config"

_DEFAULT_KEYS: Final = {"~/.ssh/id_rsa", "~/.ssh/id_ecdsa", "~/.ssh/id_ed25519"}
_MORE_DEFAULTS: Final = {
    *("~/.ssh/id_ecdsa_sk", "~/.ssh/id_ed25519_sk", "~/.ssh/id_xmss", "~/.ssh/id_dsa"),
}
"""What some versions of ssh have besides."""

_FAMILIES: Final = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}
_DROPBEAR: Final = {"dbclient", "dropbear", "dropbearmulti"}
_NO_USER: Final = "No user exists for uid"
_SHOWN: Final = 3
"""Lines of what ssh says that are told."""


@attrs.frozen
class Asked:
    """A server that ssh is asked about; *port* 0 and *user* "" are not given."""

    address: str
    port: int = 0
    user: str = ""

    def words(self) -> tuple[str, ...]:
        """Return what follows the options of a command that names this server."""
        user = ("-l", self.user) if self.user else ()
        port = ("-p", str(self.port)) if self.port else ()
        return (*user, *port, "--", self.address)


@attrs.frozen
class Answer:
    """
    What ssh would do; texts still have their tokens.

    *identities* are None where ssh would take its default keys, *agent* is a socket, a
    variable as ``$NAME``, ``SSH_AUTH_SOCK`` or ``none``.
    """

    hostname: str
    port: int
    user: str
    jump: str = ""
    proxy_command: str = ""
    alias: str = ""
    identities: tuple[str, ...] | None = None
    certificates: tuple[str, ...] = ()
    exclusive: bool = False
    agent: str = "SSH_AUTH_SOCK"
    family: int = socket.AF_UNSPEC
    control_path: str = ""
    gssapi: bool = False
    delegates: bool = False

    @classmethod
    def of(cls, options: Options) -> Self:
        """
        Return the answer that *options* are.

        Raises:
            ValueError: A value is none that ssh would take, or asks for too much.
        """

        def one(name: str, default: str = "") -> str:
            value = options.get(name, [default])[:1]
            return value[0] if value and value[0].lower() != "none" else default

        def holds(name: str) -> bool:
            return one(name).lower() in {"yes", "true"}

        def several(name: str) -> tuple[str, ...]:
            return tuple(v for v in options.get(name, []) if v.lower() != "none")

        if one("proxycommand") and holds("proxyusefdpass"):
            raise ValueError("ProxyUseFdpass is not supported: have the command relay")
        for name in ("hostname", "user", "proxyjump", "hostkeyalias"):
            # asyncssh, journals and terminals take no other bytes.
            if not one(name).isprintable():
                raise ValueError(f"{name} {one(name)!a} is no printable UTF-8")
        named = {*options.get("identityfile", [])}
        # Where keys of one's own stand beside those of ssh, all of them are named.
        default = not named or _DEFAULT_KEYS <= named <= _DEFAULT_KEYS | _MORE_DEFAULTS
        return cls(
            hostname=options["hostname"][0],
            port=_port(options["port"][0]),
            user=options["user"][0],
            jump=one("proxyjump"),
            proxy_command=one("proxycommand"),
            alias=one("hostkeyalias"),
            identities=None if default else several("identityfile"),
            certificates=several("certificatefile"),
            exclusive=holds("identitiesonly"),
            agent=options.get("identityagent", ["SSH_AUTH_SOCK"])[0],
            family=_FAMILIES.get(one("addressfamily").lower(), socket.AF_UNSPEC),
            control_path=one("controlpath"),
            gssapi=holds("gssapiauthentication"),
            delegates=holds("gssapidelegatecredentials"),
        )


class SshConfig:
    """
    The configuration of ssh in *files*: one that is *named* to it, or its own.

    See :meth:`found`, which makes one.
    """

    def __init__(
        self, files: Sequence[Path], environ: Mapping[str, str], *, named: bool
    ) -> None:
        self._files = files
        self._environ = environ
        self._options = ("-F", str(files[0])) if named else ()
        self._ssh = _openssh(environ)
        self._lock = threading.Lock()
        self._answers: dict[Asked, Future[Answer]] = {}
        self._masters: dict[Asked, Future[bool]] = {}
        self._running: set[subprocess.Popen[bytes]] = set()

    @classmethod
    def found(
        cls, setting: str | bool, environ: Mapping[str, str] = os.environ
    ) -> Self | None:
        """
        Return the configuration that ``ssh.config`` means; None where there is none.

        Raises:
            ConfigError: Others can change a file of it.
        """
        if setting is False:
            return None
        own_file = home() / ".ssh/config"
        path = own_file if setting is True else expanded(setting)
        # ssh looks into the home folder of the password database, whatever HOME says.
        if setting == OWN and not path.is_file():
            path = own_file
        # The user's own file is the one that ssh reads by itself, and the system's
        # after it; with another one it reads that alone.
        own = path == own_file
        files = [path, SYSTEM] if own else [path]
        present = [file for file in files if file.is_file()]
        try:
            for file in present:
                _require_ours(file)
            # Most systems have a file that leads nowhere, which each host would have
            # to be asked about.
            if not present or (present == [SYSTEM] and not counts(SYSTEM)):
                return None
        except (OSError, ValueError) as exc:
            raise ConfigError([f"ssh.config: {unusable(exc)}"]) from exc
        return cls(present, environ, named=not own)

    def ask(self, asked: Asked) -> Answer:
        """
        Return what ssh would do.

        Raises:
            ValueError: The configuration is wrong, or ssh takes too long.
            OSError: ssh cannot be started, or a file cannot be read.
        """
        with self._lock:
            mine = asked not in self._answers
            answer = self._answers.setdefault(asked, Future())
        # Hosts that share a jump host ask about it together: one of them asks ssh.
        if mine:
            try:
                answer.set_result(self._look(asked))
            except BaseException as exc:
                answer.set_exception(exc)
                raise
        return answer.result()

    def through(self, hop: Asked, address: str, port: int) -> tuple[str, ...]:
        """
        Return the command that leads on through a connection to *hop* that ssh shares.

        It is empty where there is no such connection.
        """
        path = self.ask(hop).control_path
        if not path or self._ssh is None:
            return ()
        common = (self._ssh, *self._options, "-oBatchMode=yes", "-oControlMaster=no")
        with self._lock:
            mine = hop not in self._masters
            alive = self._masters.setdefault(hop, Future())
        if mine:
            try:
                check = (self._ssh, *self._options, "-T", "-O", "check", *hop.words())
                alive.set_result(Path(path).is_socket() and self._run(check)[0] == 0)
            except BaseException as exc:
                alive.set_exception(exc)
                raise
        onwards = (*common, "-W", f"[{address}]:{port}", *hop.words())
        return onwards if alive.result() else ()

    def stop(self) -> None:
        """End what still runs; who waits for it gets an error."""
        for process in tuple(self._running):
            _kill(process)

    def _look(self, asked: Asked) -> Answer:
        status, errors = 1, _NO_USER
        if self._ssh is not None:
            words = (self._ssh, "-G", "-T", *self._options)
            status, output, errors = self._run((*words, *asked.words()))
            # "Host *" with a ProxyJump names the bastion of all hosts, the bastion
            # itself included, which is reached directly.
            if errors.startswith("jumphost loop"):
                words = (*words, "-oProxyJump=none", "-oProxyCommand=none")
                status, output, errors = self._run((*words, *asked.words()))
            if status == 0:
                return Answer.of(_parsed(output))
        # ssh asks the password database for its user before it does anything.
        if not errors.startswith(_NO_USER):
            raise ValueError(_said(errors) or f"ssh -G exited {status}")
        address, port, user = asked.address, asked.port, asked.user
        return Answer.of(evaluate(self._files, address, port, user))

    def _run(self, words: tuple[str, ...]) -> tuple[int, str, str]:
        """Return the exit status of a command, its output and its errors."""
        with subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environ,
            # Without a terminal nobody is asked, and a Ctrl-C reaches only us.
            start_new_session=True,
        ) as process:
            self._running.add(process)
            try:
                output, errors = process.communicate(timeout=SECONDS)
            except subprocess.TimeoutExpired as exc:
                what = f"{words[-1]}: ssh did not answer within {SECONDS:g} s"
                said = shlex.join(("ssh", "-v", *words[1:]))
                raise ValueError(f"{what}; see: {said}") from exc
            finally:
                self._running.discard(process)
                # A command of the configuration holds the pipes, and is in the group.
                _kill(process)
        return process.returncode, _text(output), _text(errors)


def _openssh(environ: Mapping[str, str]) -> str | None:
    """Return the path of ssh; None where it is none, or dropbear's."""
    found = shutil.which("ssh", path=environ.get("PATH"))
    # That one knows no -G, and would log in.
    return found if found and Path(found).resolve().name not in _DROPBEAR else None


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def _said(errors: str) -> str:
    lines = [" ".join(line.split()) for line in errors.splitlines()]
    # The last line only counts those before it.
    told = [line for line in lines if line and ": terminating, " not in line]
    return "; ".join(told[:_SHOWN])


def _parsed(output: str) -> Options:
    options: Options = {}
    for line in output.split("\n"):
        name, _, value = line.partition(" ")
        options.setdefault(name, []).append(value)
    return options


def _port(text: str) -> int:
    return int(text) if text.isdecimal() else socket.getservbyname(text)


def _require_ours(path: Path) -> None:
    # A file may name a command, as the configuration itself does; ssh looks at the
    # owners of its own file only, and at none that is named to it.
    for file in files_of(path):
        if why := trespass(file):
            raise ConfigError([f"ssh.config: {why}"])
