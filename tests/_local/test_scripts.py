"""Scripts and their last words on this machine."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import anyio
import pytest

from ghostasync._local.scripts import Tail, capture, locked, script
from ghostasync.errors import BuildError
from tests._local.started import ENV, running, sh, spawn


async def play_script(text: bytes, cwd: Path, **env: str) -> tuple[int, str]:
    out = bytearray()
    status = await script(
        text, cwd=cwd, env=ENV | env, output=out.extend, what="buildpack"
    )
    return status, out.decode()


async def test_a_script_without_interpreter_line_is_for_sh(tmp_path: Path) -> None:
    text = b'echo "$0 $(pwd -P) $GREETING"; set -- a; [ "$#" = 1 ] && exit 4'

    status, out = await play_script(text, tmp_path, GREETING="it's `me`")

    file, cwd, greeting = out.rstrip("\n").split(" ", 2)
    assert (status, cwd, greeting) == (4, str(tmp_path.resolve()), "it's `me`")
    assert not Path(file).parent.exists()
    assert list(tmp_path.iterdir()) == []


async def test_the_kernel_reads_the_interpreter_line(tmp_path: Path) -> None:
    text = f"#!{sys.executable} -I\nimport sys; print(sys.flags.isolated)\n".encode()

    assert await play_script(text, tmp_path) == (0, "1\n")


async def test_the_script_file_is_private_and_where_it_was_asked_for(
    tmp_path: Path,
) -> None:
    out = bytearray()
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    await script(
        b'#!/bin/sh\nstat -c \'%a %n\' "$0" "${0%/*}"',
        cwd=tmp_path,
        env=ENV,
        output=out.extend,
        what="it",
        scratch=scratch,
    )

    modes = [line.split()[0] for line in out.decode().splitlines()]
    assert modes == ["700", "700"]
    assert str(scratch).encode() in out
    assert list(scratch.iterdir()) == []


async def test_a_missing_interpreter_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError) as caught:
        await play_script(b"#!/usr/bin/nope -x\r\necho", tmp_path)

    assert str(caught.value) == (
        "buildpack: its interpreter is not here: '#!/usr/bin/nope -x'"
    )


async def test_an_interpreter_that_is_no_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError) as caught:
        await play_script(b"#!/usr/bin\necho", tmp_path)

    assert str(caught.value) == (
        "buildpack: its interpreter cannot be started: '#!/usr/bin'"
    )


PLAY = """
import anyio, functools, pathlib, sys
from ghostasync._local.scripts import script
folder = pathlib.Path(sys.argv[1])
play = functools.partial(script, b"#!/bin/sh\\n", cwd=folder, env={}, output=print,
                         what="buildpack", scratch=folder)
anyio.run(play)
"""


async def test_a_folder_that_starts_no_script_is_named(tmp_path: Path) -> None:
    """/tmp is mounted noexec where guides for safe machines are followed."""
    mount = 'mount -t tmpfs -o noexec none "$1" && exec "$2" -c "$3" "$1"'
    words = [
        "unshare",
        "-m",
        "sh",
        "-c",
        mount,
        "sh",
        str(tmp_path),
        sys.executable,
        PLAY,
    ]

    done = await anyio.run_process(words, check=False)

    said = done.stderr.decode()
    if "Operation not permitted" in said or "mount:" in said:
        pytest.skip("mounting takes CAP_SYS_ADMIN")
    assert said.splitlines()[-1] == (
        "ghostasync.errors.BuildError: buildpack: "
        f"{tmp_path} is mounted noexec: set TMPDIR to another folder"
    )


async def test_a_missing_folder_is_not_blamed_on_the_interpreter(
    tmp_path: Path,
) -> None:
    with pytest.raises(BuildError, match="nowhere"):
        await play_script(b"#!/bin/sh\n", tmp_path / "nowhere")


async def test_capture_returns_stdout_only(tmp_path: Path) -> None:
    text = sh("echo out; echo err >&2")

    assert await capture(text, cwd=tmp_path, env=ENV, what="it") == b"out\n"


async def test_capture_of_a_failure_tells_status_and_errors(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"^it exited 3$") as caught:
        await capture(
            sh("echo out; echo why >&2; exit 3"), cwd=tmp_path, env=ENV, what="it"
        )

    assert (caught.value.exit_status, caught.value.tail) == (3, "why\n")


async def test_capture_is_bounded(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"^it printed more than 1000 bytes$"):
        await capture(
            sh("head -c 3000000 /dev/zero"),
            cwd=tmp_path,
            env=ENV,
            what="it",
            limit=1000,
        )


def test_a_tail_keeps_the_end_whatever_the_pieces() -> None:
    tail = Tail(4)

    for piece in (b"abcdefgh", b"", b"i", b"jk"):
        tail.feed(piece)

    assert tail.text() == "hijk"


def test_a_tail_begins_with_no_part_of_a_word() -> None:
    tail = Tail(16)
    tail.feed(b"http://u:p4ss")
    assert tail.text() == "http://u:p4ss"

    tail.feed(b"@host/x not found")
    assert tail.text() == "not found"


def test_a_tail_replaces_what_is_not_text() -> None:
    tail = Tail()

    tail.feed(b"caf\xe9")

    assert tail.text() == "caf\N{REPLACEMENT CHARACTER}"


async def test_one_holds_the_lock_and_the_next_gets_it_after(tmp_path: Path) -> None:
    seen: list[str] = []
    path = tmp_path / "cache" / "x.lock"

    async def take(name: str) -> None:
        async with locked(path):
            seen.append(f"{name} in")
            await anyio.sleep(0.03)
            seen.append(f"{name} out")

    async with anyio.create_task_group() as tasks:
        for name in ("a", "b", "c"):
            tasks.start_soon(take, name)

    assert [seen[i].split()[0] for i in (0, 2, 4)] == [
        seen[i].split()[0] for i in (1, 3, 5)
    ]
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_waiter_that_gives_up_leaves_the_lock_with_its_holder(
    tmp_path: Path,
) -> None:
    """Ghost defect 11: there, the waiter deleted the holder's lock."""
    path = tmp_path / "x.lock"
    async with locked(path):
        for _ in range(2):
            with anyio.move_on_after(0.05) as waiting:
                async with locked(path):
                    pytest.fail("two hold the lock")
            assert waiting.cancelled_caught

    with anyio.fail_after(1):
        async with locked(path):
            pass


async def test_a_killed_holder_frees_the_lock_and_children_do_not_keep_it(
    tmp_path: Path,
) -> None:
    """Ghost defect 11: there, it stayed for 50 minutes."""
    path = tmp_path / "x.lock"
    code = (
        "import anyio, pathlib, subprocess, sys\n"
        "from ghostasync._local.scripts import locked\n"
        "async def main():\n"
        "    async with locked(pathlib.Path(sys.argv[1])):\n"
        "        child = subprocess.Popen(['sleep', '60'], stdout=2)\n"
        "        print(child.pid, flush=True)\n"
        "        await anyio.sleep(60)\n"
        "anyio.run(main)\n"
    )
    with spawn(code, str(path)) as holder:
        assert holder.stdout is not None
        child = int(holder.stdout.readline())
        holder.kill()

    started = time.monotonic()
    async with locked(path):
        assert time.monotonic() - started < 5
    assert running(child)
    os.kill(child, signal.SIGKILL)
