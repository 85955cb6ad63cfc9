"""
A session whose scripts carry a name, and change the host only under its lock.

How it works. A connection that was lost may still have a script on its way, and a run
that has fallen silent may wake up after another one took its hosts over. So each script
that changes a host first reads who holds the lock there, and begins only if that is its
own run's process. The command line of each carries ``RUN@APP``, and a list on the host
has its process: by these ``lock.sh`` finds what another session has left running, and
ends it.
"""

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

    *run* is the run's id, *holder* the line that the lock is held under. Once *app_dir*
    is known, scripts are fenced, but for ``UNFENCED``. *process* is the one on the host
    that holds the lock, its number and when it began; empty where that is unknown.
    """

    inner: Session
    run: str
    holder: str
    app_dir: str = ""
    process: str = ""

    @property
    def host(self) -> Host:
        """The host at the session's other end."""
        return self.inner.host

    @property
    def key(self) -> str:
        """The fingerprint of the ssh key that logged in; empty where none did."""
        return self.inner.key

    @property
    def app(self) -> str:
        """The word for the app on this host; empty until *app_dir* is known."""
        return app_word(self.app_dir) if self.app_dir else ""

    def fence(self, name: str) -> Fence | None:
        """Return the condition for the script *name* to begin; None without one."""
        if not self.app_dir or name in UNFENCED:
            return None
        folder = quote(f"{self.app_dir}/.ghost")
        return Fence(folder, quote(self.holder), self.process.encode())

    async def open(self) -> None:
        """Connect and log in, unless that is done and the connection lives."""
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
