"""
The keys of this machine: read once, and left to the agent where they have a passphrase.

A deploy never prompts. A locked key is used by naming its public half to the agent;
what the agent lacks as well is an error that says what to type.
A key that others can read is left out, as ssh does.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

import asyncssh
import attrs

from .._local.owners import readable
from ._endpoint import Keys

__all__ = ["KeyRing"]

DEFAULT_KEYS: Final = ("id_ed25519", "id_ecdsa", "id_rsa")


class KeyRing:
    """The keys in files, and those of the *agent*, a socket or empty for none."""

    def __init__(self, agent: str) -> None:
        self.agent = agent
        self._read: dict[str, Keys] = {}  # by path

    def defaults(self) -> Keys:
        """Return ssh's default keys, and all that the agent has."""
        rings: list[Keys] = []
        for name in DEFAULT_KEYS:
            # Nobody asked for this key by name: where it is missing, locked or no key,
            # the others may still open the door.
            with contextlib.suppress(OSError, ValueError):
                rings.append(self.read(f"~/.ssh/{name}"))
        own = tuple(key for keys in rings for key in keys.own)
        return Keys(own, self.agent, loose=_loose(rings))

    def chosen(self, path: str) -> Keys:
        """
        Return the key at *path*, and nothing else.

        Raises:
            OSError: The file cannot be read. ValueError: The file is no key, others can
            read it, or it has a passphrase and no agent can have it.
        """
        keys = self.read(path)
        if keys.loose:
            raise ValueError(keys.loose[0])
        if keys.locked and not (self.agent and keys.only):
            raise ValueError(_advice(path, self.agent))
        # Asked without need, the agent would offer its own keys first, each a try
        # towards sshd's MaxAuthTries of 6.
        return attrs.evolve(keys, agent=self.agent if keys.locked else "")

    def named(self, paths: list[str], agent: str, *, exclusive: bool) -> Keys:
        """
        Return the keys that ``~/.ssh/config`` names; as with ssh, some may be missing.

        *exclusive* keeps the agent from offering others.

        Raises:
            OSError: A file cannot be read. ValueError: A file is no key, or the only
            key is locked and there is no agent.
        """
        rings = []
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                rings.append(self.read(path))
        own = tuple(key for keys in rings for key in keys.own)
        only = tuple(key for keys in rings for key in keys.only)
        locked = tuple(path for keys in rings for path in keys.locked)
        if locked and not own and not agent:
            raise ValueError(_advice(locked[0], agent))
        asked = agent if only or not exclusive else ""
        return Keys(own, asked, only if exclusive else (), locked, _loose(rings))

    def read(self, path: str) -> Keys:
        """Read a key and its certificate; of a locked key, its public half."""
        if path not in self._read:
            self._read[path] = _read(Path(path).expanduser())
        return self._read[path]


def _loose(rings: list[Keys]) -> tuple[str, ...]:
    return tuple(why for keys in rings for why in keys.loose)


def _read(path: Path) -> Keys:
    try:
        key = asyncssh.read_private_key(path)
    except asyncssh.KeyImportError as exc:
        # asyncssh has no class of its own for a key that lacks its passphrase.
        if not str(exc).startswith("Passphrase"):
            raise
        only: list[asyncssh.SSHKey | asyncssh.SSHCertificate] = []
        with contextlib.suppress(OSError, asyncssh.KeyImportError):
            only.append(asyncssh.read_public_key(f"{path}.pub"))
            only.append(asyncssh.read_certificate(f"{path}-cert.pub"))
        return Keys(only=tuple(only), locked=(str(path),))
    if why := readable(path):
        return Keys(loose=(why,))
    try:
        return Keys(((key, asyncssh.read_certificate(f"{path}-cert.pub")),))
    except FileNotFoundError:
        return Keys((key,))


def _advice(path: str, agent: str) -> str:
    if agent:
        return f"{path} has a passphrase, and {path}.pub is missing: ssh-keygen -y"
    return (
        f"{path} has a passphrase, and there is no ssh-agent to ask: "
        f'eval "$(ssh-agent)" && ssh-add {path}'
    )
