"""A session whose scripts carry a name, and change the host only under its lock."""

from __future__ import annotations

import hashlib

import attrs

from ..model import Host
from ..protocols import Channel, OnOutput, Session
from .script import Fence, quote

__all__ = ["FencedSession", "app_word"]

UNFENCED = frozenset({"check", "fetch", "lock", "probe"})
"""Scripts that change nothing, or take the lock themselves."""


def app_word(app_dir: str) -> str:
    """Return the word by which one app's scripts are known among all processes."""
    return hashlib.sha256(app_dir.encode(errors="surrogateescape")).hexdigest()[:16]


@attrs.define(eq=False)
class FencedSession:
    """
    A :class:`protocols.Session` that marks what it executes with ``RUN@APP``.

    *run* is the run's id, *holder* what the lock is held under. Once *app_dir* is
    known, every script that changes the host looks first whether the lock is still held
    for this run: one whose lock was taken over changes nothing any more. *pid* is the
    process that holds it, where that is known.
    """

    inner: Session
    run: str
    holder: str
    app_dir: str = ""
    pid: str = ""

    @property
    def host(self) -> Host:
        """The host this is a handle on."""
        return self.inner.host

    @property
    def app(self) -> str:
        """The word for the app on this host; empty until *app_dir* is known."""
        return app_word(self.app_dir) if self.app_dir else ""

    def fence(self, name: str) -> Fence | None:
        """Return what the script *name* has to find on the host before it begins."""
        if not self.app_dir or name in UNFENCED:
            return None
        file, holder = f"{self.app_dir}/.ghost/holder", self.holder
        return Fence(quote(file), quote(holder), self.pid.encode())

    async def open(self) -> None:
        """Connect and log in, once; where the connection has died, again."""
        await self.inner.open()

    async def execute(
        self, command: str, *, output: OnOutput, errors: OnOutput
    ) -> Channel:
        """Start *command* with the run's word behind it."""
        word = f" {self.run}@{self.app}" if self.app_dir else ""
        return await self.inner.execute(command + word, output=output, errors=errors)

    def abort(self) -> None:
        """Drop the connection now."""
        self.inner.abort()

    async def close(self) -> None:
        """Close the connection in an orderly way."""
        await self.inner.close()
