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
from ..model import Module, Package
from ..protocols import Environment, ManifestLine

__all__ = ["ManifestMove"]


@attrs.frozen
class _Line:
    """One line that MANIFEST is to have, with the environment of its package."""

    module: Module
    package: Package
    variables: Mapping[str, str]


@attrs.frozen(eq=False)
class ManifestMove:
    """The move of MANIFEST by one run, forward or back."""

    run: RunContext
    hosts: Sequence[HostRun]
    builder: Builder

    async def follow(self) -> None:
        """
        Have MANIFEST name the releases that the fleet serves now, if the goal asks so.

        Raises:
            StoreError: MANIFEST could not be moved, and is as it was.
        """
        run = self.run
        if not run.goal.moves_manifest:
            return
        # A host that boots must get what the fleet serves, and not what was brought to
        # a few hosts of it.
        if run.spec.limited:
            self.run.note(e.Warned(f"MANIFEST stays: {self._why_limited()}"))
        else:
            lines = [_Line(r.module, r.package, r.variables) for r in run.releases]
            moved = await self._move(lines)
            run.protected = {m: frozenset({p}) for m, p in moved.items()}

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
        spec, lines = self.run.spec, []
        # With one host on the newer release still, the older one could be as wrong: a
        # person has to say which of them the fleet is to have.
        left = bool(self.run.state.in_state(*NOT_BACK))
        now = {line.module: line.package for line in spec.manifest}
        modules = {chosen.module.name: chosen.module for chosen in spec.modules}
        for name, old in manifest_before_killed_run(self.hosts, now).items():
            still = f"MANIFEST still names {now[name]}"
            if left or not old:
                why = "not every host is back" if left else "no one release was before"
                self.run.note(e.Warned(f"{still}: {why}"))
                continue
            try:
                package = await spec.store.packages.package(old)
                variables = await self.builder.environment(modules[name], package)
            except StoreError as exc:
                self.run.note(e.Warned(f"{still}: {exc}"))
            else:
                lines.append(_Line(modules[name], package, variables))
        try:
            if lines:
                await self._move(lines)
        except StoreError as exc:
            self.run.note(e.Warned(f"MANIFEST could not be moved: {exc}"))

    async def _move(self, lines: list[_Line]) -> dict[str, str]:
        """Move all *lines* at once; return the packages that they name, by module."""
        manifest = [
            ManifestLine(n.module.name, n.package.id, n.module.path, n.package.sha256)
            for n in lines
        ]
        environments = [
            Environment(n.package.id, n.variables, digest(n.variables)) for n in lines
        ]
        spec = self.run.spec
        order = [module.name for module in spec.plan.modules]
        await spec.store.manifest.move(manifest, environments, order)
        moved = {line.module: line.package for line in manifest}
        self.run.note(e.ManifestMoved(moved))
        return moved
