"""
A run, from its first event to its report: the handle that users hold.

How it works. ``main`` runs as one task. Inside, from the outside in: the builder, whose
folders stay locked until the end; a task that keeps hosts' locks alive; the store's
copy of the journal; and the deployment itself, ``deploy.py``. However that ends, a
report is made, the record is finished, and connections are given back, in this order,
each within a bound of its own.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence

import anyio

from .. import events as e
from .._build.builder import Builder
from .._engine.locks import beat, beat_every, unlock
from .._engine.spec import RunSpec
from .._engine.takeover import still_drained
from .._local.paths import app_path
from ..model import Package, Report
from ..protocols import Notifier, Observer, Transport
from .after_all import AfterAll
from .deploy import deploy, make_releases, revert
from .execute import execute
from .fleet import fleet_of
from .joined import Joined
from .manifest import ManifestMove
from .notify import notify, observers_in
from .record import END_SECONDS, Recording
from .report import sum_up
from .swap import swap

__all__ = ["Run"]

_CLOSING = 5.0
"""Seconds that connections get to close in an orderly way, all at once."""


class Run:
    """
    A run in progress; :func:`ghostasync.start` makes it.

    Attributes:
        id: The run's id; ids sort by time.
    """

    def __init__(
        self,
        spec: RunSpec,
        transport: Transport | None,
        observe: Observer | None,
        notifiers: Sequence[Notifier] = (),
    ) -> None:
        self.id = spec.id
        self._notifiers = notifiers
        self._spec = spec
        self._transport = transport
        self._records: list[e.Record] = []
        self._news = anyio.Event()
        self._done = anyio.Event()
        self._report: Report | None = None
        self._bug: BaseException | None = None
        self._began = time.monotonic()
        observers = [self._remember, *([observe] if observe else [])]
        observers += observers_in(notifiers)
        self._record = Recording.start(self.id, spec.folder, spec.store.runs, observers)
        self._fleet = fleet_of(spec, transport, self._record)
        self._builder = self._make_builder()
        self._after_all = AfterAll(self._fleet.run, self._builder)

    # --- For users -------------------------------------------------------------

    async def events(self, since: int = 0) -> AsyncGenerator[e.Record]:
        """
        Yield the run's records after number *since*, as they come, until its end.

        A record keeps its number: a reader that lost its connection goes on with the
        number of the last one it has seen.
        """
        at = 0
        while True:
            while at < len(self._records):
                record = self._records[at]
                at += 1
                if record.seq > since:
                    yield record
            if self._done.is_set():
                return
            await self._news.wait()

    async def stop(self, reason: str = "interrupted") -> None:
        """
        Stop the run and put every link back; return when that is done.

        Once MANIFEST has moved only after_all_deploy is cut short, and hosts that have
        joined are brought along no further.
        """
        self.interrupt(reason)
        await self._done.wait()

    def interrupt(self, reason: str = "interrupted") -> bool:
        """
        Ask for what :meth:`stop` does, and return at once.

        Returns:
            Whether links are put back; false where it is too late for that.
        """
        # Summed up, or over: the journal must not say otherwise, and may be closed.
        if self._report is not None or self._done.is_set():
            return False
        # A committed run cannot go back, but what it does then may take minutes.
        self._fleet.interrupt(reason)
        final = self._fleet.final
        if final:
            self._fleet.along.cancel()
            self._after_all.scope.cancel()
        return not final

    async def report(self) -> Report:
        """
        Wait for the run's end and return its report.

        Raises:
            Exception: The run met a bug; every link is back by then.
        """
        await self._done.wait()
        if self._bug is not None:
            raise self._bug
        if self._report is None:
            raise RuntimeError("the run ended without a report")
        return self._report

    async def wait(self) -> None:
        """Wait for the run's end, however it ends."""
        await self._done.wait()

    # --- The run ---------------------------------------------------------------

    async def build_only(self) -> dict[str, Package]:
        """
        Build every module of a run without hosts; return the packages by name.

        Raises:
            SourceError, BuildError, PackageError, StoreError: A package cannot be had.
        """
        try:
            async with self._builder:
                releases = await make_releases(self._fleet, self._builder)
                await self._builder.published()
            await self._record.hand_in()
        finally:
            self._record.close()
        return {release.module.name: release.package for release in releases}

    async def main(self) -> None:
        """Carry the run out; every way out leaves a report and closed connections."""
        try:
            async with self._builder:
                await self._carry_out()
        except anyio.get_cancelled_exc_class():
            raise
        except Exception as exc:  # noqa: BLE001  report() raises it
            self._bug = _innermost(exc)
        finally:
            # Shielded: a run that is cancelled leaves a report, too. The record comes
            # before the connections: a report must not be lost to hosts that are slow
            # to hang up.
            with anyio.move_on_after(END_SECONDS, shield=True):
                await self._finish()
            with anyio.move_on_after(_CLOSING, shield=True):
                await self._close()
            # Notifiers last, once the run is over: a slow one keeps no lock.
            self._done.set()
            self._news.set()
            if self._report is not None:
                await notify(self._notifiers, self._report)

    async def _carry_out(self) -> None:
        self._fleet.note(self._started())
        for text in self._spec.warnings:
            self._fleet.note(e.Warned(text))
        async with anyio.create_task_group() as tasks:
            # Shielded, so that locks are kept alive on a way back as well: a rollback
            # of many waves takes longer than the 90 s after which a lock is stale.
            alive = anyio.CancelScope(shield=True)
            tasks.start_soon(self._keep_alive, alive)
            try:
                async with self._record.copying():
                    await self._deploy_or_revert()
            finally:
                alive.cancel()

    def _started(self) -> e.Started:
        spec, back = self._spec, self._spec.way_back
        sides = [spec, *([spec.partner] if spec.partner else [])]
        modules = tuple(dict.fromkeys(chosen.module.name for chosen in spec.modules))
        named = {line.module: line.package for line in spec.manifest}
        return e.Started(
            action=spec.goal.action.value,
            app=app_path(spec.plan.app),
            modules=modules,
            hosts=tuple(host.name for side in sides for host in side.hosts),
            actor=spec.actor,
            reason=spec.reason,
            manifest={name: named.get(name, "") for name in modules},
            limited=spec.limited,
            force=spec.goal.force,
            of=spec.follows,
            revert=spec.goal.only_back,
            packages={m.module.name: m.package for m in spec.modules if m.package},
            recorded_secrets=spec.goal.recorded_secrets,
            leads=tuple(sorted(back.manifest)) if back else (),
            to=back.to if back and not back.is_uniform else {},
            addresses={
                host.name: host.address + f":{host.port}" * bool(host.port)
                for side in sides
                for host in side.hosts
                if host.address not in {"", host.name}
            },
            script=spec.goal.script,
            balancer_seconds=spec.balancer_seconds,
            color=spec.goal.active_color,
        )

    async def _keep_alive(self, alive: anyio.CancelScope) -> None:
        """Keep locks alive, and tell how far transfers are, until *alive* ends."""
        seconds = self._spec.plan.rollout.confirm
        hosts = self._fleet.hosts.values()  # hosts may join
        with alive:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(beat, hosts, beat_every(seconds))
                tasks.start_soon(self._fleet.sample)

    async def _deploy_or_revert(self) -> None:
        manifest = ManifestMove(
            self._fleet.run, list(self._fleet.hosts.values()), self._builder
        )
        if self._spec.goal.only_back:
            await revert(self._fleet, self._record, manifest)
        elif self._spec.goal.script:
            await execute(self._fleet, self._builder)
        elif self._spec.goal.active_color:
            await swap(self._fleet, self._builder)
        else:
            joined = Joined(self._fleet, self._builder, self._transport)
            await deploy(self._fleet, self._builder, manifest, self._after_all, joined)

    def _make_builder(self) -> Builder:
        spec = self._spec
        return Builder(
            plan=spec.plan,
            store=spec.store,
            goal=spec.goal,
            actor=spec.actor,
            folder=spec.build_folder,
            log=self._record.build_log,
            environ=spec.environ,
            secrets=spec.secrets,
            redactor=self._fleet.run.redactor,
            note=self._fleet.note,
        )

    def _remember(self, record: e.Record) -> None:
        # Samples of progress are passing: four a second would fill memory for nothing.
        if not e.is_passing(record.event):
            self._records.append(record)
        # Readers that wait hold the old event; each gets a new one to wait for.
        self._news.set()
        self._news = anyio.Event()

    # --- The end ---------------------------------------------------------------

    async def _finish(self) -> None:
        """Sum the run up in a report, and finish the record with it."""
        for ctx in self._fleet.hosts.values():
            if text := still_drained(ctx):
                ctx.warn(text)
        report = self._report = sum_up(
            self._fleet,
            self._record,
            seconds=time.monotonic() - self._began,
            after_all_due=self._after_all.due,
        )
        await self._record.finish(report)

    async def _close(self) -> None:
        """Give all connections back at once, and with them the locks."""
        try:
            await unlock(list(self._fleet.hosts.values()))
        finally:
            self._record.close()


def _innermost(exc: Exception) -> Exception:
    """Return the one exception in nested groups of one, which users can catch."""
    # Each task group on the way wraps a bug once more; a group of several stays one.
    while isinstance(exc, ExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return exc
