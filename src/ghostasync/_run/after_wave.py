"""The gate on the controller that a rollout has to pass after each wave."""

from __future__ import annotations

import os
from collections.abc import Sequence

import anyio

from .. import events as e
from .._build.builder import Builder
from .._build.environment import run_variables
from .._local.output import Listener
from .._local.scripts import script
from ..errors import BuildError

__all__ = ["pass_after_wave"]


async def pass_after_wave(
    builder: Builder, wave: int, waves: int, hosts: Sequence[str]
) -> str:
    """
    Run after_wave here, once wave number *wave* of *waves* is live.

    Returns:
        Why it failed; empty where it passed, or where there is none.
    """
    rollout, started = builder.plan.rollout, anyio.current_time()
    if not rollout.after_wave:
        return ""
    seconds = rollout.deadlines.after_wave
    variables = {
        **run_variables(
            builder.plan.app,
            actor=builder.actor,
            action=builder.goal.action,
            secrets=builder.secrets,
        ),
        "GHOST_WAVE": str(wave),
        "GHOST_WAVES": str(waves),
        "GHOST_WAVE_HOSTS": " ".join(hosts),
    }
    builder.note(e.AfterWaveStarted(wave))
    log, stream = builder.log("after_wave"), builder.redactor.stream()
    listener = Listener("", "after_wave", log, stream, builder.note)
    try:
        with listener:
            status = await script(
                os.fsencode(rollout.after_wave.run),
                cwd=builder.plan.base,
                env={**builder.environ, **variables},
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
        builder.note(e.AfterWaveFailed(wave, reason, status, tail))
        return f"wave {wave}: {reason}"
    builder.note(e.AfterWavePassed(wave, anyio.current_time() - started))
    return ""
