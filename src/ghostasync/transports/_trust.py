"""
The host keys that are believed, and the keys of new hosts that are learned.

asyncssh is given the authorities and the revoked keys of a host, and asks
:class:`_client.Client` about every other key. A key accepted as new counts for this
transport at once, and for the next run once it is in the file; runs that learn at the
same time meet at a lock on the file.

Rule 1: a key that ``known_hosts`` revokes is refused before anything else is asked,
under whatever name the file knows the host: with or without its port, by name, alias or
address, plain, hashed or as a pattern.
Rule 2: all else is as for ssh. A host that has an alias is known by that, without its
port; a line without a port vouches for a server on another port, and makes no other key
of that server a wrong one; an authority makes no plain key a wrong one.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import functools
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import asyncssh

from .._local.owners import make_private, trespass
from ..errors import ConfigError
from ..model import Ssh
from ._endpoint import DEFAULT_PORT, Endpoint
from ._files import unusable
from ._known_hosts import AUTHORITY, REVOKED_MARK, KnownHosts, algorithm

if TYPE_CHECKING:
    # Private there, so it is not asked for when a run needs it.
    from asyncssh.known_hosts import KnownHostsArg

_Keys = list[asyncssh.SSHKey]

__all__ = ["FLAWED", "REVOKED", "Trust"]

GLOBAL_KNOWN_HOSTS: Final = "/etc/ssh/ssh_known_hosts"

REVOKED: Final = "key is revoked"
"""What the reason of an error about a revoked key holds; asyncssh's words."""

FLAWED: Final = "Certificate "
"""How the reason begins of an error about a certificate of a known authority."""

SIGNATURES: Final = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"),
}
"""The kinds of host keys, and how each may sign, in the order of preference."""

CERTIFIED: Final = "-cert-v01@openssh.com"

_SHOWN: Final = 5
"""Lines that cannot be read of which the numbers are told."""

_log = logging.getLogger("ghostasync")


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
        self._unsaved: set[str] = set()
        self._plain: dict[str, str] = {}
        self._believes_all = settings.host_keys == "insecure"
        self._known = KnownHosts()
        if not self._believes_all:
            _read(self._known, [self.path, Path(GLOBAL_KNOWN_HOSTS)])

    def known_for(self, endpoint: Endpoint) -> KnownHostsArg:
        """Return what asyncssh is to look the host up in."""
        if self._believes_all:
            return None
        # asyncssh types such a function's answer as one of text alone.
        look_up = functools.partial(self._look_up, endpoint)
        return cast("KnownHostsArg", look_up)

    def _look_up(
        self,
        endpoint: Endpoint,
        host: str,  # noqa: ARG002  the endpoint knows more names
        address: str,
        port: int | None,  # noqa: ARG002
    ) -> tuple[_Keys, _Keys, _Keys]:
        authorities = _imported(self._authorities(endpoint))
        return [], authorities, _revoked_keys(self._known, endpoint, address)

    def _authorities(self, endpoint: Endpoint) -> list[bytes]:
        return self._known.marked(AUTHORITY, _names(endpoint))

    def algorithms(self, endpoint: Endpoint) -> list[str]:
        """
        Return the host key algorithms to ask for, the best first.

        A server has keys of several kinds and shows one: it is asked for one on record.
        """
        named = [text.split()[0] for text in endpoint.host_keys]
        kinds = [*self._known.algorithms(_names(endpoint)), *named, *SIGNATURES]
        ordered = [
            name for kind in dict.fromkeys(kinds) for name in SIGNATURES.get(kind, ())
        ]
        certified = self._authorities(endpoint) and endpoint.known_as not in self._plain
        return [*(f"{name}{CERTIFIED}" for name in ordered if certified), *ordered]

    def distrust_authority(self, endpoint: Endpoint, flaw: str = "") -> None:
        """
        Ask the host for a plain key from now on.

        *flaw* is what is wrong with its certificate; by default nobody here knows the
        authority.
        """
        self._plain[endpoint.known_as] = flaw

    def flaw(self, endpoint: Endpoint) -> str:
        """Return what is wrong with the host's certificate; empty where nothing."""
        return self._plain.get(endpoint.known_as, "")

    def knows(self, endpoint: Endpoint) -> bool:
        """Tell whether some key is on record for the host, right or wrong."""
        if endpoint.known_as in self._accepted:
            return True
        return bool(self._known.keys(_own_names(endpoint)))

    def accept(self, endpoint: Endpoint, key: asyncssh.SSHKey) -> bool:
        """Tell whether *key*, which is not revoked, is believed."""
        data = key.public_data
        if self._known.has(data, _own_names(endpoint)):
            return True
        known = self.knows(endpoint)
        if not known and self._known.has(data, _names(endpoint)):
            return True
        # A host that has any key on record, right or wrong, is not new: a second key
        # may be that of somebody in between.
        new = endpoint.host_keys
        believed = _text(key) in new if new else self.accepts_new
        if believed and not known:
            self._accepted[endpoint.known_as] = key
            self._unsaved.add(endpoint.known_as)
        return self._accepted.get(endpoint.known_as) == key

    def is_unsaved(self, endpoint: Endpoint) -> bool:
        """Tell whether a key was accepted that ``known_hosts`` does not have yet."""
        return endpoint.known_as in self._unsaved

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
        self._unsaved.discard(endpoint.known_as)
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
        with self.path.open("a+", encoding="utf-8", errors="replace") as file:
            # Another run may have learned this host since the file was read: the lock
            # is taken before the file is read again, and held until the line is there.
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            text = file.read()
            now = KnownHosts()
            now.add(text)
            if key in _revoked_keys(now, endpoint):
                raise asyncssh.HostKeyNotVerifiable(REVOKED)
            if known := now.keys(_own_names(endpoint)):
                if key.public_data in known:
                    return
                raise asyncssh.HostKeyNotVerifiable(
                    f"another run has just learned another key for {endpoint.known_as}"
                )
            line = f"{endpoint.known_as} {_text(key)}\n"
            # ssh and other readers take no lock: one write shows them the whole line or
            # nothing of it.
            file.write(line if text.endswith("\n") or not text else f"\n{line}")


def _read(known: KnownHosts, files: list[Path]) -> None:
    # Read once and shared: asyncssh would read a path again, on the loop's thread, for
    # each connection.
    for file in files:
        if why := trespass(file):
            raise ConfigError([f"ssh.known_hosts: {why}"])
        try:
            text = file.read_text(errors="replace") if file.exists() else ""
        except (OSError, ValueError) as exc:
            raise ConfigError([f"ssh.known_hosts: {unusable(exc, file)}"]) from exc
        # One line that is wrong, such as a mark of a merge, takes no host away.
        if unread := known.add(text):
            numbers = ", ".join(map(str, unread[:_SHOWN]))
            more = f" and {len(unread) - _SHOWN} more" if unread[_SHOWN:] else ""
            _log.warning(
                "%s: no host key in line %s%s, which is passed over",
                file,
                numbers,
                more,
            )


def _own_names(endpoint: Endpoint) -> list[str]:
    """Return the names under which a key on record is the host's own."""
    if endpoint.alias:
        # Earlier versions wrote the port of a host with an alias as well.
        return [endpoint.alias, f"[{endpoint.alias}]:{endpoint.port}"]
    return [endpoint.known_as]


def _names(endpoint: Endpoint) -> list[str]:
    """Return the names under which a key on record is believed."""
    own = _own_names(endpoint)
    if endpoint.alias or endpoint.port == DEFAULT_PORT:
        return own
    return [*own, endpoint.address.lower()]


def _revoked_keys(known: KnownHosts, endpoint: Endpoint, address: str = "") -> _Keys:
    """Return the keys revoked for a host at *address*, under any of its names."""
    names = {
        spelling
        for name in {endpoint.alias, endpoint.address, address} - {None, ""}
        for small in [str(name).lower()]
        for spelling in (small, f"[{small}]:{endpoint.port}")
    }
    return _imported(known.marked(REVOKED_MARK, names))


def _imported(keys: Iterable[bytes]) -> _Keys:
    """Return *keys* as asyncssh has them, but those of kinds that it does not know."""
    imported: _Keys = []
    for key in keys:
        with contextlib.suppress(asyncssh.KeyImportError):
            text = f"{algorithm(key)} {base64.b64encode(key).decode()}"
            imported.append(asyncssh.import_public_key(text))
    return imported


def _text(key: asyncssh.SSHKey) -> str:
    """Return a public key as ``known_hosts`` has it."""
    algorithm, data, *_ = key.export_public_key("openssh").decode().split()
    return f"{algorithm} {data}"
