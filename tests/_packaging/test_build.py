from __future__ import annotations

import asyncio
import hashlib
import io
import os
import socket
import subprocess
import tarfile
import threading
import tracemalloc
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from pathlib import Path

import anyio
import attrs
import pytest

from ghostasync._packaging import Packed, pack, parse_manifest
from ghostasync._packaging.tar import TarWriter
from ghostasync.errors import PackageError
from ghostasync.model import Module, Revision, Verify
from tests._packaging.trees import ROOT, SITE, Node, create, decompressed, packed

Work = Callable[[], Coroutine[None, None, Packed]]
Cancel = Callable[[Work, threading.Event], Awaitable[None]]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    tree.mkdir()
    return tree


def opened(package: Packed) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(decompressed(package.archive)))


def names(package: Packed) -> list[str]:
    with opened(package) as tar:
        return [name for name in tar.getnames() if name.startswith("release/")]


def test_the_package_says_what_the_files_are(tree: Path, tmp_path: Path) -> None:
    (tree / "a").write_bytes(b"x" * 5000)
    (tree / "d").mkdir()

    made = packed(tree, tmp_path / "into", pre_deploy=b"true", post_deploy=b"false")

    data = made.archive.read_bytes()
    assert made.package.sha256 == hashlib.sha256(data).hexdigest()
    assert made.package.nbytes == len(data)
    assert made.package.scripts == ("post_deploy", "pre_deploy")
    assert made.package.entries == 3 + 9
    assert 8192 + 2 * 4096 + 6 * 4096 <= made.package.unpacked < 64_000
    assert [made.archive, made.manifest] == [
        tmp_path / "into" / "1_site.tar.zst",
        tmp_path / "into" / "1_site.manifest",
    ]


def test_a_tree_without_files_is_refused_unless_that_is_meant(
    tree: Path, tmp_path: Path
) -> None:
    """A buildpack that built nothing, or elsewhere, would empty the site."""
    (tree / "public").mkdir()
    (tree / "log").write_bytes(b"x")
    strict = attrs.evolve(SITE, allow_empty=False, exclude=("log",))

    with pytest.raises(PackageError) as caught:
        packed(tree, tmp_path / "into", module=strict)

    assert str(caught.value) == (
        "site: nothing to deploy: the tree has no files (0 files); where that is "
        "meant: modules.allow_empty = true"
    )
    assert [*(tmp_path / "into").iterdir()] == []
    packed(tree, tmp_path / "into", module=attrs.evolve(strict, allow_empty=True))
    (tree / "public" / "link").symlink_to("/srv/data")
    packed(tree, tmp_path / "again", module=strict)


def test_memory_does_not_grow_with_the_tree(tree: Path, tmp_path: Path) -> None:
    peaks = []
    for count in (300, 900):
        for folder in range(count):
            path = tree / f"{count}/{folder // 30}/a folder {folder}"
            path.mkdir(parents=True)
            for name in range(10):
                (path / f"file {name}").touch()
        tracemalloc.start()
        packed(tree / str(count), tmp_path / str(count))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    # 6,600 more entries are 3 MB as objects, and 1 MB as lines.
    assert peaks[1] - peaks[0] < 1_000_000


def test_what_leads_to_the_build_folder_is_named(tree: Path, tmp_path: Path) -> None:
    """What python3 -m venv and pip leave, byte by byte."""
    for path, text in {
        "venv/bin/pip": f"#!{tree}/venv/bin/python3\nimport sys\n",
        "venv/bin/far": f"#!/bin/sh\n'''exec' {tree}/venv/bin/python3 \"$0\"\n",
        "venv/bin/activate": f'VIRTUAL_ENV="{tree}/venv"\n',
        "venv/bin/tool": f"#!/usr/bin/env python3\n# of {tree}\n",
        "venv/pyvenv.cfg": "home = /usr/bin\n",
        "notes": f"built in {tree}\n",
    }.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    (tree / "venv/lib64").symlink_to(tree / "venv/lib")
    (tree / "venv/inside").symlink_to("lib")

    made = packed(tree, tmp_path / "into")

    named = "venv/bin/activate, venv/bin/far, venv/bin/pip"
    assert made.bound == f"{named}, 1 more"


def test_what_stands_for_other_files_is_named(tree: Path, tmp_path: Path) -> None:
    """As a clone has it that was made without git-lfs, or is locked by git-crypt."""
    (tree / "logo.png").write_text(
        "version https://git-lfs.github.com/spec/v1\n"
        "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
        "size 12345\n"
    )
    (tree / "key").write_bytes(b"\0GITCRYPT\0" + bytes(range(64)))
    (tree / "README").write_text("See version https://git-lfs.github.com/spec/v1\n")

    [warning] = packed(tree, tmp_path / "into").warnings

    assert warning.startswith("key, logo.png: not the files that are meant, but ")
    assert "git lfs pull" in warning


def test_folders_with_times_of_their_own_cost_a_host_no_processes(
    tree: Path, tmp_path: Path
) -> None:
    for number in range(50):
        (tree / f"{number}").mkdir()
        os.utime(tree / f"{number}", (number, number))

    made = packed(tree, tmp_path / "into")

    with opened(made) as tar:
        settle = tar.extractfile("ghost/settle")
        assert settle
        assert len(settle.read().splitlines()) < 5


def test_the_archive_holds_manifest_and_scripts(tree: Path, tmp_path: Path) -> None:
    (tree / "a").write_bytes(b"x")

    made = packed(tree, tmp_path / "into", pre_deploy=b"\xff\n")

    with opened(made) as tar:
        script, manifest = (
            tar.extractfile(f"ghost/{name}") for name in ("pre_deploy", "manifest")
        )
        assert script
        assert script.read() == b"\xff\n"
        assert manifest
        assert manifest.read() == made.manifest.read_bytes()
        assert oct(tar.getmember("ghost").mode) == "0o700"


def test_the_manifest_tells_the_tree_as_it_is(tree: Path, tmp_path: Path) -> None:
    create(
        tree,
        [
            Node(b"d", "d", 0o2750, 11),
            Node(b"d/f", "f", 0o4755, 12, b"text"),
            Node(b"l", "l", 0o777, 13, b"../out"),
        ],
    )

    made = packed(tree, tmp_path / "into")

    root, folder, file, link = parse_manifest(made.manifest.read_bytes())
    assert (root.path, root.mode) == (b".", 0o755)
    assert (folder.path, folder.mode, folder.mtime) == (b"d", 0o2750, 11)
    assert (file.path, file.mode, file.mtime, file.size) == (b"d/f", 0o4755, 12, 4)
    assert file.sha256 == hashlib.sha256(b"text").hexdigest()
    assert (link.path, link.target, link.mtime) == (b"l", b"../out", 13)


def test_the_same_tree_gives_the_same_archive(tree: Path, tmp_path: Path) -> None:
    for name in "cab":
        (tree / name).mkdir()
        (tree / name / "f").write_bytes(name.encode() * 9999)

    one = packed(tree, tmp_path / "one")
    two = packed(tree, tmp_path / "two")

    assert one.package == two.package
    assert names(one) == [
        "release/a", "release/a/f", "release/b", "release/b/f", "release/c",
        "release/c/f",
    ]  # fmt: skip


def test_content_does_not_see_times(tree: Path, tmp_path: Path) -> None:
    (tree / "f").write_bytes(b"x")
    one = packed(tree, tmp_path / "one")
    os.utime(tree / "f", (5, 5))

    two = packed(tree, tmp_path / "two")

    assert one.package.content == two.package.content
    assert one.package.sha256 != two.package.sha256


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: (tree / "f").chmod(0o755),
        lambda tree: (tree / "f").write_bytes(b"y"),
        lambda tree: (tree / "f").rename(tree / "g"),
        lambda tree: (tree / "empty").mkdir(),
        lambda tree: (tree / "l").symlink_to("f"),
    ],
    ids=["mode", "bytes", "name", "folder", "link"],
)
def test_content_sees_the_tree(
    tree: Path, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    (tree / "f").write_bytes(b"x")
    one = packed(tree, tmp_path / "one")
    change(tree)

    two = packed(tree, tmp_path / "two")

    assert one.package.content != two.package.content


@pytest.mark.parametrize(
    ("module", "same"),
    [
        (attrs.evolve(SITE, path="/srv/other"), False),
        (attrs.evolve(SITE, uid=5), False),
        (attrs.evolve(SITE, shared_dirs=("log",)), False),
        (attrs.evolve(SITE, verify=Verify(url="http://127.0.0.1/")), False),
        (attrs.evolve(SITE, adopt=True), True),
    ],
    ids=["path", "owner", "shared", "verify", "adopt"],
)
def test_content_sees_what_settings_change_on_a_host(
    tree: Path, tmp_path: Path, module: Module, same: bool
) -> None:
    one = packed(tree, tmp_path / "one")

    two = packed(tree, tmp_path / "two", module=module)

    assert (one.package.content == two.package.content) is same


def test_content_sees_scripts(tree: Path, tmp_path: Path) -> None:
    made = [
        packed(tree, tmp_path / "none"),
        packed(tree, tmp_path / "a", pre_deploy=b"a"),
        packed(tree, tmp_path / "b", pre_deploy=b"b"),
        packed(tree, tmp_path / "post", post_deploy=b"a"),
    ]

    assert len({one.package.content for one in made}) == 4


@pytest.mark.parametrize(
    ("patterns", "kept"),
    [
        ((), [".git", ".git/x", "a", "a/.git", "a/b.pyc", "a/c", "a/c/b.pyc"]),
        ((".git",), ["a", "a/b.pyc", "a/c", "a/c/b.pyc"]),
        (("*.pyc", ".git/"), ["a", "a/c"]),
        (("a/*.pyc", ".git"), ["a", "a/c"]),
        (("/a/c",), [".git", ".git/x", "a", "a/.git", "a/b.pyc"]),
        (("c/b.pyc", ".[fg]it"), ["a", "a/b.pyc", "a/c", "a/c/b.pyc"]),
    ],
)
def test_what_is_excluded_stays_out(
    tree: Path, tmp_path: Path, patterns: tuple[str, ...], kept: list[str]
) -> None:
    (tree / ".git").mkdir()
    (tree / ".git" / "x").touch()
    (tree / "a" / "c").mkdir(parents=True)
    for name in [".git", "b.pyc", "c/b.pyc"]:
        (tree / "a" / name).touch()

    made = packed(tree, tmp_path / "into", module=attrs.evolve(SITE, exclude=patterns))

    assert names(made) == [f"release/{name}" for name in kept]


def test_hard_links_become_files(tree: Path, tmp_path: Path) -> None:
    (tree / "a").write_bytes(b"x")
    (tree / "b").hardlink_to(tree / "a")

    made = packed(tree, tmp_path / "into")

    with opened(made) as tar:
        assert [tar.getmember(f"release/{name}").isreg() for name in "ab"] == [True] * 2


def test_owners_are_numbers_and_the_modules(tree: Path, tmp_path: Path) -> None:
    (tree / "a").touch()

    made = packed(tree, tmp_path / "into", module=attrs.evolve(SITE, uid=33, gid=44))

    with opened(made) as tar:
        owners = {member.name: (member.uid, member.gid, member.uname) for member in tar}
    assert owners["release"] == owners["release/a"] == (33, 44, "")
    assert owners["ghost"] == owners["ghost/manifest"] == (0, 0, "")


@pytest.fixture
def attributed(tree: Path) -> Path:
    """The tree with a file that has an attribute, and one that has an ACL."""
    (tree / "a").touch()
    os.setxattr(tree / "a", "user.x", b"1")
    (tree / "b").touch(mode=0o600)
    subprocess.run(["setfacl", "-m", "u:4242:rwx", tree / "b"], check=True)
    return tree


def modes(package: Packed) -> list[int]:
    return [entry.mode for entry in parse_manifest(package.manifest.read_bytes())]


def test_what_a_release_will_not_have_is_told(attributed: Path, tmp_path: Path) -> None:
    made = packed(attributed, tmp_path / "into")

    assert made.left_behind == "a (user.x), b (an ACL)"
    # The mask of the ACL is no permission of the group.
    assert (attributed / "b").stat().st_mode & 0o777 == 0o670
    assert modes(made)[-1] == 0o600
    with opened(made) as tar:
        assert tar.getmember("release/b").mode == 0o600
        assert "ghost/attributes" not in tar.getnames()


def test_what_has_attributes_is_refused(attributed: Path, tmp_path: Path) -> None:
    module = attrs.evolve(SITE, attributes="refuse")

    with pytest.raises(
        PackageError, match=r"^site: a \(user.x\), b \(an ACL\): refused by"
    ):
        packed(attributed, tmp_path / "into", module=module)

    assert list((tmp_path / "into").iterdir()) == []


def test_attributes_that_are_kept_are_content(attributed: Path, tmp_path: Path) -> None:
    module = attrs.evolve(SITE, attributes="keep")
    one = packed(attributed, tmp_path / "one", module=module)
    os.setxattr(attributed / "a", "user.x", b"2")

    two = packed(attributed, tmp_path / "two", module=module)

    assert one.left_behind == ""
    assert modes(one)[-1] == 0o670
    assert one.package.content != two.package.content


def test_a_release_is_open_whatever_the_acl_of_the_build_folder(
    tree: Path, tmp_path: Path
) -> None:
    tree.chmod(0o700)
    subprocess.run(["setfacl", "-m", "u:4242:rwx", tree], check=True)
    module = attrs.evolve(SITE, attributes="keep")

    made = packed(tree, tmp_path / "into", module=module)

    assert modes(made) == [0o755]
    with opened(made) as tar:
        assert "ghost/attributes" not in tar.getnames()


def test_a_tree_without_attributes_is_the_same_whatever_becomes_of_them(
    tree: Path, tmp_path: Path
) -> None:
    made = [
        packed(tree, tmp_path / how, module=attrs.evolve(SITE, attributes=how))
        for how in ("warn", "refuse", "keep")
    ]

    assert made[0].package == made[1].package == made[2].package


@pytest.mark.parametrize("what", ["socket", "fifo", "character device"])
def test_what_no_package_can_hold_is_named(
    tree: Path, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "d").mkdir()
    monkeypatch.chdir(tree / "d")
    if what == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("odd\n")
    elif what == "fifo":
        os.mkfifo("odd\n")
    elif ROOT:
        os.mknod("odd\n", 0o20600, os.makedev(1, 3))
    else:
        pytest.skip("making a device takes root")

    with pytest.raises(PackageError) as caught:
        packed(tree, tmp_path / "into")

    assert str(caught.value) == (
        rf"site: d/odd\0012: a {what} cannot be packaged: remove it, or leave it out "
        "(modules.exclude)"
    )
    assert list((tmp_path / "into").iterdir()) == []


@pytest.mark.parametrize("change", ["grows", "shrinks", "is touched"])
def test_a_file_that_changes_meanwhile_is_named(
    tree: Path, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tree / "log"
    file.write_bytes(b"x" * 3_000_000)
    write = TarWriter.write

    def write_and_change(self: TarWriter, data: bytes) -> None:
        write(self, data)
        if data.startswith(b"x"):
            sizes = {"grows": 4_000_000, "shrinks": 1_500_000, "is touched": 3_000_000}
            os.truncate(file, sizes[change])
            os.utime(file, (9, 9))

    monkeypatch.setattr(TarWriter, "write", write_and_change)

    with pytest.raises(PackageError, match=r"^site: log: changed while it was read$"):
        packed(tree, tmp_path / "into")

    assert list((tmp_path / "into").iterdir()) == []


def after_the_first_file(
    monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]
) -> None:
    """Have *act* happen once, while a tree is packaged."""
    write, done = TarWriter.write, list[bool]()

    def write_and_change(self: TarWriter, data: bytes) -> None:
        write(self, data)
        if data == b"first" and not done:
            done.append(True)
            act()

    monkeypatch.setattr(TarWriter, "write", write_and_change)


@pytest.mark.parametrize("change", ["a link", "another", "a file", "gone"])
def test_a_folder_that_changes_meanwhile_is_named_and_not_followed(
    tree: Path, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "shadow").write_text("canary")
    (tree / "a").write_text("first")
    (tree / "d").mkdir()
    (tree / "d" / "shadow").touch()

    def act() -> None:
        (tree / "d").rename(tmp_path / "aside")
        if change == "a link":
            (tree / "d").symlink_to(tmp_path / "etc")
        elif change == "another":
            (tree / "d").mkdir()
        elif change == "a file":
            (tree / "d").touch()

    after_the_first_file(monkeypatch, act)

    # Another folder in its place changes the time of the one above.
    where = "." if change == "another" else "d"
    with pytest.raises(
        PackageError, match=f"^site: {where}: changed while it was read$"
    ):
        packed(tree, tmp_path / "into")

    assert list((tmp_path / "into").iterdir()) == []


def test_what_comes_into_a_folder_meanwhile_is_noticed(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "d").mkdir()
    (tree / "d" / "a").write_text("first")
    after_the_first_file(monkeypatch, (tree / "d" / "b").touch)

    with pytest.raises(PackageError, match=r"^site: d: changed while it was read$"):
        packed(tree, tmp_path / "into")


def test_a_missing_tree_is_a_package_error(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="No such file or directory"):
        packed(tmp_path / "none", tmp_path / "into")

    assert list((tmp_path / "into").iterdir()) == []


@pytest.mark.skipif(ROOT, reason="root may read everything")
def test_an_unreadable_file_is_named(tree: Path, tmp_path: Path) -> None:
    (tree / "secret").touch(mode=0)

    with pytest.raises(PackageError, match=r"^site: secret: Permission denied$"):
        packed(tree, tmp_path / "into")


def test_an_archive_that_is_there_already_is_left_alone(
    tree: Path, tmp_path: Path
) -> None:
    packed(tree, tmp_path / "into")

    with pytest.raises(PackageError, match="File exists"):
        packed(tree, tmp_path / "into")

    assert len(list((tmp_path / "into").iterdir())) == 2


async def cancelled_scope(work: Work, started: threading.Event) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work)
        await anyio.to_thread.run_sync(started.wait, 10)
        tasks.cancel_scope.cancel()


async def cancelled_task(work: Work, started: threading.Event) -> None:
    task = asyncio.ensure_future(work())
    await anyio.to_thread.run_sync(started.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("cancelled", [cancelled_scope, cancelled_task])
async def test_a_cancelled_pack_leaves_no_file(
    tree: Path, tmp_path: Path, cancelled: Cancel, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "f").write_bytes(os.urandom(9_000_000))
    started, gone = threading.Event(), threading.Event()
    compress, discard = TarWriter._compress, TarWriter.discard

    def compress_slowly(self: TarWriter) -> None:
        started.set()
        gone.wait(0.02)
        compress(self)

    def discard_and_tell(self: TarWriter) -> None:
        discard(self)
        gone.set()

    monkeypatch.setattr(TarWriter, "_compress", compress_slowly)
    monkeypatch.setattr(TarWriter, "discard", discard_and_tell)
    work = partial(
        pack,
        tree,
        package_id="1_site",
        module=SITE,
        revision=Revision(),
        scripts={},
        into=tmp_path,
    )

    await cancelled(work, started)

    assert await anyio.to_thread.run_sync(gone.wait, 10)
    assert list(tmp_path.iterdir()) == [tree]
