"""
Run one host until it rests: the state selects the stage, the event the next state.

Every way out of a stage is an event. What the stage raises becomes ``Failed`` or, where
the run stops for reasons that are not the host's, ``Halted`` or ``RollbackRequested``;
right of the switch the host then walks the way back before anything is raised again.
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
    RemoteError,
    Unreachable,
)
from ..machine import RESTING, TRANSITIONS
from ..model import State as S  # noqa: N817  as in the table
from .host import Context
from .stages.activate import activate
from .stages.check import check
from .stages.connect import connect
from .stages.drain import drain, undrain
from .stages.prepare import prepare
from .stages.reconnect import reconnect
from .stages.rollback import rollback
from .stages.switch import switch
from .stages.upload import upload
from .stages.verify import verify

__all__ = ["STAGES", "Step", "advance", "apply", "look", "recheck"]


@attrs.frozen
class Step:
    """
    What is done in one state.

    *key* names the deadline of the whole step; without one, each script in it has its
    own. *busy* is whether it takes one of the places for hosts that work. A *steady*
    step is not cut short by a cancellation: it is brief, and half of it is worse.
    """

    stage: Callable[[Context], Awaitable[e.HostEvent]]
    key: str = ""
    busy: bool = False
    steady: bool = False


RECONNECTIONS: Final = 3
"""How often a run goes on with a host whose connection died; a host that goes up and
down all the time is no host to switch."""

STAGES: Final[dict[S, Step]] = {
    # Connecting has its deadline in the transport, from when a handshake may begin.
    S.CONNECTING: Step(connect),
    S.CHECKING: Step(check, key="check"),
    S.UPLOADING: Step(upload, key="upload", busy=True),
    S.PREPARING: Step(prepare, busy=True),
    S.DRAINING: Step(drain),
    S.SWITCHING: Step(switch, key="switch", steady=True),
    S.ACTIVATING: Step(activate, busy=True),
    S.VERIFYING: Step(verify, busy=True),
    S.UNDRAINING: Step(undrain),
    S.ROLLING_BACK: Step(rollback, steady=True),
}


def apply(ctx: Context, event: e.HostEvent) -> None:
    """Move the host's machine and take note of it."""
    before = ctx.machine.state
    if ctx.machine.apply(event) is S.ROLLING_BACK is not before:
        ctx.losses = 0  # what it took to get here must not cost the way back
    # What went wrong first is what to tell, unless the way back failed as well.
    first = ctx.failure is None or ctx.machine.state is S.STRANDED
    if isinstance(event, e.Failed):
        ctx.failure = event if first else ctx.failure
        # Whoever is told where the log is must find the reason there.
        said = f"--- {event.stage.name} failed: {event.reason}\n"
        ctx.run.logs.write(ctx.name, said.encode(errors="surrogateescape"))
    ctx.ended_at = anyio.current_time()
    ctx.run.note(event, ctx.machine)
    _count(ctx, event)


def _count(ctx: Context, event: e.HostEvent) -> None:
    """Keep the fleet's count of hosts that serve."""
    state = ctx.machine.state
    if state in {S.LIVE, S.ROLLED_BACK}:
        ctx.run.serving.back(ctx.name)
    elif state is S.STRANDED or (isinstance(event, e.Failed) and event.unreachable):
        ctx.run.serving.lose(ctx.name)


async def advance(ctx: Context, *, until: S | None = None) -> None:
    """
    Run *ctx* from its state to the next one in which it rests, or to *until*.

    Raises:
        BaseException: A cancellation or a bug, after the host is back where nothing of
            this run is live on it. Failures of the host are events.
    """
    pending: BaseException | None = None
    ctx.began_at = ctx.began_at or anyio.current_time()
    while ctx.machine.state not in RESTING and ctx.machine.state is not until:
        state = ctx.machine.state
        try:
            event = await _persist(ctx, state)
        except HostError as exc:
            event = _failed(ctx, state, exc)
        except anyio.get_cancelled_exc_class() as exc:
            pending = exc
            event = _stopped(ctx, state)
        except Exception as exc:  # noqa: BLE001  raised again below
            pending = exc
            event = e.Failed(ctx.name, f"a bug: {exc!r}", state)
        apply(ctx, event)
    if pending is not None:
        raise pending


async def _persist(ctx: Context, state: S) -> e.HostEvent:
    """Do the work of *state*; again where the connection dies under it."""
    while True:
        try:
            return await _step(ctx, STAGES[state])
        except ConnectionDied as exc:
            ctx.disconnect()
            ctx.losses += 1
            if state is S.CONNECTING or ctx.losses > RECONNECTIONS:
                raise
            # A host on its way back must get there, whatever is cancelled meanwhile.
            with anyio.CancelScope(shield=state is S.ROLLING_BACK):
                await reconnect(ctx, exc)


async def look(ctx: Context) -> None:
    """
    Connect and check a host, and leave it there: the fleet says what comes next.

    Raises:
        BaseException: A cancellation or a bug; the host is as it was.
    """
    await advance(ctx, until=S.CHECKING)
    if ctx.machine.state is not S.CHECKING:
        return
    try:
        await _persist(ctx, S.CHECKING)
    except HostError as exc:
        apply(ctx, _failed(ctx, S.CHECKING, exc))
    except BaseException:
        apply(ctx, _stopped(ctx, S.CHECKING))
        raise


async def recheck(ctx: Context) -> None:
    """Have a live host prove its health again; it is to go back where it cannot."""
    try:
        await _persist(ctx, S.VERIFYING)
    except HostError as exc:
        ctx.run.serving.stop(ctx.name)
        apply(ctx, _failed(ctx, S.LIVE, exc))


async def _step(ctx: Context, step: Step) -> e.HostEvent:
    if step.stage is upload:
        # Connecting and checking overlap the build; waiting for it costs no deadline.
        await ctx.run.built.wait()
    if step.stage is switch:
        # The last moment to turn round: half a switch is worse than a whole one.
        await anyio.lowlevel.checkpoint_if_cancelled()
    async with _place(ctx, step):
        if not step.key:
            with anyio.CancelScope(shield=step.steady):
                return await step.stage(ctx)
        seconds = getattr(ctx.run.deadlines, step.key)
        with anyio.move_on_after(seconds, shield=step.steady):
            return await step.stage(ctx)
        raise DeadlinePassed(ctx.name, step.key, seconds)
    raise AssertionError("no scope here swallows what it did not cancel")


def _place(ctx: Context, step: Step) -> contextlib.AbstractAsyncContextManager[object]:
    return ctx.run.work if step.busy else contextlib.nullcontext()


def _failed(ctx: Context, state: S, exc: HostError) -> e.Failed:
    tail = exc.tail if isinstance(exc, RemoteError | DeadlinePassed) else ""
    drained = state is S.ROLLING_BACK and ctx.drained
    return e.Failed(
        ctx.name,
        reason=ctx.run.redactor.text(str(exc)) + "; it stays drained" * drained,
        stage=state,
        exit_status=exc.status if isinstance(exc, RemoteError) else None,
        tail=ctx.run.redactor.text(tail),
        unreachable=isinstance(exc, Unreachable),
        locked=isinstance(exc, LockHeld),
        denied=isinstance(exc, Unreachable) and exc.denied,
    )


def _stopped(ctx: Context, state: S) -> e.HostEvent:
    """Return the event for a host whose run stops under it."""
    reason = ctx.run.stopping or "interrupted"
    ways = TRANSITIONS[state]
    if e.Halted in ways:
        return e.Halted(ctx.name, reason)
    if e.RollbackRequested in ways:
        return e.RollbackRequested(ctx.name, reason)
    return e.Failed(ctx.name, reason, state)
