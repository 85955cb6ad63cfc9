"""What the server and the agent let know during a login; told if it fails."""

from __future__ import annotations

import base64
import hashlib
from typing import Final

import asyncssh
import attrs
from asyncssh.packet import SSHPacket

__all__ = ["Agent", "Heard", "Listener", "fingerprint"]

COOKIE: Final = 17
"""Bytes of a proposal before its lists; RFC 4253, section 7.1."""

_SHOWN: Final = 200
"""Characters of a server's words that are told."""


@attrs.define
class Heard:
    """
    What one login has heard so far.

    *banner* is the server's last word in one line; *takes_keys* tells whether the
    server asked for a key, *others* by what else it would have us log in; *accepted*
    whether it took a key and wants more; *signing* is the fingerprint of the key that
    the agent is to sign with, until it has, *unsigned* that of one with which it would
    not. *keyless* tells that there was no key to offer, *away* where there is an agent
    that does not answer, *flaw* what is wrong with a certificate that was offered.

    *takes_tickets* tells whether the server would have had a Kerberos ticket, *ticket*
    whether there was one to show, and *no_ticket* what keeps it from opening the door.
    """

    banner: str = ""
    takes_keys: bool = False
    accepted: bool = False
    others: list[str] = attrs.field(factory=list)
    signing: str = ""
    unsigned: str = ""
    keyless: bool = False
    away: str = ""
    flaw: str = ""
    takes_tickets: bool = False
    ticket: bool = False
    no_ticket: str = ""


class Listener(asyncssh.SSHClient):
    """
    A client that answers to no password, and notes who asked for one.

    *key* is the key that was offered last, empty once there is none left.
    """

    def __init__(self, heard: Heard) -> None:
        self.heard = heard
        self.key = ""
        self._connection: asyncssh.SSHClientConnection | None = None

    @property
    def host_key_algorithms(self) -> list[str]:
        """Those that the server has; none before it has named them."""
        # asyncssh does not look at them: it leaves the choice to the server.
        named = getattr(self._connection, "_server_kexinit", b"")
        if not named:
            return []
        packet = SSHPacket(named)
        packet.get_bytes(COOKIE)
        packet.get_namelist()  # key exchange
        return [name.decode(errors="replace") for name in packet.get_namelist()]

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        self._connection = conn
        # The connection answers this question by itself, and tells nobody.
        has_ticket = conn.gss_mic_auth_requested

        def gss_mic_auth_requested() -> bool:
            self.heard.takes_tickets = True
            self.heard.ticket = has_ticket()
            return self.heard.ticket

        conn.gss_mic_auth_requested = gss_mic_auth_requested  # type: ignore[method-assign]

    def auth_banner_received(self, msg: str, lang: str) -> None:
        del lang
        self.heard.banner = " ".join(msg.split())[:_SHOWN] or self.heard.banner

    def kbdint_auth_requested(self) -> None:
        self._asked_for("keyboard-interactive")

    def password_auth_requested(self) -> None:
        self._asked_for("password")

    def _asked_for(self, method: str) -> None:
        # asyncssh goes on to the next method while there are keys left to offer only
        # where the server took the last one and is not content with it.
        self.heard.accepted = bool(self.key)
        self.heard.others.append(method)


class Agent(asyncssh.SSHAgentClient):
    """An agent that may wait for a person before it signs."""

    def __init__(self, path: str, heard: Heard) -> None:
        super().__init__(path)
        self._heard = heard

    async def sign(self, key_blob: bytes, data: bytes, flags: int = 0) -> bytes:
        self._heard.signing = fingerprint(key_blob)
        try:
            signature = await super().sign(key_blob, data, flags)
        except ValueError:
            self._heard.unsigned, self._heard.signing = self._heard.signing, ""
            raise
        self._heard.signing = ""
        return signature


def fingerprint(public: bytes) -> str:
    """Return the fingerprint of a key as OpenSSH writes it."""
    digest = base64.b64encode(hashlib.sha256(public).digest())
    return f"SHA256:{digest.decode().rstrip('=')}"
