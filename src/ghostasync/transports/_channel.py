"""One command on a host, as asyncssh hands us its packets: no tasks, no streams."""

from __future__ import annotations

import asyncio
from typing import Final, cast

import anyio
import anyio.lowlevel
import asyncssh

from ..errors import ConnectionDied
from ..protocols import OnOutput
from ._stream import Stream

__all__ = ["SshChannel"]

WRITE_STEP: Final = 256 * 1024
"""Bytes written before other tasks get their turn: eight full SSH packets."""

LATE_OUTPUT_SECONDS: Final = 0.2
"""How long output may pause between a command's end and that of its channel."""

LATE_OUTPUT_ROUNDS: Final = 50
"""A background child that never stops talking is listened to this often."""


class SshChannel(asyncssh.SSHClientSession[bytes]):
    """The callbacks of one exec channel; see :class:`protocols.Channel`."""

    def __init__(
        self, host: str, wire: Stream, output: OnOutput, errors: OnOutput
    ) -> None:
        self._host = host
        self._wire = wire
        self._output = output
        self._errors = errors
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._status: int | None = None
        self._nbytes = 0
        self._window = asyncio.Event()
        self._window.set()
        self._ended = asyncio.Event()
        self._closed = asyncio.Event()

    async def write(self, data: bytes | memoryview) -> None:
        """Send *data* to the command's stdin; return when there is room for more."""
        view = memoryview(data)
        for start in range(0, len(view), WRITE_STEP):
            while not (self._window.is_set() and self._wire.writable.is_set()):
                await self._window.wait()
                await self._wire.writable.wait()
            self._send(view[start : start + WRITE_STEP])
            await anyio.lowlevel.checkpoint()

    def _send(self, chunk: memoryview) -> None:
        if self._wire.lost:
            raise ConnectionDied(self._host, "the connection died")
        if self._channel is None or self._ended.is_set():
            raise BrokenPipeError("the command has ended")
        # asyncssh copies into a bytearray of its own, so a view does; its
        # annotation says bytes.
        self._channel.write(cast("bytes", chunk))

    def write_eof(self) -> None:
        """Close the command's stdin."""
        if self._channel is not None and not self._channel.is_closing():
            self._channel.write_eof()

    async def wait(self) -> int | None:
        """
        Wait for the command to end and return its exit status.

        The channel may stay open long after, while children of the command hold its
        output; it is dropped once they are quiet.
        """
        await self._ended.wait()
        for _ in range(LATE_OUTPUT_ROUNDS):
            seen = self._nbytes
            with anyio.move_on_after(LATE_OUTPUT_SECONDS):
                await self._closed.wait()
            if self._closed.is_set() or seen == self._nbytes:
                break
        self.abort()
        return self._status

    def abort(self) -> None:
        """Drop the channel now, unsent data included."""
        if self._channel is not None and not self._closed.is_set():
            self._channel.abort()
        self._end()
        self._closed.set()

    def _end(self) -> None:
        self._ended.set()
        self._window.set()

    # What asyncssh calls.

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self._channel = chan

    def data_received(self, data: bytes, datatype: int | None) -> None:
        self._nbytes += len(data)
        if datatype == asyncssh.EXTENDED_DATA_STDERR:
            self._errors(data)
        else:
            self._output(data)

    def eof_received(self) -> bool:
        return True  # keep our side open: the command may still read

    def exit_status_received(self, status: int) -> None:
        self._status = status
        self._end()

    def exit_signal_received(
        self,
        signal: str,  # noqa: ARG002  the four are asyncssh's
        core_dumped: bool,  # noqa: ARG002
        msg: str,  # noqa: ARG002
        lang: str,  # noqa: ARG002
    ) -> None:
        self._end()

    def pause_writing(self) -> None:
        self._window.clear()

    def resume_writing(self) -> None:
        self._window.set()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._end()
        self._closed.set()
