"""
Take a fleet to its new release in two phases, or back.

First every host gets ready: it has the bytes and has passed pre-deploy. Then the budget
is judged, and only then does the first link move, wave by wave. What goes wrong after
that is undone, in reverse wave order, on every host this run changed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

import anyio
import attrs

from .. import events as e
from .._build.release import Release
from ..errors import BuildError, GhostasyncError
from ..machine import AFTER_SWITCH
from ..model import State as S  # noqa: N817  as in the table
from .budget import over_budget, turned_away
from .gates import pass_before_switch
from .host import Context, RunContext
from .locks import is_free_within, release
from .pipeline import advance, apply, look, recheck
from .rollback import look_again, take_back, take_up
from .serving import NoRoom
from .stages.prune import prune
from .takeover import drained_by_past
from .waves import allowed

__all__ = ["Fleet"]

COMMIT_SECONDS: Final = 60
"""How long the store may take to move MANIFEST; the fleet goes back then."""

SAMPLE_EVERY: Final = 0.25
"""Seconds between two samples of transfer progress: four a second is what an eye and a
terminal can take in."""


class _Stop(Exception):
    """The run goes no further; *reason* is on record."""


@attrs.define(eq=False)
class Fleet:
    """
    The hosts of a run and what was decided about them.

    *build* makes the releases, *commit* moves MANIFEST once every wave is live within
    the budget; *gate* says, after a wave (its number, its hosts), why the run must not
    go on, or nothing; *before_first_switch* waits until the first wave is on record
    elsewhere, too; *waves* are the selected hosts, cut. *committed* is true once
    nothing is taken back any more, *reason* says why not.
    """

    run: RunContext
    hosts: tuple[Context, ...]
    waves: tuple[tuple[Context, ...], ...]
    build: Callable[[], Awaitable[tuple[Release, ...]]]
    commit: Callable[[], Awaitable[None]]
    gate: Callable[[int, tuple[str, ...]], Awaitable[str]]
    before_first_switch: Callable[[], Awaitable[None]]
    committed: bool = False
    reason: str = ""
    locked: bool = False
    interrupted: bool = False
    skew: float = 0.0
    switched: list[tuple[str, ...]] = attrs.field(factory=list)
    _all_back: bool = False
    _wait_until: float = 0.0
    _forward: anyio.CancelScope = attrs.field(factory=anyio.CancelScope)

    def interrupt(self, reason: str) -> None:
        """Stop as soon as can be and put every link back; later calls do nothing."""
        if not (self.committed or self.interrupted):
            self.interrupted = True
            self.abandon(reason)

    def abandon(self, reason: str) -> None:
        """Go back, for a reason that is neither a host's nor a person's."""
        if not self.committed:
            self._all_back = True
            self._halt(reason)
            self._forward.cancel()

    async def deploy(self) -> None:
        """
        Take the fleet forward; on any failure beyond the budget, back.

        Raises:
            BaseException: A cancellation or a bug, once every link is back.
        """
        try:
            async with anyio.create_task_group() as watchers:
                watchers.start_soon(self._sample)
                try:
                    with self._forward:
                        await self._both_phases()
                finally:
                    watchers.cancel_scope.cancel()
        except BaseException as exc:
            if isinstance(exc, anyio.get_cancelled_exc_class()):
                self.interrupted = self.interrupted or not self.committed
                self._halt("interrupted")
            else:
                self._halt(f"a bug: {exc!r}")
            self._all_back = True
            await self._go_back()
            raise
        await self._go_back()

    # --- Forward ---------------------------------------------------------------

    async def _both_phases(self) -> None:
        self._wait_until = anyio.current_time() + self.run.spec.wait
        try:
            await self._get_ready()
            self._judge()
            in_order = [ctx for wave in self.waves for ctx in wave]
            self._pass(await pass_before_switch(self.run, in_order))
            for number, wave in enumerate(self.waves, start=1):
                await self._switch_over(number, wave)
            await self._commit()
        except _Stop:
            return

    async def _commit(self) -> None:
        """Make the run final, or take it back: nothing in between is left behind."""
        with anyio.CancelScope(shield=True):
            try:
                with anyio.fail_after(COMMIT_SECONDS):
                    await self.commit()
            except (GhostasyncError, OSError) as exc:
                # Live hosts that MANIFEST does not name would be a fleet at odds with
                # its own next member. TimeoutError is an OSError too.
                self._all_back = True
                self._halt(f"MANIFEST could not be moved: {exc}")
                raise _Stop from exc
        self.committed = True

    async def _get_ready(self) -> None:
        """Build once and bring every host to READY, all at the same time."""
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._build, scope)
                while (held := await self._all_ready(scope)) is not None:
                    await self._await_lock(held, scope)
        if self.reason:
            raise _Stop

    async def _all_ready(self, outer: anyio.CancelScope) -> Context | None:
        """Bring every host to READY; return one whose lock is worth waiting for."""
        held: list[Context] = []
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                for ctx in self.hosts:
                    tasks.start_soon(self._ready, ctx, scope, held)
        if self.reason:
            outer.cancel()
            return None
        return held[0] if held else None

    async def _await_lock(self, held: Context, outer: anyio.CancelScope) -> None:
        """
        Give every lock back, wait until *held* is free, and let all hosts start over.

        A run that waits holds nothing: two that did would wait for each other.
        """
        reason = held.failure.reason if held.failure else ""
        left = self._wait_until - anyio.current_time()
        again = [c for c in self.hosts if c.failure is None or c.failure.locked]
        names = tuple(ctx.name for ctx in again)
        self.run.note(e.LockAwaited(held.name, reason, round(left, 1), names), None)
        # Whatever ends the wait must find no host that this run believes to have.
        with anyio.CancelScope(shield=True):
            await release([ctx for ctx in self.hosts if ctx is not held])
        for ctx in again:
            if ctx is not held:
                ctx.start_over()
        free = False
        try:
            free = await is_free_within(held, left)
            if free:
                await release([held])
        finally:
            held.start_over()
            if not free:
                self.locked = True
                self._halt(f"{held.name}: {reason}")
                for ctx in again:
                    apply(ctx, e.Halted(ctx.name, self.reason))
        if not free:
            outer.cancel()

    async def _build(self, scope: anyio.CancelScope) -> None:
        try:
            self.run.releases = await self.build()
        except (GhostasyncError, OSError) as exc:
            failed = exc if isinstance(exc, BuildError) else None
            self.run.note(
                e.BuildFailed(
                    reason=str(exc),
                    exit_status=failed.exit_status if failed else None,
                    tail=failed.tail if failed else "",
                ),
                None,
            )
            self._halt(str(exc))
            scope.cancel()
        else:
            self.run.built.set()

    async def _ready(
        self, ctx: Context, scope: anyio.CancelScope, held: list[Context]
    ) -> None:
        await advance(ctx)
        if ctx.machine.state is not S.FAILED or ctx.failure is None:
            return
        if ctx.failure.locked:
            if anyio.current_time() < self._wait_until:
                held.append(ctx)
            else:
                self.locked = True
                self._halt(f"{ctx.name}: {ctx.failure.reason}")
        elif broken := self._over_budget() or turned_away(self.hosts):
            self._halt(broken)
        if self.reason or held:
            scope.cancel()

    def _judge(self) -> None:
        ready = [ctx for ctx in self.hosts if ctx.machine.state is S.READY]
        failed = [ctx for ctx in self.hosts if ctx.machine.state is S.FAILED]
        limit = allowed(self.run.plan.rollout.max_failures, len(self.hosts))
        self.run.note(e.Judged(len(ready), len(failed), limit), None)
        if failed and len(failed) == len(self.hosts):
            self._halt("every host failed")
            raise _Stop
        for number, wave in enumerate(self.waves, start=1):
            if all(ctx.machine.state is S.FAILED for ctx in wave):
                self._halt(f"every host of wave {number} failed")
                raise _Stop

    async def _switch_over(self, number: int, wave: Sequence[Context]) -> None:
        """Take one wave from READY to LIVE."""
        hosts = [ctx for ctx in wave if ctx.machine.state is S.READY]
        if not hosts:
            return
        names = tuple(ctx.name for ctx in hosts)
        self.run.note(e.WaveStarted(number, len(self.waves), names), None)
        if self.reason:
            raise _Stop  # it could not be put on record
        if not self.switched:
            await self.before_first_switch()
        self.switched.append(names)
        for ctx in hosts:
            if drained_by_past(ctx):
                self.run.serving.stop(ctx.name)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                for ctx in hosts:
                    tasks.start_soon(self._go_live, ctx, scope)
        live = [ctx for ctx in hosts if ctx.machine.state is S.LIVE]
        skew = _spread(ctx.switched_at for ctx in hosts)
        if len(hosts) >= max(map(len, self.switched)):
            self.skew = skew
        failed = sum(ctx.failure is not None for ctx in hosts)
        self.run.note(e.WaveFinished(number, len(live), failed, skew), None)
        if not live:
            self._halt(f"every host of wave {number} failed")
        if self.reason:
            raise _Stop
        await self._soak(number, live)
        self._pass(await self.gate(number, tuple(ctx.name for ctx in live)))

    def _pass(self, failed: str) -> None:
        """Stop where a gate says why."""
        if failed:
            self._halt(failed)
            raise _Stop

    async def _go_live(self, ctx: Context, scope: anyio.CancelScope) -> None:
        together = self.run.plan.rollout.on_failure == "rollback-fleet"
        if await self._admit(ctx):
            await advance(ctx, until=S.ROLLING_BACK)
            if ctx.machine.state is not S.LIVE:
                self._after_failure(ctx)
            # The others do not wait for its way back, it takes that along with them.
            if not (self.reason and together):
                await self._bring_back(ctx)
        if self.reason and together:
            scope.cancel()

    async def _bring_back(self, ctx: Context) -> None:
        """Have a host that failed go back by itself."""
        if ctx.machine.state is S.ROLLING_BACK:
            await advance(ctx)
            self._after_failure(ctx)

    async def _admit(self, ctx: Context) -> bool:
        """Wait until enough others serve; tell whether the host may change then."""
        try:
            await self.run.serving.leave(ctx.name)
        except NoRoom as exc:
            self._halt(str(exc))
            return False
        if self.reason:
            if not drained_by_past(ctx):
                self.run.serving.back(ctx.name)
            return False
        apply(ctx, e.Admitted(ctx.name, wave=ctx.wave))
        return True

    async def _soak(self, number: int, live: Sequence[Context]) -> None:
        """Watch a wave for a while, then have it prove its health again."""
        seconds = self.run.plan.rollout.soak
        if not seconds:
            return
        await anyio.sleep(seconds)
        async with anyio.create_task_group() as tasks:
            for ctx in live:
                tasks.start_soon(recheck, ctx)
        for ctx in live:
            if ctx.machine.state is not S.LIVE:
                self._after_failure(ctx)
        if self.reason:
            raise _Stop
        async with anyio.create_task_group() as tasks:
            for ctx in live:
                tasks.start_soon(self._bring_back, ctx)
        if self.reason:
            raise _Stop
        self.run.note(e.Soaked(number, seconds), None)

    def _after_failure(self, ctx: Context) -> None:
        """Stop the run where a host that failed after its switch calls for it."""
        if ctx.machine.state is S.STRANDED:
            self._halt(f"{ctx.name} is stranded")
        elif broken := self._over_budget():
            self._halt(broken)
        elif len(self.waves) > 1 and len(self.switched) == 1:
            self._halt(f"{ctx.name} failed in the first wave")

    # --- Back ------------------------------------------------------------------

    async def _go_back(self) -> None:
        """Roll back what this run changed, last wave first; bounded by deadlines."""
        if self.committed:
            return
        keep = self.run.plan.rollout.on_failure == "rollback-host"
        changed = AFTER_SWITCH | {S.DRAINING}
        if keep and not self._all_back:
            changed -= {S.LIVE}
        back = {c.name: c for c in self.hosts if c.machine.state in changed}
        await self._add_past(back)
        if back:
            await take_back(self.run, self.waves, back, self.reason)

    async def _add_past(self, back: dict[str, Context]) -> None:
        """
        Add to *back* what a run that was killed had changed.

        But not where yet another run holds a host, and may be moving links itself.
        """
        past = self.run.past
        if past is None:
            return
        if self.locked:
            for ctx in self.hosts:
                if ctx.moved:
                    back.pop(ctx.name, None)
            return
        ready = [ctx for ctx in self.hosts if ctx.machine.state is S.READY]
        back |= {ctx.name: ctx for ctx in ready if ctx.moved}
        with anyio.CancelScope(shield=True):
            unseen = [ctx for ctx in self.hosts if _may_have_moved(ctx)]
            back |= {ctx.name: ctx for ctx in await look_again(unseen)}
        for ctx in ready if back else []:
            if not ctx.moved and drained_by_past(ctx):
                ctx.drained, back[ctx.name] = True, ctx

    # --- Back from what another run did ----------------------------------------

    async def revert(self) -> None:
        """
        Put back what a killed run moved, once every host has been looked at.

        A host that cannot be looked at keeps no other from its way back; one that
        another run holds does.
        """
        try:
            with self._forward:
                async with anyio.create_task_group() as tasks:
                    for ctx in self.hosts:
                        tasks.start_soon(self._look, ctx)
        except anyio.get_cancelled_exc_class():
            self.interrupted = True
            raise
        past = self.run.past
        seen = [ctx for ctx in self.hosts if ctx.machine.state is S.CHECKING]
        back = {} if self.reason else {ctx.name: ctx for ctx in seen if take_up(ctx)}
        if past and not (past.hosts or self.reason or back):
            self._halt(f"neither a journal nor a host has a record of run {past.id}")
        for ctx in seen:
            if self.reason:
                apply(ctx, e.Halted(ctx.name, self.reason))
            elif ctx.name not in back:
                apply(ctx, e.Unchanged(ctx.name))
        if self.reason:
            return
        # Whoever stops this now would leave a fleet at odds with itself.
        self.committed = True
        if back:
            reason = f"back from {past.id}" if past else ""
            await take_back(self.run, self.waves, back, reason)

    async def _look(self, ctx: Context) -> None:
        await look(ctx)
        if ctx.failure is not None and ctx.failure.locked:
            self.locked = True
            self._halt(f"{ctx.name}: {ctx.failure.reason}")
            self._forward.cancel()

    async def prune(self) -> None:
        """Remove old releases everywhere; what fails becomes a warning."""
        async with anyio.create_task_group() as tasks:
            for ctx in self.hosts:
                if ctx.machine.state is S.LIVE:
                    tasks.start_soon(prune, ctx)

    # --- Budget and progress ---------------------------------------------------

    def _halt(self, reason: str) -> None:
        if not (self.reason or self.committed):
            self.reason = self.run.stopping = reason
            self.run.note(e.Stopped(reason), None)

    def _over_budget(self) -> str:
        return over_budget(self.run.plan.rollout, self.hosts)

    async def _sample(self) -> None:
        while True:
            await anyio.sleep(SAMPLE_EVERY)
            streaming = (c for c in self.hosts if c.machine.state is S.UPLOADING)
            sent = {ctx.name: ctx.sent for ctx in streaming if ctx.sent}
            total = sum(ctx.sent for ctx in self.hosts)
            self.run.note(e.Progressed(total, sent), None)


def _may_have_moved(ctx: Context) -> bool:
    """Tell whether a killed run changed a host that this one did not get ready."""
    past, failure = ctx.run.past, ctx.failure
    if past is None or ctx.machine.state is not S.FAILED:
        return False
    # Who could not be reached, or refused the login, is not asked again.
    if failure is not None and failure.unreachable:
        return False
    return ctx.name in {*past.changed, *past.drained}


def _spread(times: Iterable[float]) -> float:
    known = [at for at in times if at]
    return max(known) - min(known) if known else 0.0
