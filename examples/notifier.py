"""
Tell a chat what came of a deployment, by its webhook.

    python notifier.py URL [ghostasync.toml]
"""

from __future__ import annotations

import json
import sys
from urllib.request import Request, urlopen

import anyio
import anyio.to_thread

from ghostasync import DeployFailed, Report, deploy, load_plan
from ghostasync.events import Failed, Record

SECONDS = 5.0


class Webhook:
    """A notifier; since it can be called, it is given every record of the run too."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._failures: list[str] = []

    def __call__(self, record: Record) -> None:
        """Remember what fails. This runs on the event loop, so it must not block."""
        if isinstance(record.event, Failed):
            self._failures.append(f"{record.event.host}: {record.event.reason}")

    async def notify(self, report: Report) -> None:
        """Post one message; the run is over, and does not wait for long."""
        releases = ", ".join(report.releases.values()) or "nothing"
        lines = [f"{report.outcome.value}: {releases}", *self._failures]
        body = json.dumps({"text": "\n".join(lines)}).encode()
        await anyio.to_thread.run_sync(self._post, body, abandon_on_cancel=True)

    def _post(self, body: bytes) -> None:
        kind = {"Content-Type": "application/json"}
        request = Request(self._url, body, kind)  # noqa: S310  the caller's own URL
        urlopen(request, timeout=SECONDS).close()  # noqa: S310  likewise


async def main(url: str, config: str) -> None:
    """Deploy; the chat hears of it whatever comes of it."""
    try:
        await deploy(load_plan(config), notifiers=[Webhook(url)])
    except DeployFailed as failed:
        sys.exit(str(failed))


if __name__ == "__main__":
    config = sys.argv[2] if sys.argv[2:] else "ghostasync.toml"
    anyio.run(main, sys.argv[1], config)
