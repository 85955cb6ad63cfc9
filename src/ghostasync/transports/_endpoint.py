"""Where a connection goes and what it offers there; a value."""

from __future__ import annotations

import re
from typing import Final

import asyncssh
import attrs

__all__ = ["DEFAULT_PORT", "Endpoint", "Keys", "PrivateKey"]

DEFAULT_PORT: Final = 22

PrivateKey = asyncssh.SSHKey | tuple[asyncssh.SSHKey, asyncssh.SSHCertificate]
"""A private key, alone or with its certificate; a key pair would be mutable."""


@attrs.frozen
class Keys:
    """
    What a login offers.

    *agent* is a socket, empty where no agent is asked; *only* the public keys that it
    may be asked for, empty for all; *locked* the files whose passphrase nobody told us.
    """

    own: tuple[PrivateKey, ...] = ()
    agent: str = ""
    only: tuple[asyncssh.SSHKey | asyncssh.SSHCertificate, ...] = ()
    locked: tuple[str, ...] = ()


@attrs.frozen
class Endpoint:
    """
    Where a connection goes, once ``~/.ssh/config`` has had its say.

    *identity* is the file of the one key that was asked for; empty where none was.
    """

    address: str
    port: int
    user: str
    jump: str = ""
    proxy_command: str = ""
    alias: str | None = None
    keys: Keys = Keys()
    identity: str = ""

    @property
    def endpoint(self) -> str:
        """
        Whose handshakes are limited together: those with one server.

        A bastion's guests are not: they share connections to it. A proxy command may
        be ``ssh -W`` and log in to one server for all.
        """
        if self.jump:
            return f"{self.place} through {self.jump}"
        if not self.proxy_command:
            return self.place
        own = rf"(?<![\w.-])({re.escape(self.address)}|{self.port})(?![\w.-])"
        return "through " + re.sub(own, "*", self.proxy_command)

    @property
    def place(self) -> str:
        """Address and port, for people."""
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{address}:{self.port}"

    @property
    def known_as(self) -> str:
        """The host's name as ``known_hosts`` spells it."""
        name = self.alias or self.address
        return name if self.port == DEFAULT_PORT else f"[{name}]:{self.port}"
