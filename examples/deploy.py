"""
Deploy from Python: load a plan, follow the run, act on what came of it.

    python deploy.py [ghostasync.toml]
"""

from __future__ import annotations

import sys

import anyio

from ghostasync import DeployFailed, PlanError, deploy, load_plan
from ghostasync.events import Failed, Record, Undrained


def observe(record: Record) -> None:
    """Print what matters; called on the event loop, so it must not block."""
    match record.event:
        case Undrained(host=host):
            print(f"{host} is live")
        case Failed(host=host, reason=reason):
            print(f"{host}: {reason}")


async def main(path: str) -> int:
    """Deploy everything the file names; return an exit status."""
    try:
        report = await deploy(load_plan(path), observe=observe, reason="by hand")
    except PlanError as error:
        print(error)
        return 2
    except DeployFailed as failed:
        print(f"{failed}; the logs are in {failed.report.log}")
        return failed.report.exit_status
    print(f"{len(report.hosts)} hosts in {report.seconds:.1f} s: {report.releases}")
    return 0


if __name__ == "__main__":
    sys.exit(anyio.run(main, [*sys.argv[1:], "ghostasync.toml"][0]))
