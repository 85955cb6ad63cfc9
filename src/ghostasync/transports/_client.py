"""What asyncssh asks while it logs in: is this the host, and with which key?"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

import anyio
import asyncssh
from asyncssh.public_key import decode_ssh_certificate

from ._endpoint import AgentKey, Endpoint, PrivateKey
from ._heard import Agent, Heard, Listener, fingerprint
from ._keys import flaw
from ._trust import Trust

__all__ = ["Client"]

AGENT_SECONDS: Final = 3.0
"""Seconds that an agent has to say which keys it has."""

RSA_CERTIFICATE: Final = b"ssh-rsa-cert-v01@openssh.com"

NO_KEY: Final = asyncssh.SSHKeyPair(b"", b"", (b"",), (), b"", None)
"""
What is never offered, because its signature is of no kind.

asyncssh offers an RSA certificate by a second name, the only one that servers since
OpenSSH 8.8 take, when it has got another key; the last key would never be.
"""

_Offer = tuple[str, asyncssh.SSHKeyPair]


class Client(Listener):
    """
    One login to *endpoint*; *trust* is asked about its host key.

    *key* tells afterwards which key was offered last: its fingerprint as OpenSSH writes
    it, empty where there was none. *may_touch* is asked before a key is offered that a
    person has to touch; *withheld* tells whether there was one that was not.
    """

    def __init__(
        self,
        trust: Trust,
        endpoint: Endpoint,
        heard: Heard,
        may_touch: Callable[[], bool],
    ) -> None:
        super().__init__(heard)
        self._trust, self._endpoint = trust, endpoint
        self._may_touch = may_touch
        self.withheld = False
        self._agent: asyncssh.SSHAgentClient | None = None
        self._agents: Sequence[asyncssh.SSHKeyPair] | None = None
        self._offers = self._each()
        self._offered: set[bytes] = set()

    def validate_host_public_key(
        self,
        host: str,  # noqa: ARG002  asyncssh passes what the endpoint knows better
        addr: str,  # noqa: ARG002
        port: int,  # noqa: ARG002
        key: asyncssh.SSHKey,
    ) -> bool:
        return self._trust.accept(self._endpoint, key)

    def validate_host_ca_key(
        self,
        host: str,  # noqa: ARG002
        addr: str,  # noqa: ARG002
        port: int,  # noqa: ARG002
        key: asyncssh.SSHKey,  # noqa: ARG002  those that are believed are not asked for
    ) -> bool:
        # ssh looks at the plain key of such a server, and so does the next try.
        self._trust.distrust_authority(self._endpoint)
        return False

    # Keys are offered one by one: the last one is the one that the host took.
    async def public_key_auth_requested(
        self,
    ) -> asyncssh.SSHKeyPair | None:
        self.heard.takes_keys = True
        async for key, pair in self._offers:
            self.key = key
            return pair
        self.heard.keyless = not self._offered
        self.key = ""
        return None

    async def _each(self) -> AsyncIterator[_Offer]:
        """Yield what is offered, each key once: every one is a try for sshd."""
        async for name, pair in self._all():
            if pair.public_data in self._offered:
                continue
            self._offered.add(pair.public_data)
            if pair.algorithm.startswith(b"sk-") and not self._may_touch():
                self.withheld = True
                continue
            # An agent may have certificates of kinds that are not known here.
            with contextlib.suppress(asyncssh.KeyImportError):
                certificate = decode_ssh_certificate(pair.public_data)
                if why := flaw(certificate, self._endpoint.user):
                    self.heard.flaw = f"the certificate of {name} {why}"
            yield name, pair
            if pair.algorithm == RSA_CERTIFICATE:
                yield name, NO_KEY

    async def _all(self) -> AsyncIterator[_Offer]:
        keys = self._endpoint.keys
        if keys.others == "first":
            for pair in await self._of_agent():
                yield fingerprint(pair.public_data), pair
        for key in keys.own:
            # The agent is asked when its turn comes: one that does not answer is none
            # to wait for where a key in a file opens the door.
            if isinstance(key, AgentKey):
                for pair in _held(key, await self._of_agent()):
                    yield fingerprint(key.public), pair
            else:
                for pair in asyncssh.load_keypairs([key]):
                    yield fingerprint(_public(key)), pair
        if keys.others == "last":
            for pair in await self._of_agent():
                yield fingerprint(pair.public_data), pair

    async def _of_agent(self) -> Sequence[asyncssh.SSHKeyPair]:
        if self._agents is None:
            self._agents = ()
            path = self._endpoint.keys.agent
            # An agent that is gone, or silent, has no keys, as for ssh.
            try:
                with anyio.fail_after(AGENT_SECONDS):
                    self._agent = Agent(path, self.heard)
                    await self._agent.connect()
                    self._agents = await self._agent.get_keys()
            except (OSError, ValueError):
                self.heard.away = f", which does not answer at {path}"
        return self._agents

    def close_agent(self) -> None:
        """Leave the agent; it signs nothing once the login is over."""
        if self._agent is not None:
            self._agent.close()


def _held(
    key: AgentKey, agents: Sequence[asyncssh.SSHKeyPair]
) -> list[asyncssh.SSHKeyPair]:
    """Return the agent's pair for *key*, with the certificate that *key* has."""
    pairs = [pair for pair in agents if pair.public_data == key.public]
    if key.certificate is not None:
        # The pair without the certificate may be offered as well.
        pairs = [copy.copy(pair) for pair in pairs]
        for pair in pairs:
            pair.set_certificate(key.certificate)
    return pairs


def _public(key: PrivateKey) -> bytes:
    return (key[0] if isinstance(key, tuple) else key).public_data
