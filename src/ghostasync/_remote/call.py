"""
Calls of scripts on a host, and how they end.

How it works. An :class:`_Exchange` is one script on one channel. Its text goes first,
the data of *feed* after it. Its stdout is taken out of the frame; all that is outside,
and stderr, is kept for errors. A script has ended when the frame's closing line has
come, though children of it may hold the channel open: waiting for the channel's own end
would hang on a daemon that a post-deploy has left. A script that is not wanted any more
is told so by the end of its stdin, for signals do not reach everything, and is waited
for, so that it can clean up. A host that does not answer by then is asked who it is:
that tells a script that hangs from a connection that is dead. A script of ours that
prints more than it ever has to is not listened to any longer. Its answer becomes values
in ``answers``, or an error of its host.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, NoReturn, TypeVar

import anyio
import attrs

from .._local.scripts import Tail
from ..errors import (
    BadAnswer,
    ConnectionDied,
    HostError,
    LockHeld,
    NeverSent,
    RemoteError,
)
from ..protocols import Channel, OnOutput, Session
from .answers import Nonsense, holder
from .fence import FencedSession
from .frame import Frame
from .script import LOST, command_line, render

__all__ = ["Feed", "call", "hold", "query", "supervise"]

Feed = Callable[[Channel], Awaitable[None]]
"""Writes the data that a script reads from stdin after its own text, and closes
stdin."""

T = TypeVar("T")

MAX_FACTS: Final = 1 << 20
"""Bytes that a script which only reports may print; a host with a broken rc file or a
thousand releases stays far below."""

MAX_SAID: Final = 64 << 20
"""Bytes that a script of ours may print in all: tar may complain about every file."""

MAX_LINE: Final = 4096
"""Bytes of the line by which a script says that it holds what it is to hold."""

GRACE = 8.0
"""Seconds that a script has to end once its stdin is closed: ``run.sh`` waits 5 before
it kills."""

ANSWER = 4.0
"""Seconds that a host has to say who it is, which costs it next to nothing."""


async def _close_stdin(channel: Channel) -> None:
    """Give the script no data."""
    channel.write_eof()


async def _leave_open(channel: Channel) -> None:
    """Keep stdin open: its end is the sign to stop."""


@attrs.define(eq=False)
class _Exchange:
    """
    One script on one host, from its text to its last line.

    *noise* is what came before the frame, *stray* that and stderr: what to tell where
    the script did not run, or failed. *feed_error* is a deadline that the feed passed;
    *exit_status* is that of the whole command, where the frame has none. More than
    *most* bytes are not listened to; None: it may print without end.
    """

    session: Session
    name: str
    output: OnOutput
    most: int | None = MAX_SAID
    frame: Frame = attrs.field(factory=lambda: Frame(secrets.token_hex(8)))
    noise: Tail = attrs.field(factory=Tail)
    stray: Tail = attrs.field(factory=Tail)
    ended: anyio.Event = attrs.field(factory=anyio.Event)
    exit_status: int | None = None
    feed_error: TimeoutError | None = None
    channel: Channel | None = None
    _nbytes: int = 0

    async def start(self, args: tuple[str, ...], *, sudo: str) -> Channel:
        """
        Execute the command and send the script's text.

        Raises:
            NeverSent: The connection was lost before the text was sent.
            ConnectionDied: The connection was lost while it was.
        """
        session = self.session
        fence = session.fence(self.name) if isinstance(session, FencedSession) else None
        text = render(self.name, args, self.frame.nonce, fence)
        try:
            self.channel = channel = await session.execute(
                command_line(self.name, len(text), sudo=sudo),
                output=self._on_output,
                errors=self._on_errors,
            )
        except ConnectionDied as exc:
            # Without its text, which comes after, the command does nothing.
            raise NeverSent(session.host.name, str(exc)) from exc
        except BaseException:
            # A deadline that passes here may be a slow host's, or a connection's that
            # is half open. The probe itself would ask for ever.
            if self.name != "probe":
                await self._require_answer(NeverSent)
            raise
        try:
            await channel.write(text)
        except BrokenPipeError:
            pass  # a forced command that reads nothing; its output tells what it is
        except BaseException:
            channel.abort()
            raise
        return channel

    async def run(self, channel: Channel, feed: Feed) -> None:
        """Feed the script and wait for its last line or its exit, whatever is first."""
        if feed is _close_stdin:
            # A script without data is waited for without a task group, which would cost
            # more than all the rest of the engine.
            channel.write_eof()
            await self._watch(channel)
            return
        # Either task may end first: a script that has ended reads no more, and one that
        # leaves a child behind never closes its channel.
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._feed, channel, feed)
            tasks.start_soon(self._watch, channel)
            await self.ended.wait()
            tasks.cancel_scope.cancel()
        if self.feed_error is not None:
            raise self.feed_error

    async def wind_up(self, channel: Channel) -> None:
        """
        Tell a script that it is not wanted any more, and let it clean up.

        Raises:
            ConnectionDied: The host does not answer, so nobody knows what the script
            did.
        """
        channel.write_eof()
        # Shielded: this is the clean-up of a cancellation. An upload that was only cut
        # off would leave its incoming folder behind.
        with anyio.move_on_after(GRACE, shield=True):
            self.feed_error, self.ended = None, anyio.Event()
            await self.run(channel, _leave_open)
            return
        try:
            await self._require_answer()
        except ConnectionDied:
            channel.abort()
            raise

    async def _require_answer(
        self, lost: type[ConnectionDied] = ConnectionDied
    ) -> None:
        """
        Make sure that the host still answers over this connection.

        Raises:
            ConnectionDied: The host does not answer; as *lost*.
        """
        # A connection that is half open would hang every later script, the way back
        # included. Dropped now, it is opened anew.
        probe = _Exchange(self.session, "probe", lambda _: None)
        with anyio.move_on_after(ANSWER, shield=True), suppress(HostError):
            channel = await probe.start((), sudo="")
            try:
                await probe.run(channel, _close_stdin)
            finally:
                channel.abort()
            return
        text = f"it does not answer any more during {self.name}"
        raise lost(self.session.host.name, text)

    async def _feed(self, channel: Channel, feed: Feed) -> None:
        # A script that stops reading has failed, and its status says why; a connection
        # that has died is found by the task that watches the channel.
        try:
            await feed(channel)
        except (BrokenPipeError, ConnectionDied):
            pass
        # Raised by run(): out of the task group it would come as a group.
        except TimeoutError as exc:
            self.feed_error = exc
            self.ended.set()

    async def _watch(self, channel: Channel) -> None:
        self.exit_status = await channel.wait()
        self.ended.set()

    @property
    def _floods(self) -> bool:
        return self.most is not None and self._nbytes > self.most

    def _take(self, data: bytes) -> bool:
        """Count *data*; tell whether it is still listened to."""
        self._nbytes += len(data)
        # Who floods a channel that nobody waits at, such as a lock's, loses it.
        if self._floods and self.channel is not None:
            self.ended.set()
            self.channel.abort()
        return not self._floods

    def _on_errors(self, data: bytes) -> None:
        if self._take(data):
            self.stray.feed(data)

    def _on_output(self, data: bytes) -> None:
        if not self._take(data):
            return
        if not self.frame.begun:
            self.noise.feed(data)
        if piece := self.frame.feed(data):
            self.output(piece)
        if not self.frame.begun:
            self.stray.feed(data)
        if self.frame.ended:
            self.ended.set()

    def status(self) -> int:
        """
        Return the script's exit status.

        Raises:
            BadAnswer: It printed more than it ever has to, or ended with no status.
            LockHeld: The script did not begin: another run has the host's lock.
            ConnectionDied: The connection, or the process with the lock, has died.
            RemoteError: The script did not end by itself, or something else ran.
        """
        host = self.session.host.name
        if self._floods:
            text = self.noise.text() or self.stray.text()
            raise BadAnswer(host, self.name, f"more than {self.most} bytes", text)
        if self.frame.ended and self.frame.status is None:
            raise BadAnswer(host, self.name, "it ends with no exit status")
        if self.frame.status == LOST:
            raise self._lost(host)
        if self.frame.status is not None:
            return self.frame.status
        # Without a closing line only a missing status means a dead connection; asyncssh
        # raises nothing then. Where there is one, something ended the shell: it was
        # killed, or, without an opening line, a forced command or nologin ran instead.
        if self.exit_status is None:
            raise ConnectionDied(host, f"connection lost during {self.name}")
        if self.frame.begun:
            raise RemoteError(host, self.name, self.exit_status, self.stray.text())
        output = f"{self.noise.text()}\n{self.stray.text()}".strip()
        raise RemoteError(
            host,
            f"the login shell ran something else than {self.name} and",
            self.exit_status,
            output or "it said nothing",
        )

    def _lost(self, host: str) -> LockHeld | ConnectionDied:
        """Return why this run lost the lock: to another run, or with its holder."""
        session, mark = self.session, f"\n{self.frame.nonce} lost "
        who = self.stray.text().rpartition(mark)[2].partition("\n")[0]
        if isinstance(session, FencedSession) and who not in {"", session.holder}:
            return LockHeld(host, holder(who))
        return ConnectionDied(host, "the process that held the lock has died")


async def call(
    session: Session,
    name: str,
    *args: str,
    sudo: str = "",
    feed: Feed = _close_stdin,
    output: OnOutput | None = None,
    most: int = MAX_SAID,
) -> None:
    """
    Run the script *name* on a host.

    Raises:
        ConnectionDied: The connection was lost; what the script did is unknown.
        LockHeld: Another run has taken the host's lock; the script did not begin.
        RemoteError: It exited non-zero; the end of its stderr is in the text.
        BadAnswer: It printed without end.
    """
    printed = Tail()
    exchange = _Exchange(session, name, output or printed.feed, most)
    channel = await exchange.start(args, sudo=sudo)
    try:
        await exchange.run(channel, feed)
    except BaseException:
        await exchange.wind_up(channel)
        raise
    finally:
        channel.abort()
    if status := exchange.status():
        tail = exchange.stray.text().strip() or printed.text()
        raise RemoteError(session.host.name, name, status, tail)


async def query(
    session: Session,
    name: str,
    *args: str,
    read: Callable[[str], T],
    sudo: str = "",
    feed: Feed = _close_stdin,
) -> T:
    """
    Return what *read* makes of all that the script *name* prints.

    Args:
        session: The host.

        name: The script.

        args: Its arguments.

        read: A reader of ``answers``; bytes that are no UTF-8 come to it as escapes.

        sudo: The user that it runs as.

        feed: Writes what it reads from stdin.

    Raises:
        ConnectionDied, LockHeld, RemoteError: As :func:`call` does.
        BadAnswer: *read* makes no sense of it, or it is more than ``MAX_FACTS`` bytes.
    """
    printed = bytearray()
    await call(
        session,
        name,
        *args,
        sudo=sudo,
        feed=feed,
        output=printed.extend,
        most=MAX_FACTS,
    )
    return _read(session, name, bytes(printed), read)


def _read(session: Session, name: str, said: bytes, read: Callable[[str], T]) -> T:
    text = said.decode(errors="surrogateescape")
    try:
        return read(text)
    except Nonsense as exc:
        raise BadAnswer(session.host.name, name, str(exc), text.lstrip()) from exc


async def supervise(
    session: Session,
    *args: str,
    sudo: str,
    output: OnOutput,
    seconds: float,
    name: str = "run",
) -> int | None:
    """
    Run a user's script on a host under ``run.sh`` and return its exit status.

    When it has not ended in *seconds*, or the call is cancelled, its process group is
    ended and waited for, so that it cannot overlap what comes next. Under *name*
    ``outlive`` it goes on, and only the looking on ends.

    Args:
        session: The host.

        args: The arguments of ``run.sh``: CWD FILE TEXT ENVIRONMENT NAME=VALUE..., or
            those of ``outlive.sh``.

        sudo: The user that it runs as, through ``sudo -n``; empty: the login user.

        output: Gets its stdout and stderr, merged, as they come.

        seconds: Its deadline.

        name: The script that runs it.

    Returns:
        The exit status; None where it was ended at its deadline.

    Raises:
        ConnectionDied: The connection was lost; the host ends the script by itself.
        RemoteError: The script could not be run at all.
    """
    exchange = _Exchange(session, name, output, most=None)
    channel = await exchange.start(args, sudo=sudo)
    # The deadline is this machine's. On the host there is no timeout(1) to rely on;
    # when the controller dies, its end of stdin closes and run.sh ends the script.
    try:
        with anyio.move_on_after(seconds) as patience:
            await exchange.run(channel, _leave_open)
    finally:
        if not exchange.ended.is_set():
            await exchange.wind_up(channel)
        channel.abort()
    return None if patience.cancelled_caught else exchange.status()


async def hold(
    session: Session, name: str, *args: str, read: Callable[[str], T], sudo: str = ""
) -> tuple[Channel, T]:
    """
    Start a script that runs until its stdin is closed, such as the lock's holder.

    Returns:
        Its channel, once it has printed a line, and what *read* makes of that line.
        Closing the channel ends the script; it is dropped where ``MAX_FACTS`` bytes
        come, now or later.

    Raises:
        ConnectionDied: The connection was lost.
        RemoteError: The script ended instead; its stderr is in ``.tail``.
        BadAnswer: *read* makes no sense of the line, or it has no end; or the script
            has ended well, which it never does by itself.
    """
    holding, line = anyio.Event(), bytearray()

    def keep(data: bytes) -> None:
        if not holding.is_set():
            line.extend(data[: MAX_LINE + 1])
            if b"\n" in line or len(line) > MAX_LINE:
                holding.set()

    exchange = _Exchange(session, name, keep, MAX_FACTS)
    channel = await exchange.start(args, sudo=sudo)

    async def until_it_holds(_: Channel) -> None:
        await holding.wait()
        exchange.ended.set()

    try:
        await exchange.run(channel, until_it_holds)
        if not holding.is_set():
            _say_why_it_ended(exchange)
        # Without a newline among so many bytes the reader gets more than a line has.
        said = bytes(line).partition(b"\n")[0]
        return channel, _read(session, name, said, read)
    except BaseException:
        channel.abort()
        raise


def _say_why_it_ended(exchange: _Exchange) -> NoReturn:
    """Raise why a script that was to hold something has ended."""
    host, name = exchange.session.host.name, exchange.name
    if status := exchange.status():
        raise RemoteError(host, name, status, exchange.stray.text())
    raise BadAnswer(host, name, "it ended")
