"""What a rollout has to pass: before its first link moves, and after each wave."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Final

import anyio

from . import events as e
from ._build import Workshop
from ._environment import run_variables
from ._listener import Listener
from ._local import script
from .errors import BuildError
from .model import Action
from .model import State as S  # noqa: N817  as in the table
from .stages import Context, RunContext, before_switch

__all__ = ["MIGRATING", "pass_after_wave", "pass_before_switch"]

MIGRATING: Final = frozenset(
    action.value for action in (Action.DEPLOY, Action.REDEPLOY, Action.RESUME)
)
"""Actions that may bring a release for the first time. What they took a fleet to has
passed its before_switch; going back to it, or on with it, must not run that again."""


async def pass_before_switch(run: RunContext, hosts: Iterable[Context]) -> str:
    """
    Run each module's before_switch once, on the first of *hosts* that is to get it.

    Returns:
        Why one failed, and then no link may move; empty where all passed.
    """
    past = run.past
    # What resumes a rollback or a converge is one.
    if not {run.action.value, past.action if past else run.action.value} <= MIGRATING:
        return ""
    ready = [ctx for ctx in hosts if ctx.machine.state is S.READY]
    for release in run.releases:
        name = release.module.name
        if past and name in past.migrated:
            continue
        if "before_switch" not in release.package.scripts:
            continue
        first = next((ctx for ctx in ready if release in ctx.work), None)
        if first is not None and (failed := await before_switch(first, release)):
            return failed
    return ""


async def pass_after_wave(
    workshop: Workshop, wave: int, waves: int, hosts: Sequence[str]
) -> str:
    """
    Run after_wave here, once wave number *wave* of *waves* is live.

    Returns:
        Why it failed; empty where it passed, or where there is none.
    """
    rollout, started = workshop.plan.rollout, anyio.current_time()
    if not rollout.after_wave:
        return ""
    seconds = rollout.deadlines.after_wave
    variables = {
        **run_variables(
            workshop.plan.app,
            actor=workshop.actor,
            action=workshop.action,
            secrets=workshop.secrets,
        ),
        "GHOST_WAVE": str(wave),
        "GHOST_WAVES": str(waves),
        "GHOST_WAVE_HOSTS": " ".join(hosts),
    }
    workshop.note(e.AfterWaveStarted(wave))
    log, stream = workshop.log("after_wave"), workshop.redactor.stream()
    listener = Listener("", "after_wave", log, stream, workshop.note)
    try:
        with listener:
            status = await script(
                os.fsencode(rollout.after_wave.run),
                cwd=workshop.plan.base,
                env={**workshop.environ, **variables},
                output=listener.output,
                deadline=seconds,
                what="after_wave",
            )
    except BuildError as exc:
        status, reason = None, str(exc)
    else:
        reason = f"after_wave exited {status}" if status else ""
    if reason:
        tail = listener.tail.text()
        workshop.note(e.AfterWaveFailed(wave, reason, status, tail))
        return f"wave {wave}: {reason}"
    workshop.note(e.AfterWavePassed(wave, anyio.current_time() - started))
    return ""
