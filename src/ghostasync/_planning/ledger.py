"""
The ledger: what hosts' own records say together, and what a rollback makes of it.

Pure: values in, values out. How it works. A host's records of one module, in the order
of their numbers, are folded into a stack: a run that brings a release puts it on top, a
rollback takes away what it left. So the top is what serves, and below it is what a
rollback goes to. Numbers order runs and no clock does; equal numbers on different hosts
are those of runs that knew nothing of each other, and neither is the later one.

One file, though long: one fold of records, and the questions that it answers.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Final

import attrs

from .._engine.spec import PastRelease
from .._remote.activation import Activation
from .._remote.facts import Facts, ModuleState
from ..errors import PlanError
from ..model import Action

__all__ = ["Ledger", "Undoing", "stack"]

_FOLLOWERS: Final = frozenset({Action.CONVERGE.value, Action.BOOT.value})
"""Goals that only take a host to what MANIFEST names already."""

_BACK: Final = _FOLLOWERS | {Action.ROLLBACK.value}
"""Goals that may take a host to a release that it had before."""


def stack(
    target: ModuleState,
    goals: Mapping[str, str] | None = None,
    live: Collection[str] = (),
) -> tuple[Activation, ...]:
    """
    Return the moves that stand on a host, the one that serves last.

    A move that was taken back does not stand, nor does one that was rolled away from;
    of moves to the release that served anyway only the first one does. *goals* maps
    runs to what they were for, as other hosts know it; *live* are runs that went live
    elsewhere: a host may have missed being told.
    """
    standing: list[Activation] = []
    now = target.record
    goals = {**(goals or {}), **{move.run: move.goal for move in target.activations}}
    for move in reversed(target.activations):
        below = [each.release for each in standing]
        back = move.goal in _BACK and move.release in below
        # A killed run's move counts for as long as its release serves, and where that
        # was proven before, too: what it has left does not serve any more.
        proven = move.outcome == "live" or (
            move.outcome == "moved"
            and (back or move.run in live)
            and target.was_left(move)
        )
        if not proven and move is not now:
            continue
        if standing and standing[-1].release == move.release:
            continue
        if back:
            del standing[len(below) - below[::-1].index(move.release) :]
            continue
        # What a rollback undid is gone, also where another run had brought it: this
        # host was converged, say. A rollback of a rollback, and one to a release that
        # was named, go on from what served.
        if move.undoes and goals.get(move.undoes) != Action.ROLLBACK.value:
            del standing[-1:]
        standing.append(move)
    return tuple(standing)


def _newness(move: Activation) -> tuple[bool, int]:
    return move.goal not in _BACK, move.generation


def _times(moves: Sequence[Activation]) -> Iterator[float]:
    """Yield the times of *moves*, the newest first; 0 where one contradicts another."""
    times = [move.seconds for move in moves]
    for number, at in enumerate(times):
        later, earlier = times[:number], times[number + 1 :]
        fits = all(at <= t for t in later) and all(t <= at for t in earlier)
        yield at if fits else 0.0


@attrs.frozen
class Undoing:
    """
    What undoing a run means: *run* is its id, the resumptions of it included.

    *to* maps host names to modules to the releases that they go to; an empty one where
    the run has brought the module and its link goes. *serves* has what they serve now,
    in the same form. *stays* maps modules that the run brought, and that stay, to the
    hosts that have them; *release* maps modules to what the run brought.
    """

    run: str
    to: Mapping[str, Mapping[str, str]]
    serves: Mapping[str, Mapping[str, str]]
    release: Mapping[str, str]
    stays: Mapping[str, tuple[str, ...]]

    @property
    def targets(self) -> dict[str, set[str]]:
        """The releases that each module goes to."""
        targets: dict[str, set[str]] = {}
        for modules in self.to.values():
            for module, release in modules.items():
                targets.setdefault(module, set()).add(release)
        return targets


@attrs.frozen
class _Work:
    """Runs that brought *release* of one module: *run* first, *ids* are all of them."""

    run: str
    release: str
    generation: int
    ids: frozenset[str]


@attrs.frozen
class Ledger:
    """
    The records of chosen hosts: *seen* maps their names to what they told.

    *committed* are runs that went live by the word of their journals: a controller that
    was killed right after that has told no host.
    """

    seen: Mapping[str, Facts]
    committed: frozenset[str] = frozenset()

    def undo(self, run: str = "", *, remove: bool = False) -> Undoing:
        """
        Return what undoing *run* means; the newest that stands where it is empty.

        A module that the run brought goes where *remove* says so, and stays else.

        Raises:
            PlanError: No host has such a run on record, or two that are as new.
        """
        run = run and self._spelled_out(run)
        undoing = self._undo(run, frozenset(), remove=remove)
        # What stays of a run that was undone before keeps nobody from going further.
        behind = {m.undoes for m in self._records if m.outcome != "reverted"}
        if not undoing.to and not run and undoing.run in behind:
            with suppress(PlanError):
                further = self._undo("", frozenset(undoing.stays), remove=remove)
                return further if further.to else undoing
        return undoing

    def _undo(self, run: str, besides: frozenset[str], *, remove: bool) -> Undoing:
        """Return what undoing *run* means, or the newest *besides* these modules'."""
        works = self._named(run) if run else self._newest(besides)
        to: dict[str, dict[str, str]] = {}
        serves: dict[str, dict[str, str]] = {}
        brought: dict[str, str] = {}
        stays: dict[str, tuple[str, ...]] = {}
        for module, work in works.items():
            brought[module] = work.release
            goes = self._ways(module, work)
            none = tuple(host for host, release in goes.items() if not release)
            if none and not remove:
                stays[module] = none
            for host, release in goes.items():
                if release or remove:
                    to.setdefault(host, {})[module] = release
                    live = self.seen[host].targets[module].live
                    serves.setdefault(host, {})[module] = live
        first = min(works.values(), key=lambda work: work.generation)
        return Undoing(run or first.run, to, serves, brought, stays)

    def releases(self) -> dict[str, tuple[PastRelease, ...]]:
        """
        Return the releases that serve or were live, by module, the newest first.

        A release is as new as the last run that brought it; one that goes back to it,
        or brings it to hosts that had missed it, makes it no newer.
        """
        found = {}
        for module, stacks in self.stacks.items():
            serves: dict[str, list[str]] = defaultdict(list)
            brought: dict[str, Activation] = {}
            for host in stacks:
                target = self.seen[host].targets[module]
                now = target.record
                serves[target.live].append(host)
                for move in target.activations:
                    if move.outcome == "live" or move is now:
                        known = brought.get(move.release, move)
                        brought[move.release] = max(known, move, key=_newness)
            moves = sorted(brought.values(), key=_newness, reverse=True)
            found[module] = tuple(
                PastRelease(
                    release=move.release,
                    commit=move.commit,
                    subject=move.subject,
                    actor=move.actor,
                    at=at,
                    hosts=tuple(serves[move.release]),
                )
                for move, at in zip(moves, _times(moves), strict=True)
            )
        return found

    def passed(self, to: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
        """
        Return the releases without a way back that hosts leave behind, by module.

        *to* maps host names to modules to the releases that they go to.
        """
        barred = {move.release for move in self._records if move.no_return}
        # By the lowest number on record: whatever brings a release later, it is as old.
        came: dict[str, int] = {}
        for move in self._records:
            number = came.get(move.release, move.generation)
            came[move.release] = min(number, move.generation)
        found = {}
        for host, modules in to.items():
            for module, release in modules.items():
                moves = self.stacks.get(module, {}).get(host, ())
                # What has been rolled away from is below none; to go to it again may
                # well be to go forward.
                below = release in {move.release for move in moves}
                for move in reversed(moves):
                    if move.release == release:
                        break
                    later = below or came[move.release] > came.get(release, 0)
                    if move.release in barred and later:
                        found[module] = move.release
        return found

    # --- Which run ---------------------------------------------------------------

    def _spelled_out(self, run: str) -> str:
        """
        Return the id of the run on record that begins with *run*.

        Raises:
            PlanError: There is none, or there are several.
        """
        known = sorted({m.run for m in self._records if m.run.startswith(run)})
        if run in known or len(known) == 1:
            return run if run in known else known[0]
        if known:
            raise PlanError(f"{len(known)} runs begin with {run}: {', '.join(known)}")
        raise PlanError(
            f"no host has a record of run {run}; for a release there is: ghostasync "
            "rollback --to RELEASE"
        )

    def _named(self, run: str) -> dict[str, _Work]:
        """
        Return what *run* did to each module that it moved.

        Raises:
            PlanError: Nothing of it stands.
        """
        ids = self._relatives(run)
        works: dict[str, _Work] = {}
        # A run may have taken hosts along that had joined: what they got then, other
        # modules included, came with MANIFEST.
        goals = {m.goal for m in self._records if m.run in ids}
        follows = goals <= _FOLLOWERS
        for module, stacks in self.stacks.items():
            moves = [m for moves in stacks.values() for m in moves if m.run in ids]
            # A rollback to what was there below has left nothing on the stack; what it
            # left is what its undoing goes to.
            now = [self._last_move(host, module) for host in stacks]
            moves += [m for m in now if m and m.run in ids and m not in moves]
            if any(follows or move.goal not in _FOLLOWERS for move in moves):
                first = min(moves, key=lambda move: move.generation)
                works[module] = _Work(run, first.release, first.generation, ids)
        if not works:
            raise PlanError(
                f"nothing of run {run} stands: it was taken back, or rolled away from, "
                "or had found all in line"
            )
        return works

    def _newest(self, besides: frozenset[str] = frozenset()) -> dict[str, _Work]:
        """
        Return what the newest run that stands did to each module that it moved.

        Modules *besides* which it is looked for count as if they were not there.

        Raises:
            PlanError: There is no run, or there are two that are as new.
        """
        tops = {
            module: [
                moves[-1]
                for moves in stacks.values()
                if moves and moves[-1].goal not in _FOLLOWERS
            ]
            for module, stacks in self.stacks.items()
            if module not in besides
        }
        number = max(
            (m.generation for moves in tops.values() for m in moves), default=0
        )
        newest = {
            m.run for moves in tops.values() for m in moves if m.generation == number
        }
        if not newest:
            raise PlanError(
                "no host has a run on record that could be undone; for a release that "
                "there is: ghostasync rollback --to RELEASE"
            )
        if len(newest) > 1:
            raise PlanError(
                f"runs {' and '.join(sorted(newest))} knew nothing of each other, and "
                "neither is the later one: say which to undo, ghostasync rollback RUN, "
                "or choose hosts with --limit"
            )
        ids = self._relatives(newest.copy().pop())
        works = {
            module: self._work(module, ids)
            for module, moves in tops.items()
            if any(move.run in ids for move in moves)
        }
        # A run that brought something new is undone. Where all that it did was to bring
        # the fleet's release to hosts that had missed it, the run is undone that
        # brought it to the fleet.
        new = {m: work for m, work in works.items() if work.ids == ids}
        return new or works

    def _work(self, module: str, ids: frozenset[str]) -> _Work:
        """Return the work of the runs *ids*, and of those before that did the same."""
        standing = sorted(
            (m for moves in self.stacks[module].values() for m in moves),
            key=lambda move: -move.generation,
        )
        first = last = next(move for move in standing if move.run in ids)
        for move in standing[standing.index(last) :]:
            if move.release != last.release:
                break
            if move.goal not in _FOLLOWERS:
                ids |= self._relatives(move.run)
                first = move
        return _Work(first.run, last.release, first.generation, ids)

    def _relatives(self, run: str) -> frozenset[str]:
        """Return *run* with the run that it resumed, and those that resumed it."""
        ids = {run}
        while (
            more := {
                each for pair in self.resumed if ids.intersection(pair) for each in pair
            }
            - ids
        ):
            ids |= more
        return frozenset(ids)

    # --- Where hosts go ------------------------------------------------------------

    def _ways(self, module: str, work: _Work) -> dict[str, str]:
        """Return where each host goes that a work has moved; empty: nowhere is left."""
        first = self._relatives(work.run)
        own: dict[str, str] = {}
        along: list[str] = []
        for host, moves in self.stacks[module].items():
            now = self._last_move(host, module)
            at = next((i for i, m in enumerate(moves) if m.run in work.ids), None)
            if at is None:
                # A rollback that is undone goes to what it left.
                if now is not None and now.run in first:
                    own[host] = now.previous.rpartition("/")[2]
                elif moves and moves[-1].goal in _FOLLOWERS:
                    # Booted or converged: the release came with MANIFEST.
                    along += [host] * (moves[-1].release == work.release)
            elif moves[at].run in first:
                own[host] = moves[at - 1].release if at else ""
            else:
                along.append(host)
        others = Counter(filter(None, own.values())).most_common(1)
        usual = others[0][0] if others else ""
        for host in along:
            below = [move.release for move in self.stacks[module][host][:-1]]
            own[host] = usual or "".join(below[-1:])
        return {host: release or usual for host, release in own.items()}

    # --- What is known ---------------------------------------------------------------

    def _last_move(self, host: str, module: str) -> Activation | None:
        """Return the last move of a host's link; notes that it is in line are none."""
        target = self.seen[host].targets[module]
        mine = (m for m in target.activations if m.release == target.live and m.moved)
        return next((m for m in mine if m.outcome != "reverted"), None)

    @cached_property
    def stacks(self) -> Mapping[str, Mapping[str, tuple[Activation, ...]]]:
        """The moves that stand, by module and host."""
        modules = dict.fromkeys(m for f in self.seen.values() for m in f.targets)
        # Where a run took hosts along that had joined, their records say converge.
        records = sorted(self._records, key=lambda move: move.goal not in _FOLLOWERS)
        goals = {move.run: move.goal for move in records}
        live = {move.run for move in self._records if move.outcome == "live"}
        live |= self.committed
        return {
            module: {
                host: stack(facts.targets[module], goals, live)
                for host, facts in self.seen.items()
                if module in facts.targets
            }
            for module in modules
        }

    @cached_property
    def resumed(self) -> frozenset[tuple[str, str]]:
        """Pairs of a run and the one that it resumed."""
        return frozenset((m.run, m.resumes) for m in self._records if m.resumes)

    @property
    def _records(self) -> Iterator[Activation]:
        for facts in self.seen.values():
            for target in facts.targets.values():
                yield from target.activations
