"""The demo in which the controller is killed in the middle of the switch."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Final

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from .. import journal, start, status
from ..events import Record, Switched
from ..goal import Resume
from ..model import Outcome, Plan
from . import _tables as tables
from ._commands import closing
from ._frontend import FrontEnd
from ._options import Output
from ._running import Signals, conduct, supervise
from ._sink import show

__all__ = ["kill_and_resume"]

_SWITCHED: Final = 3
"""Links that have moved when the controller is killed: a canary, a part of a wave."""

_LONGEST: Final = 1 << 20
"""Bytes of a record; that of the end has a word for every host."""

_PAUSE: Final = 0.2
"""Seconds between two looks at the hosts of a controller that is dead."""


async def kill_and_resume(plan: Plan, config: Path, output: Output) -> bool:
    """
    Deploy in a process of its own, kill that half-way, look at the fleet, and go on.

    Args:
        plan: What goes where.

        config: The file that says the same.

        output: As for all commands.

    Returns:
        Whether the fleet is live in the end.
    """
    _say(output, "\n$ ghostasync deploy")
    with FrontEnd(output, sys.stdout) as front:
        count = min(_SWITCHED, len(plan.hosts))
        pid = await supervise(front, partial(_deploy_and_kill, front, config, count))
    _say(output, f"\n$ kill -9 {pid}    # the controller, in the middle of the switch")
    _say(output, "$ ghostasync status")
    fleet = await status(plan)
    while fleet.run is not None and fleet.run.holder:
        # The kernel closes a dead controller's connections, and its hosts give back
        # their locks then. Until they have, status says that the run is going on.
        await anyio.sleep(_PAUSE)
        fleet = await status(plan)
    as_json = output == "json"
    shown = [tables.status_json(fleet)] if as_json else tables.status(fleet)
    show(shown, sys.stdout)
    _say(output, "\n$ ghostasync resume")
    with FrontEnd(output, sys.stdout) as front:
        begin = partial(start, plan, Resume(), observe=front.observe)
        report = await conduct(front, begin)
    closing(report, front, None)
    return report.outcome is Outcome.LIVE


def _say(output: Output, text: str) -> None:
    if output != "json":
        show(text.split("\n"), sys.stdout)


async def _deploy_and_kill(
    front: FrontEnd, config: Path, count: int, signals: Signals
) -> int:
    """Show the deploy of another process until it has moved *count* links; kill it."""
    del signals
    command = [sys.executable, "-m", "ghostasync", "--config", str(config)]
    process = await anyio.open_process(
        [*command, "deploy", "--output", "json"],
        stdin=None,
        stderr=None,
        start_new_session=True,
        env=dict(os.environ),
    )
    switched = 0
    try:
        async for record in _records(process):
            front.observe(record)
            switched += isinstance(record.event, Switched)
            if switched >= count:
                break
    finally:
        # A demo that is interrupted here kills the controller as well: nobody would see
        # the deploy go on, in folders that are about to vanish.
        process.send_signal(signal.SIGKILL)
        with anyio.CancelScope(shield=True):
            await process.aclose()
    return process.pid


async def _records(process: Process) -> AsyncIterator[Record]:
    if process.stdout is None:
        return
    lines = BufferedByteReceiveStream(process.stdout)
    while True:
        try:
            line = await lines.receive_until(b"\n", _LONGEST)
        except (anyio.EndOfStream, anyio.IncompleteRead):
            return
        yield journal.decode(line.decode())
