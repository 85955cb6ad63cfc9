"""
What may end or replace hosts, at rest while links move: processes of Auto Scaling.

How it works. Before the first link moves, and once every host is locked for this run,
the processes that are at work are put on record in the store and in the journal, and
suspended; after the last link, or the way back, they are resumed. Processes that
somebody else has suspended are not touched. A controller that is killed in between
leaves them suspended, and the record: the next run on the whole fleet resumes them with
its own. It has the lock of every host, so the other one is dead.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import anyio
import attrs

from .. import events as e
from .._engine.fleet import Fleet
from .._local.together import at_once
from .._planning.inventory import CheckedInventory
from ..errors import GhostasyncError, NotInStore, PlanError
from ..model import State
from ..protocols import SuspendableInventory

__all__ = ["RECORD", "Suspension"]

RECORD: Final = "suspended.json"
"""The file of a run that says what it has suspended, and has not resumed yet."""

SECONDS: Final = 60.0
"""Seconds to suspend, or resume, the processes of all groups."""

_RUNS: Final = 50
"""Runs whose records are looked at, the newest ones."""

_AT_ONCE: Final = 16

Processes = Mapping[str, tuple[str, ...]]


@attrs.define(eq=False)
class Suspension:
    """
    The processes that one run keeps at rest.

    ``_ours`` are those that it has to resume, and ``_runs`` the killed runs that it
    does this for.
    """

    fleet: Fleet
    _ours: Processes = attrs.field(factory=dict)
    _runs: tuple[str, ...] = ()

    async def begin(self) -> str:
        """Suspend what is at work; return why that could not be done, else ""."""
        inventory = self._inventory
        if inventory is None:
            return ""
        why = f"no answer within {SECONDS:g} s"
        with anyio.move_on_after(SECONDS):
            try:
                await self._begin(inventory)
            except GhostasyncError as exc:
                why = str(exc)
            except Exception as exc:  # noqa: BLE001  somebody else's code may raise it
                why = f"the inventory failed: {exc!r}"
            else:
                return ""
        return f"what may end hosts could not be suspended: {why}"

    async def _begin(self, inventory: SuspendableInventory) -> None:
        spec, hosts = self.fleet.run.spec, self.fleet.hosts.values()
        left = {} if spec.limited else await self._left_by_killed_runs()
        active: Processes = {}
        if spec.goal.only_back or any(ctx.state is State.READY for ctx in hosts):
            active = {k: tuple(v) for k, v in (await inventory.processes()).items()}
        ours = _together([*left.values(), active])
        if not ours:
            return
        # On record first, and in the store: whoever finds them suspended has to know.
        await spec.store.runs.save(spec.id, RECORD, _dump(ours))
        self._ours, self._runs = ours, tuple(left)
        self.fleet.note(e.ScalingSuspended(ours))
        await inventory.suspend(active)

    async def end(self) -> None:
        """Resume what this run has suspended, or a killed one; failures only warn."""
        inventory = self._inventory
        if inventory is None or not self._ours:
            return
        why = f"no answer within {SECONDS:g} s"
        # Shielded: whatever ends the run, the group has to work again.
        with anyio.move_on_after(SECONDS, shield=True):
            try:
                await inventory.resume(self._ours)
                self.fleet.note(e.ScalingResumed(self._ours))
                for run in (self.fleet.run.id, *self._runs):
                    await self.fleet.run.spec.store.runs.save(run, RECORD, _dump({}))
            except GhostasyncError as exc:
                why = str(exc)
            except Exception as exc:  # noqa: BLE001  somebody else's code may raise it
                why = f"the inventory failed: {exc!r}"
            else:
                return
        text = "; ".join(f"{k}: {' '.join(v)}" for k, v in self._ours.items())
        self.fleet.note(
            e.Warned(
                f"not resumed, until the next run on the whole fleet: {text}: {why}"
            )
        )

    @property
    def _inventory(self) -> SuspendableInventory | None:
        found = self.fleet.run.spec.inventory
        if isinstance(found, CheckedInventory):
            found = found.inventory
        return found if isinstance(found, SuspendableInventory) else None

    async def _left_by_killed_runs(self) -> dict[str, Processes]:
        """Return what runs have suspended and not resumed, by run."""
        runs, mine = self.fleet.run.spec.store.runs, self.fleet.run.id

        async def load(run: str) -> Processes:
            with suppress(NotInStore):
                return _load(run, await runs.load(run, RECORD))
            return {}

        ids = [run for run in await runs.ids() if run != mine][-_RUNS:]
        found = await at_once(_AT_ONCE, load, ids)
        return {run: each for run, each in zip(ids, found, strict=True) if each}


def _together(many: list[Processes]) -> Processes:
    groups = sorted({group for one in many for group in one})
    return {
        group: tuple(sorted({name for one in many for name in one.get(group, ())}))
        for group in groups
    }


def _dump(processes: Processes) -> bytes:
    return json.dumps(processes).encode()


def _load(run: str, data: bytes) -> Processes:
    try:
        return {
            str(group): tuple(map(str, names))
            for group, names in json.loads(data).items()
        }
    except (ValueError, AttributeError, TypeError, RecursionError) as exc:
        raise PlanError(f"run {run}: {RECORD} is damaged: {exc}") from exc
