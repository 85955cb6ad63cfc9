"""Run a command over any transport, for tests."""

from __future__ import annotations

from ghostasync.protocols import Session

__all__ = ["ignore", "run"]


def ignore(data: bytes) -> None:
    """Be an output that nobody reads."""


async def run(
    session: Session, command: str, *, stdin: bytes = b""
) -> tuple[int | None, str]:
    """Return exit status and merged output of a command."""
    output = bytearray()
    channel = await session.execute(command, output=output.extend, errors=output.extend)
    await channel.write(stdin)
    channel.write_eof()
    return await channel.wait(), output.decode()
