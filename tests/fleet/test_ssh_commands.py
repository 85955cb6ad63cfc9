"""Commands over SSH, on real OpenSSH."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import anyio
import pytest

from ghostasync.errors import ConnectionDied, Unreachable
from ghostasync.transports.ssh import SshChannel, SshTransport
from tests.fleet.conftest import Connect, StartFleet
from tests.fleet.sshd import SshdFleet
from tests.transports.commands import ignore, run

pytestmark = pytest.mark.fleet

MIB = 1 << 20
HARDLY_ANY_TIME = 0.3


async def test_binary_stdin_arrives_byte_for_byte(
    sshd_fleet: StartFleet, connect: Connect
) -> None:
    session = await connect(sshd_fleet(1))
    data = os.urandom(5 * MIB + 1)

    ended = await run(session, "sha256sum", stdin=data)

    assert ended == (0, f"{hashlib.sha256(data).hexdigest()}  -\n")


@pytest.mark.parametrize("poor", [False, True])
async def test_sudo_leaves_binary_stdin_alone(
    sshd_fleet: StartFleet, connect: Connect, poor: bool
) -> None:
    session = await connect(sshd_fleet(1, user="ghostuser", poor=poor))
    data = os.urandom(5 * MIB + 1)

    status, said = await run(session, "sudo -n cat | wc -c; sudo -n id -un", stdin=data)

    assert (status, said.split()) == (0, [str(len(data)), "root"])


async def test_a_poor_host_has_no_tools_of_comfort(
    sshd_fleet: StartFleet, connect: Connect
) -> None:
    session = await connect(sshd_fleet(1, poor=True))

    found = await run(
        session, "command -v zstd flock setsid sha256sum; tar --help 2>&1 | head -c 7"
    )

    assert found == (0, "BusyBox")


async def test_stdout_and_stderr_are_told_apart(
    sshd_fleet: StartFleet, connect: Connect
) -> None:
    session = await connect(sshd_fleet(1))
    output, errors = bytearray(), bytearray()

    channel = await session.execute(
        "echo out; echo err >&2; exit 7", output=output.extend, errors=errors.extend
    )

    assert await channel.wait() == 7
    assert (bytes(output), bytes(errors)) == (b"out\n", b"err\n")


async def test_a_command_killed_by_a_signal_has_no_status(
    sshd_fleet: StartFleet,
    connect: Connect,
) -> None:
    session = await connect(sshd_fleet(1))

    assert await run(session, "kill -9 $$") == (None, "")


async def test_all_output_precedes_the_status(
    sshd_fleet: StartFleet, connect: Connect
) -> None:
    session = await connect(sshd_fleet(1))

    status, said = await run(session, "seq 200000; exit 3")

    assert (status, said[-7:]) == (3, "200000\n")
    assert said.count("\n") == 200_000


async def test_a_child_that_holds_the_output_does_not_hold_us(
    sshd_fleet: StartFleet,
    connect: Connect,
) -> None:
    session = await connect(sshd_fleet(1))
    started = time.monotonic()

    ended = await run(session, "sleep 60 & echo done; exit 4")

    assert ended == (4, "done\n")
    assert time.monotonic() - started < 5


async def test_a_crashed_host_gives_no_status_and_comes_back(
    sshd_fleet: StartFleet,
    connect: Connect,
) -> None:
    fleet = sshd_fleet(1)
    session = await connect(fleet)
    channel = await session.execute("exec sleep 60", output=ignore, errors=ignore)

    fleet.kill("h1")

    assert await channel.wait() is None
    with pytest.raises(ConnectionDied):
        await channel.write(b"x")
    with pytest.raises(ConnectionDied):
        await session.execute("true", output=ignore, errors=ignore)
    with pytest.raises(Unreachable, match="connection refused"):
        await session.open()
    fleet.start("h1")
    await session.open()
    assert await run(session, "echo back") == (0, "back\n")


async def test_a_command_that_reads_nothing_stops_the_writer(
    sshd_fleet: StartFleet,
    connect: Connect,
) -> None:
    session = await connect(sshd_fleet(1))
    channel = await session.execute("exec sleep 60", output=ignore, errors=ignore)

    taken = await write_until_stuck(channel)

    assert taken <= 4 * MIB  # sshd's window of 2 MiB, one write, and a margin
    channel.abort()


async def test_a_congested_carrier_stops_the_writer(
    sshd_fleet: StartFleet, connect: Connect
) -> None:
    fleet = sshd_fleet(1)
    transport = SshTransport(fleet.ssh)
    session = connect.session(transport, fleet.hosts[0])
    await session.open()
    channel = await session.execute("exec cat", output=ignore, errors=ignore)
    fleet.freeze("h1")

    before = anonymous_nbytes()
    await write_until_stuck(channel)

    assert anonymous_nbytes() - before < 1.5 * MIB  # what the kernel holds is not ours
    fleet.thaw("h1")
    channel.abort()


async def test_writing_to_a_command_that_ended_is_a_broken_pipe(
    sshd_fleet: StartFleet,
    connect: Connect,
) -> None:
    session = await connect(sshd_fleet(1))
    channel = await session.execute("exit 3", output=ignore, errors=ignore)

    with pytest.raises(BrokenPipeError):
        await channel.write(bytes(100 * MIB))

    assert await channel.wait() == 3


async def test_an_aborted_channel_has_ended(
    sshd_fleet: StartFleet, connect: Connect
) -> None:
    session = await connect(sshd_fleet(1))
    channel = await session.execute("exec cat", output=ignore, errors=ignore)

    channel.abort()

    assert await channel.wait() is None
    assert await run(session, "echo alive") == (0, "alive\n")


async def test_a_connection_that_takes_no_more_commands_says_so(
    sshd_fleet: StartFleet,
    connect: Connect,
) -> None:
    session = await connect(sshd_fleet(1, options={"MaxSessions": "1"}))
    await session.execute("exec cat", output=ignore, errors=ignore)

    with pytest.raises(ConnectionDied, match="open failed"):
        await session.execute("true", output=ignore, errors=ignore)


async def test_without_namespaces_the_home_folder_is_the_hosts_own(
    sshd: None, connect: Connect, tmp_path: Path
) -> None:
    with SshdFleet(1, tmp_path / "plain", isolated=False) as fleet:
        session = await connect(fleet)

        assert await run(session, "cd; pwd") == (0, f"{fleet.path('h1', '~')}\n")
        await session.close()


async def write_until_stuck(channel: SshChannel) -> int:
    """Write until there is no room for a while; return how many bytes went."""
    chunk = bytes(MIB // 4)
    for count in range(256):
        with anyio.move_on_after(HARDLY_ANY_TIME) as waiting:
            await channel.write(chunk)
        if waiting.cancelled_caught:
            return count * len(chunk)
    raise AssertionError


def anonymous_nbytes() -> int:
    """Return what this process holds that is not in files, in bytes."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise LookupError
