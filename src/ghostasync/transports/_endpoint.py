"""An endpoint: the server that a connection goes to, and the keys it offers there."""

from __future__ import annotations

import re
import shlex
import socket
from typing import Final, Literal

import asyncssh
import attrs

__all__ = ["DEFAULT_PORT", "AgentKey", "Endpoint", "Keys", "PrivateKey"]

DEFAULT_PORT: Final = 22

PrivateKey = asyncssh.SSHKey | tuple[asyncssh.SSHKey, asyncssh.SSHCertificate]
"""
A private key, alone or with its certificate.

asyncssh's key pairs are mutable: hosts that share the pair of an RSA key would change
each other's signature algorithm.
"""


@attrs.frozen
class AgentKey:
    """A key that the agent is to sign with, by its *public* half."""

    public: bytes
    certificate: asyncssh.SSHCertificate | None = None


@attrs.frozen
class Keys:
    """
    The keys that a login offers.

    *own* are those that are named, in their order: read here, or the agent's; *agent*
    is a socket, empty where no agent is asked; *others* tells whether what the agent
    has besides is offered, and when; *locked* are files with a passphrase, which nobody
    is asked for; *loose* says why files are left out, and what mends it.
    """

    own: tuple[PrivateKey | AgentKey, ...] = ()
    agent: str = ""
    others: Literal["", "first", "last"] = ""
    locked: tuple[str, ...] = ()
    loose: tuple[str, ...] = ()

    @property
    def any_read(self) -> bool:
        """Whether a private key was read here."""
        return not all(isinstance(key, AgentKey) for key in self.own)


@attrs.frozen
class Endpoint:
    """
    The server that a connection goes to, once ``~/.ssh/config`` has had its say.

    *jump* is a list of hops, ``[user@]address[:port]`` with commas between,
    *proxy_command* the words of a command that leads there; *alias* is the name in
    ``known_hosts`` where that is not the address; *host_keys* are the keys that are
    believed where ``known_hosts`` has none, as they stand there; *identity* is the file
    of the one key that was asked for, empty where none was; *family* is that of the
    addresses that may be tried; *gssapi* has a Kerberos ticket tried before keys, and
    *delegates* hands it on to the server.
    """

    address: str
    port: int
    user: str
    jump: str = ""
    proxy_command: tuple[str, ...] = ()
    alias: str | None = None
    host_keys: tuple[str, ...] = ()
    keys: Keys = Keys()
    identity: str = ""
    family: int = socket.AF_UNSPEC
    gssapi: bool = False
    delegates: bool = False

    @property
    def limit_key(self) -> str:
        """The server whose handshakes are limited together."""
        # Hosts behind a bastion share its connections, so each has a limit of its own:
        # a handshake with the bastion is the bastion's.
        if self.jump:
            return f"{self.address_and_port} through {self.jump}"
        if not self.proxy_command:
            return self.address_and_port
        # A proxy command such as "ssh -W %h:%p gate" logs in to one server for all
        # hosts: commands that differ in nothing but the host share a limit.
        own = rf"(?<![\w.-])({re.escape(self.address)}|{self.port})(?![\w.-])"
        return "through " + re.sub(own, "*", shlex.join(self.proxy_command))

    @property
    def address_and_port(self) -> str:
        """The address and port, for people."""
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{address}:{self.port}"

    @property
    def known_as(self) -> str:
        """The host's name as ``known_hosts`` spells it, and so does ssh."""
        # An alias stands for the port as well: ssh looks it up as it is.
        if self.alias:
            return self.alias
        name = self.address.lower()
        return name if self.port == DEFAULT_PORT else f"[{name}]:{self.port}"
