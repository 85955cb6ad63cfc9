"""
A web portal in miniature: start a run, let many people follow it, stop it on demand.

    python portal.py [ghostasync.toml]      then, from elsewhere:
    nc 127.0.0.1 8022                        # JSON lines from the first event on; type
                                             # "stop" to have every link put back
"""

from __future__ import annotations

import sys
from contextlib import suppress

import anyio
from anyio.abc import SocketAttribute, SocketStream, TaskStatus

from ghostasync import Run, load_plan, start
from ghostasync.journal import line

PORT = 8022


async def tell(run: Run, client: SocketStream) -> None:
    """Send a run's events to one client, from the first one to the end."""
    with suppress(anyio.BrokenResourceError):
        async for record in run.events():
            await client.send(line(record).encode() + b"\n")


async def listen(run: Run, client: SocketStream) -> None:
    """Stop the run when the client says so."""
    with suppress(anyio.BrokenResourceError):
        async for data in client:
            if data.strip() == b"stop":
                await run.stop("stopped in the portal")


async def serve(
    run: Run, port: int, *, task_status: TaskStatus[int] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Accept clients for as long as the run goes on."""

    async def handle(client: SocketStream) -> None:
        async with client, anyio.create_task_group() as tasks:
            tasks.start_soon(listen, run, client)
            await tell(run, client)
            tasks.cancel_scope.cancel()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port)
    address = listener.listeners[0].extra(SocketAttribute.local_address)  # noqa: S610
    task_status.started(int(address[1]))
    async with listener:
        await listener.serve(handle)


async def main(path: str, port: int = PORT) -> int:
    """Deploy, with everybody watching."""
    plan = load_plan(path)
    async with (
        start(plan, reason="from the portal") as run,
        anyio.create_task_group() as tasks,
    ):
        port = await tasks.start(serve, run, port)
        print(f"run {run.id}: follow it on 127.0.0.1:{port}", flush=True)
        report = await run.report()
        tasks.cancel_scope.cancel()
    print(report.outcome.value)
    return report.exit_status


if __name__ == "__main__":
    file = sys.argv[1] if sys.argv[1:] else "ghostasync.toml"
    number = sys.argv[2] if sys.argv[2:] else PORT
    sys.exit(anyio.run(main, file, int(number)))
