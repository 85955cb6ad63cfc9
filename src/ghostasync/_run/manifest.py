"""
MANIFEST, the list of packages for hosts that boot: moved once a run is live, or back.

The move is the point of no return. Before it everything can be taken back; after it a
host that autoscaling adds gets the new release, so the fleet has to stay there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import anyio
import attrs

from .. import events as e
from .._build.builder import Builder
from .._engine.host import HostRun, RunContext
from .._engine.takeover import manifest_before_killed_run
from ..errors import StoreError
from ..machine import NOT_BACK
from ..model import Module, Package, State
from ..protocols import Environment, ManifestLine

__all__ = ["ManifestMove"]

_KEEP_SECONDS: Final = 20
"""Seconds that the store has to keep what a run under --limit brought: no run fails for
that."""


@attrs.frozen
class _Line:
    """One line that MANIFEST is to have, with the environment of its package."""

    module: Module
    package: Package
    variables: Mapping[str, str]
    generation: int


@attrs.define(eq=False)
class ManifestMove:
    """The move of MANIFEST by one run; *led* are modules moved before the fleet was."""

    run: RunContext
    hosts: Sequence[HostRun]
    builder: Builder
    led: frozenset[str] = frozenset()

    async def follow(self) -> None:
        """
        Have MANIFEST name the releases that the fleet serves now, if the goal asks so.

        Raises:
            StoreError: MANIFEST could not be moved, and is as it was.
        """
        run = self.run
        if not run.goal.moves_manifest:
            return
        if run.spec.way_back is not None:
            self._tell_what_stays()
            return
        # A host that boots must get what the fleet serves, and not what was brought to
        # a few hosts of it.
        if run.spec.limited:
            packages = " ".join(f"--package {release.id}" for release in run.releases)
            text = "MANIFEST stays: the run was under --limit; to take the other hosts"
            run.note(e.Warned(f"{text} along: ghostasync deploy {packages}"))
            await self._keep_environments()
        else:
            lines = [
                _Line(
                    r.module, r.package, r.variables, self._generation(r.module, r.id)
                )
                for r in run.releases
                if r.module.name not in run.overtaken
            ]
            await self._offer_gzip()
            for name in sorted(run.overtaken):
                run.note(e.Warned(f"MANIFEST stays for {name}: a later run moved it"))
            moved = await self._move(lines)
            run.protected = {m: frozenset({p}) for m, p in moved.items()}

    async def _offer_gzip(self) -> None:
        """Have the store keep what hosts without zstd boot from, before they may."""
        # Hosts that join are like those that are there. A store that is elsewhere gets
        # it while hosts work, one that is here only where somebody needs it.
        facts = [ctx.attempt.facts for ctx in self.hosts]
        lack = any(f and "zstd" not in f.tools for f in facts)
        here = self.run.spec.store.packages.are_here
        await self.builder.gzipped(self.run.releases if here and lack else ())

    async def _keep_environments(self) -> None:
        """Keep what releases run with that MANIFEST does not name, for a rollback."""
        manifest = self.run.spec.store.manifest
        try:
            with anyio.fail_after(_KEEP_SECONDS):
                # What is kept already is what a host that boots gets.
                new = [
                    self._environment(r.id, r.variables)
                    for r in self.run.releases
                    if await manifest.environment(r.id) is None
                ]
                await manifest.move([], new, [])
        except (StoreError, TimeoutError) as exc:
            why = str(exc) or "the store does not answer"
            text = (
                f"the environment was not kept, so MANIFEST cannot go back to it: {why}"
            )
            self.run.note(e.Warned(text))

    def _environment(self, package: str, variables: Mapping[str, str]) -> Environment:
        return Environment(package, variables, self.run.spec.secrets_of(variables))

    async def lead(self) -> None:
        """
        Have MANIFEST name what the fleet goes to, before the first link moves.

        Where the store lacks the package or its environment, MANIFEST stays.
        """
        back, number = self.run.spec.way_back, self.run.generation
        if back is None:
            return
        manifest = self.run.spec.store.manifest
        try:
            lines = [
                _Line(r.module, r.package, r.variables, number)
                for r in self.run.releases
                if r.module.name in back.manifest
                and r.spool is not None
                # Without it a host that boots would get variables of another release.
                and await manifest.environment(r.id) is not None
            ]
            drop = sorted(back.manifest & back.removed)
            if lines or drop:
                # Before the move: one whose answer is lost may have happened.
                self.led = frozenset({*(n.module.name for n in lines), *drop})
                await self._move(lines, drop=drop)
        except StoreError as exc:
            self.run.note(e.Warned(f"MANIFEST stays: {exc}"))

    async def lead_back(self) -> None:
        """Have MANIFEST name again what it named before :meth:`lead`."""
        spec, environments = self.run.spec, []
        before = {n.module: n for n in self.run.manifest if n.module in self.led}
        store = spec.store.manifest
        try:
            # What another run has written meanwhile stays.
            now = await store.read()
            ours = {n.module for n in now if n.generation == self.run.generation}
            gone = self.led - {n.module for n in now}
            lines = [
                attrs.evolve(line, generation=self.run.generation)
                for name, line in before.items()
                if name in ours | gone
            ]
            for line in lines:
                kept = await store.environment(line.package)
                environments += [kept] if kept else []
            order = [module.name for module in spec.plan.modules]
            drop = sorted((self.led & ours) - before.keys())
            await store.move(lines, environments, order, now, drop)
        except StoreError as exc:
            self.run.note(e.Warned(f"MANIFEST could not be moved back: {exc}"))
        else:
            moved = {line.module: line.package for line in lines}
            self.run.note(e.ManifestMoved(moved))

    def _tell_what_stays(self) -> None:
        """Say what MANIFEST names for modules that it was not moved back for."""
        run = self.run
        if run.spec.limited:
            run.note(e.Warned("MANIFEST stays: the run was under --limit"))
            return
        names = {r.module.name for r in run.releases}
        for line in run.manifest:
            brought = {r.id for r in run.releases if r.module.name == line.module}
            if line.module in names - self.led and brought != {line.package}:
                text = f"MANIFEST still names {line.package}: a host that boots gets it"
                run.note(e.Warned(text))

    @property
    def renewed(self) -> frozenset[str]:
        """The modules whose lines this run writes anew, under its own number."""
        return frozenset(
            r.module.name
            for r in self.run.releases
            if self._generation(r.module, r.id) == self.run.generation
        )

    def _generation(self, module: Module, package: str) -> int:
        """Return the number for a line: the old one, where the run changed nothing."""
        # A run that found every host unchanged has moved nothing that would be newer.
        moved = any(
            ctx.state is State.LIVE
            and module.name in {m.module for m in ctx.undo.moves}
            for ctx in self.hosts
        )
        for line in self.run.manifest:
            if line.module == module.name and line.package == package and not moved:
                return line.generation
        return self.run.generation

    async def move_back(self) -> None:
        """
        Have MANIFEST name again what it named before the run that is taken back.

        Hosts are back by now: a line that cannot be moved is only warned of.
        """
        run, spec = self.run, self.run.spec
        # Another run may have moved it since this one was planned.
        lines = run.manifest if run.generation else spec.manifest
        now = {line.module: line.package for line in lines}
        modules = {chosen.module.name: chosen.module for chosen in spec.modules}
        back = []
        for name, old in manifest_before_killed_run(self.hosts, now).items():
            why = self._why_not_back(name, old, now)
            try:
                if not why:
                    package = await spec.store.packages.package(old)
                    variables = await self.builder.environment(modules[name], package)
                    back.append(
                        _Line(modules[name], package, variables, run.generation)
                    )
            except StoreError as exc:
                why = str(exc)
            if why:
                names = now.get(name) or f"no {name}"
                run.note(e.Warned(f"MANIFEST still names {names}: {why}"))
        try:
            if back:
                await self._move(back)
        except StoreError as exc:
            run.note(e.Warned(f"MANIFEST could not be moved: {exc}"))

    def _why_not_back(self, module: str, old: str, now: Mapping[str, str]) -> str:
        """Return why MANIFEST cannot name *old* again; empty where it can."""
        # With one host on the newer release still, the older one could be as wrong: a
        # person has to say which of them the fleet is to have.
        if self.run.state.in_state(*NOT_BACK):
            return "not every host is back"
        if not old:
            return "no one release was before"
        if not self.run.generation:
            return "the run has no number"
        # A rollback that took a module away had removed links already, and a way back
        # makes none: MANIFEST must not name what no host serves.
        seen = {ctx.name: ctx.attempt.facts for ctx in self.hosts}
        targets = {name: f.targets.get(module) for name, f in seen.items() if f}
        gone = [n for n, t in targets.items() if t and t.activations and not t.link]
        if module in now or not gone:
            return ""
        return (
            f"its link is removed on {', '.join(gone)}; "
            f"ghostasync deploy --package {old} brings it back"
        )

    async def _move(
        self, lines: list[_Line], drop: Sequence[str] = ()
    ) -> dict[str, str]:
        """Move all *lines* at once; return the packages that they name, by module."""
        manifest = [
            ManifestLine(
                module=n.module.name,
                package=n.package.id,
                path=n.module.path,
                sha256=n.package.sha256,
                generation=n.generation,
            )
            for n in lines
        ]
        environments = [self._environment(n.package.id, n.variables) for n in lines]
        spec = self.run.spec
        order = [module.name for module in spec.plan.modules]
        # As it was when the run was numbered: another run may have moved it since.
        seen = self.run.manifest
        await spec.store.manifest.move(manifest, environments, order, seen, drop)
        moved = {line.module: line.package for line in manifest}
        self.run.note(e.ManifestMoved(moved))
        return moved
