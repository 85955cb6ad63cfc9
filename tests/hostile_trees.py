"""
Trees and repositories of somebody who means ill, or does not care.

Each trap is one thing in a tree: a link out of it in one of the places that are read on
the controller, a name, a kind or a mode. Private files lie outside, with a CANARY in
them that nothing may ever have: no archive, no store, no host, no script.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs
from hypothesis import strategies as st

from tests._packaging.trees import HOSTILE, ROOT
from tests.sources.repos import Repo

__all__ = [
    "CANARY",
    "REFUSED",
    "SCRIPTS",
    "TRAPS",
    "Private",
    "flipping",
    "hostile_repository",
    "lay",
    "lay_anew",
    "leaked",
    "some_traps",
]

CANARY: Final = b"canary-3f9c0e51d2: private, and nowhere else"

SCRIPTS: Final = ("buildpack", "pre_deploy", "before_switch", "post_deploy",
                  "after_all_deploy")  # fmt: skip
"""What a module may have in its tree: each is ``deploy/KEY`` here."""

Trap = Callable[[Path, Path], None]


@attrs.frozen
class Private:
    """
    Files outside of every tree.

    ``key`` is a file, ``run`` a script that would print it, and ``folder`` has both.
    """

    path: Path

    @classmethod
    def make(cls, path: Path) -> Private:
        for folder in (path, path / "folder"):
            folder.mkdir(mode=0o700)
            (folder / "key").write_bytes(CANARY)
            for name in ("run", *SCRIPTS):
                (folder / name).write_bytes(b"#!/bin/sh\n# " + CANARY + b"\nexit 0\n")
        return cls(path)

    def unchanged(self) -> bool:
        """Tell whether nobody has written here."""
        names = {"key", "run", *SCRIPTS}
        inner = self.path / "folder"
        return {each.name for each in self.path.iterdir()} == {*names, "folder"} and {
            each.name for each in inner.iterdir()
        } == names


# --- What a tree can have -------------------------------------------------------------


def _links(tree: Path, outside: Path) -> None:
    far = os.path.relpath(outside, tree)
    (tree / "absolute").symlink_to(outside / "key")
    (tree / "relative").symlink_to(f"{far}/key")
    (tree / "chain").symlink_to("relative")
    (tree / "folder").symlink_to(outside / "folder")
    (tree / "up").symlink_to("..")
    (tree / "root").symlink_to("/")
    (tree / "self").symlink_to("self")
    (tree / "process").symlink_to("/proc/self/environ")


def _script_links(tree: Path, outside: Path) -> None:
    (tree / "deploy").mkdir(exist_ok=True)
    for key in SCRIPTS:
        _link(tree / "deploy" / key, outside / "run")


def _script_folder(tree: Path, outside: Path) -> None:
    for script in (tree / "deploy").glob("*"):
        script.unlink()
    if (tree / "deploy").is_dir():
        (tree / "deploy").rmdir()
    _link(tree / "deploy", Path(os.path.relpath(outside / "folder", tree)))


def _shared_links(tree: Path, outside: Path) -> None:
    _link(tree / "log", outside / "folder")
    _link(tree / "config.ini", outside / "key")


def _link(path: Path, target: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _names(tree: Path, outside: Path) -> None:
    (tree / "names").mkdir()
    for name in HOSTILE:
        path = tree / "names" / os.fsdecode(name)
        path.write_bytes(name)
        path.with_name(f"{path.name[:240]}.link").symlink_to(outside / "key")


def _case(tree: Path, outside: Path) -> None:
    for name in ("Case", "case", "CASE"):
        (tree / name).mkdir()
        (tree / name / "key").symlink_to(outside / "key")


def _deep(tree: Path, outside: Path) -> None:
    folder = tree / "/".join(["deep"] * 300)
    folder.mkdir(parents=True)
    (folder / "key").symlink_to(outside / "key")


def _long(tree: Path, outside: Path) -> None:
    folder = tree / "/".join(["n" * 255] * 12)
    folder.mkdir(parents=True)
    (folder / "file").write_text("far away")
    (folder / "key").symlink_to("x" * 4000)
    (folder / "other").symlink_to(outside / "key")


def _attributes(tree: Path, outside: Path) -> None:
    (tree / ".gitattributes").write_text(
        "hidden export-ignore\nsubject export-subst\n*.x filter=evil\n"
        "lf text eol=crlf\nbig.bin filter=lfs -text\n"
    )
    (tree / "hidden").write_text("a release has it all the same\n")
    (tree / "subject").write_text("$Format:%an$ $Id$\n")
    (tree / "filtered.x").write_text("plain")
    del outside


def _pointer(tree: Path, outside: Path) -> None:
    # The digest of a private file: Git LFS has it nowhere, whatever it is asked.
    digest = hashlib.sha256((outside / "key").read_bytes()).hexdigest()
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize 44\n"
    (tree / "pointer.bin").write_text(text)
    (tree / ".gitattributes").write_text("*.bin filter=lfs -text\n")


def _fifo(tree: Path, outside: Path) -> None:
    os.mkfifo(tree / "fifo")
    del outside


def _socket(tree: Path, outside: Path) -> None:
    # The name of a socket may have 107 bytes.
    here = os.open(tree, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"/proc/self/fd/{here}/socket")
    os.close(here)
    del outside


def _device(tree: Path, outside: Path) -> None:
    if ROOT:
        os.mknod(tree / "device", 0o20666, os.makedev(1, 5))
    else:
        _fifo(tree, outside)


def _script_fifo(tree: Path, outside: Path) -> None:
    (tree / "deploy").mkdir(exist_ok=True)
    (tree / "deploy" / "pre_deploy").unlink(missing_ok=True)
    os.mkfifo(tree / "deploy" / "pre_deploy")
    del outside


def _setuid(tree: Path, outside: Path) -> None:
    (tree / "setuid").write_text("x")
    (tree / "setuid").chmod(0o6755)
    (tree / "hard").hardlink_to(tree / "setuid")
    del outside


def _closed(tree: Path, outside: Path) -> None:
    (tree / "closed").mkdir()
    (tree / "closed" / "key").symlink_to(outside / "key")
    (tree / "closed").chmod(0o000 if ROOT else 0o500)


TRAPS: Final[Mapping[str, Trap]] = {
    "links": _links,
    "script links": _script_links,
    "script folder": _script_folder,
    "shared links": _shared_links,
    "names": _names,
    "case": _case,
    "deep": _deep,
    "long": _long,
    "attributes": _attributes,
    "pointer": _pointer,
    "setuid": _setuid,
    "closed": _closed,
    "fifo": _fifo,
    "socket": _socket,
    "device": _device,
    "script fifo": _script_fifo,
}
"""All traps, in an order in which they can be laid together."""

REFUSED: Final[Mapping[str, str]] = {
    "script links": r"is a link that leads out of the tree",
    "script folder": r"is a link that leads out of the tree",
    "fifo": "fifo",
    "socket": "socket",
    "device": "device",
    "script fifo": "pre_deploy",
}
"""Traps that end a deploy from a folder, with what is said; the others are shipped."""


def lay(tree: Path, private: Private, *names: str) -> None:
    """Lay traps in a tree, which has scripts at most."""
    for name in TRAPS:
        if name in names:
            TRAPS[name](tree, private.path)


def some_traps() -> st.SearchStrategy[frozenset[str]]:
    """Sets of traps."""
    return st.frozensets(st.sampled_from([*TRAPS]), max_size=4)


def lay_anew(tree: Path, private: Private, seed: str) -> None:
    """Have *tree* hold some traps that git can carry, and that end no deploy."""
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir()
    dice = random.Random(seed)
    able = ("links", "names", "case", "attributes")
    lay(tree, private, *[name for name in able if dice.random() < 0.5])


def leaked(*folders: Path) -> list[str]:
    """Return the files below *folders* that have the canary; no link is followed."""
    argv = ["grep", "-rlaF", "--devices=skip", CANARY.decode(), *map(str, folders)]
    done = subprocess.run(argv, capture_output=True, check=False)
    return os.fsdecode(done.stdout).splitlines()


# --- What changes ---------------------------------------------------------------------


_FLIP: Final = """
import os, sys
here, aside, outside = sys.argv[1:]
print(flush=True)
while True:
    os.rename(here, aside)
    os.symlink(outside, here)
    os.unlink(here)
    os.rename(aside, here)
"""


@contextmanager
def flipping(path: Path, aside: Path, outside: Path) -> Iterator[None]:
    """Have *path* be a link to *outside* again and again; it is itself at the end."""
    argv = [sys.executable, "-c", _FLIP, *map(str, (path, aside, outside))]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()
            process.wait()
            if path.is_symlink():
                path.unlink()
            if not path.exists():
                aside.rename(path)


# --- What a repository can have besides -----------------------------------------------


def _entry(repo: Repo, mode: str, name: bytes, text: bytes = b"") -> bytes:
    blob = repo.git("hash-object", "-w", "--stdin", stdin=text)
    return mode.encode() + b" " + name + b"\0" + bytes.fromhex(blob)


def _commit_raw(repo: Repo, *entries: bytes) -> None:
    """Commit a tree that git itself would never make."""
    head = repo.git("rev-parse", "HEAD")
    listed = subprocess.run(
        ["git", "cat-file", "tree", "HEAD^{tree}"],
        cwd=repo.path, check=True, capture_output=True,
    ).stdout  # fmt: skip
    words = ("hash-object", "-t", "tree", "-w", "--literally", "--stdin")
    tree = repo.git(*words, stdin=listed + b"".join(entries))
    commit = repo.git("commit-tree", "-p", head, "-m", "hostile", tree)
    repo.git("update-ref", "refs/heads/main", commit)


def _submodule(url: str, path: str = "sub") -> Callable[[Repo, Path], None]:
    def make(repo: Repo, outside: Path) -> None:
        text = f'[submodule "a"]\n\tpath = {path}\n\turl = {url}\n\tupdate = checkout\n'
        modules = text.replace("OUTSIDE", str(outside)).encode()
        head = bytes.fromhex(repo.git("rev-parse", "HEAD"))
        name = b"160000 " + path.encode() + b"\0" + head
        _commit_raw(repo, _entry(repo, "100644", b".gitmodules", modules), name)

    return make


def _raw(mode: str, name: bytes, text: str) -> Callable[[Repo, Path], None]:
    def make(repo: Repo, outside: Path) -> None:
        data = text.replace("OUTSIDE", str(outside)).encode()
        _commit_raw(repo, _entry(repo, mode, name, data))

    return make


def _lfs_file(repo: Repo, outside: Path) -> None:
    # A file that the other repository has in LFS, by its digest.
    digest = hashlib.sha256(CANARY).hexdigest()
    objects = outside / "repository/.git/lfs/objects" / digest[:2] / digest[2:4]
    objects.mkdir(parents=True)
    (objects / digest).write_bytes(CANARY)
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\n"
    repo.write("key.bin", f"{text}size {len(CANARY)}\n")
    repo.write(".gitattributes", "*.bin filter=lfs -text\n")
    repo.write(".lfsconfig", f'[lfs]\n\turl = "fi"le://{outside}/repository\n')
    repo.commit("two")


REPOSITORIES: Final[Mapping[str, Callable[[Repo, Path], None]]] = {
    "a submodule by ext::": _submodule("ext::sh -c touch% OUTSIDE/ran"),
    "a submodule that is an option": _submodule("--upload-pack=touch OUTSIDE/ran"),
    "a submodule of this disk": _submodule("file://OUTSIDE/repository"),
    "a submodule by a path": _submodule("OUTSIDE/repository"),
    "a submodule above": _submodule("https://127.0.0.1:1/x", "../above"),
    "a submodule in .git": _submodule("https://127.0.0.1:1/x", ".git/hooks"),
    "modules that are a link": _raw("120000", b".gitmodules", "OUTSIDE/key"),
    "a file above": _raw("100644", b"../above", "x"),
    "a file named ..": _raw("100644", b"..", "x"),
    "a file in .git": _raw("100755", b".git/hooks/post-checkout", "touch OUTSIDE/ran"),
    "a folder named .GIT": _raw("100644", b".GIT", "gitdir: OUTSIDE"),
    "an absolute name": _raw("100644", b"/tmp/above", "x"),
    "an lfsconfig of this disk": _raw(
        "100644", b".lfsconfig", '[lfs]\n\turl = "fi"le://OUTSIDE/repository\n'
    ),
    "a file of this disk by Git LFS": _lfs_file,
    "an lfsconfig that is a link": _raw("120000", b".lfsconfig", "OUTSIDE/key"),
}
"""Repositories that reach for what is outside: each has one commit more."""


def hostile_repository(repo: Repo, name: str, private: Private) -> None:
    """Add to the branch main of *repo* a commit as in REPOSITORIES."""
    REPOSITORIES[name](repo, private.path)
