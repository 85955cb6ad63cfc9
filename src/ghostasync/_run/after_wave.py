"""The gate after each wave: after_wave, a script on this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence

import anyio
from anyio import to_thread

from .. import events as e
from .._build.builder import Builder
from .._build.environment import LONGEST_VARIABLE, run_variables, size_of
from .._engine.host import RunContext
from .._local.output import Listener
from .._local.scripts import script
from ..errors import BuildError

__all__ = ["run_after_wave"]


async def run_after_wave(
    run: RunContext, builder: Builder, wave: int, hosts: Sequence[str]
) -> None:
    """Run after_wave here, once *hosts* of a wave are live; how it ends is an event."""
    rollout, started = builder.plan.rollout, anyio.current_time()
    # A wave of hosts that were UNCHANGED, or live already, has nothing to be judged by.
    if not (rollout.after_wave and hosts):
        return
    # The names of 5,000 hosts are too large for a variable, so they are in a file too.
    names, file = " ".join(hosts), builder.log("after_wave").with_name("wave_hosts")
    fits = size_of("GHOST_WAVE_HOSTS", names) <= LONGEST_VARIABLE
    variables = {
        **run_variables(
            builder.plan.app,
            actor=builder.actor,
            action=builder.goal.action,
            secrets=builder.secrets,
        ),
        "GHOST_WAVE": str(wave),
        "GHOST_WAVES": str(run.waves),
        "GHOST_WAVE_HOSTS": names if fits else "",
        "GHOST_WAVE_HOSTS_FILE": str(file),
    }
    run.note(e.AfterWaveStarted(wave))
    log, stream = builder.log("after_wave"), builder.redactor.stream()
    listener = Listener("", "after_wave", log, stream, run.note)
    try:
        text = "".join(f"{host}\n" for host in hosts)
        await to_thread.run_sync(file.write_text, text)
        with listener:
            status = await script(
                os.fsencode(rollout.after_wave.run),
                cwd=builder.plan.base,
                env={**builder.environ, **variables},
                output=listener.output,
                deadline=rollout.deadlines.after_wave,
                what="after_wave",
            )
    except (BuildError, OSError) as exc:
        status, reason = None, str(exc)
    else:
        reason = f"after_wave exited {status}" if status else ""
    if reason:
        run.note(e.AfterWaveFailed(wave, reason, status, listener.tail.text()))
    else:
        run.note(e.AfterWavePassed(wave, anyio.current_time() - started))
