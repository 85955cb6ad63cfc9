"""
MANIFEST, the list of packages for hosts that boot: moved once a run is live, or back.

The move is the point of no return. Before it everything can be taken back; after it a
host that autoscaling adds gets the new release, so the fleet has to stay there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from .. import events as e
from .._build.builder import Builder
from .._build.environment import digest
from .._engine.host import HostRun, RunContext
from .._engine.takeover import manifest_before_killed_run
from ..errors import StoreError
from ..machine import NOT_BACK
from ..model import Module, Package, State
from ..protocols import Environment, ManifestLine

__all__ = ["ManifestMove"]


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
            self.run.note(e.Warned(f"MANIFEST stays: {self._why_limited()}"))
        else:
            lines = [
                _Line(
                    r.module, r.package, r.variables, self._generation(r.module, r.id)
                )
                for r in run.releases
                if r.module.name not in run.overtaken
            ]
            for name in sorted(run.overtaken):
                run.note(e.Warned(f"MANIFEST stays for {name}: a later run moved it"))
            moved = await self._move(lines)
            run.protected = {m: frozenset({p}) for m, p in moved.items()}

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

    def _why_limited(self) -> str:
        run = self.run
        packages = " ".join(f"--package {release.id}" for release in run.releases)
        whole = f"ghostasync deploy {packages}"
        if run.killed is None or run.killed.limited:
            return f"the run was under --limit; to take the other hosts along: {whole}"
        return f"hosts have joined since the run began; to take them along: {whole}"

    async def move_back(self) -> None:
        """
        Have MANIFEST name again what it named before the run that is taken back.

        Hosts are back by now: a line that cannot be moved is only warned of.
        """
        spec, back = self.run.spec, []
        # With one host on the newer release still, the older one could be as wrong: a
        # person has to say which of them the fleet is to have.
        left = bool(self.run.state.in_state(*NOT_BACK))
        now = {line.module: line.package for line in spec.manifest}
        modules = {chosen.module.name: chosen.module for chosen in spec.modules}
        for name, old in manifest_before_killed_run(self.hosts, now).items():
            still = f"MANIFEST still names {now[name]}"
            if left or not old or not self.run.generation:
                why = "no one release was before"
                if left or old:
                    why = "not every host is back" if left else "the run has no number"
                self.run.note(e.Warned(f"{still}: {why}"))
                continue
            try:
                package = await spec.store.packages.package(old)
                variables = await self.builder.environment(modules[name], package)
            except StoreError as exc:
                self.run.note(e.Warned(f"{still}: {exc}"))
            else:
                back.append((modules[name], package, variables))
        try:
            if back:
                await self._move([_Line(*each, self.run.generation) for each in back])
        except StoreError as exc:
            self.run.note(e.Warned(f"MANIFEST could not be moved: {exc}"))

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
        environments = [
            Environment(n.package.id, n.variables, digest(n.variables)) for n in lines
        ]
        spec = self.run.spec
        order = [module.name for module in spec.plan.modules]
        # As it was when the run was numbered: another run may have moved it since.
        seen = self.run.manifest
        await spec.store.manifest.move(manifest, environments, order, seen, drop)
        moved = {line.module: line.package for line in manifest}
        self.run.note(e.ManifestMoved(moved))
        return moved
