"""
The end of a tree that others have filled: a build folder, with whatever a build left.

rm(1) does it, which goes as deep as a tree is and follows no link. What is mounted
there is somebody else's: nothing is removed then.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

__all__ = ["remove"]


def remove(tree: Path) -> str:
    """
    Remove *tree*, or the link in its place; blocks, so call it in a thread.

    Return what stays, why, and what to type; empty where nothing stays.
    """
    if mounted := _mounted(tree.parent.resolve() / tree.name):
        return f"{mounted} is mounted: umount {shlex.quote(mounted)}"
    why = _run("rm", "-rf", tree)
    if why:
        # Folders of Go's module cache, for one, are read-only: nothing in them can be
        # removed.
        _run("chmod", "-R", "u+rwX", tree)
        why = _run("rm", "-rf", tree)
    if not why:
        return ""
    # Root is kept from it by nothing but attributes; others by other people's folders,
    # such as docker makes.
    cure = "chattr -R -i -a" if os.getuid() == 0 else "sudo rm -rf"
    return f"{why}: {cure} {shlex.quote(str(tree))}"


def _run(*command: str | Path) -> str:
    """Return the first complaint of a command; empty where it has done all."""
    tool, *words, tree = command
    done = subprocess.run(
        [tool, *words, "--", tree],
        env={**os.environ, "LC_ALL": "C"},
        check=False,
        capture_output=True,
    )
    said = os.fsdecode(done.stderr).partition("\n")[0]
    return said or f"{tool} failed" if done.returncode else ""


def _mounted(tree: Path) -> str:
    """Return where something is mounted in *tree*; empty for nowhere."""
    try:
        table = Path("/proc/self/mountinfo").read_bytes()
    except OSError:
        return ""
    for line in table.splitlines():
        # Blanks and backslashes stand there as octal numbers.
        raw = line.split()[4].decode("unicode-escape").encode("latin-1")
        if Path(os.fsdecode(raw)).is_relative_to(tree):
            return os.fsdecode(raw)
    return ""
