"""
A transport that reaches nobody: a function answers for all hosts.

How it works: the text of a script carries its nonce and its arguments on lines of fixed
form, as ``_remote.script`` writes them. A fake channel gathers that text from stdin,
reads the call from it, and prints the handler's answer in the frame that the nonce
opens. So all of ghostasync above the transport runs as it does with real hosts.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable
from typing import Final

import anyio.lowlevel
import attrs

from .._remote.script import LOST
from ..errors import ConnectionDied, Unreachable
from ..model import Host
from ..protocols import OnOutput

__all__ = ["Answer", "Call", "FakeTransport", "Handler"]

COMMAND: Final = re.compile(r"dd bs=1 count=(\d+) .* ghost-(\S+)")
HEADER: Final = re.compile(rb"nonce=(\S+)\nset -- ?")
WORD: Final = re.compile(rb" ?((?:'[^']*'|\\')+)")

OPEN_ENDED: Final = frozenset({"run", "outlive", "execute", "lock"})
"""Scripts that answer while their stdin is open; the others first read it whole."""

TERMINATED: Final = 143
"""The status, that of SIGTERM, of a script whose stdin was closed before its answer."""


@attrs.frozen
class Call:
    """One script called on one host; *payload_nbytes* followed it on stdin."""

    host: str
    name: str
    args: tuple[str, ...]
    payload_nbytes: int = 0


@attrs.frozen
class Answer:
    """
    The end of a script: its exit *status*, its *output* and the text of its *errors*.

    *lost_to* names another run that holds the host's lock: the script does not even
    begin. With a *status* of None the script runs on until its stdin is closed, as the
    holder of a lock does.
    """

    status: int | None = 0
    output: bytes = b""
    errors: bytes = b""
    lost_to: str = ""


Handler = Callable[[Call], Answer | Awaitable[Answer]]
"""The function that answers; it may wait, and raise ConnectionDied in a host's name."""


class FakeTransport:
    """
    A transport that hands every script call to *handler*; nothing is started or sent.

    *calls* are all calls so far, in order. A host named in *unreachable* refuses to be
    opened; the set may be replaced between attempts. *open_ended* names the scripts
    that answer before their stdin is closed.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        unreachable: frozenset[str] = frozenset(),
        open_ended: frozenset[str] = OPEN_ENDED,
    ) -> None:
        self.handler = handler
        self.unreachable = unreachable
        self.open_ended = open_ended
        self.calls: list[Call] = []

    def session(self, host: Host) -> FakeSession:
        """Return a handle on *host*."""
        return FakeSession(self, host)

    async def aclose(self) -> None:
        """Do nothing: nothing is shared."""


class FakeSession:
    """One host; see :class:`protocols.Session`."""

    key: Final = "SHA256:fake"

    def __init__(self, transport: FakeTransport, host: Host) -> None:
        self.host = host
        self._transport = transport
        self.alive = False

    async def open(self) -> None:
        """Succeed, unless the host is listed as unreachable."""
        # Other hosts get their turn, as they do while a real connection is made.
        await anyio.lowlevel.checkpoint()
        if self.host.name in self._transport.unreachable:
            raise Unreachable(self.host.name, "connection refused", retriable=True)
        self.alive = True

    async def execute(
        self, command: str, *, output: OnOutput, errors: OnOutput
    ) -> FakeChannel:
        """Begin a call; its answer comes when the channel is waited for."""
        if not self.alive:
            raise ConnectionDied(self.host.name, "the connection is gone")
        return FakeChannel(self._transport, self, command, output, errors)

    def abort(self) -> None:
        """Drop the connection."""
        self.alive = False

    async def close(self) -> None:
        """Drop the connection."""
        self.alive = False


class FakeChannel:
    """One call; see :class:`protocols.Channel`."""

    def __init__(
        self,
        transport: FakeTransport,
        session: FakeSession,
        command: str,
        output: OnOutput,
        errors: OnOutput,
    ) -> None:
        match = COMMAND.search(command)
        if match is None:
            raise ValueError(f"not a script of ghostasync: {command}")
        self._transport, self._session = transport, session
        self._output, self._errors = output, errors
        self._text_nbytes, self._name = int(match[1]), match[2]
        self._text = bytearray()
        self._payload_nbytes = 0
        self._nonce = b""
        self._due, self._closed = asyncio.Event(), asyncio.Event()
        self._asked = self._aborted = False
        self._status: int | None = None
        self._status_at_eof = TERMINATED

    async def write(self, data: bytes | memoryview) -> None:
        """Gather the script's text, then count the payload."""
        # The command says how many bytes of stdin are the script's; the rest is
        # payload.
        missing = self._text_nbytes - len(self._text)
        self._text += data[:missing]
        self._payload_nbytes += max(0, len(data) - missing)
        complete = len(self._text) == self._text_nbytes
        if complete and self._name in self._transport.open_ended:
            self._due.set()

    def write_eof(self) -> None:
        """Close stdin."""
        self._due.set()
        self._closed.set()

    async def wait(self) -> int | None:
        """Ask the handler, once, and hand out its answer."""
        await self._due.wait()
        try:
            # A wait that was cancelled may be repeated: the call was made all the same.
            if not self._asked and not self._aborted:
                self._asked = True
                await self._ask()
        except ConnectionDied:
            # A dead connection takes all channels of its host with it, without a
            # status.
            self._session.abort()
            return None
        if self._status is None and not self._aborted:
            await self._closed.wait()
            self._end(self._status_at_eof)
        return None if self._aborted else self._status

    def abort(self) -> None:
        """Drop the call."""
        self._aborted = True
        self.write_eof()

    async def _ask(self) -> None:
        call = self._call()
        self._transport.calls.append(call)
        answer = self._transport.handler(call)
        if inspect.isawaitable(answer):
            answer = await answer
        self._errors(answer.errors)
        self._output(b"\n%s begin\n%s" % (self._nonce, answer.output))
        if answer.lost_to:
            self._errors(b"\n%s lost %s\n" % (self._nonce, answer.lost_to.encode()))
            self._end(LOST)
        elif answer.status is None:
            # The frame holds a newline back that may begin its closing line; lock.sh
            # prints another one.
            self._output(b"\n" * (call.name == "lock"))
            self._status_at_eof = 0
        else:
            self._end(answer.status)

    def _end(self, status: int) -> None:
        self._status = status
        if not self._aborted:
            self._output(b"\n%s end %d\n" % (self._nonce, status))

    def _call(self) -> Call:
        """Read the call from the script's text: its nonce and its quoted arguments."""
        header = HEADER.search(self._text)
        if header is None:
            raise ValueError("the text has no nonce and arguments")
        self._nonce = header[1]
        args: list[str] = []
        at = header.end()
        while word := WORD.match(self._text, at):
            plain = word[1][1:-1].replace(b"'\\''", b"'")
            args.append(plain.decode(errors="surrogateescape"))
            at = word.end()
        return Call(
            self._session.host.name, self._name, tuple(args), self._payload_nbytes
        )
