"""DRAINING: have the balancer take a host out; and put it back, for other states."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Literal

import anyio
import attrs

from ... import events as e
from ..._remote.call import call
from ...errors import ConnectionDied, DeadlinePassed, HostError, LockHeld
from ...model import Action, Host
from ...model import State as S  # noqa: N817  as in the table
from ...protocols import HostAccess
from ..host import HostRun
from ..scripts import ScriptCall, run_here, run_script

__all__ = ["drain", "drain_to_go_back", "put_back"]

ENDING: Final = 30.0
"""Seconds that a balancer gets beyond the deadline: a script that has passed it is
ended by then, and says what it printed last."""

_Key = Literal["drain", "undrain"]


async def drain(ctx: HostRun) -> e.Drained:
    """
    Have the balancer take the host out; without a balancer do nothing.

    Raises:
        HostError: The balancer failed or took too long; the host may be half drained.
    """
    balancer = ctx.run.balancer
    if balancer is None or not ctx.run.balances("drain"):
        return e.Drained(ctx.name)
    started = anyio.current_time()
    await _require_lock(ctx)
    # Before the balancer is asked: a host that is half drained must be put back too.
    ctx.undo = attrs.evolve(ctx.undo, drained=True)
    await _ask(ctx, "drain", balancer.drain)
    return e.Drained(ctx.name, seconds=anyio.current_time() - started)


async def drain_to_go_back(ctx: HostRun) -> None:
    """Drain a host before its links go back; a failure to do so only warns."""
    if ctx.undo.drained:
        return
    # A balancer that is away must not keep a host on a release that is condemned. A
    # host that is lost, or another run's by now, is not to be moved at all.
    try:
        await drain(ctx)
    except (ConnectionDied, LockHeld):
        raise
    except HostError as exc:
        ctx.warn(f"goes back with visitors on it: {exc}")


async def put_back(ctx: HostRun) -> float:
    """
    Put the host back into its balancer; return how long that took, in seconds.

    Raises:
        HostError: The balancer failed or took too long.
    """
    started, balancer = anyio.current_time(), ctx.run.balancer
    told = False
    if balancer is not None and (told := ctx.run.balances("undrain")):
        await _require_lock(ctx)
        await _ask(ctx, "undrain", balancer.undrain)
    ctx.undo = attrs.evolve(ctx.undo, drained=False)
    return anyio.current_time() - started if told else 0.0


async def _require_lock(ctx: HostRun) -> None:
    """
    Make sure that this run holds the host's lock still, before its balancer is told.

    A script on a host is fenced by the host. A balancer is not: a run that had lost its
    fleet would drain hosts that another run has just brought live.

    Raises:
        LockHeld: Another run has taken the host over.
        ConnectionDied: The host does not answer, so nobody knows.
    """
    await call(ctx.session, "assert_lock", sudo=ctx.sudo)


async def _ask(
    ctx: HostRun, key: _Key, do: Callable[[HostAccess], Awaitable[None]]
) -> None:
    """
    Have a balancer do its work within bounds, and make its errors the host's.

    Raises:
        HostError: The balancer failed, or was not done in time.
    """
    # A script of a balancer has the deadline *key* itself, and says best what it did
    # last; the bound here is for balancers that are code.
    seconds = getattr(ctx.run.deadlines, key)
    async with ctx.run.work_slots:
        try:
            with anyio.move_on_after(seconds + ENDING) as scope:
                await do(_Access(ctx, key))
        except HostError:
            raise
        except Exception as exc:  # somebody else's code may raise anything
            raise HostError(ctx.name, f"{key}: the balancer failed: {exc!r}") from exc
    if scope.cancelled_caught:
        raise DeadlinePassed(ctx.name, key, seconds, what=key)


@attrs.frozen
class _Access:
    """A host of this run as its balancer gets it; a :class:`protocols.HostAccess`."""

    ctx: HostRun
    key: _Key

    @property
    def host(self) -> Host:
        """The host."""
        return self.ctx.host

    @property
    def variables(self) -> Mapping[str, str]:
        """The environment of commands that are about this host."""
        host, run = self.ctx.host, self.ctx.run
        # On its way back a host is drained as well, and the command has to know.
        going_back = self.ctx.state is S.ROLLING_BACK
        action = {"GHOST_ACTION": Action.ROLLBACK.value} if going_back else {}
        return {
            **run.variables,
            **action,
            "GHOST_HOST": host.name,
            "GHOST_HOST_ADDRESS": host.address or host.name,
            "GHOST_HOST_LABELS": "\n".join(f"{k}={v}" for k, v in host.labels.items()),
            "GHOST_WAVE": str(self.ctx.wave or ""),
            "GHOST_WAVES": str(run.waves or ""),
        }

    @property
    def seconds(self) -> float:
        """The deadline of this call."""
        return float(getattr(self.ctx.run.deadlines, self.key))

    async def run(self, text: str, *, on: Literal["controller", "host"]) -> None:
        """
        Run a script of the balancer here or on the host, within its deadline.

        Raises:
            HostError: The script failed, took too long, or could not be run.
        """
        run, there = self.ctx.run, on == "host"
        call = ScriptCall(
            module="",
            script=self.key,
            cwd="/" if there else str(run.plan.base),
            # The script belongs to no release, so /dev/null is its environment file:
            # all that it sees goes with the call.
            meta="/dev",
            environment="null",
            key=self.key,
            seconds=self.seconds,
            text=text,
            overrides=self.variables,
        )
        await (run_script if there else run_here)(self.ctx, call)
