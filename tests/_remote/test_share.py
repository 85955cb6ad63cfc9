"""What the live release has at a path that becomes shared is copied where it fits."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ghostasync._remote.script import body, quote
from tests._packaging.trees import ROOT, snapshot
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
    words = (at, "2_b", f"{at}/1_a", "drop", "fresh", "mv", "d:up")
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
        "share": (folder, "2_b", old, "drop", "fresh", "mv", "d:up"),
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


RACER = """#!/bin/sh
read -r calls <{top}/calls
echo $((calls + 1)) >{top}/calls
[ "$calls" != {at} ] || {{ {mv} {place} {place}.away && {ln} -s {victim} {place}; }}
exec {tool} "$@"
"""
RACED = ("cat", "chmod", "chown", "cp", "df", "du", "find", "id", "ln", "ls", "mkdir",
    "mv", "rm", "rmdir", "sed", "stat", "touch")  # fmt: skip


def raced(top: Path, script: str, fresh: str, place: str, at: int) -> tuple[bool, int]:
    """
    Have *place* become a link to "victim" before a script calls its tool number *at*.

    Return whether the victim is as it was, and how many tools were called.
    """
    folder, target, bin_, victim = (top / n for n in ("site", "srv", "bin", "victim"))
    old, new = folder / "1_a", folder / "2_b"
    brought = (folder / "shared", victim) + ((new,) if fresh == "seed" else ())
    for tree in (old, *brought):
        (tree / "data/up/sub").mkdir(parents=True)
        for name in ("photo", "sub/photo"):
            (tree / "data/up" / name).write_text(tree.name)
    if fresh == "seed":
        shutil.rmtree(folder / "shared/data/up")
        shutil.rmtree(old / "data")
    (folder / ".ghost/2_b").mkdir(parents=True)
    new.mkdir(exist_ok=True)
    # All that a way through the link could lead to.
    shutil.copytree(victim / "data/up", victim / "up")
    shutil.copytree(victim / "data/up/sub", victim / "sub")
    (victim / "photo").write_text("victim")
    for path in (victim, *victim.rglob("*")):
        os.utime(path, (1, 1))
    target.symlink_to(old)
    bin_.mkdir()
    (top / "calls").write_text("0\n")
    mv, ln = shutil.which("mv"), shutil.which("ln")
    for tool in RACED:
        racer = RACER.format(
            top=top, at=at, mv=mv, ln=ln, victim=victim, tool=shutil.which(tool),
            place=folder / place,
        )  # fmt: skip
        (bin_ / tool).write_text(racer)
        (bin_ / tool).chmod(0o755)
    (folder / ".ghost/2_b/copied").write_text("data/up\n")
    words: dict[str, tuple[str | Path, ...]] = {
        "share": (
            folder,
            "2_b",
            old,
            "keep" if ROOT else "drop",
            fresh,
            "mv",
            "d:data/up",
        ),
        "switch": ("mv", top / "busy", folder, target, old, new, "", "1"),
    }
    before = snapshot(victim)

    run("dash", script, *words[script], env={"PATH": f"{bin_}:{os.environ['PATH']}"})

    return snapshot(victim) == before, int((top / "calls").read_text())


@pytest.mark.parametrize(
    ("script", "fresh", "place"),
    [
        ("share", "seed", "2_b/data"),
        ("share", "seed", "shared/data"),
        ("share", "", "2_b/data"),
        ("share", "", "shared/data"),
        ("share", "", "shared/data/up"),
        ("switch", "", "shared/data"),
        ("switch", "", "shared/data/up"),
    ],
)
def test_a_folder_that_becomes_a_link_at_any_moment_leads_nowhere(
    script: str, fresh: str, place: str, tmp_path: Path
) -> None:
    """Users of the app may write beside what root copies, and choose their moment."""
    _, calls = raced(tmp_path / "never", script, fresh, place, -1)
    assert calls > 5
    for at in range(calls):
        held, _ = raced(tmp_path / str(at), script, fresh, place, at)
        assert held, f"before call {at}"


@pytest.mark.parametrize("shell", SHELLS)
def test_what_a_killed_run_had_put_aside_is_put_back(
    shell: str, tmp_path: Path
) -> None:
    """It was killed between two renames: only what it kept apart has the photos."""
    words = becomes_shared(tmp_path)
    apart = tmp_path / "site/shared/.up.ghost-0011"
    (apart / "old").mkdir(parents=True)
    apart.chmod(0o700)
    (apart / "old/before").write_text("theirs")
    (apart / "up").mkdir()

    status, _, complaint = run(shell, "share", *words["share"])

    assert (status, complaint) == (0, "")
    assert [path.name for path in (tmp_path / "site/shared").iterdir()] == ["up"]
    names = {path.name for path in (tmp_path / "site/shared/up").iterdir()}
    assert names == {"before", "photo"}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("anew", [False, True])
def test_what_a_killed_run_had_put_aside_is_in_no_case_lost(
    shell: str, anew: bool, tmp_path: Path
) -> None:
    """The release that serves has no such folder of its own, so nothing is copied."""
    words = becomes_shared(tmp_path)["share"]
    shutil.rmtree(tmp_path / "site/1_a/up")
    shared_ = tmp_path / "site/shared"
    apart = shared_ / ".up.ghost-0011"
    (apart / "old").mkdir(parents=True)
    apart.chmod(0o700)
    (apart / "old/before").write_text("theirs")
    if anew:
        (shared_ / "up").mkdir()
        (shared_ / "up/after").touch()

    status, _, complaint = run(shell, "share", *words)

    assert (status, complaint) == (0, "")
    [kept] = shared_.rglob("before")
    assert kept.read_text() == "theirs"
    assert (kept.parent == shared_ / "up") is not anew
    assert (shared_ / "up/after").exists() is anew
