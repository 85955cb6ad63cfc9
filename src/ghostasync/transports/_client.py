"""What asyncssh asks while it logs in: is this the host, and with which key?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import asyncssh

from ._endpoint import Endpoint, Keys
from ._heard import Agent, Heard, Listener, fingerprint
from ._trust import Trust

__all__ = ["Client"]


class Client(Listener):
    """
    One login to *endpoint*; *trust* is asked about its host key.

    *key* tells afterwards which key was offered last: its fingerprint as OpenSSH writes
    it, empty where there was none.
    """

    def __init__(self, trust: Trust, endpoint: Endpoint, heard: Heard) -> None:
        super().__init__(heard)
        self._trust, self._endpoint = trust, endpoint
        self._agent: asyncssh.SSHAgentClient | None = None
        self._offers: Iterator[tuple[str, asyncssh.SSHKeyPair]] | None = None

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
        if self._offers is None:
            keys = self._endpoint.keys
            self._offers = iter([*await self._of_agent(keys), *_own(keys)])
        self.key, pair = next(self._offers, ("", None))
        return pair

    async def _of_agent(self, keys: Keys) -> list[tuple[str, asyncssh.SSHKeyPair]]:
        if keys.agent:
            # An agent that is gone has no keys, as for ssh.
            with contextlib.suppress(OSError, ValueError):
                self._agent = Agent(keys.agent, self.heard)
                await self._agent.connect()
                only = [key.public_data for key in keys.only]
                pairs = await self._agent.get_keys(only or None)
                return [(fingerprint(pair.public_data), pair) for pair in pairs]
        return []

    def close_agent(self) -> None:
        """Leave the agent; it signs nothing once the login is over."""
        if self._agent is not None:
            self._agent.close()


def _own(keys: Keys) -> Iterator[tuple[str, asyncssh.SSHKeyPair]]:
    for own in keys.own:
        key = own[0] if isinstance(own, tuple) else own
        for pair in asyncssh.load_keypairs([own]):
            yield fingerprint(key.public_data), pair
