"""
Hosts that joined the fleet while a run went on: they are brought along at its end.

A host that boots once MANIFEST has moved gets the new release by itself. A host that
booted between the run's start and that moment has the old one, and no wave of the run
has it. Once the run is live, it is taken to what MANIFEST names as by a converge, under
the run's own id and number: so the run's journal, its locks and its resumption have it.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Final

import anyio
import attrs

from .. import events as e
from .._build.builder import Builder
from .._engine.fleet import Fleet
from .._engine.spec import ModuleToDeploy, RunSpec
from .._planning.hosts import hosts_of_module, place
from .._planning.modules import in_manifest
from ..errors import GhostasyncError, PlanError
from ..goal import Converge
from ..machine import SERVES_NEW
from ..model import Host
from ..protocols import Transport
from .fleet import host_run

__all__ = ["Joined"]

AGAIN_SECONDS: Final = 15.0
"""Seconds that the inventory may take here: the fleet is ready, and a caller waits."""


@attrs.define(eq=False)
class Joined:
    """
    The hosts that one run has not seen when it was planned.

    *builder* loads what MANIFEST names. ``_named`` is what the inventory said last, and
    ``_why`` why it did not say it once more.
    """

    fleet: Fleet
    builder: Builder
    transport: Transport | None
    _named: Sequence[Host] = ()
    _why: str = ""

    async def ask(self) -> None:
        """Ask the inventory again, unless the run leaves MANIFEST alone."""
        spec = self.fleet.run.spec
        # A run that leaves MANIFEST alone has promised new hosts nothing.
        if spec.limited or not spec.goal.moves_manifest:
            return
        self._why = ""
        try:
            with anyio.fail_after(AGAIN_SECONDS):
                self._named = await spec.inventory.hosts()
        except (PlanError, TimeoutError) as exc:
            self._why = str(exc) or f"no answer within {AGAIN_SECONDS:g} s"

    async def bring_along(self) -> None:
        """
        Take hosts that have joined to what MANIFEST names; failures only warn.

        They are those of the last answer: one that is gone again is nobody's.
        """
        run = self.fleet.run
        # A rollback may have left MANIFEST as it was, with what is not to be brought.
        if run.state.manifest is None:
            return
        await self.ask()
        if self._why:
            run.note(e.Warned(f"who has joined meanwhile is not known: {self._why}"))
        if not self._unseen(self._named):
            return
        try:
            spec = await self._spec()
        except GhostasyncError as exc:
            self._tell([host.name for host in self._unseen(self._named)], str(exc))
            return
        if not spec.hosts:
            return
        try:
            # As for a converge. What is loaded here was packaged by other runs.
            goal, quiet = spec.goal, lambda _: None
            async with attrs.evolve(self.builder, goal=goal, note=quiet) as builder:
                await self._bring_along(spec, builder)
        except (GhostasyncError, OSError) as exc:
            self._tell([host.name for host in spec.hosts], str(exc))

    async def _spec(self) -> RunSpec:
        """
        Return the run's spec as that of a converge of the hosts that have joined.

        Raises:
            GhostasyncError: The store cannot be read, or the plan fits no host.
        """
        spec = self.fleet.run.spec
        plan = attrs.evolve(spec.plan, hosts=tuple(self._named))
        manifest, where = await spec.store.manifest.read(), hosts_of_module(plan)
        modules, ids = in_manifest(plan, manifest)
        everyone, _ = place(plan.hosts, modules, where)
        hosts = self._unseen(everyone)
        if hosts:
            _, modules = place(hosts, modules, where)
        return attrs.evolve(
            spec,
            goal=Converge(),
            plan=plan,
            hosts=tuple(hosts),
            hosts_of_module=where,
            modules=tuple(ModuleToDeploy(m, package=ids[m.name]) for m in modules),
            manifest=manifest,
            way_back=None,
        )

    async def _bring_along(self, spec: RunSpec, builder: Builder) -> None:
        run = self.fleet.run
        late = attrs.evolve(
            run,
            spec=spec,
            releases=tuple(
                [await builder.load(m.module, m.package) for m in spec.modules]
            ),
            protected={n.module: frozenset({n.package}) for n in spec.manifest},
            variables={**run.variables, "GHOST_ACTION": spec.goal.action.value},
            overtaken=set(),
        )
        hosts = [host_run(host, late, self.transport) for host in spec.hosts]
        await self.fleet.bring_along(hosts)
        self._tell(
            [c.name for c in hosts if c.state not in SERVES_NEW and not c.book.gone]
        )

    def _unseen(self, hosts: Sequence[Host]) -> list[Host]:
        """Return those of *hosts* that were not there when the run was planned."""
        spec = self.fleet.run.spec
        seen = {host.name for host in spec.plan.hosts} - spec.joined
        return [host for host in hosts if host.name not in seen]

    def _tell(self, names: Sequence[str], why: str = "") -> None:
        """Name hosts that were not brought along, and what brings them."""
        if names:
            text = f"joined since the run was planned: {' '.join(names)}"
            text += "; not brought along" + f", {why}" * bool(why)
            cure = f"ghostasync converge {shlex.join(names)}"
            self.fleet.run.note(e.Warned(f"{text}: {cure}"))
