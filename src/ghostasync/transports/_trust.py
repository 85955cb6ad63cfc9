"""
The host keys that are believed, and the keys of new hosts that are learned.

asyncssh compares keys with ``known_hosts`` by itself and asks :class:`_client.Client`
only about a key that the file does not have. A key accepted as new counts for this
transport at once, and for the next run once it is in the file; runs that learn at the
same time meet at a lock on the file.

Rule: a key that ``known_hosts`` revokes is refused before anything else is asked, under
whatever name the file knows the host: with or without its port, by name, alias or
address, plain, hashed or as a pattern.
"""

from __future__ import annotations

import fcntl
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import asyncssh

from .._local.owners import make_private, trespass
from ..errors import ConfigError
from ..model import Ssh
from ._endpoint import DEFAULT_PORT, Endpoint
from ._files import unusable

if TYPE_CHECKING:
    # Private there, so it is not asked for when a run needs it.
    from asyncssh.known_hosts import KnownHostsArg, _KnownHostsResult

_Keys = list[asyncssh.SSHKey]

__all__ = ["REVOKED", "Trust"]

GLOBAL_KNOWN_HOSTS: Final = "/etc/ssh/ssh_known_hosts"

REVOKED: Final = "key is revoked"
"""What the reason of an error about a revoked key holds; asyncssh's words."""


class Trust:
    """
    The host keys that are believed: those in ``known_hosts``, and those accepted as
    new.

    Raises:
        ConfigError: ``known_hosts`` cannot be read.
    """

    def __init__(self, settings: Ssh) -> None:
        self.path = Path(settings.known_hosts).expanduser()
        self.accepts_new = settings.host_keys == "accept-new"
        self._accepted: dict[str, asyncssh.SSHKey] = {}
        self.known_hosts: asyncssh.SSHKnownHosts | None = None
        self._revoked = asyncssh.SSHKnownHosts()
        if settings.host_keys != "insecure":
            files = [self.path, Path(GLOBAL_KNOWN_HOSTS)]
            self.known_hosts, self._revoked = _read(files)

    def known_for(self, endpoint: Endpoint) -> KnownHostsArg:
        """Return what asyncssh is to look the host up in."""
        if self.known_hosts is None:
            return None
        look_up = functools.partial(self._look_up, endpoint, self.known_hosts)
        # asyncssh types such a function's answer as one of text alone.
        return cast("KnownHostsArg", look_up)

    def _look_up(
        self,
        endpoint: Endpoint,
        known: asyncssh.SSHKnownHosts,
        host: str,
        address: str,
        port: int | None,
    ) -> tuple[_Keys, _Keys, _Keys]:
        # The address counts for a host without an alias alone: one with an alias has it
        # because its address was another host's, or will be.
        by_address = "" if endpoint.alias else address
        hosts, authorities, *_ = known.match(host, by_address, port)
        # asyncssh forgets the keys that are revoked for a name with its port where the
        # name has no others.
        revoked = _revoked_keys(self._revoked, endpoint, address)
        return [*hosts], [*authorities], revoked

    def knows(self, endpoint: Endpoint) -> bool:
        """Tell whether some key is on record for the host, right or wrong."""
        if endpoint.known_as in self._accepted:
            return True
        return self.known_hosts is not None and bool(_keys(self.known_hosts, endpoint))

    def accept(self, endpoint: Endpoint, key: asyncssh.SSHKey) -> bool:
        """Tell whether *key*, which is not in ``known_hosts``, is believed."""
        # A host that has any key on record, right or wrong, is not new: a second key
        # may be that of somebody in between.
        new = endpoint.host_keys
        believed = _text(key) in new if new else self.accepts_new
        if believed and not self.knows(endpoint):
            self._accepted[endpoint.known_as] = key
        return self._accepted.get(endpoint.known_as) == key

    def save(self, endpoint: Endpoint) -> None:
        """
        Append an accepted key to ``known_hosts``; blocks, so call it in a thread.

        Raises:
            HostKeyNotVerifiable: Another process has learned another key meanwhile.
            ValueError: It could not be written; the key is not believed then.
        """
        key = self._accepted[endpoint.known_as]
        # A key that could not be written down, or that another run contradicts, is not
        # believed for the rest of this run either: the next login asks again.
        try:
            self._append(endpoint, key)
        except OSError as exc:
            self._accepted.pop(endpoint.known_as)
            wrong = unusable(exc, self.path)
            raise ValueError(f"ssh.known_hosts: {wrong}") from exc
        except asyncssh.HostKeyNotVerifiable:
            self._accepted.pop(endpoint.known_as)
            raise

    def _append(self, endpoint: Endpoint, key: asyncssh.SSHKey) -> None:
        make_private(self.path.parent)
        # Whatever the umask is: what others can change is refused the next time.
        self.path.touch(mode=0o600)
        with self.path.open("a+", encoding="utf-8") as file:
            # Another run may have learned this host since the file was read: the lock
            # is taken before the file is read again, and held until the line is there.
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            text = file.read()
            revoked = asyncssh.import_known_hosts(_revoking(text))
            if key in _revoked_keys(revoked, endpoint):
                raise asyncssh.HostKeyNotVerifiable(REVOKED)
            if known := _keys(asyncssh.import_known_hosts(text), endpoint):
                if key in known:
                    return
                raise asyncssh.HostKeyNotVerifiable(
                    f"another run has just learned another key for {endpoint.known_as}"
                )
            line = f"{endpoint.known_as} {_text(key)}\n"
            # ssh and other readers take no lock: one write shows them the whole line or
            # nothing of it.
            file.write(line if text.endswith("\n") or not text else f"\n{line}")


def _read(files: list[Path]) -> tuple[asyncssh.SSHKnownHosts, asyncssh.SSHKnownHosts]:
    """Return what *files* say, and of that what revokes keys."""
    # Parsed once and shared: asyncssh would read a path again, on the loop's thread,
    # for each connection.
    known, revoked = asyncssh.SSHKnownHosts(), asyncssh.SSHKnownHosts()
    for file in files:
        if why := trespass(file):
            raise ConfigError([f"ssh.known_hosts: {why}"])
        try:
            if file.exists():
                text = file.read_text()
                known.load(text)
                revoked.load(_revoking(text))
        except (OSError, ValueError) as exc:
            raise ConfigError([f"ssh.known_hosts: {unusable(exc, file)}"]) from exc
    return known, revoked


def _revoking(text: str) -> str:
    """Return the lines of *text* that revoke keys, their names in small letters."""
    lines = []
    for line in text.splitlines():
        marker, *words = line.split(None, 2)[:2] or [""]
        if marker == "@revoked":
            pattern = "".join(words)
            small = pattern if pattern.startswith("|") else pattern.lower()
            lines.append(line.replace(pattern, small, 1))
    return "\n".join(lines)


def _revoked_keys(
    revoked: asyncssh.SSHKnownHosts, endpoint: Endpoint, address: str = ""
) -> _Keys:
    """Return the keys revoked for a host at *address*, under any of its names."""
    keys: _Keys = []
    for name in {endpoint.alias, endpoint.address, address} - {None, ""}:
        small = str(name).lower()
        for spelling in (small, f"[{small}]:{endpoint.port}"):
            keys += revoked.match(spelling, "", None)[2]
    return keys


def _text(key: asyncssh.SSHKey) -> str:
    """Return a public key as ``known_hosts`` has it."""
    algorithm, data, *_ = key.export_public_key("openssh").decode().split()
    return f"{algorithm} {data}"


def _keys(known: asyncssh.SSHKnownHosts, endpoint: Endpoint) -> list[asyncssh.SSHKey]:
    """Return the keys, of hosts and of authorities, that *known* has for a host."""
    hosts, authorities, *_ = _matches(known, endpoint)
    return [*hosts, *authorities]


def _matches(known: asyncssh.SSHKnownHosts, endpoint: Endpoint) -> _KnownHostsResult:
    name = endpoint.alias or endpoint.address
    port = None if endpoint.port == DEFAULT_PORT else endpoint.port
    return known.match(name, "", port)
