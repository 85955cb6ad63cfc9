from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import anyio
import attrs
import pytest

from ghostasync.errors import NotInStore, StoreError
from ghostasync.model import Package, Revision
from ghostasync.protocols import Environment, ManifestLine, Store
from ghostasync.stores import DirectoryStore, _files, _packages, directory

COMMIT: Final = "4f2a9c1" + "0" * 33
RUN: Final = "20260101T000000Z-0a1b2c"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store" / "shop" / "prod" / "web"


@pytest.fixture
def store(root: Path) -> DirectoryStore:
    return DirectoryStore(root)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another filesystem."""
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second filesystem")
    with TemporaryDirectory(dir=shm) as name:
        yield Path(name)


def built(folder: Path, package_id: str, data: bytes = b"archive") -> Package:
    """Leave what a build leaves in *folder*: NAME.tar.zst and NAME.manifest."""
    (folder / f"{package_id}.tar.zst").write_bytes(data)
    (folder / f"{package_id}.manifest").write_bytes(b"manifest")
    return Package(
        id=package_id,
        module=package_id.split("_")[1],
        revision=Revision(commit=COMMIT),
        sha256=hashlib.sha256(data).hexdigest(),
        content="c" * 64,
        nbytes=len(data),
        unpacked=510,
        entries=3,
    )


async def publish(store: Store, folder: Path, package_id: str) -> Package:
    package = built(folder, package_id)
    await store.packages.publish(
        package, folder / f"{package_id}.tar.zst", folder / f"{package_id}.manifest"
    )
    return package


async def publish_many(store: Store, folder: Path, ids: Sequence[str]) -> None:
    for package_id in ids:
        await publish(store, folder, package_id)


def named(package: Package, path: str = "/srv/site") -> ManifestLine:
    return ManifestLine(package.module, package.id, path, package.sha256)


def tree(root: Path) -> list[str]:
    return sorted(
        str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()
    )


def make_old(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a day and a bit have passed since *path* changed."""
    then = path.stat().st_ctime + _packages.STALE_SECONDS + 60
    monkeypatch.setattr(time, "time", lambda: then)


# --- Packages --------------------------------------------------------------------


async def test_a_package_comes_back_as_it_was_published(
    store: Store, root: Path, tmp_path: Path
) -> None:
    package_id = await store.packages.reserve("site", COMMIT)

    package = await publish(store, tmp_path, package_id)

    assert await store.packages.package(package_id) == package
    assert await store.packages.ids("site") == [package_id]
    assert (
        await store.packages.archive(package_id, tmp_path)
    ).read_bytes() == b"archive"
    assert tree(root) == [
        f"packages/{package_id}.json",
        f"packages/{package_id}.manifest",
        f"packages/{package_id}.tar.zst",
    ]


async def test_everything_is_private_whatever_the_umask(
    store: Store, root: Path, tmp_path: Path
) -> None:
    before = os.umask(0)
    try:
        package = await publish(
            store, tmp_path, await store.packages.reserve("site", COMMIT)
        )
        await store.manifest.move([named(package)], [Environment(package.id, {})], [])
        await store.runs.save(RUN, "hosts/web1.log", b"hello")
        await store.runs.append(RUN, "journal.jsonl", 0, b"hello")
        await store.packages.reserve("site", COMMIT)
    finally:
        os.umask(before)

    paths = [*root.rglob("*"), root, *root.parents[:3]]
    assert {path.stat().st_mode & 0o777 for path in paths if path.is_file()} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in paths if path.is_dir()} == {0o700}


async def test_a_folder_that_exists_keeps_its_mode(root: Path) -> None:
    root.mkdir(parents=True)
    root.chmod(0o750)

    await DirectoryStore(root).runs.save(RUN, "report.json", b"{}")

    assert root.stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("there", ["", "runs", "packages", "environments"])
async def test_a_store_that_takes_nothing_says_so_and_is_left_as_it_is(
    store: DirectoryStore, root: Path, tmp_path: Path, there: str
) -> None:
    await store.require_writable()
    assert [*tmp_path.iterdir()] == []

    # Root may write wherever a disk takes it, but makes no file in another.
    root.parent.mkdir(parents=True)
    wrong = root / there if there else root
    wrong.parent.mkdir(exist_ok=True)
    wrong.write_text("")

    with pytest.raises(StoreError, match=f"{wrong}: Not a directory; "):
        await store.require_writable()


async def test_an_archive_on_another_filesystem_is_copied(
    store: Store, root: Path, elsewhere: Path
) -> None:
    package_id = await store.packages.reserve("site", COMMIT)

    await publish(store, elsewhere, package_id)

    assert (
        await store.packages.archive(package_id, elsewhere)
    ).read_bytes() == b"archive"
    assert len(tree(root)) == 3


async def test_a_package_is_never_replaced(
    store: Store, root: Path, tmp_path: Path
) -> None:
    first = await publish(store, tmp_path, "1700000000_site_4f2a9c1")
    second = built(tmp_path, first.id, b"another")

    with pytest.raises(StoreError, match=r"4f2a9c1\.tar\.zst exists already"):
        await store.packages.publish(
            second, tmp_path / f"{first.id}.tar.zst", tmp_path / f"{first.id}.manifest"
        )

    assert await store.packages.package(first.id) == first
    assert (await store.packages.archive(first.id, tmp_path)).read_bytes() == b"archive"
    assert len(tree(root)) == 3


async def test_a_package_whose_manifest_is_missing_is_not_published(
    store: Store, root: Path, tmp_path: Path
) -> None:
    package = built(tmp_path, "1700000000_site_4f2a9c1")
    archive = tmp_path / f"{package.id}.tar.zst"

    with pytest.raises(StoreError, match=r"nowhere: No such file .*; was it removed\?"):
        await store.packages.publish(package, archive, tmp_path / "nowhere")

    assert tree(root) == []
    assert await store.packages.ids("site") == []


async def test_ids_carry_time_module_and_commit(store: Store) -> None:
    before = int(time.time())

    package_id = await store.packages.reserve("my_site", COMMIT)

    epoch, _, rest = package_id.partition("_")
    assert before <= int(epoch) <= time.time()
    assert rest == "my_site_4f2a9c1"


async def test_a_source_without_commits_has_ids_too(store: Store) -> None:
    assert (await store.packages.reserve("site", "")).endswith("_site_0000000")


async def test_an_id_is_given_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1700000000.5)
    await publish(store, tmp_path, await store.packages.reserve("site", COMMIT))
    ids: list[str] = []

    async def reserve() -> None:
        ids.append(await store.packages.reserve("site", COMMIT))

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(reserve)

    assert sorted(ids) == [f"{1700000001 + n}_site_4f2a9c1" for n in range(8)]


@pytest.mark.parametrize(
    ("module", "commit"), [("../x", COMMIT), ("site", "HEAD"), ("", COMMIT)]
)
async def test_an_id_is_not_made_of_anything(
    store: Store, module: str, commit: str
) -> None:
    with pytest.raises(StoreError, match="not a package id"):
        await store.packages.reserve(module, commit)


async def test_packages_are_listed_by_age_and_by_the_whole_name_of_the_module(
    store: Store, tmp_path: Path
) -> None:
    await publish_many(
        store,
        tmp_path,
        [
            "1700000010_site_4f2a9c1",
            "999999999_site_4f2a9c1",
            "1700000005_site-admin_4f2a9c1",
            "1700000006_my_site_4f2a9c1",
            "1700000007_site_v2_4f2a9c1",
        ],
    )
    await store.packages.reserve("site", COMMIT)

    assert await store.packages.ids("site") == [
        "999999999_site_4f2a9c1",
        "1700000010_site_4f2a9c1",
    ]


async def test_an_empty_store_has_nothing(store: Store, root: Path) -> None:
    assert await store.packages.ids("site") == []
    assert await store.manifest.read() == ()
    assert await store.runs.ids() == []
    assert await store.manifest.environment("1700000000_site_4f2a9c1") is None
    assert not root.exists()


async def test_an_unknown_package_is_a_store_error(
    store: Store, tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match="has no package 1700000000_site_4f2a9c1"):
        await store.packages.package("1700000000_site_4f2a9c1")
    with pytest.raises(StoreError, match="has no package 1700000000_site_4f2a9c1"):
        await store.packages.archive("1700000000_site_4f2a9c1", tmp_path)


# --- The archive's digest ----------------------------------------------------------


async def test_a_damaged_archive_is_named_with_what_to_do(
    store: Store, tmp_path: Path
) -> None:
    package = await publish(store, tmp_path, "1700000000_site_4f2a9c1")
    path = await store.packages.archive(package.id, tmp_path)
    path.write_bytes(b"damaged")

    with pytest.raises(StoreError) as caught:
        await store.packages.archive(package.id, tmp_path)

    assert str(path) in str(caught.value)
    assert "put it back from a backup, or deploy the commit anew" in str(caught.value)


async def test_an_archive_is_read_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = await publish(store, tmp_path, "1700000000_site_4f2a9c1")
    reads: list[Path] = []
    digest = _files.sha256

    def sha256(path: Path) -> str:
        reads.append(path)
        return digest(path)

    monkeypatch.setattr(_files, "sha256", sha256)

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(store.packages.archive, package.id, tmp_path)
    await store.packages.archive(package.id, tmp_path)

    assert len(reads) == 1


async def test_a_missing_archive_is_a_store_error(store: Store, tmp_path: Path) -> None:
    package = await publish(store, tmp_path, "1700000000_site_4f2a9c1")
    (await store.packages.archive(package.id, tmp_path)).unlink()

    with pytest.raises(StoreError, match=r"tar\.zst: No such file .* was it removed\?"):
        await store.packages.archive(package.id, tmp_path)


# --- MANIFEST --------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [b"blue\n", b'{"color": "red"}', b"[]", b""])
async def test_a_record_of_the_active_color_that_is_damaged_is_an_error(
    store: DirectoryStore, root: Path, wrong: bytes
) -> None:
    path = root.parent / "ACTIVE"
    path.parent.mkdir(parents=True)
    path.write_bytes(wrong)

    with pytest.raises(StoreError) as failed:
        await store.active_color()
    assert str(failed.value) == (
        f"{path} is damaged; remove it, and app.active_color counts until the next swap"
    )


async def test_manifest_moves_only_the_lines_of_the_modules_deployed(
    store: Store, root: Path, tmp_path: Path
) -> None:
    old = await publish(store, tmp_path, "1700000000_site_4f2a9c1")
    api = await publish(store, tmp_path, "1700000000_api_4f2a9c1")
    new = await publish(store, tmp_path, "1700000001_site_4f2a9c1")
    order = ["site", "api"]
    await store.manifest.move([named(api), named(old)], [], order)

    await store.manifest.move([named(new)], [], order)

    assert await store.manifest.read() == (named(new), named(api))
    assert (root / "MANIFEST").read_text() == (
        f"site:1700000001_site_4f2a9c1:/srv/site:{new.sha256}:0\n"
        f"api:1700000000_api_4f2a9c1:/srv/site:{api.sha256}:0\n"
    )


async def test_what_lies_among_environments_does_not_undo_a_move(
    store: Store, root: Path, tmp_path: Path
) -> None:
    old = await publish(store, tmp_path, "1700000000_site_4f2a9c1")
    await store.manifest.move([named(old)], [Environment(old.id, {})], ["site"])
    (root / "environments" / "lost+found").mkdir()
    (root / "environments" / "1600000000_site_0000000.sh").mkdir()

    await store.manifest.move([named(old)], [Environment(old.id, {})], ["site"])

    assert [line.package for line in await store.manifest.read()] == [old.id]
    assert (root / "environments" / "lost+found").is_dir()


async def test_an_environment_stays_for_as_long_as_its_package(
    store: Store, root: Path, tmp_path: Path
) -> None:
    old = await publish(store, tmp_path, "1700000000_site_4f2a9c1")
    new = await publish(store, tmp_path, "1700000001_site_4f2a9c1")
    newest = await publish(store, tmp_path, "1700000002_site_4f2a9c1")
    kept = Environment(new.id, {"TOKEN": "it's\n\udce9"})
    await store.manifest.move([named(old)], [Environment(old.id, {})], ["site"])

    await store.manifest.move([named(new)], [kept], ["site"])

    assert await store.manifest.environment(new.id) == kept
    assert await store.manifest.environment(old.id) == Environment(old.id, {})
    await store.manifest.move([named(newest)], [], ["site"])
    await store.packages.prune("site", 2, frozenset())
    await store.manifest.move([named(newest)], [], ["site"])
    assert tree(root / "environments") == [f"{new.id}.sh"]


async def test_environments_of_what_manifest_named_before_stay(
    store: Store, tmp_path: Path
) -> None:
    """However often it is moved to the same, or the lines of other modules are."""
    old = await publish(store, tmp_path, "1700000000_site_4f2a9c1")
    new = await publish(store, tmp_path, "1700000001_site_4f2a9c1")
    api = await publish(store, tmp_path, "1700000000_api_4f2a9c1")
    kept = Environment(old.id, {"TOKEN": "older"})
    await store.manifest.move([named(old)], [kept], ["site", "api"])

    for each in (new, new, api):
        await store.manifest.move(
            [named(each)], [Environment(each.id, {})], ["site", "api"]
        )

    assert await store.manifest.environment(old.id) == kept
    assert await store.manifest.environment(new.id) == Environment(new.id, {})


async def test_an_environment_stays_while_manifest_names_its_package(
    store: Store, tmp_path: Path
) -> None:
    site = await publish(store, tmp_path, "1700000000_site_4f2a9c1")
    api = await publish(store, tmp_path, "1700000000_api_4f2a9c1")
    kept = Environment(site.id, {"A": "b"})
    await store.manifest.move([named(site)], [kept], ["site", "api"])

    await store.manifest.move([named(api)], [], ["site", "api"])

    assert await store.manifest.environment(site.id) == kept


async def test_manifest_never_names_a_package_that_is_not_there(
    store: Store, tmp_path: Path
) -> None:
    package = await publish(store, tmp_path, "1700000000_site_4f2a9c1")
    await store.manifest.move([named(package)], [], ["site"])
    gone = attrs.evolve(package, id="1700000009_site_4f2a9c1")

    with pytest.raises(StoreError, match="has no package 1700000009_site_4f2a9c1"):
        await store.manifest.move([named(gone)], [], ["site"])

    assert await store.manifest.read() == (named(package),)


async def test_manifest_never_names_another_archive_than_the_package_has(
    store: Store, tmp_path: Path
) -> None:
    package = await publish(store, tmp_path, "1700000000_site_4f2a9c1")
    other = attrs.evolve(package, sha256="0" * 64)

    with pytest.raises(StoreError, match="is another package"):
        await store.manifest.move([named(other)], [], ["site"])

    assert await store.manifest.read() == ()


async def test_a_damaged_manifest_is_neither_read_nor_replaced(
    store: Store, root: Path, tmp_path: Path
) -> None:
    package = await publish(store, tmp_path, "1700000000_site_4f2a9c1")
    (root / "MANIFEST").write_text("site:1700000000\n")

    with pytest.raises(StoreError, match=r"MANIFEST, line 1: 'site:1700000000' is not"):
        await store.manifest.read()
    with pytest.raises(StoreError, match="MANIFEST, line 1"):
        await store.manifest.move([named(package)], [], ["site"])

    assert (root / "MANIFEST").read_text() == "site:1700000000\n"


async def test_a_manifest_that_is_not_utf_8_is_still_read(
    store: Store, root: Path, tmp_path: Path
) -> None:
    package = await publish(store, tmp_path, "1700000000_site_4f2a9c1")
    line = named(package, path="/srv/caf\udce9")

    await store.manifest.move([line], [], ["site"])

    assert b"/srv/caf\xe9:" in (root / "MANIFEST").read_bytes()
    assert await store.manifest.read() == (line,)


MOVER: Final = """
import anyio, sys
from pathlib import Path
from ghostasync.protocols import ManifestLine
from ghostasync.stores import DirectoryStore

async def main(root, *ids):
    store = DirectoryStore(Path(root))
    for each in ids:
        package = await store.packages.package(each)
        line = ManifestLine(package.module, each, "/srv", package.sha256)
        await store.manifest.move([line], [], [])

anyio.run(main, *sys.argv[1:])
"""


async def test_two_processes_that_move_manifest_at_once_lose_no_line(
    store: Store, root: Path, tmp_path: Path
) -> None:
    ids = [f"1700000000_m{number}_4f2a9c1" for number in range(40)]
    await publish_many(store, tmp_path, ids)

    async with anyio.create_task_group() as group:
        for half in (ids[::2], ids[1::2]):
            command = [sys.executable, "-c", MOVER, str(root), *half]
            group.start_soon(anyio.run_process, command)

    assert {line.package for line in await store.manifest.read()} == set(ids)


async def test_a_lock_that_never_opens_is_a_store_error(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "LOCK_SECONDS", 0.05)
    _files.make_folder(root)
    held = os.open(root / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)

    with pytest.raises(StoreError, match=r"\.lock has been locked by another process"):
        await store.manifest.move([], [], [])

    os.close(held)
    await store.manifest.move([], [], [])


# --- Prune -----------------------------------------------------------------------


async def test_prune_keeps_the_newest_and_what_is_named(
    store: Store, root: Path, tmp_path: Path
) -> None:
    ids = [f"170000000{number}_site_4f2a9c1" for number in range(6)]
    await publish_many(store, tmp_path, ids)
    line = named(await store.packages.package(ids[1]))
    await store.manifest.move([line], [], ["site"])

    went = await store.packages.prune("site", 2, frozenset({ids[2]}))

    assert went == 2
    assert await store.packages.ids("site") == [ids[1], ids[2], ids[4], ids[5]]
    assert not [name for name in tree(root) if ids[0] in name or ids[3] in name]


async def test_prune_spares_modules_whose_names_begin_alike(
    store: Store, tmp_path: Path
) -> None:
    """Ghost defect 9: it purged nothing, and would have purged siblings."""
    siblings = [
        "1700000000_site-admin_4f2a9c1",
        "1700000000_site_v2_4f2a9c1",
        "1700000000_my_site_4f2a9c1",
    ]
    await publish_many(store, tmp_path, ["1700000000_site_4f2a9c1", *siblings])

    went = await store.packages.prune("site", 0, frozenset())

    assert went == 1
    for package_id in siblings:
        assert (await store.packages.archive(package_id, tmp_path)).exists()


async def test_prune_touches_nothing_where_manifest_cannot_be_read(
    store: Store, root: Path, tmp_path: Path
) -> None:
    await publish(store, tmp_path, "1700000000_site_4f2a9c1")
    (root / "MANIFEST").write_text("?\n")

    with pytest.raises(StoreError, match="MANIFEST, line 1"):
        await store.packages.prune("site", 0, frozenset())

    assert await store.packages.ids("site") == ["1700000000_site_4f2a9c1"]


async def test_prune_removes_what_unfinished_builds_left_a_day_ago(
    store: Store, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = await publish(store, tmp_path, "1700000000_site_4f2a9c1")
    before = tree(root)
    left = (
        root / "packages" / f"{await store.packages.reserve('site', COMMIT)}.reserved"
    )
    (left.parent / "1700000001_site_4f2a9c1.tar.zst").touch()
    (left.parent / ".abc.tmp").touch()
    (left.parent / "1700000001_site-admin_4f2a9c1.tar.zst").touch()

    assert await store.packages.prune("site", 9, frozenset()) == 0
    assert left.exists()

    make_old(left, monkeypatch)
    assert await store.packages.prune("site", 9, frozenset()) == 0

    assert tree(root) == sorted(
        [*before, ".lock", "packages/1700000001_site-admin_4f2a9c1.tar.zst"]
    )
    assert await store.packages.ids("site") == [kept.id]


# --- Runs ------------------------------------------------------------------------


async def test_files_of_a_run_come_back(store: Store) -> None:
    await store.runs.save(RUN, "report.json", b"{}")
    await store.runs.save(RUN, "hosts/web1.log", b"one")
    await store.runs.save(RUN, "hosts/web1.log", b"two")
    await store.runs.save("20250101T000000Z-ffffff", "report.json", b"[]")

    assert await store.runs.load(RUN, "report.json") == b"{}"
    assert await store.runs.load(RUN, "hosts/web1.log") == b"two"
    assert await store.runs.ids() == ["20250101T000000Z-ffffff", RUN]


@pytest.mark.parametrize(
    "name",
    ["../../MANIFEST", "/etc/passwd", "hosts/../../../x", "..", "", "a//b", "a/./b"],
)
@pytest.mark.parametrize("run", [RUN, "..", "../..", "", "a/b", "/"])
async def test_no_name_leads_out_of_the_runs(
    store: Store, root: Path, run: str, name: str
) -> None:
    await store.runs.save(run, name, b"mine")

    assert await store.runs.load(run, name) == b"mine"
    (folder,) = (root / "runs").iterdir()
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 1
    assert [path.name for path in root.iterdir()] == ["runs"]


async def test_a_file_that_a_run_does_not_have_is_a_store_error(store: Store) -> None:
    with pytest.raises(StoreError, match=r"runs/.*/report\.json: No such file"):
        await store.runs.load(RUN, "report.json")


async def test_a_part_that_a_power_failure_has_cut_is_made_whole(
    store: Store, root: Path
) -> None:
    await store.runs.append(RUN, "journal.jsonl", 0, b"one\n")
    await store.runs.append(RUN, "journal.jsonl", 4, b"two\n")
    (root / "runs" / RUN / "journal.jsonl").write_bytes(b"one\nt")

    await store.runs.append(RUN, "journal.jsonl", 4, b"two\n")

    assert await store.runs.load(RUN, "journal.jsonl") == b"one\ntwo\n"


async def test_a_file_among_the_runs_is_none(store: Store, root: Path) -> None:
    await store.runs.save(RUN, "report.json", b"{}")
    (root / "runs" / "notes").touch()

    with pytest.raises(NotInStore, match="Not a directory"):
        await store.runs.load("notes", "report.json")
    with pytest.raises(NotInStore, match="too long"):
        await store.runs.load("x" * 300, "report.json")


async def test_a_name_that_is_too_long_is_a_store_error(store: Store) -> None:
    with pytest.raises(StoreError, match=r"too long; choose a shorter name"):
        await store.runs.save(RUN, "x" * 300, b"")


# --- Disks that refuse -------------------------------------------------------------


async def test_a_root_that_is_a_file_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = DirectoryStore(tmp_path / "file" / "store")

    with pytest.raises(StoreError, match=r"file/store.*: Not a directory; check"):
        await store.runs.save(RUN, "report.json", b"")
    assert store.url == str(tmp_path / "file" / "store")


FILLER: Final = """
import anyio, sys
from pathlib import Path
from ghostasync.errors import NotInStore, StoreError
from ghostasync.stores import DirectoryStore

async def main(root):
    store = DirectoryStore(Path(root))
    await store.runs.save("run", "report.json", b"old")
    try:
        await store.runs.save("run", "report.json", bytes(1_000_000))
    except StoreError as error:
        print(error)
    print(await store.runs.load("run", "report.json"))
    print(sorted(path.name for path in Path(root).rglob("*")))

anyio.run(main, *sys.argv[1:])
"""


@pytest.mark.skipif(
    not shutil.which("unshare")
    or subprocess.run(["unshare", "-m", "true"], check=False).returncode != 0,
    reason="mounting a small filesystem takes root",
)
def test_a_full_disk_is_a_store_error_and_leaves_what_was_there(tmp_path: Path) -> None:
    mount = 'mount -t tmpfs -o size=256k tmpfs "$0" && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", mount, str(tmp_path)]

    done = subprocess.run(
        [*command, sys.executable, "-c", FILLER, str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
    )

    report = tmp_path / "runs" / "run" / "report.json"
    assert done.stdout.splitlines() == [
        f"{report}: No space left on device; free some space there",
        "b'old'",
        "['report.json', 'run', 'runs']",
    ]
