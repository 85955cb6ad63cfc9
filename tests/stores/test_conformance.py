"""What every store does, whatever it keeps its things in."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import anyio
import attrs
import pytest

from ghostasync.errors import NotInStore, StoreError
from ghostasync.model import Package, Revision
from ghostasync.protocols import (
    ActiveColor,
    ColorStore,
    Environment,
    ManifestLine,
    Store,
)
from ghostasync.stores import DirectoryStore
from ghostasync.stores.s3 import S3Store
from ghostasync.testing import MemoryStore
from tests.s3_servers import BUCKET, make_bucket

IN_S3: Final = {
    "aioboto3": "ministack_server",
    "aiobotocore": "ministack_server",
    "swift": "swift_server",
}
"""Stores in S3: which library, or which server that keeps no conditions."""

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
COMMIT: Final = "4f2a9c1" + "0" * 33
OLD: Final = "1700000000_site_4f2a9c1"
NEW: Final = "1700000001_site_4f2a9c1"
RUN: Final = "20260101T000000Z-0a1b2c"
PROCESSES: Final = 5
WRITERS: Final = 100
RACERS: Final = 20


@attrs.frozen
class Shelf:
    """A store, and a folder of this machine from which things are put into it."""

    store: Store
    folder: Path

    def built(self, package_id: str, data: bytes = b"archive") -> Package:
        """Leave what a build leaves, NAME.tar.zst and NAME.manifest."""
        (self.folder / f"{package_id}.tar.zst").write_bytes(data)
        (self.folder / f"{package_id}.manifest").write_bytes(b"manifest")
        return Package(
            id=package_id,
            module=package_id.split("_")[1],
            revision=Revision(commit=COMMIT),
            sha256=hashlib.sha256(data).hexdigest(),
            content="c" * 64,
            nbytes=len(data),
            unpacked=510,
            entries=3,
            manifest=hashlib.sha256(b"manifest").hexdigest(),
        )

    async def put(self, package: Package) -> Package:
        archive = self.folder / f"{package.id}.tar.zst"
        manifest = self.folder / f"{package.id}.manifest"
        await self.store.packages.publish(package, archive, manifest)
        return package

    async def publish(self, package_id: str, data: bytes = b"archive") -> Package:
        return await self.put(self.built(package_id, data))

    async def content(self, package_id: str) -> bytes:
        into = self.folder / "cache"
        return (await self.store.packages.archive(package_id, into)).read_bytes()


def directory(folder: Path) -> Store:
    return DirectoryStore(folder)


def with_runs_elsewhere(folder: Path) -> Store:
    """Return a store as the example makes it."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        example = importlib.import_module("custom_store")
    finally:
        sys.path.remove(str(EXAMPLES))
    store = DirectoryStore(folder)
    store.runs = example.SqliteRunLog(folder.with_suffix(".db"))
    return store


ON_DISK: Final = {"directory": directory, "runs elsewhere": with_runs_elsewhere}
Make = Callable[[Path], Store]
"""Opens the store in a folder, or in S3 below its name; it need not be a new one."""


@pytest.fixture(
    params=[
        "memory",
        *ON_DISK,
        *(pytest.param(name, marks=pytest.mark.fleet) for name in IN_S3),
    ]
)
async def make(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Make]:
    if request.param == "memory":
        first = MemoryStore()
        yield functools.cache(lambda _: MemoryStore(other=first))
        return
    if request.param in ON_DISK:
        yield ON_DISK[request.param]
        return
    server = request.getfixturevalue(IN_S3[request.param])
    for name, value in server.environ.items():
        monkeypatch.setenv(name, value)
    if request.param == "aiobotocore":
        monkeypatch.setitem(sys.modules, "aioboto3", None)
    async with AsyncExitStack() as stack:
        prefix = f"{request.node.name}-{secrets.token_hex(4)}"

        def in_s3(folder: Path) -> Store:
            store = S3Store(f"s3://{BUCKET}/{prefix}/{folder.name}", server.settings)
            stack.push_async_exit(store)
            return store

        await make_bucket(server)
        yield in_s3


@pytest.fixture
def shelf(make: Make, tmp_path: Path) -> Shelf:
    (tmp_path / "built").mkdir()
    return Shelf(make(tmp_path / "store"), tmp_path / "built")


@pytest.fixture
def stores(make: Make, tmp_path: Path) -> list[Store]:
    """The same store, as several processes have opened it."""
    return [make(tmp_path / "store") for _ in range(PROCESSES)]


@pytest.fixture
def store(shelf: Shelf) -> Store:
    return shelf.store


def named(package: Package, path: str = "/srv/site") -> ManifestLine:
    return ManifestLine(package.module, package.id, path, package.sha256)


async def test_no_two_stores_have_the_same_url(make: Make, tmp_path: Path) -> None:
    assert make(tmp_path / "a").url != make(tmp_path / "b").url


async def test_an_empty_store_has_nothing(store: Store) -> None:
    assert await store.packages.ids("site") == []
    assert await store.packages.prune("site", 0, frozenset()) == 0
    assert await store.manifest.read() == ()
    assert await store.manifest.environment(OLD) is None
    assert await store.runs.ids() == []


async def test_a_store_has_one_word_for_itself_once_it_was_asked_to_make_it(
    store: Store, stores: list[Store], make: Make, tmp_path: Path
) -> None:
    assert await store.identity() == ""
    words: set[str] = set()

    async def ask(one: Store) -> None:
        words.add(await one.identity(make=True))

    async with anyio.create_task_group() as group:
        for number in range(WRITERS):
            group.start_soon(ask, stores[number % PROCESSES])

    assert words == {await store.identity()} != {""}
    assert await make(tmp_path / "other").identity(make=True) not in words


# --- The active color --------------------------------------------------------------


def active(color: str, number: int = 1, run: str = RUN) -> ActiveColor:
    return ActiveColor(color, number, run, "ada", "it's\n\udce9", 1.5)


def of_color(store: Store) -> ColorStore:
    assert isinstance(store, ColorStore)
    return store


async def test_the_stores_of_both_colors_have_one_word_of_which_is_active(
    make: Make, tmp_path: Path
) -> None:
    blue, green = (of_color(make(tmp_path / color)) for color in ("blue", "green"))
    assert (await blue.active_color(), await green.active_color()) == (None, None)

    await blue.move_active_color(first := active("blue"), None)
    assert await green.active_color() == first

    await green.move_active_color(second := active("green", 2), first)
    assert await blue.active_color() == second


@pytest.mark.parametrize("expected", [None, active("green"), active("blue", 2)])
async def test_the_active_color_stays_where_it_is_not_what_it_was(
    make: Make, tmp_path: Path, expected: ActiveColor | None
) -> None:
    blue, green = (of_color(make(tmp_path / color)) for color in ("blue", "green"))
    await blue.move_active_color(active("blue"), None)

    with pytest.raises(StoreError, match=r"it is blue since 1970-01-01 .*, by ada"):
        await green.move_active_color(active("green", 2), expected)
    assert await green.active_color() == active("blue")


@pytest.mark.parametrize("before", [None, active("blue")])
async def test_of_many_that_move_the_active_color_one_does(
    make: Make, tmp_path: Path, before: ActiveColor | None
) -> None:
    both = [of_color(make(tmp_path / color)) for color in ("blue", "green") * 2]
    if before is not None:
        await both[0].move_active_color(before, None)
    won: list[ActiveColor] = []

    async def move(one: ColorStore, wanted: ActiveColor) -> None:
        with contextlib.suppress(StoreError):
            await one.move_active_color(wanted, before)
            won.append(wanted)

    async with anyio.create_task_group() as group:
        for number in range(RACERS):
            wanted = active("green", 2, f"run-{number}")
            group.start_soon(move, both[number % len(both)], wanted)

    assert won == [await both[0].active_color()]


# --- Packages ----------------------------------------------------------------------


async def test_an_id_is_newer_than_all_others_whatever_the_clock_says(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1700000000.5)
    ahead = await shelf.publish("1700007200_site_4f2a9c1")

    late = await shelf.store.packages.reserve("site", "ffff" * 10)
    later = await shelf.store.packages.reserve("site", "0000" * 10)
    other = await shelf.store.packages.reserve("api", COMMIT)

    assert [late, later] == ["1700007201_site_fffffff", "1700007202_site_0000000"]
    assert other == "1700000000_api_4f2a9c1"
    assert await shelf.store.packages.ids("site") == [ahead.id]


async def test_an_id_is_given_once_however_many_ask(
    stores: list[Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1700000000.5)
    ids: list[str] = []

    async def reserve(one: Store) -> None:
        ids.append(await one.packages.reserve("site", COMMIT))

    async with anyio.create_task_group() as group:
        for number in range(WRITERS):
            group.start_soon(reserve, stores[number % PROCESSES])

    assert sorted(ids) == [f"{1700000000 + n}_site_4f2a9c1" for n in range(WRITERS)]


async def test_the_id_of_a_package_is_not_given_again(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1700000000.5)
    await shelf.publish(await shelf.store.packages.reserve("site", COMMIT))

    assert await shelf.store.packages.reserve("site", COMMIT) == NEW


@pytest.mark.parametrize(
    ("module", "commit"), [("../x", COMMIT), ("site", "HEAD"), ("", COMMIT)]
)
async def test_an_id_is_not_made_of_anything(
    store: Store, module: str, commit: str
) -> None:
    with pytest.raises(StoreError, match="not a package id"):
        await store.packages.reserve(module, commit)


async def test_a_package_comes_back_as_it_was_published(shelf: Shelf) -> None:
    package = await shelf.publish(OLD, b"\x00whole\xff")

    assert await shelf.store.packages.package(OLD) == package
    assert await shelf.store.packages.ids("site") == [OLD]
    assert await shelf.content(OLD) == b"\x00whole\xff"
    assert await shelf.content(OLD) == b"\x00whole\xff"


async def test_packages_are_listed_by_age_and_by_the_whole_name_of_the_module(
    shelf: Shelf,
) -> None:
    others = ["1700000005_site-admin_4f2a9c1", "1700000006_my_site_4f2a9c1"]
    for package_id in [NEW, "999999999_site_4f2a9c1", *others]:
        await shelf.publish(package_id)
    await shelf.store.packages.reserve("site", COMMIT)

    assert await shelf.store.packages.ids("site") == ["999999999_site_4f2a9c1", NEW]


async def test_a_package_is_never_replaced(shelf: Shelf) -> None:
    first = await shelf.publish(OLD)

    with pytest.raises(StoreError, match="exists already and is not replaced"):
        await shelf.publish(OLD, b"another")

    assert await shelf.store.packages.package(OLD) == first
    assert await shelf.content(OLD) == b"archive"


@pytest.mark.parametrize("lost", ["tar.zst", "manifest"])
async def test_a_package_of_which_a_part_is_missing_is_not_published(
    shelf: Shelf, lost: str
) -> None:
    package = shelf.built(OLD)
    (shelf.folder / f"{OLD}.{lost}").unlink()

    with pytest.raises(StoreError, match=r"No such file .*; was it removed\?"):
        await shelf.put(package)

    assert await shelf.store.packages.ids("site") == []
    with pytest.raises(NotInStore):
        await shelf.store.packages.package(OLD)


async def test_of_two_that_publish_one_id_one_wins(shelf: Shelf) -> None:
    (shelf.folder / "other").mkdir()
    refused: list[StoreError] = []

    async def publish(one: Shelf) -> None:
        try:
            await one.publish(OLD)
        except StoreError as exc:
            refused.append(exc)

    async with anyio.create_task_group() as group:
        for folder in (shelf.folder, shelf.folder / "other"):
            group.start_soon(publish, Shelf(shelf.store, folder))

    assert len(refused) == 1
    assert await shelf.store.packages.ids("site") == [OLD]
    assert await shelf.content(OLD) == b"archive"


@pytest.mark.parametrize("package_id", [OLD, "../MANIFEST", "", "x" * 300])
async def test_an_unknown_package_is_a_store_error(
    store: Store, tmp_path: Path, package_id: str
) -> None:
    with pytest.raises(StoreError):
        await store.packages.package(package_id)
    with pytest.raises(StoreError):
        await store.packages.archive(package_id, tmp_path)


async def test_what_is_not_there_is_told_from_what_cannot_be_read(
    store: Store, tmp_path: Path
) -> None:
    with pytest.raises(NotInStore, match=f"has no package {OLD}; was it pruned"):
        await store.packages.package(OLD)
    with pytest.raises(NotInStore):
        await store.packages.archive(OLD, tmp_path)
    with pytest.raises(NotInStore):
        await store.runs.load(RUN, "report.json")


async def test_an_archive_that_is_not_what_was_published_is_refused(
    shelf: Shelf,
) -> None:
    package = attrs.evolve(shelf.built(OLD), sha256="0" * 64)
    await shelf.put(package)

    with pytest.raises(StoreError, match="is damaged"):
        await shelf.content(OLD)


async def test_a_damaged_copy_of_an_archive_is_made_anew(shelf: Shelf) -> None:
    await shelf.publish(OLD)
    (shelf.folder / "cache").mkdir()
    (shelf.folder / "cache" / f"{OLD}.tar.zst").write_bytes(b"damaged")

    assert await shelf.content(OLD) == b"archive"


async def test_the_list_of_a_package_comes_back(shelf: Shelf) -> None:
    await shelf.publish(OLD)

    assert await shelf.store.packages.listing(OLD) == b"manifest"


async def test_a_list_that_is_not_what_was_published_is_refused(shelf: Shelf) -> None:
    await shelf.put(attrs.evolve(shelf.built(OLD), manifest="0" * 64))

    with pytest.raises(StoreError, match="is damaged"):
        await shelf.store.packages.listing(OLD)


async def test_there_is_no_list_of_an_unknown_package(shelf: Shelf) -> None:
    with pytest.raises(NotInStore, match="has no package"):
        await shelf.store.packages.listing(OLD)


# --- MANIFEST ----------------------------------------------------------------------


async def test_writers_of_manifest_lose_no_line(
    shelf: Shelf, stores: list[Store]
) -> None:
    ids = [f"1700000000_m{number}_4f2a9c1" for number in range(WRITERS)]
    packages = [await shelf.publish(package_id) for package_id in ids]

    async with anyio.create_task_group() as group:
        for number, package in enumerate(packages):
            kept = Environment(package.id, {"ID": package.id})
            manifest = stores[number % PROCESSES].manifest
            group.start_soon(manifest.move, [named(package)], [kept], [])

    assert {line.package for line in await shelf.store.manifest.read()} == set(ids)
    for package_id in ids:
        found = await shelf.store.manifest.environment(package_id)
        assert found == Environment(package_id, {"ID": package_id})


async def test_lines_come_in_app_order_and_others_stay(shelf: Shelf) -> None:
    site, api, new = [
        await shelf.publish(each)
        for each in (OLD, "1700000000_api_4f2a9c1", "1700000009_site_4f2a9c1")
    ]
    move = shelf.store.manifest.move
    await move([named(site), named(api, "/srv/api")], [], ["api", "site"])

    await move([named(new, "/srv/new")], [], ["site", "api"])

    assert await shelf.store.manifest.read() == (
        named(new, "/srv/new"),
        named(api, "/srv/api"),
    )


async def test_an_environment_stays_as_long_as_its_package(shelf: Shelf) -> None:
    ids = [OLD, NEW, "1700000002_site_4f2a9c1"]
    api = await shelf.publish("1700000000_api_4f2a9c1")
    manifest = shelf.store.manifest
    await manifest.move([named(api)], [Environment(api.id, {"A": "1"})], [])
    for package_id in ids:
        line = named(await shelf.publish(package_id))
        await manifest.move([line], [Environment(package_id, {"A": package_id})], [])
    line = named(await shelf.store.packages.package(ids[-1]))
    await manifest.move([line], [Environment(ids[-1], {"A": "again"})], [])

    assert await manifest.environment(ids[0]) == Environment(ids[0], {"A": ids[0]})
    assert await manifest.environment(ids[1]) == Environment(ids[1], {"A": ids[1]})
    assert await manifest.environment(ids[2]) == Environment(ids[2], {"A": "again"})
    assert await manifest.environment(api.id) == Environment(api.id, {"A": "1"})

    await shelf.store.packages.prune("site", 2, frozenset())
    await manifest.move([line], [], [])

    assert await manifest.environment(ids[0]) is None
    assert await manifest.environment(ids[1]) == Environment(ids[1], {"A": ids[1]})


@pytest.mark.parametrize("wrong", ["digest", "package", "path"])
async def test_a_move_that_is_refused_changes_nothing(shelf: Shelf, wrong: str) -> None:
    old, new = await shelf.publish(OLD), await shelf.publish(NEW)
    manifest = shelf.store.manifest
    await manifest.move([named(old)], [Environment(OLD, {})], ["site"])
    line = {
        "digest": attrs.evolve(named(new), sha256="0" * 64),
        "package": attrs.evolve(named(new), package="1700000009_site_4f2a9c1"),
        "path": named(new, "/srv:/x"),
    }[wrong]

    with pytest.raises(StoreError):
        await manifest.move([line], [Environment(NEW, {})], ["site"])

    assert await manifest.read() == (named(old),)
    assert await manifest.environment(NEW) is None


# --- Prune -------------------------------------------------------------------------


async def test_prune_keeps_the_newest_and_what_is_named(shelf: Shelf) -> None:
    ids = [f"170000000{number}_site_4f2a9c1" for number in range(6)]
    for package_id in [*ids, "1600000000_site-admin_4f2a9c1"]:
        await shelf.publish(package_id)
    line = named(await shelf.store.packages.package(ids[1]))
    await shelf.store.manifest.move([line], [], ["site"])

    went = await shelf.store.packages.prune("site", 2, frozenset({ids[2]}))

    assert went == 2
    assert await shelf.store.packages.ids("site") == [ids[1], ids[2], ids[4], ids[5]]
    assert await shelf.content(ids[1]) == b"archive"
    with pytest.raises(NotInStore):
        await shelf.content(ids[0])
    assert len(await shelf.store.packages.ids("site-admin")) == 1


# --- Runs --------------------------------------------------------------------------


async def test_a_file_grows_part_by_part(store: Store) -> None:
    await store.runs.append(RUN, "journal.jsonl", 0, b"one\n")
    await store.runs.append(RUN, "journal.jsonl", 4, b"two\n")
    await store.runs.append(RUN, "hosts/web1.log", 0, b"hello")

    assert await store.runs.load(RUN, "journal.jsonl") == b"one\ntwo\n"
    assert await store.runs.load(RUN, "hosts/web1.log") == b"hello"
    assert await store.runs.ids() == [RUN]


async def test_a_part_that_is_offered_again_is_there_once(store: Store) -> None:
    for at, part in [(0, b"one\n"), (0, b"one\n"), (4, b"two\n"), (0, b"one\n")]:
        await store.runs.append(RUN, "journal.jsonl", at, part)
    await store.runs.append(RUN, "journal.jsonl", 4, b"two\n")

    assert await store.runs.load(RUN, "journal.jsonl") == b"one\ntwo\n"


@pytest.mark.parametrize(("at", "part"), [(0, b"1111"), (9, b"late"), (4, b"2")])
async def test_a_part_in_the_wrong_place_is_refused(
    store: Store, at: int, part: bytes
) -> None:
    await store.runs.append(RUN, "journal.jsonl", 0, b"one\n")
    await store.runs.append(RUN, "journal.jsonl", 4, b"two\n")

    with pytest.raises(StoreError):
        await store.runs.append(RUN, "journal.jsonl", at, part)

    assert await store.runs.load(RUN, "journal.jsonl") == b"one\ntwo\n"


async def test_of_a_file_whose_first_part_is_missing_there_is_nothing(
    store: Store,
) -> None:
    with pytest.raises(StoreError):
        await store.runs.append(RUN, "journal.jsonl", 4, b"two\n")
    with pytest.raises(NotInStore):
        await store.runs.load(RUN, "journal.jsonl")


async def test_a_file_that_is_saved_replaces_the_one_before(store: Store) -> None:
    await store.runs.save(RUN, "report.json", b"[1]")
    await store.runs.save(RUN, "report.json", b"{}")
    await store.runs.save("20250101T000000Z-ffffff", "report.json", b"[]")

    assert await store.runs.load(RUN, "report.json") == b"{}"
    assert await store.runs.ids() == ["20250101T000000Z-ffffff", RUN]


@pytest.mark.parametrize("run", [RUN, "..", "", "a/b"])
@pytest.mark.parametrize("name", ["../../MANIFEST", "/etc/passwd", "..", "", "a/./b"])
async def test_no_name_leads_out_of_its_run(store: Store, run: str, name: str) -> None:
    await store.runs.save(run, name, b"mine")
    await store.runs.save("other", name, b"other")

    assert await store.runs.load(run, name) == b"mine"
    assert await store.runs.load("other", name) == b"other"
    assert await store.manifest.read() == ()


# --- Generations -------------------------------------------------------------------


async def test_a_generation_is_given_once_however_many_ask(
    stores: list[Store],
) -> None:
    numbers: list[int] = []

    async def ask(one: Store, run: str) -> None:
        numbers.append(await one.runs.reserve(run, 7))

    async with anyio.create_task_group() as group:
        for number in range(WRITERS):
            group.start_soon(ask, stores[number % PROCESSES], f"run-{number}")

    assert sorted(numbers) == [*range(7, 7 + WRITERS)]
    assert sorted((await stores[0].runs.generations()).values()) == sorted(numbers)


async def test_a_generation_is_the_lowest_free_one_from_the_number_asked_for(
    store: Store,
) -> None:
    assert await store.runs.generations() == {}
    assert await store.runs.reserve("a", 0) == 1
    assert await store.runs.reserve("b", 1_000_000) == 1_000_000
    assert await store.runs.reserve("c", 1) == 2
    assert await store.runs.reserve("a", 1) == 3

    assert await store.runs.generations() == {"a": 3, "b": 1_000_000, "c": 2}
    assert await store.runs.ids() == []


async def test_a_run_that_was_removed_is_unknown_and_its_number_is_taken(
    store: Store,
) -> None:
    for run in (RUN, RUN[:-1]):
        await store.runs.append(run, "journal.jsonl", 0, b"one\n")
        await store.runs.append(run, "journal.jsonl", 4, b"two\n")
        await store.runs.save(run, "hosts/h1.log", b"said\n")
    assert await store.runs.reserve(RUN, 1) == 1
    assert await store.runs.reserve(RUN[:-1], 2) == 2

    await store.runs.remove(RUN)
    await store.runs.remove(RUN)

    assert await store.runs.ids() == [RUN[:-1]]
    assert await store.runs.generations() == {RUN[:-1]: 2}
    for name in ("journal.jsonl", "hosts/h1.log"):
        with pytest.raises(NotInStore):
            await store.runs.load(RUN, name)
    assert await store.runs.load(RUN[:-1], "journal.jsonl") == b"one\ntwo\n"
    assert await store.runs.reserve("another", 1) == 3


# --- MANIFEST that another run has moved ---------------------------------------------


async def test_manifest_stays_where_a_line_is_not_what_it_was(shelf: Shelf) -> None:
    old, new = await shelf.publish(OLD), await shelf.publish(NEW)
    manifest = shelf.store.manifest
    seen = await manifest.read()
    await manifest.move([named(old)], [], ["site"])

    with pytest.raises(StoreError, match=f"moved MANIFEST meanwhile: it names {OLD}"):
        await manifest.move([named(new)], [], ["site"], seen)
    assert await manifest.read() == (named(old),)

    await manifest.move([named(new)], [], ["site"], await manifest.read())
    assert await manifest.read() == (named(new),)
