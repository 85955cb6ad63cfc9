"""Notifiers: told of a run's report once the run is over, which they cannot touch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import anyio

from .. import adapters
from ..model import Plan, Report
from ..protocols import Notifier, Observer

__all__ = ["NOTIFY_SECONDS", "notifiers_of", "notify", "observers_in"]

NOTIFY_SECONDS: Final = 10.0
"""Seconds that a notifier may take: a caller that waits for the run waits for it
too."""

_log = logging.getLogger("ghostasync")


def notifiers_of(given: Sequence[Notifier | str], plan: Plan) -> tuple[Notifier, ...]:
    """
    Return the notifiers *given*; for a name, the plug-in of that name.

    Raises:
        PlanError: There is no plug-in of such a name, or it cannot be made.
    """
    return tuple(
        adapters.notifier(entry, plan) if isinstance(entry, str) else entry
        for entry in given
    )


def observers_in(notifiers: Sequence[Notifier]) -> list[Observer]:
    """Return the notifiers that are observers, too: those that can be called."""
    return [notifier for notifier in notifiers if callable(notifier)]


async def notify(notifiers: Sequence[Notifier], report: Report) -> None:
    """Call all of *notifiers* at once with *report*; bounded by ``NOTIFY_SECONDS``."""
    # Shielded: an interrupted run is news as well.
    with anyio.CancelScope(shield=True):
        async with anyio.create_task_group() as tasks:
            for notifier in notifiers:
                tasks.start_soon(_tell, notifier, report)


async def _tell(notifier: Notifier, report: Report) -> None:
    with anyio.move_on_after(NOTIFY_SECONDS) as scope:
        try:
            await notifier.notify(report)
        except Exception:  # noqa: BLE001  somebody else's code; the run is over
            _log.exception("notifier %r raised", notifier)
    if scope.cancelled_caught:
        _log.error("notifier %r was not done in %g s", notifier, NOTIFY_SECONDS)
