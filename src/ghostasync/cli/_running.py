"""
A run beside its front end and its signals, which only this file handles.

The first SIGINT or SIGTERM asks the run to put every link back; the run then ends by
itself, with its own report and exit status. Further signals only say how far it is:
a way back that is cut short would leave hosts between two releases.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from importlib.util import find_spec
from types import FrameType
from typing import Final, TypeVar

import anyio
import attrs

from .. import Run
from ..errors import GhostasyncError
from ..model import Report, State
from ..views.board import Board
from ._exits import Interrupted
from ._frontend import FrontEnd

__all__ = ["Signals", "conduct", "run_async", "supervise", "what_follows"]

_T = TypeVar("_T")

_NUMBERS: Final = (signal.SIGINT, signal.SIGTERM)


def run_async(main: Callable[[], Awaitable[_T]]) -> _T:
    """Run *main* in a new event loop, uvloop's where that is installed."""
    has_uvloop = find_spec("uvloop") is not None
    return anyio.run(main, backend_options={"use_uvloop": has_uvloop})


@attrs.define
class Signals:
    """Effect of SIGINT and SIGTERM: the first rolls back, further ones tell how far."""

    front: FrontEnd
    scope: anyio.CancelScope = attrs.field(factory=anyio.CancelScope)
    run: Run | None = None
    count: int = 0

    @contextmanager
    def heard(self) -> Iterator[None]:
        """
        Hear signals inside; from the end on they are ignored.

        The event loop's own handlers would give way to the default, and a signal
        between the end of a run and that of the process would belie its exit status.
        """
        loop = asyncio.get_running_loop()

        def hear(number: int, _: FrameType | None) -> None:
            # Python runs handlers between any two instructions, even inside a write
            # of the journal: the work is left to the loop, which this call wakes.
            loop.call_soon_threadsafe(self._hear, signal.Signals(number))

        try:
            for number in _NUMBERS:
                signal.signal(number, hear)
            yield
        finally:
            for number in _NUMBERS:
                # Programs that are started get the default again.
                signal.signal(number, lambda *_: None)

    def _hear(self, number: signal.Signals) -> None:
        self.count += 1
        if self.count > 1:
            self.front.say(self._how_far())
        elif self.run is None:
            # No host has been changed while the plan is made, so there is nothing to
            # put back.
            self.scope.cancel()
        else:
            stopped = self.run.interrupt(number.name)
            self.front.say(f"{number.name}: {what_follows(self.front.board, stopped)}")

    def _how_far(self) -> str:
        counts = self.front.board.counts
        left, back = counts[State.ROLLING_BACK], counts[State.ROLLED_BACK]
        if not left + back:
            return "it stops already; nothing makes it faster"
        return f"{back} hosts are back, {left} on their way; nothing makes it faster"


def what_follows(board: Board, stopped: bool) -> str:
    """
    Say what a first signal leads to.

    Args:
        board: The run so far.

        stopped: Whether the signal has stopped it, or came too late.
    """
    if board.executes:
        return (
            "scripts are ended on all hosts; wait for it" if stopped else "it is over"
        )
    if board.swaps:
        back = "what got visitors loses them again; wait for it"
        return back if stopped else f"too late: {board.swaps} is active"
    if board.started is None or not board.started.revert:
        late = "too late to put links back"
        return "every link is put back; wait for it" if stopped else late
    # A run that takes back what a killed one did has no links of its own to put back.
    if stopped:
        return "it stops before any link is put back"
    return "links are on their way back already; wait for it"


async def supervise(front: FrontEnd, work: Callable[[Signals], Awaitable[_T]]) -> _T:
    """
    Await *work* while the front end ticks and signals are heard.

    Raises:
        Interrupted: A signal came before there was a run to stop.
        GhostasyncError: What *work* raised.
    """
    signals = Signals(front)
    results: list[_T] = []
    failure: GhostasyncError | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(front.tick)
        with signals.heard(), signals.scope:
            try:
                results.append(await work(signals))
            except GhostasyncError as error:
                # Raised below: the task group would wrap it.
                failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if not results:
        raise Interrupted
    return results[0]


async def conduct(
    front: FrontEnd, begin: Callable[[], AbstractAsyncContextManager[Run]]
) -> Report:
    """
    Carry out the run that *begin* starts, and return its report.

    Raises:
        Interrupted: A signal came before the run had begun.
        GhostasyncError: The run could not be started.
    """

    async def work(signals: Signals) -> Report:
        async with begin() as run:
            signals.run = run
            return await run.report()

    return await supervise(front, work)
