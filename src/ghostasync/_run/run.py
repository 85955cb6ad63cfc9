"""One run, from its first event to its report."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping, Sequence

import anyio

from .. import events as e
from .._build.builder import Builder
from .._build.environment import digest
from .._build.release import Release
from .._engine.fleet import Fleet
from .._engine.locks import beat, beat_every, release
from .._engine.spec import ModuleToDeploy, RunSpec
from .._engine.takeover import still_drained, to_name_again
from .._local.paths import app_path
from ..errors import BuildError, GhostasyncError, StoreError
from ..model import Module, Package, Report, State
from ..protocols import Environment, ManifestLine, Notifier, Observer, Transport
from .after_wave import pass_after_wave
from .crew import muster
from .joined import tell_who_joined
from .notify import notify, observers_in
from .outcome import AFTER_ALL_FAILED
from .record import END_SECONDS, Recording
from .report import sum_up

__all__ = ["Run"]

_NOT_BACK = frozenset({State.FAILED, State.STRANDED})

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
        self._after = anyio.CancelScope()
        self._report: Report | None = None
        self._bug: BaseException | None = None
        self._began = time.monotonic()
        observers = [self._remember, *([observe] if observe else [])]
        observers += observers_in(notifiers)
        self._recorder = Recording.start(
            self.id, spec.folder, spec.store.runs, observers
        )
        self._fleet = self._make_fleet()
        self._recorder.alarm = self._fleet.abandon
        self._exit_status: int | None = None
        self._builder = self._make_builder()

    # --- For users -------------------------------------------------------------

    async def events(self, since: int = 0) -> AsyncGenerator[e.Record]:
        """
        Yield the run's records after number *since*, as they come, until its end.

        A record keeps its place: whoever lost the connection goes on where it was.
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

        Once MANIFEST has moved only after_all_deploy is cut short.
        """
        self.interrupt(reason)
        await self._done.wait()

    def interrupt(self, reason: str = "interrupted") -> bool:
        """
        Ask for what :meth:`stop` does, and return at once.

        Returns:
            Whether links are put back; false where it is too late for that.
        """
        self._fleet.interrupt(reason)
        if self._fleet.committed:
            self._after.cancel()
        return not (self._fleet.committed or self._done.is_set())

    async def report(self) -> Report:
        """Wait for the run's end and return what came of it."""
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
        """Build every module of a run without hosts; return the packages by name."""
        try:
            async with self._builder:
                releases = await self._build()
            await self._recorder.hand_in()
        finally:
            self._recorder.close()
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
            with anyio.move_on_after(END_SECONDS, shield=True):
                await self._finish()
            with anyio.move_on_after(_CLOSING, shield=True):
                await self._close()
            self._done.set()
            self._news.set()
            if self._report is not None:
                await notify(self._notifiers, self._report)

    async def _carry_out(self) -> None:
        spec = self._spec
        modules = tuple(chosen.module.name for chosen in spec.modules)
        named = {line.module: line.package for line in spec.manifest}
        self._recorder.note(
            e.Started(
                action=spec.goal.action.value,
                app=app_path(spec.plan.app),
                modules=modules,
                hosts=tuple(host.name for host in spec.hosts),
                actor=spec.actor,
                reason=spec.reason,
                manifest={name: named.get(name, "") for name in modules},
                limited=spec.limited,
                force=spec.goal.force,
                of=spec.follows,
                revert=spec.goal.only_back,
                packages={m.module.name: m.package for m in spec.modules if m.package},
            )
        )
        async with anyio.create_task_group() as tasks:
            # Locks are kept alive to the end, on a way back that is shielded as well.
            alive = anyio.CancelScope(shield=True)
            tasks.start_soon(self._beat, alive)
            try:
                async with self._recorder.copying():
                    await self._there_or_back()
            finally:
                alive.cancel()

    async def _beat(self, alive: anyio.CancelScope) -> None:
        with alive:
            seconds = self._spec.plan.rollout.confirm
            await beat(self._fleet.hosts, beat_every(seconds))

    async def _there_or_back(self) -> None:
        fleet = self._fleet
        for text in self._spec.warnings:
            self._recorder.note(e.Warned(text))
        if self._spec.goal.only_back:
            await self._recorder.before_first_switch()
            await fleet.revert()
            await self._manifest_back()
            return
        await fleet.deploy()
        if fleet.committed:
            await self._after_all()
            await self._prune()
            await self._name_who_joined()

    async def _build(self) -> tuple[Release, ...]:
        releases = []
        for chosen in self._spec.modules:
            if chosen.error is not None:
                raise chosen.error
            releases.append(await self._make(chosen))
        return tuple(releases)

    async def _make(self, chosen: ModuleToDeploy) -> Release:
        module, source, revision = chosen.module, chosen.source, chosen.revision
        if source is None:
            return await self._builder.load(module, chosen.package)
        self._recorder.note(e.Resolved(module.name, revision))
        reuse = not self._spec.goal.force
        return await self._builder.build(module, source, revision, reuse=reuse)

    async def _commit(self) -> None:
        """Move MANIFEST: from here on a booting instance gets the new releases."""
        spec, releases = self._spec, self._fleet.run.releases
        if not spec.goal.moves_manifest:
            return
        live = self._fleet.switched or any(ctx.moved for ctx in self._fleet.hosts)
        if live and any(r.module.after_all_deploy for r in releases):
            # Until proven otherwise: a cancellation may come before it ran.
            self._exit_status = AFTER_ALL_FAILED
        if spec.limited:
            self._recorder.note(e.Warned(f"MANIFEST stays: {self._why_limited()}"))
            return
        named = [(r.module, r.package, r.variables) for r in releases]
        moved = await self._move_manifest(named)
        self._fleet.run.protected = {m: frozenset({p}) for m, p in moved.items()}

    def _why_limited(self) -> str:
        packages = " ".join(f"--package {r.id}" for r in self._fleet.run.releases)
        whole = f"ghostasync deploy {packages}"
        if self._spec.killed is None or self._spec.killed.limited:
            return f"the run was under --limit; to take the other hosts along: {whole}"
        return f"hosts have joined since the run began; to take them along: {whole}"

    async def _move_manifest(
        self, named: Sequence[tuple[Module, Package, Mapping[str, str]]]
    ) -> dict[str, str]:
        lines = [ManifestLine(m.name, p.id, m.path, p.sha256) for m, p, _ in named]
        kept = [Environment(p.id, seen, digest(seen)) for _, p, seen in named]
        order = [module.name for module in self._spec.plan.modules]
        await self._spec.store.manifest.move(lines, kept, order)
        moved = {line.module: line.package for line in lines}
        self._recorder.note(e.ManifestMoved(moved))
        return moved

    async def _manifest_back(self) -> None:
        """Have MANIFEST name again what it named before the run that is taken back."""
        fleet, spec, named = self._fleet, self._spec, []
        left = any(ctx.machine.state in _NOT_BACK for ctx in fleet.hosts)
        now = {line.module: line.package for line in spec.manifest}
        modules = {chosen.module.name: chosen.module for chosen in spec.modules}
        for name, old in to_name_again(fleet.hosts, now).items():
            still = f"MANIFEST still names {now[name]}"
            if left or not old:
                why = "not every host is back" if left else "no one release was before"
                self._recorder.note(e.Warned(f"{still}: {why}"))
                continue
            try:
                package = await spec.store.packages.package(old)
                seen = await self._builder.environment(modules[name], package)
            except StoreError as exc:
                self._recorder.note(e.Warned(f"{still}: {exc}"))
            else:
                named.append((modules[name], package, seen))
        try:
            if named:
                await self._move_manifest(named)
        except StoreError as exc:
            self._recorder.note(e.Warned(f"MANIFEST could not be moved: {exc}"))

    async def _after_all(self) -> None:
        """Run every after_all_deploy; the fleet stays live whatever comes of it."""
        if self._exit_status is None:
            return
        reason, tail = "after_all_deploy was interrupted", ""
        try:
            with self._after:
                for release in self._fleet.run.releases:
                    await self._builder.after_all(release)
                self._exit_status, reason = None, ""
        except (GhostasyncError, OSError) as exc:
            reason, tail = str(exc), exc.tail if isinstance(exc, BuildError) else ""
        finally:
            if reason:
                self._fleet.reason = reason
                self._recorder.note(e.AfterAllFailed(reason, tail))

    async def _prune(self) -> None:
        await self._fleet.prune()
        spec = self._spec
        for built in self._fleet.run.releases:
            name = built.module.name
            try:
                await spec.store.packages.prune(
                    name, spec.plan.store.keep, frozenset({built.id})
                )
            except StoreError as exc:
                text = f"old packages of {name} were not removed: {exc}"
                self._recorder.note(e.Warned(text))

    async def _name_who_joined(self) -> None:
        """Tell of hosts that came before MANIFEST moved, and that the run never saw."""
        spec = self._spec
        if spec.goal.moves_manifest and not spec.limited:
            note = self._recorder.note
            await tell_who_joined(spec.inventory, spec.plan.hosts, note)

    # --- Parts -----------------------------------------------------------------

    def _make_fleet(self) -> Fleet:
        run, hosts, waves = muster(
            self._spec, self._transport, self._recorder, self._recorder.note
        )
        for number, wave in enumerate(waves, start=1):
            self._recorder.waves.update((ctx.name, number) for ctx in wave)
        return Fleet(
            run,
            hosts,
            waves,
            self._build,
            self._commit,
            self._gate,
            self._recorder.before_first_switch,
        )

    async def _gate(self, wave: int, hosts: tuple[str, ...]) -> str:
        return await pass_after_wave(self._builder, wave, self._fleet.run.waves, hosts)

    def _make_builder(self) -> Builder:
        spec = self._spec
        return Builder(
            plan=spec.plan,
            store=spec.store,
            goal=spec.goal,
            actor=spec.actor,
            folder=spec.build_folder,
            log=self._recorder.build_log,
            environ=spec.environ,
            secrets=spec.secrets,
            redactor=self._fleet.run.redactor,
            note=self._recorder.note,
        )

    def _remember(self, record: e.Record) -> None:
        if not e.is_passing(record.event):
            self._records.append(record)
        self._news.set()
        self._news = anyio.Event()

    # --- The end ---------------------------------------------------------------

    async def _finish(self) -> None:
        """Sum the run up; the record keeps the report, and ends with it."""
        for ctx in self._fleet.hosts:
            if text := still_drained(ctx):
                self._recorder.note(e.HostWarned(ctx.name, text), ctx.machine)
        report = self._report = sum_up(
            self._fleet,
            self._recorder,
            seconds=time.monotonic() - self._began,
            exit_status=self._exit_status,
        )
        await self._recorder.finish(report)

    async def _close(self) -> None:
        """Give all connections back at once, and with them the locks."""
        try:
            await release(self._fleet.hosts)
        finally:
            self._recorder.close()


def _innermost(exc: Exception) -> Exception:
    """Return the one exception in a group of groups of one; what users can catch."""
    while isinstance(exc, ExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return exc
