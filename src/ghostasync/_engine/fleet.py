"""
The fleet of a run: it carries out what the policy commands.

How it works. Every event of a run goes through :meth:`Fleet.note`: on record first,
then to the policy, whose commands are carried out at once. A command starts a task for
one host, or stops the hosts that are at work. The methods are the steps of a
deployment; each returns when all its tasks have ended, and ``_run/deploy.py`` has their
order. Nothing is decided here: see ``policy.py``.

Cancel scopes, from the outside in: *forward* holds everything before the way back,
``_step`` the step of the deployment that is under way, ``_attempt`` the connections
that begin again after a wait for a lock. The way back runs shielded, in none of them.

One file, though long: forward and back share the scopes and the way of a command.
"""

from __future__ import annotations

from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Sequence,
)
from typing import Final, TypeVarTuple

import anyio
import attrs
from anyio.abc import TaskGroup

from .. import events as e
from .._build.release import Release
from ..errors import BuildError, GhostasyncError, HostError, SourceError, StoreError
from ..machine import NOT_UPLOADED, RESTING, SERVES_NEW
from ..model import State as S  # noqa: N817  as in the table
from .colors import why_moved
from .commands import (
    Admit,
    AwaitLock,
    Command,
    Leave,
    Stop,
    TakeBack,
    TakeNumber,
)
from .gates import pass_before_switch
from .host import HostRun, RunContext
from .locks import is_free_within, unlock
from .older import why_older
from .pipeline import advance, apply, execute, look, recheck, swap
from .policy import Policy
from .records import note_live, note_unchanged, take_number
from .stages.check import inspect, take_lock
from .stages.connect import connect
from .stages.prune import prune
from .stages.remove import remove_links
from .takeover import adopt_killed_moves, drained_by_killed_run

__all__ = ["Fleet", "GoesNoFurther"]

_Args = TypeVarTuple("_Args")

STORE_SECONDS: Final = 120
"""Seconds that the store has to reserve a number: where writers take turns, one that
sleeps in its turn is waited for a minute."""

SAMPLE_EVERY: Final = 0.25
"""Seconds between two samples of transfer progress: four a second is what an eye and a
terminal can take in."""

Record = Callable[[e.Event, S | None], None]
"""Puts an event on record; the state is that of the event's host after it."""


class GoesNoFurther(Exception):
    """The run goes no further; the reason is on record."""


@attrs.define(eq=False)
class Fleet:
    """
    The hosts of a run, and the tasks that take them forward or back.

    *record* puts an event on record, and *on_record* waits until the store has what a
    resumption on another machine needs. *waits_until* is when the wait for locks ends,
    by the event loop's clock. *forward* is the scope of everything before the way back,
    *along* that of hosts that have joined a fleet which is live; *skew* is the time
    from the first to the last link of the widest wave, in seconds.
    """

    run: RunContext
    hosts: dict[str, HostRun]
    policy: Policy
    record: Record
    on_record: Callable[[], Awaitable[None]]
    waits_until: float = 0.0
    skew: float = 0.0
    forward: anyio.CancelScope = attrs.field(factory=anyio.CancelScope)
    along: anyio.CancelScope = attrs.field(factory=anyio.CancelScope)
    _step: anyio.CancelScope = attrs.field(factory=anyio.CancelScope)
    _attempt: anyio.CancelScope = attrs.field(factory=anyio.CancelScope)
    _tasks: TaskGroup | None = None
    _awaited: AwaitLock | None = None
    _building: anyio.CancelScope = attrs.field(factory=anyio.CancelScope)
    _settling: bool = False
    _bugs: list[Exception] = attrs.field(factory=list)
    _reverting: bool = False

    # --- What happens ----------------------------------------------------------

    def note(self, event: e.Event) -> None:
        """
        Put *event* on record and carry out the commands that follow from it.

        Whatever it says in people's and scripts' words, no secret of the run is in it.

        Raises:
            IllegalTransition: A host cannot be where the event says.
        """
        event = self.run.redactor.event(event)
        # On record first: a controller that is killed while it carries the commands out
        # must leave a journal that says why.
        self.record(event, self.run.state.after(event))
        for command in self.policy.feed(event):
            self._carry_out(command)
        if self._settling and isinstance(event, e.HostEvent):
            self._cut_short(self.hosts[event.host])
            # Another run waits for these hosts, and this one is over.
            if isinstance(event, e.Failed) and event.locked:
                self._step.cancel()

    def interrupt(self, reason: str) -> None:
        """Stop as soon as can be and put every link back; later calls do nothing."""
        # A run that stops already for a cause of its own is still told, once, that a
        # person wanted it: that decides its outcome.
        stopped = self.policy.run.stopped
        if stopped is None or stopped.cause != "interrupted":
            self._abandon(reason, "interrupted")

    def abandon(self, reason: str) -> None:
        """Go back, for a reason that is neither a host's nor a person's."""
        self._abandon(reason, "abandoned")

    def give_up(self, exc: BaseException) -> None:
        """Stop because of a cancellation or a bug; the caller then goes back."""
        # A bug walks the same road as a cancellation: links may have moved in both
        # cases.
        cancelled = isinstance(exc, anyio.get_cancelled_exc_class())
        reason = "interrupted" if cancelled else f"a bug: {exc!r}"
        self._abandon(reason, "interrupted" if cancelled else "abandoned")

    def _abandon(self, reason: str, cause: e.Cause) -> None:
        if not self.final:
            self.note(e.Stopped(reason, cause))
            self.forward.cancel()

    @property
    def final(self) -> bool:
        """Whether nothing can stop the run any more; see the policy's."""
        # The policy knows of a revert once its event was fed. That is too late for a
        # stop that comes while the event is put on record.
        return self._reverting or self.policy.final

    def require_going_on(self) -> None:
        """
        Do nothing, as long as the run may go on.

        Raises:
            GoesNoFurther: The run has stopped.
        """
        if self.policy.reason:
            raise GoesNoFurther

    def _carry_out(self, command: Command) -> None:
        match command:
            case Stop():
                self.note(e.Stopped(command.reason, command.cause))
                if command.at_work == "cut":
                    self._step.cancel()
                elif command.at_work == "settle":
                    self._settle()
            # One event may yield several commands, and carrying out the first may stop
            # the run: an admission that comes after is void.
            case Admit(host=host) if not self.policy.reason:
                self._admit(self.hosts[host])
            case TakeBack(host=host, reason=reason):
                self._start(self._take_back, self.hosts[host], reason)
            case Leave(host=host, reason=reason):
                self._leave(self.hosts[host], reason)
            case TakeNumber():
                self.run.numbering = True
                self._start(self._take_number)
            case AwaitLock():
                self._awaited = command
                self._begin_again(True)
                self._attempt.cancel()

    def _admit(self, ctx: HostRun) -> None:
        if self.run.goal.stays:
            self._start(execute if self.run.goal.script else swap, ctx)
            return
        apply(ctx, e.Admitted(ctx.name, ctx.wave))
        self._start(self._go_live, ctx)

    def _settle(self) -> None:
        """Let checks and pre-deploys that are at work end; stop all else at once."""
        self._settling = True
        # While a lock is waited for no host is at work, and this run holds none.
        if self._awaited is not None:
            self._step.cancel()
        seconds = self.run.deadlines.settle
        self._step.deadline = min(self._step.deadline, anyio.current_time() + seconds)
        self._building.cancel()
        for ctx in self.hosts.values():
            self._cut_short(ctx)

    def _cut_short(self, ctx: HostRun) -> None:
        """Stop what a host is at, unless it may settle: it begins nothing new then."""
        prepares = ctx.state is S.PREPARING and ctx.at_work
        may_settle = ctx.state is S.CHECKING or prepares
        if not may_settle and ctx.state not in RESTING:
            ctx.scope.cancel()

    def _start(
        self, work: Callable[[*_Args], Coroutine[None, None, None]], *args: *_Args
    ) -> None:
        if self._tasks is not None:
            self._tasks.start_soon(work, *args)

    async def _together(self, begin: Callable[[], None]) -> None:
        """Carry out what *begin* leads to, until all its tasks have ended."""
        async with anyio.create_task_group() as self._tasks:
            begin()
        self._tasks = None

    # --- Forward ---------------------------------------------------------------

    async def gather(
        self,
        build: Callable[[], Awaitable[tuple[Release, ...]]],
        stored: Callable[[], Awaitable[None]],
    ) -> None:
        """
        Build once and bring every host to READY, both at the same time.

        No host is contacted before *build* has set the run's *fetched*, or has ended.
        *stored* returns when the store has what was built; that is waited for, too.

        Raises:
            GoesNoFurther: The run goes no further.
        """
        with anyio.CancelScope() as self._step:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._build, build, stored)
                await self.run.fetched.wait()
                self.waits_until = anyio.current_time() + self.run.spec.wait
                if not self.policy.reason:
                    await self._get_ready()
        self.require_going_on()

    async def _get_ready(self) -> None:
        while True:
            self._awaited = None
            self._begin_again(False)
            with anyio.CancelScope() as self._attempt:
                await self._together(self._connect_all)
            # All attempts were cancelled for a lock; the wait comes outside of their
            # scope, and then all begin again.
            if self._awaited is None or self.policy.reason:
                return
            await self._await_lock(self._awaited)

    def _begin_again(self, begins: bool) -> None:
        # In a swap the hosts of each color have a run of their own.
        for ctx in self.hosts.values():
            ctx.run.begins_again = begins

    def _connect_all(self) -> None:
        for ctx in self.hosts.values():
            if ctx.state is S.CONNECTING:
                # Made here: the run may stop before a task that was started has begun.
                ctx.scope = anyio.CancelScope()
                self._start(self._get_ready_alone, ctx)

    async def _take_number(self) -> None:
        try:
            # Only now, with every lock in hand, is it certain what serves.
            if moved := await why_moved(self.run.spec):
                self.abandon(moved)
                return
            self.run.refused = await why_older(self.run, self.hosts.values())
            if self.run.refused:
                self.abandon(self.run.refused)
                return
            await self.take_number()
        except GhostasyncError as exc:
            self.abandon(f"the run could not be numbered: {exc}")
            return
        if self._follows_an_old_manifest():
            self.abandon(
                "MANIFEST has moved since the run was planned: converge once more"
            )

    def _follows_an_old_manifest(self) -> bool:
        """Tell whether a converge, which may have waited, would take hosts back."""
        goal, spec = self.run.goal, self.run.spec
        if goal.moves_manifest or goal.only_back:
            return False
        names = {chosen.module.name for chosen in spec.modules}
        planned = {n.module: n.package for n in spec.manifest if n.module in names}
        now = {n.module: n.package for n in self.run.manifest if n.module in names}
        return planned != now

    async def take_number(self) -> None:
        """
        Reserve the run's number in the store, above those of its hosts and MANIFEST.

        Raises:
            StoreError: The store could not be asked, or does not answer.
        """
        try:
            with anyio.fail_after(STORE_SECONDS):
                await take_number(self.run, self.hosts.values())
        except TimeoutError:
            text = f"the store did not answer within {STORE_SECONDS} s"
            raise StoreError(text) from None

    async def _get_ready_alone(self, ctx: HostRun) -> None:
        with ctx.scope:
            # A host that keeps its releases waits in CHECKING for its wave.
            await (look if self.run.goal.stays else advance)(ctx)

    async def _build(
        self,
        build: Callable[[], Awaitable[tuple[Release, ...]]],
        stored: Callable[[], Awaitable[None]],
    ) -> None:
        # A failed build is an event like a failed host: the policy stops the run. An
        # exception would cancel the task group and with it what hosts are at.
        try:
            with self._building:
                self.run.releases = await build()
                self.run.built.set()
                await stored()
        except (GhostasyncError, OSError) as exc:
            status = exc.exit_status if isinstance(exc, BuildError) else None
            tail = exc.tail if isinstance(exc, BuildError | SourceError) else ""
            self.note(e.BuildFailed(str(exc), exit_status=status, tail=tail))
        finally:
            self.run.fetched.set()

    async def _await_lock(self, awaited: AwaitLock) -> None:
        """Give every lock back, wait until a host is free, and let all start over."""
        held = self.hosts[awaited.host]
        left = max(0.0, self.waits_until - anyio.current_time())
        again = [self.hosts[name] for name in awaited.hosts]
        self.note(
            e.LockAwaited(held.name, awaited.holder, round(left, 1), awaited.hosts)
        )
        # A cancellation here must not leave hosts whose lock is given back and which
        # this run still counts as its own: the way back would move their links.
        with anyio.CancelScope(shield=True):
            await unlock([ctx for ctx in self.hosts.values() if ctx is not held])
        # Another run may have moved links meanwhile, under a higher number.
        self.run.generation, self.run.numbered = 0, anyio.Event()
        self.run.numbering = False
        for ctx in again:
            if ctx is not held:
                ctx.start_over()
        free = False
        try:
            if await is_free_within(held, left):
                await unlock([held])
                free = True
        finally:
            held.start_over()
            if not free:
                stopped = self.policy.run.stopped
                # A build that failed meanwhile is the reason, and not the lock.
                if stopped is None or stopped.cause != "policy":
                    self.note(e.Stopped(f"{held.name}: {awaited.holder}", "locked"))
                for ctx in again:
                    apply(ctx, e.Halted(ctx.name, self.policy.reason))
                self._step.cancel()

    def judge(self) -> None:
        """
        Put the verdict on the first phase on record.

        Raises:
            GoesNoFurther: The run stops here, and no link moves.
        """
        self.note(self.policy.judge())
        self.require_going_on()

    @property
    def waves(self) -> Sequence[int]:
        """The numbers of the waves, in order; counted from 1."""
        return range(1, len(self.policy.rules.waves) + 1)

    def _wave(self, number: int) -> list[HostRun]:
        return [self.hosts[name] for name in self.policy.rules.waves[number - 1]]

    async def pass_before_switch(self) -> None:
        """
        Run each module's before_switch, once for the fleet.

        Raises:
            GoesNoFurther: A before_switch failed, and no link moves.
        """
        in_order = [ctx for number in self.waves for ctx in self._wave(number)]
        await pass_before_switch(self.run, in_order)
        self.require_going_on()

    async def switch(self, number: int) -> None:
        """
        Take one wave from READY to LIVE, or have its hosts do what they stay for.

        Raises:
            GoesNoFurther: The run goes no further.
        """
        stays = self.run.goal.stays
        wave, begins = self._wave(number), S.CHECKING if stays else S.READY
        hosts = [ctx for ctx in wave if ctx.state is begins]
        # Failures that keep a whole wave from its turn are judged at its end as well.
        if not (hosts or stays):
            return
        names = tuple(ctx.name for ctx in hosts)
        started = e.WaveStarted(number, self.run.waves, names)
        with anyio.CancelScope() as self._step:
            await self._together(lambda: self.note(started))
        live = sum(ctx.state in SERVES_NEW for ctx in hosts)
        told = wave if stays else hosts
        failures = sum(ctx.book.failure is not None for ctx in told)
        skew = _spread(ctx.switched_at for ctx in hosts)
        # The report's skew is that of the widest wave, the one with most visitors.
        if len(hosts) >= max(len(wave.hosts) for wave in self.policy.run.waves):
            self.skew = skew
        self.note(e.WaveFinished(number, live, failures, skew))
        self.require_going_on()

    async def _go_live(self, ctx: HostRun) -> None:
        # The store has the journal before a link moves, so that another machine can
        # resume the run. ROLLING_BACK is left to the policy, which says who goes back
        # with whom and in which order.
        await self.on_record()
        await advance(ctx, until=S.ROLLING_BACK)

    async def soak(self, number: int) -> None:
        """
        Wait ``rollout.soak`` seconds, then have a wave prove its health again.

        Raises:
            GoesNoFurther: The run goes no further.
        """
        seconds = self.run.plan.rollout.soak
        live = [self.hosts[name] for name in self.live_in(number)]
        if not (seconds and live):
            return
        await anyio.sleep(seconds)
        with anyio.CancelScope() as self._step:
            await self._together(lambda: self._recheck_all(live))
        self.require_going_on()
        self.note(e.Soaked(number, seconds))

    def live_in(self, number: int) -> list[str]:
        """Return the hosts that a wave has brought live; none where it never began."""
        begun = [wave.hosts for wave in self.policy.run.waves if wave.wave == number]
        names = (name for hosts in begun for name in hosts)
        return [name for name in names if self.hosts[name].state is S.LIVE]

    def _recheck_all(self, live: Iterable[HostRun]) -> None:
        for ctx in live:
            self._start(recheck, ctx)

    # --- Back ------------------------------------------------------------------

    async def go_back(self) -> None:
        """
        Roll back what this run changed, last wave first, whatever is cancelled.

        Does nothing where the run did not stop, or is live for good. Bounded by the
        deadlines of its parts; no wave waits for a host that failed by itself, or is
        out of reach.

        Raises:
            Exception: A bug in one host's rollback, once all others are back.
        """
        if not self.policy.reason or self.policy.final:
            return
        # Shielded: a second Ctrl-C must not leave half a fleet on the new release.
        with anyio.CancelScope(shield=True):
            # The run may have been stopped while all hosts were about to begin again.
            self._halt(NOT_UPLOADED | {S.PREPARING})
            unseen = [self.hosts[name] for name in self.policy.unseen()]
            await self._together(lambda: self._look_again_at(unseen))
            back = self.policy.way_back()
            self._halt({S.READY}, back.hosts if back else ())
            if back is not None:
                await self._together(lambda: self.note(back))
        if self._bugs:
            raise self._bugs[0]

    def _halt(self, states: Collection[S], back: Collection[str] = ()) -> None:
        for ctx in self.hosts.values():
            if ctx.state in states and ctx.name not in back:
                apply(ctx, e.Halted(ctx.name, self.policy.reason))

    async def _take_back(self, ctx: HostRun, reason: str) -> None:
        """Roll back one host; a bug here must not keep other hosts from their way."""
        # A host that the killed run drained, and of which no link goes back, only has
        # to be put back into its balancer. With a link to move the stage drains the
        # host anew: the killed run may have put it back half way.
        moved = ctx.undo.link_may_have_moved
        if ctx.state is S.READY and not moved and drained_by_killed_run(ctx):
            ctx.undo = attrs.evolve(ctx.undo, drained=True)
        try:
            if ctx.state is not S.ROLLING_BACK:
                apply(ctx, e.RollbackRequested(ctx.name, reason))
            await advance(ctx)
        except Exception as exc:
            # Raised in the task group, a bug in one host's rollback would cancel those
            # of all others. Before the fleet goes back it is raised: that is what makes
            # the fleet go back.
            if not self.policy.run.going_back:
                raise
            self._bugs.append(exc)

    def _leave(self, ctx: HostRun, reason: str) -> None:
        ctx.warn(reason)
        # A host of a run that is only_back waits in CHECKING, one that a resumption got
        # ready in READY; either has to come to rest.
        if ctx.state in {S.CHECKING, S.READY}:
            apply(ctx, e.Failed(ctx.name, reason, ctx.state))

    def _look_again_at(self, hosts: Iterable[HostRun]) -> None:
        for ctx in hosts:
            self._start(self._look_again, ctx)

    async def _look_again(self, ctx: HostRun) -> None:
        """Look at a host that was stopped before this run knew what it serves."""
        deadlines = ctx.run.deadlines
        with anyio.move_on_after(deadlines.connect + deadlines.check):
            try:
                await connect(ctx)
                if ctx.attempt.lock is None:
                    await take_lock(ctx)
                ctx.attempt.facts = await inspect(ctx)
            except HostError as exc:
                ctx.warn(f"could not be looked at: {exc}")
            except Exception as exc:  # noqa: BLE001  raised once all others are back
                self._bugs.append(exc)
            else:
                adopt_killed_moves(ctx)
            return
        ctx.warn("could not be looked at: it does not answer")

    # --- Along -----------------------------------------------------------------

    async def bring_along(self, joined: Sequence[HostRun]) -> None:
        """
        Take hosts that have joined to LIVE, or back, each by itself; the run is live.

        They come outside of waves and budgets: no other host waits for one of them.
        """
        self.hosts |= {ctx.name: ctx for ctx in joined}
        self.note(e.Joined(tuple(ctx.name for ctx in joined)))
        with self.along:
            async with anyio.create_task_group() as tasks:
                for ctx in joined:
                    tasks.start_soon(self._bring_along, ctx)
        for ctx in joined:
            if ctx.state in {S.CONNECTING, S.READY}:
                apply(ctx, e.Halted(ctx.name, "interrupted"))

    async def _bring_along(self, ctx: HostRun) -> None:
        await advance(ctx)
        if ctx.state is S.READY:
            apply(ctx, e.Admitted(ctx.name, ctx.wave))
            await advance(ctx)

    # --- Back from what another run did ----------------------------------------

    async def look_at_all(self) -> None:
        """
        Find out what a killed run did to every host.

        A host that cannot be looked at keeps no other from its way back; one that
        another run holds does: the run is stopped then.
        """
        with anyio.CancelScope() as self._step:
            await self._together(self._look_at_each)

    def sort_out(self) -> None:
        """Put on record, for every host that was looked at, whether it goes back."""
        seen = [ctx for ctx in self.hosts.values() if ctx.state is S.CHECKING]
        found = [
            ctx for ctx in seen if not self.policy.reason and adopt_killed_moves(ctx)
        ]
        killed = self.run.killed
        # A run that no journal and no host knows may be a typing error: a fleet that is
        # "back" from it would be a wrong answer.
        if killed and not (killed.hosts or self.policy.reason or found):
            text = f"neither a journal nor a host has a record of run {killed.id}"
            self.note(e.Stopped(text))
        for ctx in seen:
            if not self.policy.reason and ctx not in found:
                apply(ctx, e.Unchanged(ctx.name))
        # The run may have been stopped before its first look, or by a full disk just
        # now: no host may be left waiting for a way back that does not come.
        for ctx in self.hosts.values() if self.policy.reason else ():
            if ctx.state in {S.CONNECTING, S.CHECKING}:
                apply(ctx, e.Halted(ctx.name, self.policy.reason))

    def _look_at_each(self) -> None:
        for ctx in self.hosts.values():
            self._start(look, ctx)

    async def revert(self) -> None:
        """
        Take back what the looks have found, whatever is cancelled meanwhile.

        Raises:
            Exception: A bug in one host's rollback, once all others are back.
        """
        back, self._reverting = self.policy.way_back(), True
        if back is not None:
            reason = f"back from {self.run.killed.id}" if self.run.killed else ""
            with anyio.CancelScope(shield=True):
                await self._together(
                    lambda: self.note(attrs.evolve(back, reason=reason))
                )
        if self._bugs:
            raise self._bugs[0]

    # --- Beside it -------------------------------------------------------------

    async def prune(self) -> None:
        """Remove old releases from every live host; failures become warnings."""
        async with anyio.create_task_group() as tasks:
            for ctx in self.hosts.values():
                if ctx.state is S.LIVE:
                    tasks.start_soon(prune, ctx)

    async def note_unchanged(self, modules: frozenset[str]) -> None:
        """Have hosts that were in line already note this run for *modules*."""
        spec = self.run.spec
        if not modules or spec.limited or not spec.goal.moves_manifest:
            return
        async with anyio.create_task_group() as tasks:
            for ctx in self.hosts.values():
                if ctx.state is S.UNCHANGED:
                    tasks.start_soon(note_unchanged, ctx, modules)

    async def remove_links(self) -> None:
        """Remove the links of modules that go as a whole; failures become warnings."""
        back = self.run.spec.way_back
        if back is None or not back.removed:
            return

        async def remove(ctx: HostRun) -> None:
            if not await remove_links(ctx):
                self.run.links_left.append(ctx.name)

        async with anyio.create_task_group() as tasks:
            for ctx in self.hosts.values():
                if ctx.state in {S.LIVE, S.UNCHANGED}:
                    tasks.start_soon(remove, ctx)

    async def note_live(self) -> None:
        """Have hosts that stay live, though the run was stopped, note that they are."""
        # A committed run leaves that to prune, which comes to all of them anyway.
        if self.policy.run.committed:
            return
        with anyio.move_on_after(self.run.deadlines.check, shield=True):
            async with anyio.create_task_group() as tasks:
                for ctx in self.hosts.values():
                    if ctx.state is S.LIVE and ctx.attempt.to_deploy:
                        tasks.start_soon(note_live, ctx)

    async def sample(self) -> None:
        """Tell again and again how far transfers are; ends when it is cancelled."""
        while True:
            await anyio.sleep(SAMPLE_EVERY)
            hosts = self.hosts.values()
            sending = [ctx for ctx in hosts if ctx.state is S.UPLOADING]
            sent = {ctx.name: ctx.attempt.sent for ctx in sending if ctx.attempt.sent}
            if sent:
                total = sum(ctx.attempt.sent for ctx in hosts)
                self.note(e.Progressed(total, sent))


def _spread(times: Iterable[float]) -> float:
    """Return the time from the first to the last; 0 marks a link that did not move."""
    known = [at for at in times if at]
    return max(known) - min(known) if known else 0.0
