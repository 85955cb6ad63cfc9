"""Trees for tests: any that a file system takes, and what is found in one."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import anyio
import attrs
from hypothesis import strategies as st

from ghostasync._packaging import Packed, pack
from ghostasync.model import DirectorySource, Module, Revision

if sys.version_info >= (3, 14):
    from compression.zstd import decompress
else:
    from backports.zstd import decompress

SITE = Module(
    "site", "/srv/site", source=DirectorySource("."), exclude=(), allow_empty=True
)
ROOT = os.geteuid() == 0

HOSTILE = [
    b"-rf",
    b" lead",
    b"trail ",
    b"a\nb",
    b"\n",
    b"a\rb",
    b"a\tb",
    b"a\\b",
    b"\\0101",
    b"\\",
    b"\x01\x7f\x81\x88",
    b"\xff\xfe",
    b"it's",
    b'"q"',
    b"$(touch x)",
    b"`id`",
    b"*",
    b"#",
    b"%s",
    b"n" * 255,
]


@attrs.frozen
class Node:
    """What to create at *path*, or what was found there; *mtime* in seconds."""

    path: bytes
    kind: str
    mode: int
    mtime: int
    data: bytes = b""


def _names() -> st.SearchStrategy[bytes]:
    plain = st.sampled_from([b"a", b"b", b"c", b"long" * 20])
    any_bytes = st.binary(min_size=1, max_size=8).filter(
        lambda name: not set(name) & set(b"/\0") and name not in {b".", b".."}
    )
    return st.one_of(plain, st.sampled_from(HOSTILE), any_bytes)


def _nodes() -> st.SearchStrategy[Node]:
    paths = st.lists(_names(), min_size=1, max_size=4).map(b"/".join)
    mtimes = st.one_of(
        st.integers(0, 2**31), st.sampled_from([0, 1, 1_700_000_000, 2**33])
    )
    keep_open = 0 if ROOT else 0o500
    file_modes = [0o644, 0o755, 0o600, 0o000, 0o044, 0o111, 0o4755, 0o2750, 0o1644]
    folder_modes = [0o755, 0o700, 0o555, 0o000, 0o600, 0o2775, 0o1777]
    targets = st.one_of(
        _names(), st.sampled_from([b"/nowhere/else", b"../..", b"t" * 300])
    )
    return st.one_of(
        st.builds(
            Node,
            paths,
            st.just("f"),
            st.sampled_from([mode | keep_open for mode in file_modes]),
            mtimes,
            st.one_of(st.binary(max_size=40), st.just(b"x" * 5000)),
        ),
        st.builds(
            Node,
            paths,
            st.just("d"),
            st.sampled_from([mode | keep_open for mode in folder_modes]),
            mtimes,
        ),
        st.builds(Node, paths, st.just("l"), st.just(0o777), mtimes, targets),
    )


def trees() -> st.SearchStrategy[list[Node]]:
    """Lists of nodes; where two want one place, the first is created."""
    return st.lists(_nodes(), max_size=12)


def create(tree: Path, nodes: Sequence[Node]) -> None:
    """Make *tree* with what can be made of *nodes*, and nothing outside of it."""
    tree.mkdir(exist_ok=True)
    made = [node for node in nodes if _made(tree, node)]
    # Deepest first: a folder's mode may close it, and filling it changes its time.
    for node in sorted(made, key=lambda node: -node.path.count(b"/")):
        path = tree / os.fsdecode(node.path)
        os.utime(path, (node.mtime, node.mtime), follow_symlinks=False)
        if node.kind != "l":
            path.chmod(node.mode)


def _made(tree: Path, node: Node) -> bool:
    path = tree / os.fsdecode(node.path)
    if os.path.lexists(path) or not _below_folders(tree, path):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    if node.kind == "d":
        path.mkdir()
    elif node.kind == "l":
        path.symlink_to(os.fsdecode(node.data))
    else:
        path.write_bytes(node.data)
    return True


def _below_folders(tree: Path, path: Path) -> bool:
    """Return whether the way to *path* leads through no link and no file."""
    # Top down, so that nothing beyond a link is looked at: tests may run as root.
    between = reversed(path.parents[: path.parents.index(tree)])
    return all(
        not above.is_symlink() and (above.is_dir() or not above.exists())
        for above in between
    )


def snapshot(tree: Path) -> dict[bytes, Node]:
    """Return what is in *tree*, by path."""
    found: dict[bytes, Node] = {}
    pending = [tree]
    while pending:
        path = pending.pop()
        status = path.lstat()
        kind, data = "d", b""
        if path.is_symlink():
            kind, data = "l", os.fsencode(path.readlink())
        elif path.is_file():
            kind, data = "f", path.read_bytes()
        else:
            pending += path.iterdir()
        name = os.fsencode(path.relative_to(tree))
        mtime = status.st_mtime_ns // 10**9
        found[name] = Node(name, kind, stat.S_IMODE(status.st_mode), mtime, data)
    return found


def decompressed(archive: Path) -> bytes:
    """Return the tar that is in an archive."""
    return decompress(archive.read_bytes())


def packed(
    tree: Path,
    into: Path,
    *,
    module: Module = SITE,
    package_id: str = "1_site",
    **scripts: bytes,
) -> Packed:
    """Return the package of *tree*, made outside any loop."""
    into.mkdir(exist_ok=True)
    return anyio.run(
        partial(
            pack,
            tree,
            package_id=package_id,
            module=module,
            revision=Revision(),
            scripts=scripts,
            into=into,
        )
    )
