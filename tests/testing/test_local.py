"""Hosts that are folders of this machine."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import anyio

from ghostasync._remote import call as remote
from ghostasync.testing import LocalTransport
from tests.testing.called import opened
from tests.transports.commands import ignore, run


async def test_local_hosts_run_the_real_scripts(tmp_path: Path) -> None:
    transport = LocalTransport(tmp_path)
    session = await opened(transport)

    facts = await remote.query(session, "probe", read=str)

    assert f"home={tmp_path}/web1\n" in facts
    await transport.aclose()


async def test_local_hosts_take_binary_stdin(tmp_path: Path) -> None:
    transport = LocalTransport(tmp_path)
    data = os.urandom(3_000_001)

    ended = await run(await opened(transport), "sha256sum", stdin=data)

    assert ended == (0, f"{hashlib.sha256(data).hexdigest()}  -\n")
    await transport.aclose()


async def test_what_a_local_host_leaves_running_ends_with_the_transport(
    tmp_path: Path,
) -> None:
    transport = LocalTransport(tmp_path)
    session = await opened(transport)
    seen = anyio.Event()
    pid = bytearray()

    def keep(data: bytes) -> None:
        pid.extend(data)
        seen.set()

    await session.execute("echo $$; exec cat >&2", output=keep, errors=ignore)
    await seen.wait()
    await transport.aclose()

    assert not Path("/proc", pid.decode().strip()).exists()
