"""
The pipeline of one host: its state selects the stage, the stage's event the next state.

How it works. Every way out of a stage is an event. An error of the host becomes
``Failed``. A host that is stopped because of others is HALTED left of the bar, and
goes back right of it, before a cancellation or a bug is raised again. A stage whose
connection dies is begun again on a new connection, so every stage can be repeated.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import anyio.lowlevel
import attrs

from .. import events as e
from ..errors import (
    ConnectionDied,
    DeadlinePassed,
    HostError,
    LockHeld,
    NeverSent,
    RemoteError,
    StillRunning,
    Unreachable,
)
from ..machine import RESTING, TRANSITIONS
from ..model import State as S  # noqa: N817  as in the table
from .host import GONE, HostRun
from .stages.activate import activate
from .stages.check import check
from .stages.connect import connect
from .stages.drain import drain
from .stages.execute import run_goal_script
from .stages.prepare import prepare
from .stages.reconnect import RECONNECTIONS, reconnect
from .stages.rollback import rollback
from .stages.swap import prove
from .stages.swap import swap as swap_visitors
from .stages.switch import switch
from .stages.undrain import undrain
from .stages.upload import upload
from .stages.verify import verify

__all__ = ["STAGES", "Step", "advance", "apply", "execute", "look", "recheck", "swap"]


_ASK_AGAIN: Final = 1.0
"""Seconds before a host is asked again whether a script there has ended."""

_WAITS_TOLD: Final = 5
"""Scripts that are waited for, one after the other, and told of."""


@attrs.frozen
class Step:
    """
    The work of one state, and its bounds.

    *key* names the deadline of the whole step; without one, each script in it has its
    own. *busy* is whether the step takes one of ``rollout.concurrency`` slots. A
    *steady* step is not cut short by a cancellation: it is brief, and half of it is
    worse.
    """

    stage: Callable[[HostRun], Awaitable[e.HostEvent]]
    key: str = ""
    busy: bool = False
    steady: bool = False


STAGES: Final[dict[S, Step]] = {
    # Connecting has its deadline in the transport, from when a handshake may begin.
    S.CONNECTING: Step(connect),
    S.CHECKING: Step(check, key="check"),
    # Its parts have deadlines of their own.
    S.UPLOADING: Step(upload, busy=True),
    S.PREPARING: Step(prepare),
    S.DRAINING: Step(drain),
    S.SWITCHING: Step(switch, key="switch", steady=True),
    S.ACTIVATING: Step(activate, busy=True),
    S.VERIFYING: Step(verify, busy=True),
    S.UNDRAINING: Step(undrain),
    S.ROLLING_BACK: Step(rollback, steady=True),
}


def apply(ctx: HostRun, event: e.HostEvent) -> None:
    """Take note of *event*, which moves a host in the table."""
    before = ctx.state
    if isinstance(event, e.Failed):
        # A host that never connected would have no log, and summaries name it.
        line = f"--- {event.stage.name} failed: {event.reason}\n"
        ctx.run.logs.write(ctx.name, line.encode(errors="surrogateescape"))
    ctx.ended_at = anyio.current_time()
    ctx.run.note(event)
    if ctx.state is S.ROLLING_BACK is not before:
        ctx.attempt.reconnections = 0  # the way there must not cost the way back


async def advance(ctx: HostRun, *, until: S | None = None) -> None:
    """
    Run *ctx* from its state to the next one in which it rests, or to *until*.

    Raises:
        BaseException: A cancellation or a bug, once the host rests or is at *until*;
            without *until*, nothing of this run is live on it then. Failures of the
            host are events.
    """
    # Raised last: a cancellation may come right of the switch, and the loop first has
    # to take the host through ROLLING_BACK.
    pending: BaseException | None = None
    ctx.began_at = ctx.began_at or anyio.current_time()
    while ctx.state not in RESTING and ctx.state is not until:
        state = ctx.state
        try:
            event = await _persist(ctx, state)
        except HostError as exc:
            event = await _gone(ctx, exc) or failed(ctx, state, exc)
        except anyio.get_cancelled_exc_class() as exc:
            # A host that begins again has not been stopped: there is nothing to tell.
            if ctx.run.begins_again:
                raise
            pending = exc
            event = stopped(ctx, state)
        except Exception as exc:  # noqa: BLE001  raised again below
            pending = exc
            event = e.Failed(ctx.name, f"a bug: {exc!r}", state)
        apply(ctx, event)
    if pending is not None:
        raise pending


async def _gone(ctx: HostRun, exc: HostError) -> e.Gone | None:
    """Return the event for a host that was lost because it was terminated."""
    lost = isinstance(exc, ConnectionDied | DeadlinePassed) or (
        isinstance(exc, Unreachable) and exc.retriable
    )
    if not lost:
        return None
    # Shielded: the answer is bounded in time, and a host on its way back needs it too.
    with anyio.CancelScope(shield=True):
        named = await ctx.run.named()
    return None if named is None or ctx.name in named else e.Gone(ctx.name, GONE)


async def _persist(ctx: HostRun, state: S, step: Step | None = None) -> e.HostEvent:
    """Do the work of *state*, or *step*; again where the connection dies under it."""
    waited_for: set[str] = set()
    while True:
        try:
            return await _step(ctx, step or STAGES[state])
        except StillRunning as exc:
            # A migration takes as long as it takes, and an honest host waits a while
            # before it answers. One that tells of another script each time must not
            # have the run ask and warn without end.
            if not exc.lasting:
                raise
            if str(exc) not in waited_for and len(waited_for) < _WAITS_TOLD:
                waited_for.add(str(exc))
                ctx.warn(f"waiting: {exc}")
            await anyio.sleep(_ASK_AGAIN)
        except ConnectionDied as exc:
            ctx.disconnect()
            ctx.attempt.reconnections += 1
            # CONNECTING has its own retries, in the transport.
            if state is S.CONNECTING or ctx.attempt.reconnections > RECONNECTIONS:
                raise
            # A host on its way back must get there, whatever is cancelled meanwhile.
            with anyio.CancelScope(shield=state is S.ROLLING_BACK):
                await reconnect(ctx, exc)


async def look(ctx: HostRun) -> None:
    """
    Connect and check a host, and leave it in CHECKING: the fleet moves it on.

    Raises:
        BaseException: A cancellation or a bug; the host is as it was.
    """
    await advance(ctx, until=S.CHECKING)
    if ctx.state is not S.CHECKING:
        return
    # The stage's own event would take the host to UPLOADING; a run that is only_back
    # goes no further than here, so the event is dropped and its facts are kept.
    if await _done_in_checking(ctx, STAGES[S.CHECKING]) and ctx.run.spec.gets_visitors:
        await _done_in_checking(ctx, Step(prove, busy=True))


async def swap(ctx: HostRun) -> None:
    """
    Have a host that was checked get visitors or lose them, once it is its turn.

    Raises:
        BaseException: A cancellation or a bug; the host is HALTED.
    """
    if event := await _done_in_checking(ctx, Step(swap_visitors)):
        apply(ctx, event)


async def _done_in_checking(ctx: HostRun, step: Step) -> e.HostEvent | None:
    """Return the event of *step*; None where it failed, which is on record then."""
    try:
        return await _persist(ctx, S.CHECKING, step)
    except HostError as exc:
        apply(ctx, failed(ctx, S.CHECKING, exc))
    except BaseException:
        # A host that begins again has not been stopped: there is nothing to tell.
        if not ctx.run.begins_again:
            apply(ctx, stopped(ctx, S.CHECKING))
        raise
    return None


async def execute(ctx: HostRun) -> None:
    """
    Have a host that was checked run the goal's script; whatever comes, only once.

    Raises:
        BaseException: A cancellation or a bug; the host is HALTED.
    """
    # The script is a person's, and may not bear a second time: a connection that dies
    # under it is that host's failure. The host ends the script by itself.
    begun = False
    try:
        async with ctx.working():
            begun = True
            event: e.HostEvent = await _execute(ctx)
    except HostError as exc:
        event = failed(ctx, S.CHECKING, exc)
    except BaseException:
        # Nobody else tells this host from one whose turn had not come.
        if begun:
            ctx.warn("the script was cut short")
        apply(ctx, stopped(ctx, S.CHECKING))
        raise
    apply(ctx, event)


async def _execute(ctx: HostRun) -> e.Unchanged:
    try:
        return await run_goal_script(ctx)
    except NeverSent as exc:
        # The connection had died while others had their turn: it did not begin.
        ctx.disconnect()
        await reconnect(ctx, exc)
        await _persist(ctx, S.CHECKING)
        return await run_goal_script(ctx)


async def recheck(ctx: HostRun) -> None:
    """Have a live host prove its health again; it is to go back where it cannot."""
    try:
        await _persist(ctx, S.VERIFYING)
    except HostError as exc:
        apply(ctx, failed(ctx, S.LIVE, exc))


async def _step(ctx: HostRun, step: Step) -> e.HostEvent:
    if step.stage is upload:
        # Connecting and checking overlap the build; waiting for it costs no deadline.
        await ctx.run.built.wait()
    if step.stage is switch:
        # The last moment to turn round: half a switch is worse than a whole one.
        await anyio.lowlevel.checkpoint_if_cancelled()
    # Deadlines start with the slot in hand: in a fleet larger than rollout.concurrency
    # the queue alone would use them up.
    async with ctx.working() if step.busy else contextlib.nullcontext():
        with anyio.CancelScope(shield=step.steady):
            if not step.key:
                return await step.stage(ctx)
            with ctx.in_time(step.key):
                return await step.stage(ctx)
    raise AssertionError("unreachable: each way above returns or raises")


def failed(ctx: HostRun, state: S, exc: HostError) -> e.Failed:
    """Return the event for a host that *exc* stopped in *state*; secrets redacted."""
    tail = exc.tail if isinstance(exc, RemoteError | DeadlinePassed) else ""
    # A host that is stranded while drained gets no visitors; its reason has to say so.
    drained = state is S.ROLLING_BACK and ctx.undo.drained
    # Who leaves a bad release goes on without a host, whenever that was lost.
    lost = ctx.run.goal.recalls and isinstance(exc, ConnectionDied)
    return e.Failed(
        ctx.name,
        reason=ctx.redactor.text(str(exc)) + "; it stays drained" * drained,
        stage=state,
        exit_status=exc.status if isinstance(exc, RemoteError) else None,
        tail=ctx.redactor.text(tail),
        unreachable=lost or isinstance(exc, Unreachable),
        locked=isinstance(exc, LockHeld),
        denied=isinstance(exc, Unreachable) and exc.denied,
    )


def stopped(ctx: HostRun, state: S) -> e.HostEvent:
    """Return the event for a host whose run stops under it."""
    halt = ctx.run.state.stopped
    reason = halt.reason if halt else "interrupted"
    # HALTED before the switch, the way back after it. A host that is interrupted in
    # ROLLING_BACK has neither way, and is stranded.
    ways = TRANSITIONS[state]
    if e.Halted in ways:
        return e.Halted(ctx.name, reason)
    if e.RollbackRequested in ways:
        return e.RollbackRequested(ctx.name, reason)
    return e.Failed(ctx.name, reason, state)
