"""
A deployment, from its first step to its last; and the way back from a killed one.

Each step is a call of the fleet, which puts events on record and carries out what the
policy makes of them for single hosts: ``_engine/policy.py``. A host's way from one
state to the next is in ``_engine/stages``.
"""

from __future__ import annotations

from typing import Final

import anyio

from .._build.builder import Builder
from .._build.release import Release
from .._engine.fleet import Fleet, GoesNoFurther
from ..errors import GhostasyncError, StoreError
from ..events import Committed, Resolved, RunsRemoved, Warned
from ..history.outdated import outdated
from .after_all import AfterAll
from .after_wave import run_after_wave
from .joined import Joined
from .manifest import ManifestMove
from .record import Recording
from .suspension import Suspension
from .why import tell_why

__all__ = ["deploy", "make_releases", "revert"]

REMOVE_SECONDS: Final = 60
"""Seconds in which a run removes records of old ones; the next one goes on."""

COMMIT_SECONDS: Final = 120
"""Seconds that the store has to move MANIFEST; without it the fleet goes back. A writer
that sleeps in its turn is waited for a minute (stores/_s3_writes.py)."""


async def deploy(
    fleet: Fleet,
    builder: Builder,
    manifest: ManifestMove,
    after_all: AfterAll,
    joined: Joined,
) -> None:
    """
    Take the fleet to its new releases, or, where the run stops, back.

    Raises:
        BaseException: A cancellation or a bug, once every link is back.
    """
    suspension = Suspension(fleet)
    try:
        with fleet.forward:
            await fleet.gather(lambda: make_releases(fleet, builder), builder.published)
            await tell_why(fleet)
            fleet.judge()
            await _suspend(fleet, suspension)
            await fleet.pass_before_switch()
            if fleet.run.goal.recalls:
                await joined.ask()
                await _lead(fleet, manifest)
            for number in fleet.waves:
                await fleet.switch(number)
                await fleet.soak(number)
                await run_after_wave(fleet.run, builder, number, fleet.live_in(number))
                fleet.require_going_on()
            if not fleet.run.goal.recalls:
                await joined.ask()
            await _commit(fleet, manifest, after_all)
    except GoesNoFurther:
        pass  # the reason is on record
    except BaseException as exc:
        # A cancellation and a bug walk the same road: stop, go back, raise it again.
        fleet.give_up(exc)
        raise
    finally:
        # In every case: the policy knows whether anything is to be taken back, and
        # nothing is once the run is committed.
        try:
            await fleet.go_back()
        finally:
            try:
                await _lead_back(fleet, manifest)
            finally:
                await suspension.end()
        await fleet.note_live()
    # The fleet is live, and hosts that boot get its releases: a failure from here on
    # only warns, or ends the run with a status of its own.
    if fleet.policy.run.committed:
        await joined.bring_along()
        await after_all.run()
        await fleet.prune()
        await _prune_store(fleet)
        await _remove_runs(fleet)


async def revert(fleet: Fleet, record: Recording, manifest: ManifestMove) -> None:
    """
    Put back what a killed run moved, once every host has been looked at.

    Raises:
        BaseException: A cancellation before anything went back, or a bug.
    """
    # Every host is looked at before the first one goes back: where another run holds
    # one of them, none is touched.
    suspension = Suspension(fleet)
    try:
        with fleet.forward:
            await record.before_first_switch()
            await fleet.look_at_all()
            await _number_revert(fleet)
    except BaseException as exc:
        fleet.give_up(exc)
        raise
    finally:
        fleet.sort_out()
    # A run that was stopped before it went back, by a lock or a person, leaves hosts
    # and MANIFEST as the killed run left them: it can be asked for again.
    if not fleet.policy.reason:
        try:
            await _suspend(fleet, suspension)
            await fleet.revert()
        finally:
            await suspension.end()
        # Shielded like the way back: hosts on the old release beside a MANIFEST that
        # names the new one would be a fleet at odds with its own next member.
        with anyio.move_on_after(COMMIT_SECONDS, shield=True) as scope:
            await manifest.move_back()
        if scope.cancelled_caught:
            fleet.note(Warned("MANIFEST was not moved back: the store does not answer"))


async def _suspend(fleet: Fleet, suspension: Suspension) -> None:
    """
    Have nothing end or replace hosts while their links move.

    Raises:
        GoesNoFurther: That could not be had, and the run does not go back.
    """
    if not (why := await suspension.begin()):
        return
    # Hosts must not stay on a release that is condemned for that.
    if fleet.run.goal.recalls or fleet.run.goal.only_back:
        fleet.note(Warned(why))
        return
    fleet.abandon(why)
    raise GoesNoFurther


async def _number_revert(fleet: Fleet) -> None:
    """Give a revert its number: later looks go by it, and MANIFEST needs it."""
    # Links go back whether the store answers or not.
    try:
        if not fleet.policy.reason:
            await fleet.take_number()
    except StoreError as exc:
        fleet.note(Warned(f"the run could not be numbered: {exc}"))


async def _lead(fleet: Fleet, manifest: ManifestMove) -> None:
    """
    Move MANIFEST before the fleet, where it leaves a release that must not boot.

    Raises:
        GoesNoFurther: The run was stopped meanwhile.
    """
    with anyio.move_on_after(COMMIT_SECONDS, shield=True) as scope:
        await manifest.lead()
    if scope.cancelled_caught:
        fleet.note(Warned("MANIFEST stays: the store does not answer"))
    fleet.require_going_on()


async def _lead_back(fleet: Fleet, manifest: ManifestMove) -> None:
    """Have MANIFEST name again what the fleet serves, where that went back."""
    if fleet.policy.run.committed or not manifest.led:
        return
    with anyio.move_on_after(COMMIT_SECONDS, shield=True) as scope:
        await manifest.lead_back()
    if scope.cancelled_caught:
        fleet.note(Warned("MANIFEST was not moved back: the store does not answer"))


async def _commit(fleet: Fleet, manifest: ManifestMove, after_all: AfterAll) -> None:
    """
    Make the run final, or have it taken back: nothing in between is left behind.

    Raises:
        GoesNoFurther: MANIFEST could not be moved.
    """
    # Shielded: cancelled between the move of MANIFEST and the event, a run would take
    # back a fleet whose next member boots with the new release.
    with anyio.CancelScope(shield=True):
        try:
            # Hosts have deadlines of their own: a slow one is no fault of the store.
            await fleet.note_unchanged(manifest.renewed)
            await fleet.remove_links()
            with anyio.fail_after(COMMIT_SECONDS):
                await manifest.follow()
        except (GhostasyncError, OSError) as exc:
            # With the old MANIFEST a host that boots would join a live fleet with the
            # old release; so the fleet goes back. TimeoutError is an OSError, too.
            why = str(exc) or f"the store did not answer within {COMMIT_SECONDS} s"
            fleet.abandon(f"MANIFEST could not be moved: {why}")
            raise GoesNoFurther from exc
        # Only now: a bug in the store's move must not count as scripts that are missed.
        after_all.is_to_come()
        fleet.note(Committed())


async def make_releases(fleet: Fleet, builder: Builder) -> tuple[Release, ...]:
    """
    Build what has a source, and load what is stored.

    Raises:
        SourceError, BuildError, PackageError, StoreError: A release cannot be had.
    """
    # No host is contacted for what can be known to fail before.
    chosen = fleet.run.spec.modules
    for each in chosen:
        if each.source is not None:
            builder.require_scripts(each.module)
    for each in chosen:
        # A source that could not say its revision fails the run here, on record.
        if each.error is not None:
            builder.log_source(each.module, each.source)
            raise each.error
        if each.source is not None:
            fleet.note(Resolved(each.module.name, each.revision))
            # Another run that builds here may hold hosts, and these say more of it.
            busy = fleet.run.fetched.set
            await builder.fetch(each.module, each.source, each.revision, busy)
    fleet.run.fetched.set()
    made = []
    for each in chosen:
        if each.source is not None:
            # With --force even a tree that is packaged already becomes a new release.
            reuse = not fleet.run.goal.force
            made.append(await builder.build(each.module, each.revision, reuse=reuse))
        elif each.package:
            made.append(await builder.load(each.module, each.package, each.held))
    return tuple(made)


async def _prune_store(fleet: Fleet) -> None:
    """Remove old packages of the run's modules from the store; failures only warn."""
    spec = fleet.run.spec
    for release in fleet.run.releases:
        name, keep = release.module.name, spec.plan.store.keep
        try:
            await spec.store.packages.prune(name, keep, frozenset({release.id}))
        except StoreError as exc:
            fleet.note(Warned(f"old packages of {name} were not removed: {exc}"))


async def _remove_runs(fleet: Fleet) -> None:
    """Remove the records of runs that are older than the store keeps them."""
    store, keep = fleet.run.spec.store, fleet.run.spec.plan.store.keep_runs
    try:
        with anyio.move_on_after(REMOVE_SECONDS):
            named = {line.generation for line in await store.manifest.read()}
            if gone := await outdated(store.runs, keep, named):
                # On record first: the chain of runs must not miss them without a word.
                fleet.note(RunsRemoved(tuple(gone)))
                for run in gone:
                    await store.runs.remove(run)
    except StoreError as exc:
        fleet.note(Warned(f"records of old runs were not removed: {exc}"))
