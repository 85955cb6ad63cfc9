"""What the live release has at a path that becomes shared is copied where it fits."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from ghostasync._remote.script import body, quote
from tests._remote.shells import SHELLS, may_mount, run, run_mounted

MAKE = """
mount -t tmpfs -o size=2m none {at}
mkdir -p {at}/1_a/up {at}/2_b {at}/.ghost/2_b
dd if=/dev/zero of={at}/1_a/up/photos bs=1k count={kib} 2>/dev/null
"""


def shared(shell: str, at: str, kib: int, after: str) -> tuple[int | None, str, str]:
    """Have release 2_b share a folder of *kib* that 1_a serves, on a disk of 2 MiB."""
    if not may_mount():
        pytest.skip("a disk of its own takes CAP_SYS_ADMIN")
    here = quote(at).decode()
    before, after = (text.format(at=here, kib=kib) for text in (MAKE, after))
    words = (at, "2_b", f"{at}/1_a", "drop", "fresh", "d:up")
    return run_mounted(shell, before, after, "share", *words)


@pytest.mark.parametrize("shell", SHELLS)
def test_what_does_not_fit_is_not_copied(shell: str, tmp_path: Path) -> None:
    nothing = '[ "$(ls -A {at}/shared)" = "" ] && [ ! -L {at}/2_b/up ]'

    status, said, complaint = shared(shell, str(tmp_path), 1200, nothing)

    assert (status, said) == (1, "")
    assert re.fullmatch(
        f"shared up: {tmp_path}/1_a/up has 1200 KiB to copy, and {tmp_path} has "
        r"8\d\d KiB free: make room\n",
        complaint,
    )


@pytest.mark.parametrize("shell", SHELLS)
def test_what_fits_is_copied(shell: str, tmp_path: Path) -> None:
    there = "cmp {at}/1_a/up/photos {at}/shared/up/photos"

    assert shared(shell, str(tmp_path), 800, there) == (0, "", "")


def becomes_shared(top: Path) -> dict[str, tuple[str | Path, ...]]:
    """Have 1_a serve a folder that 2_b shares; return the words of each script."""
    folder, target = top / "site", top / "srv"
    old, new = folder / "1_a", folder / "2_b"
    for each in (old / "up", new, folder / "shared", folder / ".ghost/2_b"):
        each.mkdir(parents=True)
    (old / "up/photo").write_text("theirs")
    target.symlink_to(old)
    (folder / ".ghost/2_b/copied").write_text("up\n")
    return {
        "share": (folder, "2_b", old, "drop", "fresh", "d:up"),
        "switch": ("mv", top / "busy", folder, target, old, new, "", "1"),
    }


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("script", ["share", "switch"])
def test_what_users_have_written_is_never_written_through_their_links(
    shell: str, script: str, tmp_path: Path
) -> None:
    """The users of an app may write to what is shared, and root copies there."""
    words = becomes_shared(tmp_path)
    shared_, victim = tmp_path / "site/shared/up", tmp_path / "victim"
    shared_.mkdir()
    victim.write_text("precious")
    os.utime(victim, (1, 1))
    (shared_ / "photo").symlink_to(victim)
    os.utime(shared_ / "photo", (1, 1), follow_symlinks=False)

    status, _, complaint = run(shell, script, *words[script])

    assert (status, complaint) == (0, "")
    assert victim.read_text() == "precious"
    assert not (shared_ / "photo").is_symlink()
    assert (shared_ / "photo").read_text() == "theirs"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("script", ["share", "switch"])
def test_a_link_in_the_way_to_what_is_shared_is_refused(
    shell: str, script: str, tmp_path: Path
) -> None:
    words = becomes_shared(tmp_path)
    link, elsewhere = tmp_path / "site/shared/up", tmp_path / "etc"
    elsewhere.mkdir()
    link.symlink_to(elsewhere)

    status, _, complaint = run(shell, script, *words[script])

    assert (status, complaint) == (1, f"shared up: {link} is a link\n")
    assert not [*elsewhere.iterdir()]
    assert (tmp_path / "srv").readlink() == tmp_path / "site/1_a"


def test_cp_of_busybox_writes_through_no_link_either(tmp_path: Path) -> None:
    """On a host that has no other tools."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for tool in ("cp", "find", "rm", "sh"):
        (bin_ / tool).symlink_to("/usr/bin/busybox")
    source, to, victim = tmp_path / "from", tmp_path / "to", tmp_path / "victim"
    (source / "sub").mkdir(parents=True)
    (to / "sub").mkdir(parents=True)
    victim.write_text("precious")
    os.utime(victim, (1, 1))
    for name in ("one", "sub/two"):
        (source / name).write_text("theirs")
        (to / name).symlink_to(victim)
    (to / "own").symlink_to("one")
    text = body("parts/add").decode() + f"\nadd {source}/. {to}/\n"

    subprocess.run(
        ["/usr/bin/busybox", "sh", "-c", text], env={"PATH": str(bin_)}, check=True
    )

    assert victim.read_text() == "precious"
    assert [(to / name).read_text() for name in ("one", "sub/two")] == ["theirs"] * 2
    assert (to / "own").is_symlink()
