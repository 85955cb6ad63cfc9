"""Process groups on this machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from ghostasync._local import processes as _processes
from ghostasync._local.scripts import run
from ghostasync.errors import BuildError
from tests._local.started import ENV, running, sh, spawn

STUBBORN = "trap '' TERM; echo $$ >> pids; while :; do sleep 0.1; done"
"""Shell text of a process that only KILL ends."""


async def play(text: str, cwd: Path, deadline: float | None = None) -> tuple[int, str]:
    out = bytearray()
    status = await run(
        sh(text), cwd=cwd, env=ENV, output=out.extend, deadline=deadline, what="it"
    )
    return status, out.decode()


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():  # noqa: ASYNC110  other processes raise no events
            await anyio.sleep(0.01)


def pids(folder: Path, count: int) -> list[int]:
    file = folder / "pids"
    found = file.read_text().split() if file.exists() else []
    return [int(pid) for pid in found] if len(found) == count else []


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_processes, "GRACE", 0.3)


async def test_output_is_merged_and_the_status_returned(tmp_path: Path) -> None:
    assert await play("echo a; echo b >&2; exit 7", tmp_path) == (7, "a\nb\n")


async def test_a_signal_shows_as_its_negative_number(tmp_path: Path) -> None:
    assert await play("kill -s KILL $$", tmp_path) == (-signal.SIGKILL, "")


async def test_arguments_and_environment_are_data(tmp_path: Path) -> None:
    wild = "$(touch x) `touch x` ' \" \n \udcff"
    out = bytearray()

    status = await run(
        ("/bin/sh", "-c", 'printf "%s|%s" "$1" "$V"', "sh", wild),
        cwd=tmp_path,
        env=ENV | {"V": wild},
        output=out.extend,
        what="it",
    )

    assert (status, bytes(out)) == (0, b"|".join([os.fsencode(wild)] * 2))
    assert not (tmp_path / "x").exists()


async def test_nothing_can_be_read_and_no_terminal_is_there(tmp_path: Path) -> None:
    text = "cat; (: < /dev/tty) 2>/dev/null && echo tty; ps -o sid= -p $$; echo $$"

    status, out = await play(text, tmp_path)

    session, pid = out.split()
    assert (status, session) == (0, pid)


async def test_the_environment_of_ours_does_not_leak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEAK", "x")

    assert await play('echo "$LEAK"', tmp_path) == (0, "\n")


@pytest.mark.parametrize(
    ("argv", "cwd", "env", "why"),
    [
        (("/no/such",), ".", {}, "it could not be started: No such file .*: /no/such"),
        (("/bin/sh",), "nowhere", {}, "it could not be started: No such .*nowhere"),
        (("sh", "a\0b"), ".", {}, "it could not be started: an argument holds a NUL"),
        (("sh",), ".", {"A": "\0"}, "it could not be .*: the variable 'A' holds a NUL"),
    ],
)
async def test_what_cannot_be_started_says_why(
    tmp_path: Path, argv: tuple[str, ...], cwd: str, env: dict[str, str], why: str
) -> None:
    with pytest.raises(BuildError, match=why):
        await run(argv, cwd=tmp_path / cwd, env=env, output=print, what="it")


async def test_it_ends_with_its_process_while_a_child_holds_the_output(
    tmp_path: Path,
) -> None:
    with anyio.fail_after(5):
        status, out = await play("echo first; sleep 60 & echo $! > pids", tmp_path)

    assert (status, out) == (0, "first\n")
    (child,) = pids(tmp_path, 1)
    assert running(child)  # a daemon it left is its own affair
    os.kill(child, signal.SIGKILL)


async def test_what_a_helper_still_prints_shortly_after_is_kept(tmp_path: Path) -> None:
    assert await play("(sleep 0.05; echo late) & echo early", tmp_path) == (
        0,
        "early\nlate\n",
    )


async def test_a_child_that_prints_for_ever_does_not_hold_the_run(
    tmp_path: Path,
) -> None:
    with anyio.fail_after(10):
        status, _ = await play("yes & echo $! > pids; exit 3", tmp_path)

    assert status == 3
    (child,) = pids(tmp_path, 1)
    await until(lambda: not running(child))  # its pipe is gone


async def test_a_passed_deadline_ends_the_group_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"^it not done within 0\.3 s$") as caught:
        await play("echo $$ > pids; sleep 60 & echo $! >> pids; wait", tmp_path, 0.3)

    assert caught.value.exit_status is None
    assert not any(running(pid) for pid in pids(tmp_path, 2))


async def test_the_last_words_of_a_process_we_end_are_heard(tmp_path: Path) -> None:
    out = bytearray()
    goodbye = "i=0; while [ $i -lt 20000 ]; do echo goodbye; i=$((i+1)); done; exit"
    text = f"trap '{goodbye}' TERM; sleep 60 & wait"

    with pytest.raises(BuildError):
        await run(
            sh(text), cwd=tmp_path, env=ENV, output=out.extend, deadline=0.3, what="it"
        )

    assert out.count(b"goodbye\n") == 20000


async def test_cancelling_ends_grandchildren_too(tmp_path: Path) -> None:
    text = "echo $$ >> pids; (sh -c 'echo $$ >> pids; sleep 60; :'; :) & wait"

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(play, text, tmp_path)
        await until(lambda: len(pids(tmp_path, 2)) == 2)
        tasks.cancel_scope.cancel()

    assert not any(running(pid) for pid in pids(tmp_path, 2))


@pytest.mark.usefixtures("short_grace")
async def test_those_who_ignore_term_are_killed_the_leader_first_or_not(
    tmp_path: Path,
) -> None:
    (tmp_path / "stubborn").write_text(STUBBORN)
    text = "sh stubborn & echo $$ >> pids; wait"

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(play, text, tmp_path)
        tasks.start_soon(play, STUBBORN, tmp_path)
        await until(lambda: len(pids(tmp_path, 3)) == 3)
        tasks.cancel_scope.cancel()

    await until(lambda: not any(running(pid) for pid in pids(tmp_path, 3)))


async def test_a_killed_controller_takes_the_group_with_it(tmp_path: Path) -> None:
    """Ghost defect 24: a build that outlives its controller meets the next one."""
    code = (
        "import anyio, os, pathlib\n"
        "from functools import partial\n"
        "from ghostasync._local.scripts import run\n"
        "anyio.run(partial(run, ['sh', '-c', 'echo $$ >> pids; "
        "sleep 60 & echo $! >> pids; wait'], cwd=pathlib.Path('.'),"
        " env=dict(os.environ), output=print, what='it'))\n"
    )
    with spawn(code, cwd=tmp_path) as controller:
        await until(lambda: len(pids(tmp_path, 2)) == 2)
        # The watch comes after the program; it is what we test.
        await until(lambda: b"ghost-watch" in command_lines(controller.pid))

        controller.kill()

    await until(lambda: not any(running(pid) for pid in pids(tmp_path, 2)))


def command_lines(parent: int) -> bytes:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return b"".join(Path(f"/proc/{c}/cmdline").read_bytes() for c in children)


async def test_nothing_is_left_open_or_unreaped(tmp_path: Path) -> None:
    await play("exit 0", tmp_path)
    before = sorted(Path("/proc/self/fd").iterdir())

    for _ in range(3):
        await play("sleep 0.01 &", tmp_path)

    assert sorted(Path("/proc/self/fd").iterdir()) == before
    assert b"sh" not in command_lines(os.getpid())
