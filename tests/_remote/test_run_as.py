"""A script that runs as another user: what it gets, and that it ends when it must."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from ghostasync._build.environment import exports
from ghostasync._remote.script import as_user, body
from tests._remote.shells import SHELLS, loader, run_open

HOSTILE = 'it\'s `id` "$(id)" \\ caf\udce9\n second line\n'
USER = "nobody"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes anybody")


@pytest.fixture
def meta(tmp_path: Path) -> Path:
    """A folder that nobody else may enter, as `.ghost/<id>` is."""
    folder = tmp_path / "meta"
    folder.mkdir(mode=0o700)
    (folder / "environment").write_bytes(exports({"A": HOSTILE, "PATH": "/nowhere"}))
    (folder / "environment").chmod(0o600)
    return folder


@contextmanager
def start(
    shell: str, meta: Path, script: str, more: Mapping[str, str] = {}, user: str = USER
) -> Iterator[subprocess.Popen[bytes]]:
    (meta / "script").write_bytes(os.fsencode(script))
    (meta / "script").chmod(0o600)
    environment = str(meta / "environment")
    text = as_user(user, str(meta / "script"), "", environment, more)
    with subprocess.Popen(
        [*SHELLS[shell], os.fsencode(text)],
        cwd="/usr",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        yield process


@needs_root
@pytest.mark.parametrize("shell", SHELLS)
def test_it_gets_its_environment_byte_for_byte(shell: str, meta: Path) -> None:
    script = (
        '/usr/bin/printf "%s|" "$A" "$MORE" "$PATH" "$HOME" "$(pwd)"\n'
        "/usr/bin/id -un\n/bin/cat\nexit 3"
    )

    with start(shell, meta, script, {"MORE": HOSTILE}) as process:
        out, _ = process.communicate(timeout=20)

    told, user = out.rsplit(b"|", 1)
    hostile = os.fsencode(HOSTILE)
    assert told.split(b"|") == [hostile, hostile, b"/nowhere", b"/nonexistent", b"/usr"]
    assert (user, process.returncode) == (b"nobody\n", 3)
    assert {path.name for path in meta.iterdir()} == {"environment", "script"}


@needs_root
@pytest.mark.parametrize("shell", SHELLS)
def test_its_first_line_says_who_reads_it(shell: str, meta: Path) -> None:
    script = (
        f"#! {shutil.which('python3', path=os.defpath)} -I\n"
        "import os, sys\n"
        "print(os.getuid(), sys.flags.isolated, sys.stdin.read(), os.environ['A'][:4])"
    )

    with start(shell, meta, script) as process:
        out, _ = process.communicate(timeout=20)

    assert out == b"65534 1  it's\n"


@needs_root
@pytest.mark.parametrize("shell", SHELLS)
def test_a_large_script_arrives_whole(shell: str, meta: Path) -> None:
    script = ": " + "x" * 200_000 + "\n/usr/bin/printf end"

    with start(shell, meta, script) as process:
        out, _ = process.communicate(timeout=30)

    assert out == b"end"


@needs_root
@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_when_its_caller_does(
    shell: str, sent: signal.Signals, meta: Path, tmp_path: Path
) -> None:
    script = (
        "PATH=/usr/bin:/bin\n"
        'trap "echo ended; exit 9" TERM\nsleep 300 &\necho "$!"\nwait\n'
    )
    with start(shell, meta, script) as process:
        assert process.stdout
        child = int(process.stdout.readline())

        os.killpg(process.pid, sent)
        out = process.stdout.read()

    assert out == b"ended\n", "and nobody holds its output any more"
    assert process.wait(20) == (9 if sent is signal.SIGTERM else -9)
    assert not _runs(child)


@needs_root
@pytest.mark.parametrize("shell", SHELLS)
def test_one_that_does_not_listen_is_killed(shell: str, meta: Path) -> None:
    script = 'PATH=/usr/bin:/bin\ntrap "" TERM\nsleep 300 &\necho "$!"\nwait\nwait'
    with start(shell, meta, script) as process:
        assert process.stdout
        child = int(process.stdout.readline())

        os.killpg(process.pid, signal.SIGTERM)

        assert process.wait(20) == 137
    assert not _runs(child)


@needs_root
def test_a_user_who_is_not_there_is_named(meta: Path) -> None:
    with start("dash", meta, "true", user="nobody-here") as process:
        out, _ = process.communicate(timeout=20)

    assert (process.returncode, out) == (1, b"there is no user nobody-here\n")


# --- The part that runs as that user --------------------------------------------


@contextmanager
def serving(
    shell: str, variables: bytes, script: bytes
) -> Iterator[subprocess.Popen[bytes]]:
    text = b"set -- %d 0 %d 0\n%s" % (len(variables), len(script), body("run_as_inner"))
    with subprocess.Popen(
        [*SHELLS[shell], loader(text), "ghost-run_as_inner"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdin
        process.stdin.write(text + variables + script)
        process.stdin.flush()
        yield process


@pytest.mark.parametrize("shell", SHELLS)
def test_what_was_cut_short_does_not_run(shell: str) -> None:
    for end in (b"", b"g"):
        with serving(shell, b"", b"echo half") as process:
            out, _ = process.communicate(end, timeout=20)

        assert (process.returncode, out) == (143, b"")


@pytest.mark.parametrize("shell", SHELLS)
def test_names_of_its_own_are_the_users_in_the_script(shell: str) -> None:
    names = ("status", "watch", "family", "script", "text", "go", "bang", "setsid")
    variables = b"".join(b"export %s='mine'\n" % name.encode() for name in names)
    said = b" ".join(b"$" + name.encode() for name in names)
    script = b'echo "%s"; exit 4' % said

    with serving(shell, variables, script) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"go\n")
        process.stdin.flush()

        assert process.stdout.readline() == b"mine " * 7 + b"mine\n"
        assert process.wait(20) == 4


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


@needs_root
@pytest.mark.parametrize("shell", SHELLS)
def test_no_program_of_the_app_runs_before_the_user_is_changed(
    shell: str, meta: Path, tmp_path: Path
) -> None:
    """The app's PATH may lead to a folder that its user can write to."""
    ran, bin_ = tmp_path / "ran", tmp_path / "bin"
    ran.touch(0o666)
    ran.chmod(0o666)
    tmp_path.chmod(0o755)
    bin_.mkdir()
    for tool in ("cat", "wc", "sed", "mkfifo", "rm", "su", "id", "setsid", "dd"):
        (bin_ / tool).write_text(
            f'#!/bin/sh\n/usr/bin/id -u >>{ran}\nexec /usr/bin/{tool} "$@"\n'
        )
        (bin_ / tool).chmod(0o755)
    variables = {"PATH": f"{bin_}:/usr/bin:/bin", "GHOST_RELEASE_PATH": str(tmp_path)}
    (meta / "environment").write_bytes(exports(variables))
    (meta / "script").write_text("cat /dev/null; echo done\n")
    environment = str(meta / "environment")
    text = as_user(USER, str(meta / "script"), "", environment, {})

    done = run_open(shell, "run", str(tmp_path), "", text, environment)

    assert done == (0, "done\n")
    assert "0" not in ran.read_text().split()
