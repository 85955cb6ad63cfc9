"""
The policy of a run: budgets, waves, room to switch, locks, and the way back.

Rule 1: what the fleet may do, and when it must stop, is decided in this file.
Rule 2: this file does no I/O, reads no clock and starts nothing.

How it works. :class:`Policy` is fed every event of the run, in order, and answers each
with commands: admit a host, take one back, stop. The order of a deployment is not
decided here: ``_run/deploy.py`` has it, on one page. Each of its steps is an event, and
the policy says what follows from it for single hosts. A policy that is fed the events
of a journal is therefore in the state that the run was in.

Hosts that serve are counted, for ``min_serving``: *serving* are those that visitors
reach, *away* those that left and are expected back. A host leaves when it is admitted
or taken back, and serves again once it is LIVE or ROLLED_BACK. A host that is STRANDED
or out of reach is in neither set: it would be waited for in vain.

Hosts that are to leave stand in one queue, whether they go forward or back. The way
back fills it group by group: one group of hosts that do not serve, then the waves, the
last first. A group begins when every host of the one before it is back, stranded, out
of reach, or was left as it is.

One file, though long: every rule reads the same few sets, and Rule 1 has one place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

import attrs

from .. import events as e
from ..fold import HostState, RunState
from ..machine import AFTER_SWITCH, BACK_FOR_KILLED_RUN, GONE_BACK
from ..model import State as S  # noqa: N817  as in the table
from .commands import (
    Admit,
    AtWork,
    AwaitLock,
    Command,
    Leave,
    Stop,
    TakeBack,
    TakeNumber,
)

__all__ = ["DENIALS", "Policy", "Rules"]

DENIALS: Final = 5
"""Refused logins after which no more are tried, if no host let the run in: the key or
the user name is wrong then, and servers lock out an address that goes on (sshd's
PerSourcePenalties: 5 s for each, enforced from 15 s on)."""


@attrs.frozen
class Rules:
    """
    The numbers and names of hosts that a policy decides by, all known at the start.

    *waves* hold every selected host once. *serving* are the hosts of the fleet that
    serve at first, those outside the limit included; *min_serving* of them have to
    serve at any moment. *max_unreachable* is None where such hosts count in
    *max_failures*. *together* is whether a failure takes the whole fleet back (or else
    each host by itself), *patient* whether locks are waited for. *changed* and
    *drained* are the hosts that a killed run, which this one takes up, may have moved
    links on or left drained. A run that is *only_back* takes hosts back and does
    nothing else; one that goes on *whoever_is_dead* stops for no host out of reach. One
    that *only_executes* a script, or swaps colors, moves no link: it takes no number,
    and no failure stops it before the wave of that host has ended, or before it is
    judged by its first wave.
    """

    waves: tuple[tuple[str, ...], ...] = ()
    max_failures: int = 0
    max_unreachable: int | None = None
    together: bool = True
    min_serving: int = 0
    serving: tuple[str, ...] = ()
    patient: bool = False
    only_back: bool = False
    whoever_is_dead: bool = False
    only_executes: bool = False
    changed: tuple[str, ...] = ()
    drained: tuple[str, ...] = ()


def _new_run() -> RunState[HostState]:
    return RunState(HostState.of)


@attrs.define(eq=False)
class Policy:
    """
    One run's policy; :meth:`feed` is the only way to change it.

    *run* is the sum of the events so far. *serving* and *away* are names of hosts, see
    the head of this file. ``_asked`` is the queue of hosts that are to leave,
    ``_group`` the group of the way back that is waited for, ``_groups`` those after it;
    ``_left`` are hosts that no longer may go back. ``_held`` is whether a wait for a
    lock was commanded already, ``_spent`` whether hosts that failed have spent a
    budget. ``_unchecked`` are hosts whose fences are not known yet,
    ``_numbered`` is whether the run was told to take its number.
    """

    rules: Rules
    run: RunState[HostState] = attrs.field(factory=_new_run)
    serving: set[str] = attrs.field(init=False)
    away: set[str] = attrs.field(factory=set, init=False)
    _asked: deque[str] = attrs.field(factory=deque, init=False)
    _groups: deque[tuple[str, ...]] = attrs.field(factory=deque, init=False)
    _group: tuple[str, ...] = attrs.field(default=(), init=False)
    _left: set[str] = attrs.field(factory=set, init=False)
    _held: bool = attrs.field(default=False, init=False)
    _patient: bool = attrs.field(init=False)
    _spent: bool = attrs.field(default=False, init=False)
    _unchecked: set[str] = attrs.field(init=False)
    _numbered: bool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.serving = set(self.rules.serving)
        self._unchecked = {name for wave in self.rules.waves for name in wave}
        # A run that takes hosts back moves no link that it would have to number.
        self._numbered = self.rules.only_back or self.rules.only_executes
        self._patient = self.rules.patient

    # --- What is asked of it ---------------------------------------------------

    @property
    def reason(self) -> str:
        """Why the run goes no further; empty while it does."""
        return self.run.stopped.reason if self.run.stopped else ""

    @property
    def full_reason(self) -> str:
        """:attr:`reason`, with the count of hosts that had failed when all rested."""
        return (self._spent and self._over_budget()) or self.reason

    @property
    def locked(self) -> bool:
        """Whether the run stopped because another run holds a host of it."""
        return self.run.locked

    @property
    def final(self) -> bool:
        """
        Whether nothing can stop the run any more.

        A committed run is live for good: hosts that boot get its release from MANIFEST
        by now. A run that only takes hosts back, and has begun to, goes on to the end:
        a stop half way would leave old and new releases live side by side.
        """
        return self.run.committed or (
            self.rules.only_back and self.run.going_back is not None
        )

    def judge(self) -> e.Judged:
        """Return the verdict on the first phase, once every host rests."""
        rests = S.CHECKING if self.rules.only_executes else S.READY
        ready, failed = self.run.in_state(rests), self.run.in_state(S.FAILED)
        return e.Judged(len(ready), len(failed), self.rules.max_failures)

    def unseen(self) -> list[str]:
        """
        Return the hosts to look at again before anything is taken back.

        A killed run may have changed them, and this run was stopped before it knew; not
        looked at, they would stay on the new release while all others go back.
        """
        known = {*self.rules.changed, *self.rules.drained}
        # Another run that holds the locks may be moving links right now. A host that
        # was out of reach, or refused the login, would only cost its deadline again.
        if self.locked or self.run.committed:
            return []
        return [
            name
            for name in self.run.in_state(S.FAILED, S.HALTED)
            if name in known
            and not _is_unreachable(self.run.hosts[name])
            and not self.run.hosts[name].gone
        ]

    def way_back(self) -> e.FleetRollbackStarted | None:
        """
        Return the hosts that go back, in order; None where none does.

        Hosts that do not serve come first: under ``min_serving`` others may have to
        wait until these serve again. Then come the waves, the last one first.
        """
        back = set(self._changed())
        if back:
            # READY hosts that a killed run had drained need their way back to be put
            # into their balancers again: HALTED, they would stay without visitors.
            ready = self.run.in_state(S.READY)
            back.update(name for name in ready if name in self.rules.drained)
        if not back or self.final:
            return None
        first = [name for name in self.run.hosts if name in back and self._idle(name)]
        rest = [
            name
            for wave in reversed(self.rules.waves)
            for name in wave
            if name in back and name not in first
        ]
        return e.FleetRollbackStarted(self.reason, (*first, *rest))

    # --- What it is told -------------------------------------------------------

    def feed(self, event: e.Event) -> tuple[Command, ...]:
        """
        Take note of *event* and return the commands that follow from it, in order.

        Raises:
            IllegalTransition: A host cannot be where the event says.
        """
        # Fold and count first: a decision has to see the run as it is after the event.
        before = self._state(event)
        self.run.fold(event)
        if isinstance(event, e.HostEvent):
            self._count(event, before)
        said = tuple(self._decide(event))
        if any(isinstance(command, Stop) for command in said):
            return said  # hosts that wait for their turn have none any more
        return (*said, *self._number(event), *self._let_go())

    def _state(self, event: e.Event) -> S | None:
        host = (
            self.run.hosts.get(event.host) if isinstance(event, e.HostEvent) else None
        )
        return host.state if host else None

    def _decide(self, event: e.Event) -> Iterator[Command]:
        match event:
            case e.LockAwaited():
                # All hosts begin anew, so they serve as they did at first. A run whose
                # time is up stops at the next lock that it finds held.
                self._held, self._numbered = False, self.rules.only_executes
                self._patient = event.seconds > 0
                self.serving.update(set(event.hosts).difference(self.rules.drained))
                self.away.clear()
            case e.Failed():
                yield from self._failed(event)
            case e.Judged():
                yield from self._judged()
            case e.BuildFailed() | e.BeforeSwitchFailed() | e.AfterWaveFailed():
                yield from self._stop(_barred(event))
            case e.WaveStarted() if not self.reason:
                self._ask(event.hosts)
            case e.WaveFinished(live=0) if self._failed_as_a_whole(event.wave):
                yield from self._stop(f"every host of wave {event.wave} failed")
            case e.WaveFinished() if self.rules.only_executes:
                yield from self._stop(self._over_budget())
            # A host that is still in the queue has not changed: it stays READY. On the
            # way back the queue is of hosts that must not be forgotten.
            case e.Stopped() if not self.run.going_back:
                self._asked.clear()
                self._admit_no_more()
            case e.FleetRollbackStarted():
                yield from self._go_back(event)

    def _number(self, event: e.Event) -> Iterator[TakeNumber]:
        """Have the run numbered once the last host was checked, or has failed."""
        if isinstance(event, e.HostEvent):
            if self.run.host(event.host).state not in {S.CONNECTING, S.CHECKING}:
                self._unchecked.discard(event.host)
        elif isinstance(event, e.LockAwaited):
            self._unchecked = set(event.hosts)
        if self._unchecked or self._numbered or self._held or self.reason:
            return
        if any(host.failure is None for host in self.run.hosts.values()):
            self._numbered = True
            yield TakeNumber()

    # --- When it stops ---------------------------------------------------------

    def _stop(self, reason: str, cause: e.Cause = "policy") -> Iterator[Stop]:
        """Yield the command to stop; nothing without a reason, twice, or too late."""
        if reason and not (self.reason or self.final):
            yield Stop(reason, cause, self._at_work(cause))

    def _at_work(self, cause: e.Cause) -> AtWork:
        """Return what becomes of hosts that are at work when the run stops."""
        # Another run waits for the hosts, and they are not this run's to look at.
        if cause != "policy":
            return "cut"
        # Before the first wave it costs nothing to hear of every host that fails: who
        # mends the release would only meet the second reason in the next run.
        if not self.run.waves:
            return "settle"
        # Under on_failure = "rollback-host" hosts that are well go on to LIVE; cut
        # short in the middle of their switch, they would have to go back as well.
        return "cut" if self.rules.together else "finish"

    def _failed(self, event: e.Failed) -> Iterator[Command]:
        """Yield the commands that follow from the failure of one host."""
        state = self.run.host(event.host).state
        # A failure on the fleet's way back is told and stops nobody: the other hosts
        # still have to get back.
        if self.run.going_back or self.final:
            return
        if state is S.FAILED and event.locked:
            yield from self._locked(event)
        elif self.rules.only_back:
            return  # a host that cannot be looked at keeps no other from its way back
        elif state is S.STRANDED:
            if self._merely_dead(event.host):
                return
            # The host's way back has failed and a person must look: whatever the budget
            # allows, the run must not bring more hosts to where they need one.
            yield from self._stop(f"{event.host} is stranded")
        elif state is S.FAILED:
            broken = "" if self.rules.only_executes else self._over_budget()
            self._spent = self._spent or bool(broken and not self.reason)
            yield from self._stop(broken or self._turned_away())
        else:
            yield from self._failed_after_switch(event)

    def _failed_after_switch(self, event: e.Failed) -> Iterator[Command]:
        first = len(self.rules.waves) > 1 and len(self.run.waves) == 1
        broken = self._over_budget()
        self._spent = self._spent or bool(broken and not self.reason)
        if first and not (broken or self._merely_dead(event.host)):
            # A failure in the canary wave is a statement about the release. The budget
            # is for hosts that break by themselves in later, larger waves.
            broken = f"{event.host} failed in the first wave"
        yield from self._stop(broken)
        # A fleet that goes back takes the host along, in its order. Else the host goes
        # back by itself, now.
        if not (self.rules.together and (broken or self.reason)):
            yield TakeBack(event.host, event.reason)

    def _locked(self, event: e.Failed) -> Iterator[Command]:
        """Wait for the lock of another run, or stop; a few locked hosts have failed."""
        # Whoever claims a lock on a few hosts, such as a host that lies, does not keep
        # the others from a run that may do without these.
        if self._can_be_spared(event.host):
            return
        # A way back waits for nobody's lock: hosts would stay at odds meanwhile.
        if self.rules.only_back or not self._patient:
            yield from self._stop(f"{event.host}: {event.reason}", "locked")
        elif not (self._held or self.reason):
            # Asked at once, many hosts may be found locked: one wait is enough.
            self._held = True
            # A host that failed for a reason of its own is not tried again.
            again = tuple(
                name
                for name, host in self.run.hosts.items()
                if host.failure is None or host.failure.locked
            )
            yield AwaitLock(event.host, event.reason, again)

    def _judged(self) -> Iterator[Command]:
        """Stop where the rest of the run could bring no host live, budget or not."""
        # Hosts of the color that is left may all be dead: that is why it is left.
        if self.rules.only_executes:
            yield from self._stop(self._over_budget())
            return
        failed = set(self.run.in_state(S.FAILED))
        gone = {name for name, host in self.run.hosts.items() if host.gone}
        if len(failed | gone) == len(self.run.hosts) and self.run.hosts:
            yield from self._stop("every host failed" if failed else "no host is left")
            return
        failed = {name for name in failed if not self._merely_dead(name)}
        for number, wave in enumerate(self.rules.waves, start=1):
            if failed.issuperset(wave) and wave:
                # A wave without a live host stops the run when it ends. Here that is
                # known before the first link moves, so no earlier wave has to go back.
                yield from self._stop(f"every host of wave {number} failed")
                return

    def _failed_as_a_whole(self, wave: int) -> bool:
        """Tell whether no host of *wave* is live, of those that are there still."""
        # A killed run may have brought one live.
        names = self.rules.waves[wave - 1]
        hosts = [self.run.host(n) for n in names if not self._merely_dead(n)]
        left = [host for host in hosts if not host.gone]
        return bool(left) and not any(host.state is S.LIVE for host in left)

    def _merely_dead(self, name: str) -> bool:
        """Tell whether a host is out of reach, and the run goes on without it."""
        return self.rules.whoever_is_dead and _is_unreachable(self.run.host(name))

    def _can_be_spared(self, name: str) -> bool:
        """Tell whether a host may fail, like those that did, and others of its wave."""
        hosts = self.run.hosts
        waves = [wave for wave in self.rules.waves if name in wave]
        left = any(not hosts[n].failure for wave in waves for n in wave if n in hosts)
        return left and not self._over(hosts.values())

    def _over_budget(self) -> str:
        """Return why a budget is spent; empty while it is not."""
        return self._over(self._judged_hosts())

    def _over(self, hosts: Iterable[HostState]) -> str:
        """Return why the failures of *hosts* spend a budget; empty where not."""
        # A host that is stranded stops the run by itself, and is told apart.
        failed = [
            host for host in hosts if host.failure and host.state is not S.STRANDED
        ]
        # With a budget of their own, dead hosts do not use up the one for the release.
        if (limit := self.rules.max_unreachable) is not None:
            unreachable = [host for host in failed if _is_unreachable(host)]
            if len(unreachable) > limit:
                names = "host" if len(unreachable) == 1 else "hosts"
                return f"{len(unreachable)} {names} unreachable, {limit} allowed"
            failed = [host for host in failed if not _is_unreachable(host)]
        if len(failed) > self.rules.max_failures:
            names = "host" if len(failed) == 1 else "hosts"
            return f"{len(failed)} {names} failed, {self.rules.max_failures} allowed"
        return ""

    def _judged_hosts(self) -> Iterable[HostState]:
        """Return the hosts whose failures count by now."""
        if not self.rules.only_executes:
            return self.run.hosts.values()
        begun = self.rules.waves[: max(1, len(self.run.waves))]
        return [self.run.host(name) for wave in begun for name in wave]

    def _turned_away(self) -> str:
        """Return why no more logins are tried: the first ones were all refused."""
        hosts = self.run.hosts.values()
        denied = [host for host in hosts if host.failure and host.failure.denied]
        # One host that let us in proves key and user name. A host out of reach proves
        # nothing, or a dead host among many would have all the others lock us out.
        let_in = any(host.answered or _was_let_in(host) for host in hosts)
        if len(denied) < DENIALS or let_in:
            return ""
        return f"the first {len(denied)} hosts all refused the login"

    # --- The way back ----------------------------------------------------------

    def _changed(self) -> Iterator[str]:
        """Yield the hosts on which something is to be taken back."""
        stopped = self.run.stopped
        changed = AFTER_SWITCH | {S.DRAINING}
        # Under on_failure = "rollback-host" live hosts stay when others break the
        # budget. An interrupt or a bug takes the whole fleet back.
        if not self.rules.together and stopped and stopped.cause == "policy":
            changed -= {S.LIVE}
        for name, host in self.run.hosts.items():
            if host.gone:
                continue
            # A READY host that the killed run drained is no reason to go back: with no
            # other host to take back it stays as it is. Else it goes along (way_back).
            killed = host.moved or (host.drained and host.state is not S.READY)
            if self.locked and host.moved:
                continue  # the run that has the lock may be moving its links
            if host.state in changed or (killed and host.state in BACK_FOR_KILLED_RUN):
                yield name

    def _idle(self, name: str) -> bool:
        """Tell whether a host is out of its balancers before anybody takes it back."""
        drained = name in self.rules.drained
        return drained and self.run.hosts[name].state in BACK_FOR_KILLED_RUN

    def _go_back(self, event: e.FleetRollbackStarted) -> Iterator[Command]:
        """Line the groups of the way back up; hosts that are on it already come now."""
        # A host that failed by itself is in ROLLING_BACK and in no group: a dead one
        # would keep all waves on a condemned release until its deadline.
        moving = [n for n in event.hosts if self.run.host(n).state is S.ROLLING_BACK]
        first = [n for n in event.hosts if n not in moving and self._idle(n)]
        rest = set(event.hosts).difference(moving, first)
        self._asked.clear()
        self._groups.append(tuple(first))
        for wave in reversed(self.rules.waves):
            self._groups.append(tuple(name for name in wave if name in rest))
        for name in moving:
            yield TakeBack(name, event.reason)

    # --- How many serve --------------------------------------------------------

    def _count(self, event: e.HostEvent, before: S | None) -> None:
        """Keep count of the hosts that serve; *before* is the state before *event*."""
        name, host = event.host, self.run.host(event.host)
        if host.state is before:
            return
        if host.state in {S.LIVE, S.ROLLED_BACK}:
            self.away.discard(name)
            self.serving.add(name)
        elif (
            host.state is S.STRANDED
            or host.gone
            or (isinstance(event, e.Failed) and _is_unreachable(host))
        ):
            self.away.discard(name)
            self.serving.discard(name)
        elif before is S.LIVE or isinstance(event, e.Admitted):
            # A live host that fails while its wave soaks stops serving without being
            # admitted. An admission that comes on record after the stop counts as well:
            # _admit_no_more() had counted that host among those that serve.
            self._stops_serving(name)

    def _stops_serving(self, name: str) -> None:
        self.serving.discard(name)
        self.away.add(name)

    def _admit_no_more(self) -> None:
        """Count hosts again whose admission is void: they have not left, and serve."""
        for name in self.away.difference(self.rules.drained):
            if self.run.host(name).state is S.READY:
                self.away.discard(name)
                self.serving.add(name)

    def _let_go(self) -> Iterator[Command]:
        """Admit, or take back, the hosts whose turn it is."""
        back = self.run.going_back
        while True:
            while self._asked and self._may_stop_serving(self._asked[0]):
                name = self._asked.popleft()
                self._stops_serving(name)
                yield TakeBack(name, back.reason) if back else Admit(name)
            # Even once all that are away serve again there is no room for one more to
            # stop serving, so waiting for them would never end.
            if (
                self._asked
                and len(self.serving) + len(self.away) <= self.rules.min_serving
            ):
                yield from self._no_room()
            if self._asked or not self._groups or self._is_waited_for():
                return
            self._group = self._groups.popleft()
            self._ask(self._group)

    def _ask(self, hosts: Iterable[str]) -> None:
        """Queue *hosts*: others may have to wait for those that do not serve."""
        self._asked.extend(sorted(hosts, key=self.serving.__contains__))

    def _may_stop_serving(self, name: str) -> bool:
        # A host that does not serve takes nothing away from visitors.
        room = len(self.serving) > self.rules.min_serving
        return room or not self.rules.min_serving or name not in self.serving

    def _is_waited_for(self) -> bool:
        """Tell whether the present group of the way back is not over yet."""
        hosts = (self.run.hosts[n] for n in self._group if n not in self._left)
        return any(host.connected and host.state not in GONE_BACK for host in hosts)

    def _no_room(self) -> Iterator[Command]:
        """Stop, or leave hosts as they are: no wait can make room for another drain."""
        least, left = self.rules.min_serving, len(self.serving) + len(self.away)
        text = (
            f"{least} {'host' if least == 1 else 'hosts'} must serve and no more than "
            f"{left} can: no other may be drained (rollout.min_serving)"
        )
        asked = list(self._asked)
        self._asked.clear()
        if not self.run.going_back:
            yield from self._stop(text)
            return
        # On the way back there is nothing left to stop: the hosts keep serving the new
        # release, and the next group does not wait for them.
        self._left.update(asked)
        for name in asked:
            yield Leave(name, f"stays on the new release: {text}")


def _barred(event: e.BuildFailed | e.BeforeSwitchFailed | e.AfterWaveFailed) -> str:
    """Return why a step of the whole fleet keeps the run from going on."""
    match event:
        case e.BeforeSwitchFailed():
            return f"{event.host}: {event.reason}"
        case e.AfterWaveFailed():
            return f"wave {event.wave}: {event.reason}"
    return event.reason


def _was_let_in(host: HostState) -> bool:
    """Tell whether a host failed for another reason than that nobody got in."""
    failure = host.failure
    return failure is not None and not (failure.denied or failure.unreachable)


def _is_unreachable(host: HostState) -> bool:
    """Tell whether a host failed because it could not be reached or logged in to."""
    return host.failure is not None and host.failure.unreachable
