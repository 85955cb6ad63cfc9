"""
Who logs in where, and whom we believe: keys, known hosts, ``~/.ssh/config``.

All is parsed once per transport and shared: a path handed to asyncssh would be read
and decrypted again for every connection.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import os
import re
import shlex
from pathlib import Path
from typing import Final

import asyncssh
import attrs

from ..errors import ConfigError
from ..model import Host, Ssh

__all__ = ["Identity", "Login", "Target", "Trust"]

DEFAULT_PORT: Final = 22
DEFAULT_KEYS: Final = ("id_ed25519", "id_ecdsa", "id_rsa")
GLOBAL_KNOWN_HOSTS: Final = "/etc/ssh/ssh_known_hosts"

Identity = asyncssh.SSHKey | tuple[asyncssh.SSHKey, asyncssh.SSHCertificate]
"""A private key, alone or with its certificate; a key pair would be mutable."""


@attrs.frozen
class Target:
    """Where a connection goes, once ``~/.ssh/config`` has had its say."""

    address: str
    port: int
    user: str
    jump: str = ""
    proxy_command: str = ""
    alias: str | None = None
    identities: tuple[Identity, ...] = ()
    agent: str | None = None

    @property
    def endpoint(self) -> str:
        """Whose handshakes are limited together: one server's, one bastion's guests."""
        first = self.jump.split(",")[0]
        return f"through {first}" if first else f"{self.address}:{self.port}"

    @property
    def known_as(self) -> str:
        """The host's name as ``known_hosts`` spells it."""
        name = self.alias or self.address
        return name if self.port == DEFAULT_PORT else f"[{name}]:{self.port}"


class Login:
    """Finds out, for each host, who logs in where."""

    def __init__(self, settings: Ssh) -> None:
        self._settings = settings
        self._config = _existing(settings.config)
        self._keys: dict[str, tuple[Identity, ...]] = {}
        try:
            own = (
                self._read(Path(settings.identity).expanduser())
                if settings.identity
                else self._defaults()
            )
        except (OSError, ValueError) as exc:
            raise ConfigError([f"ssh.identity: {_key_problem(exc)}"]) from exc
        self._own = own

    @property
    def reads_files(self) -> bool:
        """Whether :meth:`target` reads files, and so belongs in a thread."""
        return self._config is not None

    def target(self, host: Host, jump: str | None = None) -> Target:
        """
        Return where *host* is; *jump* is given for a jump host: what comes before it.

        Raises:
            ValueError: ``~/.ssh/config``, or a key that it names, is wrong.
            OSError: It cannot be read.
        """
        settings = self._settings
        asked = Target(
            address=host.address or host.name,
            port=host.port or settings.port,
            user=host.user or settings.user,
            jump=settings.jump if jump is None else jump,
            proxy_command=settings.proxy_command if jump is None else "",
            identities=self._own,
            agent=None if settings.identity else os.environ.get("SSH_AUTH_SOCK"),
        )
        if self._config is not None:
            # 22 may be the default, so ~/.ssh/config may say another port.
            port = host.port or (settings.port if settings.port != DEFAULT_PORT else 0)
            asked = self._configured(asked, port, self._config, hop=jump is not None)
        if not asked.user:
            asked = attrs.evolve(asked, user=getpass.getuser())
        return attrs.evolve(asked, proxy_command=_filled(asked))

    def _configured(
        self, asked: Target, port: int, config: Path, *, hop: bool
    ) -> Target:
        """Fill in what ``~/.ssh/config`` says and the plan does not."""
        found = asyncssh.SSHClientConnectionOptions(
            host=asked.address,
            port=port or (),
            username=asked.user or (),
            tunnel=asked.jump or (None if hop else ()),
            proxy_command=asked.proxy_command or (),
            config=[str(config)],
            client_keys=None,
            known_hosts=None,
            x509_trusted_certs=None,
        )
        target = attrs.evolve(
            asked,
            address=found.host,
            port=found.port,
            user=found.username,
            jump=_unless_none(found.tunnel),
            proxy_command=asked.proxy_command or shlex.join(found.proxy_command or ()),
            alias=found.host_key_alias,
        )
        if self._settings.identity:
            return target
        agent = str(found.config.get("IdentityAgent", asked.agent or "")) or None
        return attrs.evolve(
            target,
            identities=self._named(found.config.get("IdentityFile")),
            agent=None if found.config.get("IdentitiesOnly") else agent,
        )

    def _named(self, paths: object) -> tuple[Identity, ...]:
        if not isinstance(paths, list) or not paths:
            return self._own
        return tuple(key for path in paths for key in self._cached(str(path)))

    def _cached(self, path: str) -> tuple[Identity, ...]:
        if path not in self._keys:
            self._keys[path] = self._read(Path(path).expanduser())
        return self._keys[path]

    def _read(self, path: Path) -> tuple[Identity, ...]:
        key = asyncssh.read_private_key(path)
        try:
            return ((key, asyncssh.read_certificate(f"{path}-cert.pub")),)
        except FileNotFoundError:
            return (key,)

    def _defaults(self) -> tuple[Identity, ...]:
        """Read ssh's default keys; those with a passphrase are left to the agent."""
        found: list[Identity] = []
        for name in DEFAULT_KEYS:
            with contextlib.suppress(OSError, ValueError):
                found += self._read(Path("~/.ssh", name).expanduser())
        return tuple(found)


class Trust:
    """Whose host keys are believed: ``known_hosts``, and what was accepted as new."""

    def __init__(self, settings: Ssh) -> None:
        self._path = Path(settings.known_hosts).expanduser()
        self.accepts_new = settings.host_keys == "accept-new"
        self._accepted: dict[str, asyncssh.SSHKey] = {}
        self.known_hosts: asyncssh.SSHKnownHosts | None = None
        if settings.host_keys != "insecure":
            files = [str(self._path), GLOBAL_KNOWN_HOSTS]
            try:
                self.known_hosts = asyncssh.read_known_hosts(
                    [name for name in files if Path(name).exists()]
                )
            except (OSError, ValueError) as exc:
                raise ConfigError([f"ssh.known_hosts: {exc}"]) from exc

    def knows(self, target: Target) -> bool:
        """Tell whether some key is on record for the host, right or wrong."""
        if target.known_as in self._accepted:
            return True
        if self.known_hosts is None:
            return False
        name = target.alias or target.address
        port = None if target.port == DEFAULT_PORT else target.port
        return any(self.known_hosts.match(name, "", port)[:2])

    def accept(self, target: Target, key: asyncssh.SSHKey) -> bool:
        """Tell whether *key*, which is not in ``known_hosts``, is believed."""
        if self.accepts_new and not self.knows(target):
            self._accepted[target.known_as] = key
        return self._accepted.get(target.known_as) == key

    def save(self, target: Target) -> None:
        """Append an accepted key to ``known_hosts``; blocks, so call it in a thread."""
        key = self._accepted[target.known_as]
        algorithm, data, *_ = key.export_public_key("openssh").decode().split()
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(f"{target.known_as} {algorithm} {data}\n")


class Doorkeeper(asyncssh.SSHClient):
    """Asks :class:`Trust` about a host key that ``known_hosts`` does not have."""

    def __init__(self, trust: Trust, target: Target) -> None:
        self._trust, self._target = trust, target
        self.learned = False

    def validate_host_public_key(
        self,
        host: str,  # noqa: ARG002  asyncssh passes what the target knows better
        addr: str,  # noqa: ARG002
        port: int,  # noqa: ARG002
        key: asyncssh.SSHKey,
    ) -> bool:
        known = self._trust.knows(self._target)
        believed = self._trust.accept(self._target, key)
        self.learned = believed and not known
        return believed


def _existing(config: str | bool) -> Path | None:
    if config is False:
        return None
    path = Path("~/.ssh/config" if config is True else config).expanduser()
    return path if path.is_file() else None


def _unless_none(jump: object) -> str:
    return jump if isinstance(jump, str) and jump.lower() != "none" else ""


def _key_problem(exc: Exception) -> str:
    if str(exc).startswith("Passphrase"):
        return "the key has a passphrase: add it to ssh-agent and leave identity empty"
    return str(exc)


def _filled(target: Target) -> str:
    """Fill in the tokens that ssh knows in a proxy command."""
    values = {"%%": "%", "%h": target.address, "%p": str(target.port)}
    values |= {"%r": target.user, "%n": target.address}
    return re.sub("%[%hprn]", lambda token: values[token.group()], target.proxy_command)
