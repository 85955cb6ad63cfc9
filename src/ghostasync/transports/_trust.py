"""Whose host keys are believed, and what is learned of new hosts."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Final

import asyncssh

from ..errors import ConfigError
from ..model import Ssh
from ._endpoint import DEFAULT_PORT, Endpoint
from ._files import unusable

__all__ = ["HostKeyCheck", "Trust"]

GLOBAL_KNOWN_HOSTS: Final = "/etc/ssh/ssh_known_hosts"


class Trust:
    """Whose host keys are believed: ``known_hosts``, and what was accepted as new."""

    def __init__(self, settings: Ssh) -> None:
        self.path = Path(settings.known_hosts).expanduser()
        self.accepts_new = settings.host_keys == "accept-new"
        self._accepted: dict[str, asyncssh.SSHKey] = {}
        self.known_hosts: asyncssh.SSHKnownHosts | None = None
        if settings.host_keys != "insecure":
            self.known_hosts = _read([self.path, Path(GLOBAL_KNOWN_HOSTS)])

    def knows(self, target: Endpoint) -> bool:
        """Tell whether some key is on record for the host, right or wrong."""
        if target.known_as in self._accepted:
            return True
        return self.known_hosts is not None and bool(_keys(self.known_hosts, target))

    def accept(self, target: Endpoint, key: asyncssh.SSHKey) -> bool:
        """Tell whether *key*, which is not in ``known_hosts``, is believed."""
        if self.accepts_new and not self.knows(target):
            self._accepted[target.known_as] = key
        return self._accepted.get(target.known_as) == key

    def save(self, target: Endpoint) -> None:
        """
        Append an accepted key to ``known_hosts``; blocks, so call it in a thread.

        Raises:
            HostKeyNotVerifiable: Another process has learned another key meanwhile.
            ValueError: It could not be written; the key is not believed then.
        """
        key = self._accepted[target.known_as]
        try:
            self._append(target, key)
        except OSError as exc:
            self._accepted.pop(target.known_as)
            wrong = unusable(exc, self.path)
            raise ValueError(f"ssh.known_hosts: {wrong}") from exc
        except asyncssh.HostKeyNotVerifiable:
            self._accepted.pop(target.known_as)
            raise

    def _append(self, target: Endpoint, key: asyncssh.SSHKey) -> None:
        algorithm, data, *_ = key.export_public_key("openssh").decode().split()
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.path.open("a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            text = file.read()
            if known := _keys(asyncssh.import_known_hosts(text), target):
                if key in known:
                    return
                raise asyncssh.HostKeyNotVerifiable(
                    f"another run has just learned another key for {target.known_as}"
                )
            line = f"{target.known_as} {algorithm} {data}\n"
            # One write: whoever reads the file sees all of the line, or nothing.
            file.write(line if text.endswith("\n") or not text else f"\n{line}")


class HostKeyCheck(asyncssh.SSHClient):
    """Asks :class:`Trust` about a host key that ``known_hosts`` does not have."""

    def __init__(self, trust: Trust, target: Endpoint) -> None:
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


def _read(files: list[Path]) -> asyncssh.SSHKnownHosts:
    found = asyncssh.SSHKnownHosts()
    for file in files:
        try:
            if file.exists():
                found.load(file.read_text())
        except (OSError, ValueError) as exc:
            raise ConfigError([f"ssh.known_hosts: {unusable(exc, file)}"]) from exc
    return found


def _keys(known: asyncssh.SSHKnownHosts, target: Endpoint) -> list[asyncssh.SSHKey]:
    """Return the keys, of hosts and of authorities, that *known* has for a host."""
    name = target.alias or target.address
    port = None if target.port == DEFAULT_PORT else target.port
    hosts, authorities, *_ = known.match(name, "", port)
    return [*hosts, *authorities]
