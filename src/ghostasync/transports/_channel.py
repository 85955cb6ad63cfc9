"""
One command on a host: the callbacks of its SSH channel.

asyncssh's own process objects are not used: they keep all output in memory, or stop
reading once 2 MiB lie unread. Here each packet goes to a callable as it arrives. A
write waits for two things, room in the window that sshd grants the channel, and room in
the stream below, because asyncssh hands every byte of the window on whatever TCP says.
"""

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
"""Seconds of silence after a command's end that complete its output."""

LATE_OUTPUT_ROUNDS: Final = 50
"""Number of such waits: a child that never stops printing is left after 10 s."""


class SshChannel(asyncssh.SSHClientSession[bytes]):
    """
    The callbacks of one exec channel; see :class:`protocols.Channel`.

    *dropped* is true once this side has no more to do with it, *abandoned* where the
    command had not ended by then.
    """

    def __init__(
        self, host: str, stream: Stream, output: OnOutput, errors: OnOutput
    ) -> None:
        self._host = host
        self._stream = stream
        self._output = output
        self._errors = errors
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._status: int | None = None
        self._nbytes = 0
        self._window = asyncio.Event()
        self._window.set()
        self._ended = asyncio.Event()
        self._closed = asyncio.Event()
        self.dropped = self.abandoned = False

    async def write(self, data: bytes | memoryview) -> None:
        """Send *data* to the command's stdin; return when there is room for more."""
        view = memoryview(data)
        for start in range(0, len(view), WRITE_STEP):
            # The window may close again while the stream is waited for, so both are
            # looked at until both are open in the same turn of the loop.
            while not (self._window.is_set() and self._stream.writable.is_set()):
                await self._window.wait()
                await self._stream.writable.wait()
            self._send(view[start : start + WRITE_STEP])
            # A fast host never makes a write wait: without a checkpoint the handshakes
            # and keepalives of the other hosts would starve.
            await anyio.lowlevel.checkpoint()

    def _send(self, chunk: memoryview) -> None:
        if self._stream.lost:
            raise ConnectionDied(self._host, "the connection died")
        if self._channel is None or self._ended.is_set():
            raise BrokenPipeError("the command has ended")
        # asyncssh copies into a bytearray of its own, so a view will do; only its
        # annotation asks for bytes.
        self._channel.write(cast("bytes", chunk))

    def write_eof(self) -> None:
        """Close the command's stdin."""
        if self._channel is not None and not self._channel.is_closing():
            self._channel.write_eof()

    async def wait(self) -> int | None:
        """
        Wait for the command to end and return its exit status.

        None: a signal ended the command, or the connection died.
        """
        await self._ended.wait()
        # A command has ended when its process has. Children in the background may hold
        # its output, and so the channel, for as long as they live: the channel is
        # dropped once they are quiet.
        for _ in range(LATE_OUTPUT_ROUNDS):
            if self.dropped:
                break
            nbytes_before = self._nbytes
            with anyio.move_on_after(LATE_OUTPUT_SECONDS):
                await self._closed.wait()
            if nbytes_before == self._nbytes:
                break
        self.abort()
        return self._status

    def abort(self) -> None:
        """Drop the channel now, unsent data included."""
        if self._channel is not None and not self.dropped:
            self._channel.abort()
            self.abandoned = not self._ended.is_set()
        self.dropped = True
        self._end()

    async def wait_closed(self) -> None:
        """Wait until the server has closed the channel too, if there was one."""
        if self._channel is not None:
            await self._closed.wait()

    def _end(self) -> None:
        self._ended.set()
        # A writer that waits for the window has to learn that nobody reads any more.
        self._window.set()

    # --- Callbacks of asyncssh -----------------------------------------------------

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self._channel = chan

    def data_received(self, data: bytes, datatype: int | None) -> None:
        self._nbytes += len(data)
        if datatype == asyncssh.EXTENDED_DATA_STDERR:
            self._errors(data)
        else:
            self._output(data)

    def eof_received(self) -> bool:
        # A command may close its stdout and still read: this side stays open.
        return True

    def exit_status_received(self, status: int) -> None:
        # The status of a command that was dropped is nobody's success.
        if not self.dropped:
            self._status = status
        self._end()

    def exit_signal_received(
        self,
        signal: str,  # noqa: ARG002  a signal leaves the status None
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
        self.dropped = True
        self._end()
        self._closed.set()
