"""
Push: the package is streamed into tar on the host, and proven whole there.

How it works. The archive is one file here, shared by all hosts. Each host's stream
reads it at its own offset and waits only for its own host, so a slow host costs no
other any time. ``receive.sh`` extracts while bytes come, so that the host needs no room
for an archive.
"""

from __future__ import annotations

import anyio
import attrs

from ..._build.release import Release
from ..._local.scripts import Tail
from ..._remote.answers import warnings
from ..._remote.call import call
from ...errors import DeadlinePassed, PackageError, Refused
from ...protocols import Channel
from ..host import HostRun

__all__ = ["Push", "owner_of", "tell_warnings"]


@attrs.frozen
class Push:
    """The delivery of an archive on this machine, at each host's own pace."""

    async def deliver(self, ctx: HostRun, release: Release) -> None:
        """
        Send the archive in an encoding that the host has a decoder for.

        Raises:
            Refused: The package cannot be read here.
            DeadlinePassed: The host took no byte for ``rollout.deadlines.stall``
                seconds.
            RemoteError: The host could not extract it, or it did not arrive whole.
            ConnectionDied: The connection is gone.
        """
        module = release.module
        encoding = "zstd" if "zstd" in ctx.known.tools else "gzip"
        if release.spool is None:
            text = f"{release.id} is not here, and the store has no package of it"
            raise Refused(ctx.name, text)
        try:
            encoded = await release.spool.encoded(encoding)
        except PackageError as exc:
            text = f"the package cannot be read here: {exc}"
            raise Refused(ctx.name, text) from exc
        patience = ctx.run.deadlines.stall

        said = Tail()

        async def stream(channel: Channel) -> None:
            # Each chunk that the host takes moves the deadline: a large package over a
            # slow line is no failure, a line on which nothing moves is.
            with anyio.fail_after(patience) as scope:
                for chunk in encoded.chunks():
                    await channel.write(chunk)
                    ctx.attempt.sent += len(chunk)
                    scope.deadline = anyio.current_time() + patience
            channel.write_eof()

        try:
            await call(
                ctx.session,
                "receive",
                ctx.paths.module(module.name),
                release.id,
                encoding,
                owner_of(ctx, release),
                ctx.run.plan.layout.proof,
                sudo=ctx.sudo,
                feed=stream,
                output=said.feed,
            )
        except TimeoutError:
            raise DeadlinePassed(ctx.name, "stall", patience) from None
        tell_warnings(ctx, said.text())


def owner_of(ctx: HostRun, release: Release) -> str:
    """Return whether owners in the archive are to be kept, as ``receive.sh`` has it."""
    module = release.module
    # Only root can give files away: tar of another user ignores owners silently.
    owned = ctx.known.uid == 0 and (module.uid >= 0 or module.gid >= 0)
    return "keep" if owned else "drop"


def tell_warnings(ctx: HostRun, said: str) -> None:
    """Pass on what a script of ours has warned of, and keep the rest in the log."""
    ctx.run.logs.write(ctx.name, said.encode(errors="surrogateescape"))
    for warning in warnings(said):
        ctx.warn(warning)
