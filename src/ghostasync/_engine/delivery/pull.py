"""
Pull: each host fetches the archive from the store by itself.

How it works. The store signs an address that is good for one archive and some minutes;
the host gets it on stdin, with the digest that the archive must have. ``pull.sh``
extracts while bytes come, and compares that digest besides all that it compares of an
archive on stdin: what somebody put into the store in its place is never a release.
"""

from __future__ import annotations

from typing import Final

import attrs

from ..._build.release import Release
from ..._local.scripts import Tail
from ..._remote.call import Feed, call
from ...errors import Refused, RemoteError, StoreError
from ...protocols import AddressedPackages, Channel
from ..host import HostRun
from .push import owner_of, tell_warnings

__all__ = ["Pull", "why_it_cannot"]

_TRIAL_SECONDS: Final = 5
"""Seconds in which a host has to fetch one byte."""

_SPARE_SECONDS: Final = 60.0
"""Seconds for which an address is good beyond the deadline of the upload."""


@attrs.frozen
class Pull:
    """The delivery of an archive by the host's own request to the store."""

    async def deliver(self, ctx: HostRun, release: Release) -> None:
        """
        Have the host fetch the archive.

        Raises:
            Refused: The store has no such archive, or gives no address.
            RemoteError: The host could not fetch or extract it, or it did not arrive
                whole.
            ConnectionDied: The connection is gone.
        """
        deadlines = ctx.run.deadlines
        seconds = deadlines.upload + _SPARE_SECONDS
        try:
            await release.stored()
            url = await _packages(ctx).address(release.package, seconds)
        except StoreError as exc:
            raise Refused(ctx.name, f"cannot fetch {release.id}: {exc}") from exc
        said = Tail()
        await call(
            ctx.session,
            "pull",
            ctx.paths.module(release.module.name),
            release.id,
            "zstd",
            owner_of(ctx, release),
            ctx.run.plan.layout.proof,
            release.package.sha256,
            str(round(deadlines.stall)),
            sudo=ctx.sudo,
            feed=_line(url),
            output=said.feed,
        )
        ctx.attempt.fetched += release.package.nbytes
        tell_warnings(ctx, said.text())


async def why_it_cannot(ctx: HostRun) -> str:
    """Return why the host cannot fetch from the store; empty where it can."""
    if "zstd" not in ctx.known.tools:
        return "zstd is missing, and so are archives in another form: install it"
    seconds = str(_TRIAL_SECONDS)
    try:
        url = await _packages(ctx).address(None, ctx.run.deadlines.check)
        await call(ctx.session, "fetchable", seconds, sudo=ctx.sudo, feed=_line(url))
    except RemoteError as exc:
        return exc.tail.strip().rpartition("\n")[2] or str(exc)
    except StoreError as exc:
        return str(exc)
    return ""


def _packages(ctx: HostRun) -> AddressedPackages:
    packages = ctx.run.spec.store.packages
    if not isinstance(packages, AddressedPackages):
        raise StoreError(f"hosts reach no store at {ctx.run.spec.store.url}")
    return packages


def _line(url: str) -> Feed:
    async def send(channel: Channel) -> None:
        await channel.write(f"{url}\n".encode())
        channel.write_eof()

    return send
