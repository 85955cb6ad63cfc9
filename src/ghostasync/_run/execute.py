"""A script of a person on a fleet, wave by wave; no link moves, none goes back."""

from __future__ import annotations

from .._build.builder import Builder
from .._build.release import RECALLED, Release
from .._engine.fleet import Fleet, GoesNoFurther
from ..events import Committed

__all__ = ["execute"]


async def execute(fleet: Fleet, builder: Builder) -> None:
    """
    Have every host run the goal's script, once the locks of all are held.

    Raises:
        BaseException: A cancellation or a bug, once every script has been ended.
    """
    try:
        with fleet.forward:
            await fleet.gather(lambda: _in_manifest(fleet, builder), builder.published)
            for number in fleet.waves:
                await fleet.switch(number)
            fleet.note(Committed())
    except GoesNoFurther:
        pass  # the reason is on record
    except BaseException as exc:
        fleet.give_up(exc)
        raise
    finally:
        # Hosts whose turn has not come are told that it will not.
        await fleet.go_back()


async def _in_manifest(fleet: Fleet, builder: Builder) -> tuple[Release, ...]:
    """
    Return the releases that MANIFEST names, for their variables; no archive is opened.

    Raises:
        StoreError: The store cannot be read.
    """
    made = []
    for chosen in fleet.run.spec.modules:
        package = await builder.store.packages.package(chosen.package)
        variables = await builder.environment(chosen.module, package)
        made.append(Release(chosen.module, package, None, variables, RECALLED))
    return tuple(made)
