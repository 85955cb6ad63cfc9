"""Every remote script under every shell a host may have as /bin/sh."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from ghostasync._remote.activation import Activation, write
from ghostasync._remote.script import LOST, Fence, quote
from tests._remote.shells import (
    BOOT,
    SHELLS,
    may_mount,
    process_line,
    read,
    run,
    run_on_full_disk,
    run_open,
    start,
)

pytestmark = pytest.mark.parametrize("shell", SHELLS)


@pytest.fixture
def poor(tmp_path: Path) -> dict[str, str]:
    """A PATH without flock and setsid."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    tools = (
        "cat chmod date dd grep id kill ln ls mkdir mv readlink rm rmdir sed sh sleep"
    )
    for tool in [*tools.split(), "sort", "stat", "touch", "tr"]:
        for folder in ("/usr/bin", "/bin"):
            if Path(folder, tool).exists():
                (bin_ / tool).symlink_to(Path(folder, tool))
                break
    return {"PATH": str(bin_)}


def _until(ready: object, seconds: float = 10) -> None:
    assert callable(ready)
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def _instead(tmp_path: Path, tool: str, text: str) -> dict[str, str]:
    """Have a script stand for *tool*; return the PATH on which it is found first."""
    script = tmp_path / "bin" / tool
    script.parent.mkdir(exist_ok=True)
    script.unlink(missing_ok=True)
    script.write_text(f"#!/bin/sh\n{text}\n")
    script.chmod(0o755)
    return {"PATH": f"{script.parent}:{os.environ['PATH']}"}


# --- lock ----------------------------------------------------------------------


STALE, PATIENCE = "90", "0"


def _words(
    app: Path, run_id: str, stale: str = STALE, patience: str = PATIENCE
) -> tuple[str, ...]:
    return (str(app), "", f"run {run_id} by ann", run_id, _word(app), stale, patience)


def _word(app: Path) -> str:
    """Return what the scripts of a test are known by: others run beside it."""
    return hashlib.sha256(str(app).encode()).hexdigest()[:16]


@contextlib.contextmanager
def _holder(
    shell: str,
    app: Path,
    run_id: str,
    env: dict[str, str] | None = None,
    *,
    stale: str = STALE,
    patience: str = PATIENCE,
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Hold the lock; with what the script said when it had it."""
    words = _words(app, run_id, stale, patience)
    process, frame = start(shell, "lock", *words, env=env)
    with process:
        while not (said := frame.feed(read(process))):
            assert process.poll() is None
            assert frame.status is None
        try:
            yield process, said.decode()
        finally:
            process.kill()


def _ask(
    shell: str, app: Path, run_id: str, env: dict[str, str] | None = None, **how: str
) -> tuple[int | None, str, str]:
    return run(shell, "lock", *_words(app, run_id, **how), env=env)


@pytest.mark.parametrize("tools", ["rich", "poor"])
def test_the_lock_is_held_until_stdin_ends(
    shell: str, tools: str, tmp_path: Path, poor: dict[str, str]
) -> None:
    """Ghost defect 10: two runs held its lock, and a killed one kept it."""
    env = poor if tools == "poor" else None
    app = tmp_path / "app"
    with _holder(shell, app, "1", env) as (first, _):
        status, _, err = _ask(shell, app, "2", env)
        assert (status, err) == (75, "run 1 by ann\n")

        assert first.stdin
        first.stdin.close()
        first.wait(10)

    status, said, _ = _ask(shell, app, "3", env)
    assert (status, said.split()[0]) == (0, "locked")
    assert "taken over" not in said


@pytest.mark.parametrize("tools", ["rich", "poor"])
def test_a_killed_holder_leaves_no_lock(
    shell: str, tools: str, tmp_path: Path, poor: dict[str, str]
) -> None:
    env = poor if tools == "poor" else None
    with _holder(shell, tmp_path / "app", "1", env) as (first, _):
        first.kill()
        first.wait(10)
        assert first.stdin
        first.stdin.close()

    def free() -> bool:
        return _ask(shell, tmp_path / "app", "2", env)[0] == 0

    _until(free)


@pytest.mark.parametrize("tools", ["rich", "poor"])
def test_a_holder_without_a_beat_is_ended_and_succeeded(
    shell: str, tools: str, tmp_path: Path, poor: dict[str, str]
) -> None:
    env = poor if tools == "poor" else None
    app = tmp_path / "app"
    with _holder(shell, app, "1", env) as (first, _):
        beat = app / ".ghost/beat"
        beat.write_text(f"{int(time.time()) - 91}\n")

        with _holder(shell, app, "2", env) as (_, said):
            assert ", taken over from run 1 by ann; its last sign" in said
            assert first.wait(10) != 0
            assert (app / ".ghost/holder").read_text().startswith("run 2 by ann\n")


def test_a_beat_keeps_the_lock(shell: str, tmp_path: Path) -> None:
    app = tmp_path / "app"
    with _holder(shell, app, "1") as (first, _):
        beat = app / ".ghost/beat"
        beat.write_text(f"{int(time.time()) - 91}\n")
        assert first.stdin
        first.stdin.write(b"\n")
        first.stdin.flush()
        _until(lambda: int(beat.read_text()) > time.time() - 60)

        assert _ask(shell, app, "2")[0] == 75


@pytest.mark.parametrize("broken", ["", "never\n"])
def test_a_damaged_beat_is_an_old_one(shell: str, broken: str, tmp_path: Path) -> None:
    app = tmp_path / "app"
    with _holder(shell, app, "1"):
        (app / ".ghost/beat").write_text(broken)

        assert _ask(shell, app, "2")[:2][0] == 0


def test_a_lock_that_was_just_taken_is_not_an_old_one(
    shell: str, tmp_path: Path
) -> None:
    """Its beat may be that of the run before, for a moment."""
    app = tmp_path / "app"
    assert _ask(shell, app, "0")[0] == 0
    (app / ".ghost/beat").write_text("1\n")
    with _holder(shell, app, "1") as (first, _):
        (app / ".ghost/holder").write_text("run 0 by ann\n1\n")
        (app / ".ghost/beat").write_text("1\n")

        assert _ask(shell, app, "2")[0] == 75
        assert first.poll() is None


def test_a_holder_that_has_not_written_its_name_yet_is_not_the_one_before(
    shell: str, tmp_path: Path
) -> None:
    """Or the older of two runs gives up, as if a third one held the lock."""
    app = tmp_path / "app"
    with _holder(shell, app, "3") as (_, said):
        holder = app / ".ghost/holder"
        holder.write_text("run 1 by ann\n1\n")
        text = f"printf 'run 3 by ann\\n{said.split()[1]}\\n' >{holder}"
        env = _instead(tmp_path, "sleep", text)

        assert _ask(shell, app, "2", env)[::2] == (75, "run 3 by ann\n")


def test_a_lock_that_is_given_back_meanwhile_is_free(
    shell: str, tmp_path: Path
) -> None:
    app = tmp_path / "app"
    with _holder(shell, app, "3") as (first, _):
        (app / ".ghost/holder").write_text("run 1 by ann\n1\n")
        family = f"{first.pid} $(cat /proc/{first.pid}/task/{first.pid}/children)"
        env = _instead(tmp_path, "sleep", f"kill {family}\nexec /bin/sleep 0.1")

        assert _ask(shell, app, "2", env)[0] == 0


def test_a_run_that_breaks_locks_breaks_none_to_get_its_own_again(
    shell: str, tmp_path: Path
) -> None:
    app = tmp_path / "app"
    with _holder(shell, app, "1") as (first, _):
        again = (*_words(app, "2", "-1"), "again")

        assert run(shell, "lock", *again)[0] == 75
        assert first.poll() is None


def test_a_beat_from_the_future_keeps_no_lock_from_being_broken(
    shell: str, tmp_path: Path
) -> None:
    app = tmp_path / "app"
    with _holder(shell, app, "1"):
        (app / ".ghost/beat").write_text(f"{int(time.time()) + 3600}\n")

        assert _ask(shell, app, "2", stale="-1")[0] == 0


def test_any_lock_can_be_broken(shell: str, tmp_path: Path) -> None:
    app = tmp_path / "app"
    with _holder(shell, app, "1") as (first, _):
        status, said, _ = _ask(shell, app, "2", stale="-1")

        assert (status, ", taken over from run 1 by ann" in said) == (0, True)
        assert first.wait(10) != 0


@contextlib.contextmanager
def _third(ghost: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Have another newcomer wait for the lock, and take its time to say its name."""
    text = (
        "exec 9>>lock; flock 9; date +%s >beat; sleep 1.5; "
        "read -r stat </proc/$$/stat; set -- ${stat##*) }; "
        r"printf 'run 3 by ann\n%s\n' \"$$ ${20}\" >holder; read -r _"
    )
    words = ["/bin/sh", "-c", text, "ghost-lock"]
    with subprocess.Popen(words, cwd=ghost, stdin=subprocess.PIPE) as process:
        try:
            _until(lambda: _commands("flock 9", ghost))
            yield process
        finally:
            process.kill()
            for pid in _commands("flock 9", ghost):
                os.kill(pid, signal.SIGKILL)


_UNTIL_IT_BEATS = """\
until [ "$(/bin/cat {ghost}/beat)" -gt "$(($(date +%s) - 60))" ]; do :; done
"""


@pytest.mark.parametrize("stale", [STALE, "-1"])
def test_who_loses_the_lock_of_a_silent_holder_names_the_one_that_has_it(
    shell: str, stale: str, tmp_path: Path
) -> None:
    """Or of two newcomers the older gives up, as if the dead run held it still."""
    ghost = tmp_path / "app/.ghost"
    late = _UNTIL_IT_BEATS.format(ghost=ghost)
    env = _instead(tmp_path, "sleep", f'{late}exec /bin/sleep "$@"')
    with _holder(shell, tmp_path / "app", "1"):
        (ghost / "beat").write_text(f"{int(time.time()) - 91}\n")
        with _third(ghost) as third:
            said = _ask(shell, tmp_path / "app", "2", env, stale=stale)[::2]
            lives = third.poll() is None

    assert (said, lives) == ((75, "run 3 by ann\n"), True)


def test_a_beat_of_another_newcomer_is_not_that_of_the_holder_it_ended(
    shell: str, tmp_path: Path
) -> None:
    ghost = tmp_path / "app/.ghost"
    with _holder(shell, tmp_path / "app", "1") as (first, _):
        (ghost / "beat").write_text(f"{int(time.time()) - 91}\n")
        text = (
            f'[ "$*" != beat ] || [ -e {tmp_path}/ended ] || {{\n'
            f"touch {tmp_path}/ended\n"
            f"kill {first.pid} $(/bin/cat /proc/{first.pid}/task/*/children)\n"
            f"{_UNTIL_IT_BEATS.format(ghost=ghost)}"
            '}\nexec /bin/cat "$@"'
        )
        env = _instead(tmp_path, "cat", text)
        with _third(ghost):
            said = _ask(shell, tmp_path / "app", "2", env)[::2]

    assert said == (75, "run 3 by ann\n")


def test_a_lock_that_was_given_back_since_its_holder_was_ended_is_free(
    shell: str, tmp_path: Path
) -> None:
    ghost = tmp_path / "app/.ghost"
    third = r"exec 9>>lock; flock 9; printf 'run 3 by ann\n%s\n' $$ >holder; sleep 0.5"
    with _holder(shell, tmp_path / "app", "1"):
        (ghost / "beat").write_text(f"{int(time.time()) - 91}\n")
        with subprocess.Popen(["/bin/sh", "-c", third], cwd=ghost):
            _until(lambda: _commands("flock 9", ghost))

            status, said, _ = _ask(shell, tmp_path / "app", "2")

    assert (status, said.split()[0]) == (0, "locked")
    assert "taken over" not in said


@pytest.mark.parametrize("tools", ["rich", "poor"])
def test_a_beat_that_cannot_be_written_does_not_cost_the_lock(
    shell: str, tools: str, tmp_path: Path, poor: dict[str, str]
) -> None:
    """A file system that copies on write has no room for it on a full disk."""
    full, tried = tmp_path / "full", tmp_path / "tried"
    text = f"[ -e {full} ] || exec /bin/date +%s\ntouch {tried}\nexit 1"
    rich = _instead(tmp_path, "date", text)
    env = poor if tools == "poor" else rich
    with _holder(shell, tmp_path / "app", "1", env) as (first, _):
        full.touch()
        assert first.stdin
        first.stdin.write(b"\n")
        first.stdin.flush()
        _until(tried.exists)
        full.unlink()

        assert _ask(shell, tmp_path / "app", "2", env)[::2] == (75, "run 1 by ann\n")


def test_a_host_that_takes_no_beat_is_refused_with_the_reason(
    shell: str, tmp_path: Path
) -> None:
    env = _instead(tmp_path, "date", "exec /bin/date +%s >/dev/full")

    status, said, err = _ask(shell, tmp_path / "app", "1", env)

    assert (status, said) == (1, "")
    assert "No space left on device" in err


def test_a_folder_that_another_newcomer_removes_is_made_again(
    shell: str, tmp_path: Path, poor: dict[str, str]
) -> None:
    """Where flock is missing, one that begins takes an empty lock.d away."""
    text = (
        '/bin/mkdir "$@" || exit\n'
        f"[ $1 != lock.d ] || [ -e {tmp_path}/raced ] || {{\n"
        f"rmdir lock.d\ntouch {tmp_path}/raced\n}}"
    )
    _instead(tmp_path, "mkdir", text)

    status, said, _ = _ask(shell, tmp_path / "app", "1", poor)

    assert (tmp_path / "raced").exists()
    assert (status, said.split()[:1]) == (0, ["locked"])


def test_a_dd_of_another_kind_reads_the_script_and_no_more(
    shell: str, tmp_path: Path
) -> None:
    text = (
        'case "$*" in *iflag*) exit 1 ;; esac\n'
        f'echo >>{tmp_path}/used\nexec /bin/dd "$@"'
    )
    env = _instead(tmp_path, "dd", text)

    with _holder(shell, tmp_path / "app", "1", env) as (first, _):
        beat = tmp_path / "app/.ghost/beat"
        beat.write_text("1\n")
        assert first.stdin
        first.stdin.write(b"\n")
        first.stdin.flush()
        _until(lambda: int(beat.read_text() or 0) > 1)
    assert (tmp_path / "used").exists()


# --- what a dead session left running --------------------------------------------


@contextlib.contextmanager
def _script(
    shell: str, tmp_path: Path, run_id: str, text: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a user's script, and hold its stdin open as a silent connection does."""
    (tmp_path / "environment").write_text("")
    words = (str(tmp_path), "", f"{text}; touch went-on", f"{tmp_path}/environment")
    app = tmp_path / "app"
    process, _ = start(shell, "run", *words, word=f"{run_id}@{_word(app)}", app=app)
    with process:
        _until((tmp_path / "begun").exists)
        yield process
        process.kill()


def test_a_script_that_outlives_its_run_is_named(shell: str, tmp_path: Path) -> None:
    with _script(shell, tmp_path, "1", "touch begun; sleep 60") as script:
        status, _, err = _ask(shell, tmp_path / "app", "2")

        assert status == 76
        assert f"ghost-run 1@{_word(tmp_path / 'app')} (pid {script.pid})" in " ".join(
            err.split()
        )
        assert script.poll() is None


def test_a_script_that_is_about_to_end_is_waited_for(
    shell: str, tmp_path: Path
) -> None:
    with _script(shell, tmp_path, "1", "touch begun; sleep 60") as script:
        assert script.stdin
        script.stdin.close()

        assert _ask(shell, tmp_path / "app", "2", patience="9")[0] == 0
        assert not (tmp_path / "went-on").exists()


@pytest.mark.parametrize("whose", ["taken over", "ours"])
def test_a_script_of_a_run_that_lost_its_lock_is_ended_with_its_family(
    shell: str, whose: str, tmp_path: Path
) -> None:
    app = tmp_path / "app"
    text = "touch begun; sleep 61; sleep 62"
    with _holder(shell, app, "1"), _script(shell, tmp_path, "1", text):
        (app / ".ghost/beat").write_text("1\n")

        assert _ask(shell, app, "1" if whose == "ours" else "2")[0] == 0

        assert not _commands("sleep 61", tmp_path)
        assert not (tmp_path / "went-on").exists()


@contextlib.contextmanager
def _timer(tmp_path: Path, text: str) -> Iterator[subprocess.Popen[bytes]]:
    """Have a host be on its own way back, as ``timer.sh`` calls itself then."""
    words = ["/bin/sh", "-c", f"{text}; touch went-on", "timer.sh"]
    word = f"timer@{_word(tmp_path / 'app')}"
    with subprocess.Popen([*words, word], cwd=tmp_path) as timer:
        with (tmp_path / "app/.ghost/scripts").open("a") as scripts:
            scripts.write(process_line(timer.pid))
        try:
            yield timer
        finally:
            timer.kill()


def test_a_takeover_waits_for_a_host_that_goes_back_by_itself(
    shell: str, tmp_path: Path
) -> None:
    app = tmp_path / "app"
    with _holder(shell, app, "1"), _timer(tmp_path, "sleep 4"):
        (app / ".ghost/beat").write_text("1\n")

        assert _ask(shell, app, "2", patience="9")[0] == 0

        assert (tmp_path / "went-on").exists()


def test_a_takeover_names_a_host_that_goes_back_by_itself_for_too_long(
    shell: str, tmp_path: Path
) -> None:
    app = tmp_path / "app"
    text = "touch begun; sleep 61"
    with (
        _holder(shell, app, "1"),
        _timer(tmp_path, "sleep 62") as timer,
        _script(shell, tmp_path, "1", text),
    ):
        (app / ".ghost/beat").write_text("1\n")

        status, _, err = _ask(shell, app, "2")

        assert status == 76
        assert f"timer@{_word(app)} (pid {timer.pid})" in " ".join(err.split())
        assert timer.poll() is None
        assert not _commands("sleep 61", tmp_path)
        for pid in _commands("sleep 62", tmp_path):
            os.kill(pid, signal.SIGKILL)


def _commands(line: str, cwd: Path) -> list[int]:
    """Return the processes in *cwd* that were started as *line*."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
            if b" ".join(words) == line.encode() and (entry / "cwd").readlink() == cwd:
                found.append(int(entry.name))
    return found


# --- run -----------------------------------------------------------------------


@pytest.fixture
def meta(tmp_path: Path) -> Path:
    folder = tmp_path / "meta"
    folder.mkdir()
    (folder / "environment").write_bytes(b"export GREETING='it'\\''s\n`me`'\n")
    return folder


def test_a_script_sees_its_environment_and_folder(
    shell: str, tmp_path: Path, meta: Path
) -> None:
    (meta / "script").write_text('printf "%s|%s|%s" "$GREETING" "$WAVE" "$PWD"; cat')

    status, output = run_open(
        shell, "run", tmp_path, meta / "script", "", meta / "environment", "WAVE=2 $(x)"
    )

    assert (status, output) == (0, f"it's\n`me`|2 $(x)|{tmp_path}")


@pytest.mark.parametrize("tools", ["rich", "poor"])
def test_the_status_is_the_scripts(
    shell: str, tools: str, tmp_path: Path, meta: Path, poor: dict[str, str]
) -> None:
    env = poor if tools == "poor" else None
    (meta / "script").write_text("echo out; echo err >&2; exit 7")

    status, output = run_open(
        shell, "run", "/", meta / "script", "", meta / "environment", env=env
    )

    assert (status, output) == (7, "out\nerr\n")


def test_an_interpreter_is_honoured_without_the_x_bit(
    shell: str, tmp_path: Path, meta: Path
) -> None:
    (meta / "script").write_text("#!/usr/bin/env python3\nprint(6 * 7)\n")
    (meta / "script").chmod(0o600)

    status, output = run_open(
        shell, "run", "/", meta / "script", "", meta / "environment"
    )

    assert (status, output) == (0, "42\n")


def test_a_script_without_setsid_does_not_go_on_after_its_child_was_ended(
    shell: str, tmp_path: Path, meta: Path, poor: dict[str, str]
) -> None:
    (meta / "script").write_text("touch begun; sleep 60; touch went-on")
    words = (str(tmp_path), f"{meta}/script", "", f"{meta}/environment")
    process, _ = start(shell, "run", *words, env=poor)
    with process:
        _until((tmp_path / "begun").exists)

        assert process.stdin
        process.stdin.close()
        process.wait(15)

    assert not (tmp_path / "went-on").exists()


@pytest.mark.parametrize("tools", ["rich", "poor"])
def test_a_script_ends_with_its_family_when_the_controller_goes(
    shell: str, tools: str, tmp_path: Path, meta: Path, poor: dict[str, str]
) -> None:
    env = poor if tools == "poor" else None
    pids = tmp_path / "pids"
    # The patience with those who ignore TERM is the same everywhere: 5 s once will do.
    deaf = "trap '' TERM" if shell == "dash" else ":"
    (meta / "script").write_text(
        f"{deaf}\n(sleep 60) &\necho $$ $! >{pids}\nsleep 60\nwait\n"
    )
    process, _ = start(
        shell, "run", "/", str(meta / "script"), "", str(meta / "environment"), env=env
    )
    with process:
        _until(lambda: pids.exists() and pids.read_text().count(" "))
        family = [int(pid) for pid in pids.read_text().split()]

        assert process.stdin
        process.stdin.close()
        process.wait(15)

    _until(lambda: not any(_alive(pid) for pid in family))


def test_who_watches_a_script_ends_no_process_that_came_by_its_number_since(
    shell: str, tmp_path: Path, meta: Path
) -> None:
    (meta / "script").write_text(f"touch {tmp_path}/begun; exec sleep 60")
    words = (str(meta / "script"), "", str(meta / "environment"))
    process, _ = start(shell, "run", "/", *words)
    with process:
        _until((tmp_path / "begun").exists)
        [it] = _children(process.pid)
        _until(lambda: len(_children(it)) == 2)
        family = _children(it)
        os.kill(it, signal.SIGKILL)
        _until(lambda: not _alive(it))
        with _process_number(it) as other:
            assert process.stdin
            process.stdin.close()
            _until(lambda: not any(_watches(pid) for pid in family))

            assert other.poll() is None
    for pid in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    return [
        int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    ]


def _watches(pid: int) -> bool:
    return _alive(pid) and b"ghost-run" in Path(f"/proc/{pid}/cmdline").read_bytes()


@contextlib.contextmanager
def _process_number(pid: int) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that gets the number *pid*."""
    last = Path("/proc/sys/kernel/ns_last_pid")
    for _ in range(50):
        try:
            last.write_text(str(pid - 1))
        except OSError:
            pytest.skip("choosing a process's number takes root")
        with subprocess.Popen(["sleep", "60"]) as process:
            if process.pid == pid:
                yield process
                process.kill()
                return
            process.kill()
    pytest.fail(f"no process got the number {pid}")


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_daemon_that_keeps_the_output_open_does_not_delay_the_end(
    shell: str, tmp_path: Path, meta: Path
) -> None:
    (meta / "script").write_text(f"sleep 60 &\necho $! >{tmp_path}/pid\n")
    process, frame = start(
        shell, "run", "/", str(meta / "script"), "", str(meta / "environment")
    )

    while frame.status is None:
        frame.feed(read(process))

    daemon = int((tmp_path / "pid").read_text())
    assert (frame.status, _alive(daemon)) == (0, True)
    os.kill(daemon, signal.SIGKILL)
    process.communicate(timeout=10)


# --- record_moves, switch, restore -----------------------------------------------


NUMBER = "7"
"""Of the run whose moves are tested."""


class Module:
    """A module folder with two releases and a target, on this machine."""

    def __init__(self, root: Path, name: str) -> None:
        self.folder = root / "app" / name
        self.target = root / "srv" / name
        (self.folder / ".ghost").mkdir(parents=True)
        (root / "app" / ".ghost").mkdir(exist_ok=True)
        self.target.parent.mkdir(exist_ok=True)
        for release in ("1_a_0", "2_b_0"):
            (self.folder / release).mkdir()
            (self.folder / ".ghost" / release).mkdir()

    def release(self, name: str) -> str:
        return str(self.folder / name) if name else ""

    def serve(self, name: str) -> None:
        self.target.symlink_to(self.release(name))

    def move(self, previous: str, new: str, aside: str = "") -> tuple[str, ...]:
        ends = (self.release(previous), self.release(new), aside)
        return (str(self.folder), str(self.target), *ends, NUMBER)

    @property
    def records(self) -> Path:
        return self.folder / ".ghost" / "activations"

    def record(
        self,
        number: int,
        release: str,
        outcome: str = "live",
        target: str | Path = "",
    ) -> None:
        """Have the host know of an earlier move."""
        self.records.mkdir(exist_ok=True)
        record = Activation(number, f"run-{number}", release, target=str(target))
        text = f"outcome={outcome:<8}\n{write(record)}\n"
        (self.records / str(number)).write_text(text)

    @property
    def outcomes(self) -> dict[str, str]:
        """What each record says of its move; fails where any other line has changed."""
        found = {}
        for file in self.records.iterdir():
            first, *lines = file.read_text().split("\n")
            found[file.name] = first.removeprefix("outcome=").rstrip(" ")
            assert len(first) == len("outcome=reverted")
            assert lines[0] == f"generation={file.name}"
            keys = {line.partition("=")[0] for line in lines if line}
            known = {field.name for field in attrs.fields(Activation)}
            assert known - {"outcome", "reverted_by"} <= keys <= known
        return found

    @property
    def serves(self) -> str:
        return self.target.readlink().name if self.target.is_symlink() else ""


def _arm(
    shell: str,
    *moves: tuple[str, ...],
    kept: str = "",
    environment: str = "export NEXT=1\n",
) -> None:
    app = Path(moves[0][0]).parent
    done = run(shell, "record_moves", *_noted(app, *moves, kept=kept))
    assert done == (0, "", "")
    for folder, _, _, new, *_ in moves:
        meta = Path(folder, ".ghost", Path(new).name)
        (meta / "environment.next").write_text(environment)


def _noted(
    app: Path, *moves: tuple[str, ...], number: str = NUMBER, kept: str = ""
) -> list[str]:
    """Return what ``record_moves`` takes."""
    words = [str(app), number, f"run-{number}", "moved"]
    for folder, target, previous, new, aside, _ in moves:
        record = Activation(
            int(number),
            f"run-{number}",
            Path(new).name,
            previous=previous,
            target=target,
            aside=aside,
        )
        words += (folder, new, kept, write(record))
    return words


def _ends(*moves: tuple[str, ...]) -> list[str]:
    """Return what ``switch`` takes after RENAME."""
    busy = str(Path(moves[0][0]).parent / "switching")
    return [busy, *(word for move in moves for word in move)]


def _back(*moves: tuple[str, ...]) -> list[str]:
    """Return what ``restore`` takes after RENAME."""
    busy, *words = _ends(*moves)
    return [busy, "back", *words]


def test_a_host_has_a_move_on_record_before_it_moves(
    shell: str, tmp_path: Path
) -> None:
    one, two = Module(tmp_path, "it's one"), Module(tmp_path, "two $(x)")
    moves = (one.move("1_a_0", "2_b_0"), two.move("", "2_b_0", "/it\\'s\naside"))
    ghost = tmp_path / "app/.ghost"
    for left in ("timer", "reverted"):
        (ghost / left).touch()
    words = _noted(tmp_path / "app", *moves)

    assert run(shell, "record_moves", *words) == (0, "", "")

    fence = ghost / "fence"
    assert fence.read_text() == "7 run-7\n"
    for module, text in ((one, words[7]), (two, words[11])):
        record = module.records / NUMBER
        assert record.read_text() == f"outcome=moved   \n{text}\n"
        assert stat.S_IMODE(record.stat().st_mode) == 0o600
        assert os.listdir(module.records) == [NUMBER]
    assert os.listdir(ghost) == ["fence"]
    assert stat.S_IMODE(fence.stat().st_mode) == 0o600


def test_a_host_that_does_not_move_notes_that_it_is_live(
    shell: str, tmp_path: Path
) -> None:
    one = Module(tmp_path, "one")
    words = _noted(tmp_path / "app", one.move("2_b_0", "2_b_0"))
    words[3] = "live"

    assert run(shell, "record_moves", *words)[0] == 0

    assert (one.records / NUMBER).read_text().startswith("outcome=live    \n")


@pytest.mark.parametrize("number", ["9", "10"])
def test_a_number_that_is_not_higher_is_refused(
    shell: str, number: str, tmp_path: Path
) -> None:
    one = Module(tmp_path, "one")
    fence = tmp_path / "app/.ghost/fence"
    for text in ("10 other\n", "10\n", "10"):
        fence.write_text(text)
        words = _noted(tmp_path / "app", one.move("", "2_b_0"), number=number)

        status, _, err = run(shell, "record_moves", *words)

        assert (status, fence.read_text()) == (1, text)
        assert err.endswith(f"moved links here as number 10: {number} is too late\n")
        assert not one.records.exists()

    words = _noted(tmp_path / "app", one.move("", "2_b_0"), number="11")
    assert run(shell, "record_moves", *words)[0] == 0
    assert fence.read_text() == "11 run-11\n"


def test_a_run_may_come_again_with_its_own_number_and_none_below(
    shell: str, tmp_path: Path
) -> None:
    one = Module(tmp_path, "one")
    first = _noted(tmp_path / "app", one.move("", "1_a_0"), number="9")
    again = _noted(tmp_path / "app", one.move("", "2_b_0"), number="9")
    assert run(shell, "record_moves", *first)[0] == 0

    assert run(shell, "record_moves", *again)[0] == 0

    assert "release=2_b_0\n" in (one.records / "9").read_text()
    again[1] = "8"
    assert run(shell, "record_moves", *again)[0] == 1
    assert os.listdir(one.records) == ["9"]


def test_a_fence_that_is_no_number_refuses_every_run(
    shell: str, tmp_path: Path
) -> None:
    one = Module(tmp_path, "one")
    (tmp_path / "app/.ghost/fence").write_text("ten other\n")

    words = _noted(tmp_path / "app", one.move("", "2_b_0"))

    assert run(shell, "record_moves", *words)[0] == 1
    assert not one.records.exists()


@pytest.mark.parametrize(("room", "fence"), [(0, "6 other\n"), (1, "7 run-7\n")])
def test_a_disk_that_is_too_full_for_a_record_has_no_half_of_one(
    shell: str, room: int, fence: str, tmp_path: Path
) -> None:
    if not may_mount():
        pytest.skip("mounting a small file system takes CAP_SYS_ADMIN")
    one = Module(tmp_path, "one")
    app = tmp_path / "app"
    # Not on that disk: there it would make room for the record when it is replaced.
    (app / ".ghost/fence").symlink_to(tmp_path / "fence")
    (tmp_path / "fence").write_text("6 other\n")
    words = _noted(app, one.move("", "2_b_0"))

    status, _, err = run_on_full_disk(shell, app, "record_moves", *words, room=room)

    assert status == 1
    assert "No space left on device" in err
    assert (app / ".ghost/fence").read_text() == fence
    assert [
        file for file in app.rglob("*") if file.name in {"fence.new", "7.new"}
    ] == []
    assert not (one.records / NUMBER).exists()


def test_all_links_move_and_all_come_back(shell: str, tmp_path: Path) -> None:
    one, two = Module(tmp_path, "it's one"), Module(tmp_path, "two $(x)")
    one.serve("1_a_0")
    moves = (one.move("1_a_0", "2_b_0"), two.move("", "2_b_0"))
    _arm(shell, *moves)

    status, output, err = run(shell, "switch", "mv", *_ends(*moves))
    assert (status, output, err) == (0, "moved\n", "")
    assert (one.serves, two.serves) == ("2_b_0", "2_b_0")
    assert (one.outcomes, two.outcomes) == ({NUMBER: "moved"}, {NUMBER: "moved"})

    status, output, err = run(shell, "restore", "mv", *_back(*reversed(moves)))
    assert (status, err) == (0, "")
    assert output == f"restored {two.target}\nrestored {one.target}\n"
    assert (one.serves, two.serves) == ("1_a_0", "")
    assert not two.target.is_symlink()
    assert (one.outcomes, two.outcomes) == ({NUMBER: "reverted"}, {NUMBER: "reverted"})


def test_a_link_that_is_not_previous_any_more_is_left_alone(
    shell: str, tmp_path: Path
) -> None:
    one, two = Module(tmp_path, "one"), Module(tmp_path, "two")
    one.serve("1_a_0")
    two.target.symlink_to("/elsewhere")
    moves = (one.move("1_a_0", "2_b_0"), two.move("", "2_b_0"))
    _arm(shell, *moves)

    status, _, err = run(shell, "switch", "mv", *_ends(*moves))

    assert status == 1
    assert err == f"{two.target} is not absent any more but /elsewhere\n"
    assert (one.serves, str(two.target.readlink())) == ("1_a_0", "/elsewhere")
    assert sorted(os.listdir(one.target.parent)) == ["one", "two"]


def test_a_switch_that_moved_nothing_says_so(shell: str, tmp_path: Path) -> None:
    """As it is where somebody clears the folder of the links meanwhile."""
    one, two = Module(tmp_path, "one"), Module(tmp_path, "two")
    for module in (one, two):
        module.serve("1_a_0")
    moves = (one.move("1_a_0", "2_b_0"), two.move("1_a_0", "2_b_0"))
    _arm(shell, *moves)
    # Not rm in the place of mv: busybox ash has both built in.
    clears = f'rm -f {two.target.parent}/.two.ghost-new-*\nexec {sys.executable} "$@"'
    path = _instead(tmp_path, "python3", clears)

    status, _, err = run(shell, "switch", "python3", *_ends(*moves), env=path)

    assert (status, one.serves, two.serves) == (1, "2_b_0", "1_a_0")
    assert err == (
        f"{two.target} leads to {two.release('1_a_0')}, not to {two.release('2_b_0')}\n"
    )
    assert run(shell, "restore", "mv", *_back(*reversed(moves)))[0] == 0
    assert (one.serves, two.serves) == ("1_a_0", "1_a_0")


def test_a_way_back_that_moved_nothing_says_so(shell: str, tmp_path: Path) -> None:
    one = Module(tmp_path, "one")
    one.serve("1_a_0")
    move = one.move("1_a_0", "2_b_0")
    _arm(shell, move)
    assert run(shell, "switch", "mv", *_ends(move))[0] == 0
    path = _instead(tmp_path, "python3", "exit 0")

    status, output, err = run(shell, "restore", "python3", *_back(move), env=path)

    assert (status, output, one.serves) == (1, "", "2_b_0")
    assert f"not back to {one.release('1_a_0')}" in err


def test_restore_leaves_a_foreign_link_and_says_so(shell: str, tmp_path: Path) -> None:
    one = Module(tmp_path, "one")
    one.target.symlink_to("/elsewhere")
    _arm(shell, one.move("1_a_0", "2_b_0"))

    status, output, err = run(
        shell, "restore", "mv", *_back(one.move("1_a_0", "2_b_0"))
    )

    assert (status, output) == (1, "")
    assert f"{one.target} points to /elsewhere" in err
    assert one.outcomes == {NUMBER: "moved"}


def test_restore_does_nothing_where_nothing_moved(shell: str, tmp_path: Path) -> None:
    one = Module(tmp_path, "one")
    one.serve("1_a_0")

    status, output, err = run(
        shell, "restore", "mv", *_back(one.move("1_a_0", "2_b_0"))
    )

    assert (status, output, err) == (0, f"left {one.target}\n", "")
    assert one.serves == "1_a_0"


def test_a_move_that_was_not_made_is_on_record_as_taken_back(
    shell: str, tmp_path: Path
) -> None:
    one = Module(tmp_path, "one")
    one.serve("1_a_0")
    one.record(6, "1_a_0", "live")
    one.record(8, "1_a_0", "moved")
    move = one.move("1_a_0", "2_b_0")
    assert run(shell, "record_moves", *_noted(tmp_path / "app", move))[0] == 0
    record = one.records / NUMBER
    before, text = record.stat(), record.read_text()

    for _ in "first", "again":
        assert run(shell, "restore", "mv", *_back(move))[0] == 0

    assert one.outcomes == {"6": "live", NUMBER: "reverted", "8": "moved"}
    lines = text.replace("outcome=moved   ", "outcome=reverted") + "reverted_by=back\n"
    assert (record.stat().st_ino, record.read_text()) == (before.st_ino, lines)


def test_a_full_disk_takes_what_became_of_a_move(shell: str, tmp_path: Path) -> None:
    if not may_mount():
        pytest.skip("mounting a small file system takes CAP_SYS_ADMIN")
    one, two = Module(tmp_path, "one"), Module(tmp_path, "two")
    for module in (one, two):
        module.serve("2_b_0")
        module.target.with_name(f".{module.target.name}.ghost-back-0f").symlink_to(
            module.release("1_a_0")
        )
    moves = (one.move("1_a_0", "2_b_0"), two.move("1_a_0", "2_b_0"))
    _arm(shell, *moves)
    (two.folder / ".ghost/2_b_0/fingerprint").write_text("f00d\n")
    live = (two.folder, two.target, "2", "1", "f00d", NUMBER)
    app = tmp_path / "app"

    back = run_on_full_disk(shell, app, "restore", "mv", *_back(moves[0]))
    pruned = run_on_full_disk(shell, app, "prune", *live)

    assert (back[0], pruned[0]) == (0, 0)
    assert (one.serves, one.outcomes) == ("1_a_0", {NUMBER: "reverted"})
    assert (two.serves, two.outcomes) == ("2_b_0", {NUMBER: "live"})


def test_an_adopted_folder_is_moved_aside_and_comes_back(
    shell: str, tmp_path: Path
) -> None:
    one = Module(tmp_path, "one")
    one.target.mkdir()
    (one.target / "index").write_text("old")
    move = one.move("", "2_b_0", aside=f"{tmp_path}/srv/.one.before")
    _arm(shell, move)

    assert run(shell, "switch", "mv", *_ends(move))[0] == 0
    assert one.serves == "2_b_0"
    assert run(shell, "restore", "mv", *_back(move))[0] == 0

    assert (one.target / "index").read_text() == "old"
    assert os.listdir(one.target.parent) == ["one"]


def test_a_link_stays_where_what_was_moved_aside_is_gone(
    shell: str, tmp_path: Path
) -> None:
    one, two = Module(tmp_path, "one"), Module(tmp_path, "two")
    one.serve("2_b_0")
    two.serve("2_b_0")
    aside = f"{tmp_path}/srv/.one.before"
    moves = (one.move("", "2_b_0", aside), two.move("1_a_0", "2_b_0"))

    status, output, err = run(shell, "restore", "mv", *_back(*moves))

    assert (status, output) == (1, f"restored {two.target}\n")
    assert err == (
        f"{aside} is not there any more: {one.target} still points to "
        f"{one.release('2_b_0')}\n"
    )
    assert (one.serves, two.serves) == ("2_b_0", "1_a_0")


@pytest.mark.parametrize("how", ["mv", "python3", "perl"])
def test_a_link_to_a_folder_is_replaced_not_entered(
    shell: str, how: str, tmp_path: Path
) -> None:
    one = Module(tmp_path, "one")
    one.serve("1_a_0")
    _arm(shell, one.move("1_a_0", "2_b_0"))

    assert run(shell, "switch", how, *_ends(one.move("1_a_0", "2_b_0")))[0] == 0

    assert (one.serves, os.listdir(one.folder / "1_a_0")) == ("2_b_0", [])


def test_restore_tells_what_the_old_release_has(shell: str, tmp_path: Path) -> None:
    one = Module(tmp_path, "one")
    one.serve("2_b_0")
    meta = one.folder / ".ghost" / "1_a_0"
    (meta / "post_deploy").touch()
    (meta / "environment").write_text('export X=1\nghost_verify=\'{"a": "b\\n"}\'\n')

    _, output, _ = run(shell, "restore", "mv", *_back(one.move("1_a_0", "2_b_0")))

    verify = 'verify {"a": "b\\n"}'
    assert output == f"restored,post_deploy {one.target}\n{verify}\n"


# --- prune ---------------------------------------------------------------------


def test_prune_keeps_what_is_live_was_live_and_is_protected(
    shell: str, tmp_path: Path
) -> None:
    one = Module(tmp_path, "one")
    for number in range(3, 10):
        for folder in (one.folder, one.folder / ".ghost"):
            (folder / f"{number}_x_0").mkdir()
    (one.folder / "shared").mkdir()
    (one.folder / "stranger").mkdir()
    (one.folder / "4_x_0" / "sub").mkdir(mode=0o500)
    # 7 and 8 never were live; 9 is.
    lived = ["1_a_0", "2_b_0", "3_x_0", "5_x_0", "6_x_0", "3_x_0"]
    for number, release in enumerate(lived, start=5):
        one.record(number, release)
    one.serve("9_x_0")

    status, output, err = run(
        shell, "prune", one.folder, one.target, "3", "1", "", "0", "1_a_0"
    )

    assert (status, err) == (0, "")
    assert sorted(output.split()) == ["2_b_0", "4_x_0", "5_x_0", "7_x_0"]
    left = {"9_x_0", "3_x_0", "6_x_0", "8_x_0", "1_a_0"}
    assert set(os.listdir(one.folder)) == {*left, "shared", "stranger", ".ghost"}
    assert set(os.listdir(one.folder / ".ghost")) == {*left, "activations"}


def test_prune_never_removes_the_live_release_however_few_to_keep(
    shell: str, tmp_path: Path
) -> None:
    """Ghost defect 2: a failed release that is still live was removed."""
    one = Module(tmp_path, "one")
    one.serve("1_a_0")

    assert run(shell, "prune", one.folder, one.target, "1", "0", "proof", "0")[0] == 0

    assert one.target.resolve().is_dir()
    assert not (one.folder / "2_b_0").exists()
    fingerprint = one.folder / ".ghost" / "1_a_0" / "fingerprint"
    assert fingerprint.read_text() == "proof\n"


def test_a_release_that_is_proven_is_on_record_as_live(
    shell: str, tmp_path: Path
) -> None:
    one = Module(tmp_path, "one")
    one.serve("2_b_0")
    one.record(6, "1_a_0", "reverted")
    one.record(7, "2_b_0", "moved")
    words = (one.folder, one.target, "9", "9")
    inode = (one.records / NUMBER).stat().st_ino

    # To make room, before anything is proven.
    assert run(shell, "prune", *words, "", NUMBER) == (0, "", "")
    assert one.outcomes == {"6": "reverted", NUMBER: "moved"}

    assert run(shell, "prune", *words, "f00d", NUMBER) == (0, "", "")
    assert one.outcomes == {"6": "reverted", NUMBER: "live"}
    assert (one.records / NUMBER).stat().st_ino == inode


def test_a_release_without_a_record_is_proven_as_well(
    shell: str, tmp_path: Path
) -> None:
    one = Module(tmp_path, "one")
    one.serve("2_b_0")
    one.record(6, "1_a_0", "reverted")

    words = (one.folder, one.target, "9", "9", "f00d", "0")
    assert run(shell, "prune", *words) == (0, "", "")

    assert one.outcomes == {"6": "reverted"}
    assert (one.folder / ".ghost/2_b_0/fingerprint").read_text() == "f00d\n"


def test_a_move_that_proved_nothing_was_not_live(shell: str, tmp_path: Path) -> None:
    one = Module(tmp_path, "one")
    for name in ("3_x_0", "4_x_0", "5_x_0", "6_x_0"):
        (one.folder / name).mkdir()
    one.record(8, "4_x_0", "live")
    one.record(9, "5_x_0", "live")
    one.record(10, "3_x_0", "reverted")
    one.record(11, "1_a_0", "moved")
    one.serve("6_x_0")

    output = run(shell, "prune", one.folder, one.target, "2", "2", "", "0")[1]

    # Of 4 and 5, which were live, one stays; of the others, which were not, two do.
    assert sorted(output.split()) == ["1_a_0", "4_x_0"]


@pytest.mark.parametrize(
    "name", ["old", "two  blanks ", "back\\slash \\0101", "new\nline", "it's $(x) *"]
)
def test_a_release_that_an_earlier_link_leads_to_stays(
    shell: str, name: str, tmp_path: Path
) -> None:
    """The path of a module was moved, and the old link may still serve."""
    one = Module(tmp_path, "one")
    (one.folder / "3_x_0").mkdir()
    old, foreign = one.target.with_name(name), one.target.with_name("foreign")
    old.symlink_to(one.release("1_a_0"))
    foreign.symlink_to(tmp_path / "2_b_0")
    one.record(7, "1_a_0", "reverted", target=old)
    one.record(8, "1_a_0", "reverted", target=foreign)
    one.record(9, "3_x_0", "live", target=one.target)
    one.serve("3_x_0")
    words = (one.folder, one.target, "1", "0", "", "0")

    assert run(shell, "prune", *words) == (0, "2_b_0\n", "")

    old.unlink()
    assert run(shell, "prune", *words) == (0, "1_a_0\n", "")


def test_the_last_records_stay_and_those_of_releases_that_do(
    shell: str, tmp_path: Path
) -> None:
    one = Module(tmp_path, "one")
    for number in range(1, 131):
        one.record(number, {3: "1_a_0", 130: "2_b_0"}.get(number, f"{number}_gone_0"))
    for name in ("2.new", "4"):
        (one.records / name).write_text("")
    one.serve("2_b_0")

    assert run(shell, "prune", one.folder, one.target, "2", "0", "", "0")[0] == 0

    left = {"3", *map(str, range(31, 131))}
    assert set(os.listdir(one.records)) == left


def test_records_are_numbers_and_no_words(shell: str, tmp_path: Path) -> None:
    one = Module(tmp_path, "one")
    (one.folder / "3_x_0").mkdir()
    one.record(9, "1_a_0")
    one.record(10, "2_b_0")
    one.serve("3_x_0")

    output = run(shell, "prune", one.folder, one.target, "2", "0", "", "0")[1]

    assert output == "1_a_0\n"


# --- What a review found -------------------------------------------------------


def test_a_leftover_of_a_killed_switch_does_not_decide(
    shell: str, tmp_path: Path
) -> None:
    one = Module(tmp_path, "one")
    one.serve("1_a_0")
    move = one.move("1_a_0", "2_b_0")
    _arm(shell, move)
    left = one.target.with_name(".one.ghost-new-0f")
    left.symlink_to(one.release("1_a_0"))

    status = run(shell, "switch", "mv", *_ends(move))[0]

    assert (status, one.serves) == (0, "2_b_0")
    assert os.listdir(one.folder / "1_a_0") == []
    assert not left.is_symlink()


def test_a_leftover_of_a_killed_switch_does_not_replace_what_is_live(
    shell: str, tmp_path: Path
) -> None:
    one = Module(tmp_path, "one")
    one.serve("2_b_0")
    move = one.move("2_b_0", "2_b_0")
    _arm(shell, move)
    left = one.target.with_name(".one.ghost-new-0f")
    left.symlink_to(one.release("1_a_0"))

    status = run(shell, "switch", "mv", *_ends(move))[0]

    assert (status, one.serves, left.is_symlink()) == (0, "2_b_0", False)


def test_a_switch_that_was_ended_is_not_carried_out_by_its_mv(
    shell: str, tmp_path: Path
) -> None:
    one = Module(tmp_path, "one")
    one.serve("1_a_0")
    move = one.move("1_a_0", "2_b_0")
    left = one.target.with_name(".one.ghost-new-0f")
    left.symlink_to(one.release("2_b_0"))

    status = run(shell, "restore", "mv", *_back(move))[0]

    assert (status, one.serves, left.is_symlink()) == (0, "1_a_0", False)


def test_a_switch_that_is_still_on_its_way_is_ended_before_links_go_back(
    shell: str, tmp_path: Path
) -> None:
    one, two = Module(tmp_path, "one"), Module(tmp_path, "two")
    for module in (one, two):
        module.serve("1_a_0")
    moves = (one.move("1_a_0", "2_b_0"), two.move("1_a_0", "2_b_0"))
    _arm(shell, *moves)
    slow = tmp_path / "slow"
    slow.mkdir()
    # Not mv: busybox ash has one built in.
    (slow / "python3").write_text(f"#!/bin/sh\ntouch {slow}/began\nsleep 3\n")
    (slow / "python3").chmod(0o755)
    path = f"{slow}:{os.environ['PATH']}"
    process, _ = start(shell, "switch", "python3", *_ends(*moves), env={"PATH": path})
    _until((slow / "began").exists)

    status, _, err = run(shell, "restore", "mv", *_back(*reversed(moves)))

    process.communicate(timeout=20)
    assert (status, err) == (0, "")
    _until(lambda: two.serves == "1_a_0")
    assert two.serves == "1_a_0"


def test_the_environment_is_taken_whole_or_not_at_all(
    shell: str, tmp_path: Path
) -> None:
    (tmp_path / "environment").write_text("old")

    assert run(shell, "environment", tmp_path, "", "9", payload=b"cut")[0] == 1
    assert not (tmp_path / "environment.next").exists()
    assert run(shell, "environment", tmp_path, "", "5", payload=b"whole")[0] == 0

    assert (tmp_path / "environment.next").read_text() == "whole"
    assert (tmp_path / "environment").read_text() == "old"


def _again(tmp_path: Path) -> tuple[Path, tuple[str, ...]]:
    """Have a release that serves be deployed again; return its environment and move."""
    one = Module(tmp_path, "one")
    one.serve("1_a_0")
    environment = one.folder / ".ghost" / "1_a_0" / "environment"
    environment.write_text("old")
    return environment, one.move("1_a_0", "1_a_0")


def test_the_same_release_again_gets_its_environment_back(
    shell: str, tmp_path: Path
) -> None:
    environment, move = _again(tmp_path)
    _arm(shell, move)

    assert run(shell, "switch", "mv", *_ends(move))[0] == 0
    assert environment.read_text() == "export NEXT=1\n"
    assert run(shell, "restore", "mv", *_back(move))[0] == 0

    assert environment.read_text() == "old"


@pytest.mark.parametrize(("kept", "back"), [("kept", "old"), ("", "of one killed")])
def test_a_run_that_is_taken_up_goes_back_to_what_was_before_it(
    shell: str, kept: str, back: str, tmp_path: Path
) -> None:
    """A run of its own goes back to what it found, whatever one before it had kept."""
    environment, move = _again(tmp_path)
    _arm(shell, move, environment="of one killed")
    assert run(shell, "switch", "mv", *_ends(move))[0] == 0

    _arm(shell, move, kept=kept, environment="new")
    assert run(shell, "switch", "mv", *_ends(move))[0] == 0
    assert environment.read_text() == "new"
    assert run(shell, "restore", "mv", *_back(move))[0] == 0

    assert environment.read_text() == back


def test_a_run_whose_switch_did_not_begin_restores_no_environment_of_another(
    shell: str, tmp_path: Path
) -> None:
    environment, move = _again(tmp_path)
    environment.with_name("environment.before").write_text("stale")
    _arm(shell, move)

    assert run(shell, "restore", "mv", *_back(move))[0] == 0

    assert environment.read_text() == "old"


def test_an_environment_that_was_kept_in_part_is_not_one_to_go_back_to(
    shell: str, tmp_path: Path
) -> None:
    environment, move = _again(tmp_path)
    _arm(shell, move)
    text = 'for to; do :; done\nprintf o >"$to"\nexit 1'
    env = _instead(tmp_path, "cp", text)
    assert run(shell, "switch", "mv", *_ends(move), env=env)[0] == 1

    assert run(shell, "restore", "mv", *_back(move))[0] == 0

    assert environment.read_text() == "old"


def test_users_variables_do_not_choose_what_runs(
    shell: str, tmp_path: Path, meta: Path
) -> None:
    (meta / "environment").write_text(
        "export file=/bin/false text='exit 9' environment=x cwd=/ PATH=/nowhere\n"
    )
    (meta / "script").write_text("echo $file")

    status, output = run_open(
        shell, "run", tmp_path, meta / "script", "", meta / "environment"
    )

    assert (status, output) == (0, "/bin/false\n")


def test_the_lock_of_our_own_dead_connection_is_ours(
    shell: str, tmp_path: Path
) -> None:
    app = tmp_path / "app"
    with _holder(shell, app, "1") as (first, _), _holder(shell, app, "1") as (_, said):
        assert "taken over" not in said
        assert first.wait(10) != 0
        assert _ask(shell, app, "2")[0] == 75


def test_a_run_that_lost_the_lock_meanwhile_does_not_get_it_again(
    shell: str, tmp_path: Path
) -> None:
    app = tmp_path / "app"
    again = (*_words(app, "1"), "again")
    assert _ask(shell, app, "1")[0] == 0
    assert run(shell, "lock", *again)[0] == 0
    assert _ask(shell, app, "2")[0] == 0

    assert run(shell, "lock", *again)[::2] == (75, "run 2 by ann\n")


# --- the fence -------------------------------------------------------------------


def _fenced(
    shell: str, app: Path, run_id: str, process: str = ""
) -> tuple[int | None, bytes]:
    """Run a script that changes a host, under the lock of *run_id*."""
    (app / "meta").mkdir(parents=True, exist_ok=True)
    holder = quote(f"run {run_id} by ann")
    fence = Fence(quote(f"{app}/.ghost"), holder, process.encode())
    words = (str(app / "meta"), "", "0")
    child, frame = start(shell, "environment", *words, fence=fence)
    out, err = child.communicate(timeout=20)
    frame.feed(out)
    return frame.status, err


def test_a_script_runs_behind_its_own_lock_alone(shell: str, tmp_path: Path) -> None:
    app = tmp_path / "app"
    with _holder(shell, app, "1") as (first, _):
        assert _fenced(shell, app, "1") == (0, b"")
        assert _fenced(shell, app, "2") == (
            LOST,
            b"\n0123456789abcdef lost run 1 by ann\n",
        )

        first.kill()
        first.wait(10)
        assert _fenced(shell, app, "1") == (
            LOST,
            b"\n0123456789abcdef lost run 1 by ann\n",
        )
    (app / ".ghost/holder").unlink(missing_ok=True)
    assert _fenced(shell, app, "1") == (LOST, b"\n0123456789abcdef lost \n")
    assert not (app / "meta/environment.next.new").exists()


# --- in nobody else's hands ------------------------------------------------------


@contextlib.contextmanager
def _stranger(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Have another user run a process that looks like one of ours."""
    named = ["/bin/bash", "-c", 'exec -a "$0" /bin/sleep 60', " ".join(words)]
    with subprocess.Popen(named, user=65534) as process:
        comm = Path(f"/proc/{process.pid}/comm")
        _until(lambda: comm.read_text() == "sleep\n")
        try:
            yield process
            assert process.poll() is None, "a stranger was signalled"
        finally:
            process.kill()


@pytest.mark.skipif(os.getuid() != 0, reason="another user's process takes root")
@pytest.mark.parametrize("tools", ["rich", "poor"])
@pytest.mark.parametrize("stale", [STALE, "-1"])
def test_a_process_that_is_named_like_ours_is_nobody(
    shell: str, tools: str, stale: str, tmp_path: Path, poor: dict[str, str]
) -> None:
    app = tmp_path / "app"
    env = poor if tools == "poor" else None
    assert _ask(shell, app, "1", env)[0] == 0

    with (
        _stranger("ghost-run", f"1@{_word(app)}") as script,
        _stranger("ghost-lock", f"1@{_word(app)}") as lock,
        _stranger("sh", "timer.sh", f"timer@{_word(app)}"),
    ):
        # Nor where a file of ours has its number, from an earlier process.
        (app / ".ghost/scripts").write_text(f"{BOOT.read_text()}{script.pid} 1\n")
        (app / ".ghost/holder").write_text(f"run 1 by ann\n{lock.pid} 1\n")
        (app / ".ghost/lock.d").mkdir(exist_ok=True)
        (app / f".ghost/lock.d/{lock.pid}.1").touch()

        assert _ask(shell, app, "2", env, stale=stale)[::2] == (0, "")


@pytest.mark.skipif(os.getuid() != 0, reason="another user's process takes root")
@pytest.mark.parametrize("boot", ["this", "another"])
def test_a_list_of_another_boot_names_nobody(
    shell: str, boot: str, tmp_path: Path
) -> None:
    """A process of anybody may have the same number, at the same time after it."""
    app = tmp_path / "app"
    assert _ask(shell, app, "1")[0] == 0
    with _stranger("ghost-run", f"1@{_word(app)}") as script:
        of = BOOT.read_text() if boot == "this" else "c0ffee\n"
        (app / ".ghost/scripts").write_text(of + process_line(script.pid))

        assert _ask(shell, app, "2")[0] == (76 if boot == "this" else 0)


@pytest.mark.skipif(os.getuid() != 0, reason="another user's process takes root")
def test_a_way_back_ends_no_process_of_others(shell: str, tmp_path: Path) -> None:
    one = Module(tmp_path, "one")
    one.serve("2_b_0")
    move = one.move("1_a_0", "2_b_0")
    with _stranger("ghost-switch") as process:
        (tmp_path / "app/.ghost").mkdir(exist_ok=True)
        words = _back(move)
        Path(words[0]).write_text(f"{process.pid} 1\n")

        assert run(shell, "restore", "mv", *words)[0] == 0

    assert one.serves == "1_a_0"


@pytest.mark.skipif(os.getuid() != 0, reason="another group takes root")
def test_a_group_without_members_keeps_nobody_from_the_lock(
    shell: str, tmp_path: Path
) -> None:
    """As the folders of users have one each, under umask 002."""
    app = tmp_path / "app"
    app.mkdir()
    os.chown(app, 0, 54321)
    app.chmod(0o775)

    assert _ask(shell, app, "1")[::2] == (0, "")

    # And it hides nobody who is judged after it.
    os.chown(app / ".ghost", 65534, 0)
    status, _, said = _ask(shell, app, "1")
    assert (status, said) == (1, f"in the hands of others: owner nobody {app}/.ghost\n")


@pytest.mark.parametrize("made", ["before", "meanwhile"])
def test_names_beside_the_target_that_others_have_made_stop_nothing(
    shell: str, made: str, tmp_path: Path
) -> None:
    one = Module(tmp_path, "one")
    one.serve("1_a_0")
    move = one.move("1_a_0", "2_b_0")
    _arm(shell, move)

    def block() -> None:
        for end in ("", "-back", "-new", "-back-0f", "-new-0f"):
            path = one.target.parent / f".one.ghost{end}/x"
            path.mkdir(parents=True, exist_ok=True)

    if made == "before":
        block()
    assert run(shell, "switch", "mv", *_ends(move))[0] == 0
    assert one.serves == "2_b_0"
    block()
    # Somebody has taken the link of the way back away as well.
    for left in one.target.parent.glob(".one.ghost-back-*"):
        if left.is_symlink():
            left.unlink()

    status, said, err = run(shell, "restore", "mv", *_back(move))

    assert (status, said, err) == (0, f"restored {one.target}\n", "")
    assert one.serves == "1_a_0"
    # And the next switch, and its end, as well.
    assert run(shell, "switch", "mv", *_ends(move))[0] == 0
    live = (one.folder, one.target, "2", "1", "f00d", NUMBER)
    assert run(shell, "prune", *live)[0] == 0
    links = [path for path in one.target.parent.iterdir() if path.is_symlink()]
    assert links == [one.target]


def test_a_script_runs_in_its_release_alone(shell: str, tmp_path: Path) -> None:
    """Whatever the link leads to by then, and by whichever way a release is named."""
    release, theirs = tmp_path / "1_a_0", tmp_path / "theirs"
    release.mkdir()
    theirs.mkdir()
    (tmp_path / "way").symlink_to(tmp_path)
    target, environment = tmp_path / "site", tmp_path / "environment"
    environment.write_text(f"export GHOST_RELEASE_PATH='{tmp_path}/way/1_a_0'\n")
    words = (str(target), "", "touch ran", str(environment))

    target.symlink_to("1_a_0")
    assert run_open(shell, "run", *words) == (0, "")
    target.unlink()
    target.symlink_to("theirs")
    status, said = run_open(shell, "run", *words)

    assert status == 126
    assert said == f"{target} leads to {theirs}, not to {tmp_path}/way/1_a_0\n"
    assert (release / "ran").exists()
    assert not [*theirs.iterdir()]
