"""Run a remote script here as a host would: the same text, by each shell."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from ghostasync._remote.frame import Frame
from ghostasync._remote.script import Fence, body, command_line, quote, render

SHELLS = {
    "dash": ["/bin/dash", "-c"],
    "bash": ["/bin/bash", "--posix", "-c"],
    "busybox": ["/usr/bin/busybox", "ash", "-c"],
}


BOOT = Path("/proc/sys/kernel/random/boot_id")


def loader(text: bytes) -> str:
    """Return what reads *text* from stdin and runs it, as hosts are told to."""
    return command_line("any", len(text)).split("'")[1]


def start(
    shell: str,
    name: str,
    *args: str,
    env: dict[str, str] | None = None,
    fence: Fence | None = None,
    word: str = "",
    app: Path | None = None,
) -> tuple[subprocess.Popen[bytes], Frame]:
    """
    Start the script with an open stdin; its text has been written already.

    *word* is what it is known by among the processes, once it is on the list of *app*.
    """
    frame = Frame("0123456789abcdef")
    text = render(name, args, frame.nonce, fence)
    if app is not None:
        (app / ".ghost").mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (app / ".ghost/scripts").exists():
            (app / ".ghost/scripts").write_text(BOOT.read_text())
        scripts = quote(f"{app}/.ghost/scripts")
        text = b"scripts=%s\n%s\n%s" % (scripts, body("parts/enrol"), text)
    process = subprocess.Popen(
        [*SHELLS[shell], loader(text), f"ghost-{name}", word],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **(env or {})},
    )
    assert process.stdin
    process.stdin.write(text)
    process.stdin.flush()
    return process, frame


def run(
    shell: str,
    name: str,
    *args: str | Path,
    payload: bytes = b"",
    env: dict[str, str] | None = None,
) -> tuple[int | None, str, str]:
    """Run the script to its end; return its status, its output and its stderr."""
    process, frame = start(shell, name, *map(str, args), env=env)
    out, err = process.communicate(payload, timeout=20)
    output = frame.feed(out)
    return frame.status, os.fsdecode(output), err.decode()


def process_line(pid: int) -> str:
    """Return how ours note a process: its number, and the time at which it began."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    return f"{pid} {stat.rpartition(') ')[2].split()[19]}\n"


def may_mount() -> bool:
    """Tell whether tests can have a file system of their own: CAP_SYS_ADMIN."""
    probe = ["unshare", "-m", "true"]
    return not subprocess.run(probe, check=False, capture_output=True).returncode


def run_mounted(
    shell: str,
    before: str,
    after: str,
    name: str,
    *args: str | Path,
    payload: bytes = b"",
) -> tuple[int | None, str, str]:
    """Run the script where nobody else sees what *before*, which is sh, mounts."""
    frame = Frame("0123456789abcdef")
    text = render(name, tuple(map(str, args)), frame.nonce)
    around = f'set -e\n{before}\n"$@"\n{after}\n'
    script = [*SHELLS[shell], loader(text), f"ghost-{name}"]
    done = subprocess.run(
        ["unshare", "-m", "/bin/sh", "-c", around, "sh", *script],
        input=text + payload,
        capture_output=True,
        check=True,
        timeout=20,
    )
    output = frame.feed(done.stdout)
    return frame.status, os.fsdecode(output), done.stderr.decode()


def run_on_full_disk(
    shell: str,
    folder: Path,
    name: str,
    *args: str | Path,
    room: int = 0,
    payload: bytes = b"",
) -> tuple[int | None, str, str]:
    """Run the script with *folder* on a disk that has room for *room* files."""
    at = quote(str(folder)).decode()
    before = f"""
cp -a {at} {at}.spare
mount -t tmpfs -o size=256k none {at}
cp -a {at}.spare/. {at}
cat /dev/zero 2>/dev/null >{at}/full || truncate -s -{4096 * room} {at}/full
"""
    after = f"""
rm -r {at}/full {at}.spare
cp -a {at} {at}.spare
umount {at}
rm -r {at}
mv {at}.spare {at}
"""
    return run_mounted(shell, before, after, name, *args, payload=payload)


def read(process: subprocess.Popen[bytes]) -> bytes:
    """Return what the script has printed, waiting for the first byte."""
    assert process.stdout
    return os.read(process.stdout.fileno(), 65536)


def run_open(
    shell: str, name: str, *args: str | Path, env: dict[str, str] | None = None
) -> tuple[int, str]:
    """Run the script with stdin open until its last line; return status and output."""
    process, frame = start(shell, name, *map(str, args), env=env)
    output = b""
    while frame.status is None:
        piece = read(process)
        assert piece, "it ended without its last line"
        output += frame.feed(piece)
    process.communicate(timeout=20)
    return frame.status, output.decode()
