"""A host's own log has a line for each move of a link."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ghostasync._remote.activation import Activation, write
from ghostasync._remote.script import quote
from tests._remote.shells import SHELLS, may_mount, run_mounted


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What a host's ``/dev/log`` gets."""
    if not may_mount():
        pytest.skip("a /dev of its own takes CAP_SYS_ADMIN")
    (tmp_path / "dev").mkdir()
    # The name of a socket may not be longer than 107 bytes.
    monkeypatch.chdir(tmp_path / "dev")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("log")
        receiver.settimeout(10)
        yield receiver


def logged(shell: str, tmp_path: Path, name: str, *args: str) -> None:
    """Run a script where the log is listened to."""
    dev = quote(str(tmp_path / "dev")).decode()
    before = f"""
for node in null urandom; do
    touch {dev}/$node
    mount --bind /dev/$node {dev}/$node
done
mount --rbind {dev} /dev
"""
    status, _, err = run_mounted(shell, before, "", name, *args)
    assert (status, err) == (0, "")


def line(log: socket.socket) -> str:
    return log.recv(4096).decode().partition("ghostasync: ")[2]


@pytest.mark.parametrize("shell", SHELLS)
def test_each_move_is_a_line_with_who_and_why(
    shell: str, tmp_path: Path, log: socket.socket
) -> None:
    site, target = tmp_path / "app/site", tmp_path / "srv"
    records = site / ".ghost/activations"
    for release in ("1_a_0", "2_b_0"):
        (site / ".ghost" / release).mkdir(parents=True)
        (site / release).mkdir()
    records.mkdir()
    record = Activation(
        7, "run-7", "2_b_0", actor="ann", key="SHA256:k", reason="a fix\n$(id)"
    )
    (records / "7").write_text(f"outcome=moved   \n{write(record)}\n")
    target.symlink_to(site / "1_a_0")
    move = [str(site), str(target), f"{site}/1_a_0", f"{site}/2_b_0", "", "7"]
    busy = str(tmp_path / "busy")

    for _ in "first", "again":
        logged(shell, tmp_path, "switch", "mv", busy, *move)
    logged(shell, tmp_path, "restore", "mv", busy, "run-8", *move)

    assert target.readlink() == site / "1_a_0"
    assert sorted((line(log), line(log))) == [
        (
            f"{target}: {site}/1_a_0 -> {site}/2_b_0 "
            r"generation=7 run=run-7 actor=ann key=SHA256:k reason=a fix\0012$(id)"
        ),
        f"{target}: {site}/2_b_0 -> {site}/1_a_0 again, for run run-8",
    ]
    log.setblocking(False)
    with pytest.raises(BlockingIOError):
        log.recv(1)
