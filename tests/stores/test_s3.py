"""What a store in S3 does where the network, the server or the person is at fault."""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import attrs
import pytest

from ghostasync.errors import NotInStore, StoreError
from ghostasync.model import Package, Revision, StoreSettings
from ghostasync.protocols import ActiveColor, Environment, ManifestLine
from ghostasync.stores.s3 import S3Store
from tests.s3_proxy import FAULTS, Fault, Proxy, proxy
from tests.s3_servers import BUCKET, S3Server, make_bucket
from tests.sources.archives import small_files

pytestmark = pytest.mark.fleet

COMMIT = "4f2a9c1" + "0" * 33
LARGE = 40 << 20
"""Bytes of an archive that goes in three parts."""


@pytest.fixture
async def through(
    ministack_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Proxy, S3Server]]:
    for name, value in ministack_server.environ.items():
        monkeypatch.setenv(name, value)
    await make_bucket(ministack_server)
    async with proxy(ministack_server) as found:
        yield found


def url() -> str:
    return f"s3://{BUCKET}/{secrets.token_hex(4)}"


async def publish(
    store: S3Store, folder: Path, package_id: str, data: bytes
) -> Package:
    folder.mkdir(parents=True, exist_ok=True)
    archive, manifest = folder / "archive", folder / "manifest"
    archive.write_bytes(data)
    manifest.write_bytes(b"manifest")
    package = Package(
        id=package_id,
        module="site",
        revision=Revision(commit=COMMIT),
        sha256=hashlib.sha256(data).hexdigest(),
        content="c" * 64,
        nbytes=len(data),
        unpacked=510,
        entries=3,
    )
    await store.packages.publish(package, archive, manifest)
    return package


async def all_of_it(store: S3Store, folder: Path) -> None:
    """Do what a run does, and look at each step whether it was done once."""
    identity = await store.identity(make=True)
    assert await store.identity() == identity
    package_id = await store.packages.reserve("site", COMMIT)
    package = await publish(store, folder / "built", package_id, b"archive" * 99)
    number = await store.runs.reserve("run", 7)
    assert number == 7
    for at, part in ((0, b"one\n"), (4, b"two\n"), (8, b"three\n")):
        await store.runs.append("run", "journal.jsonl", at, part)
    line = ManifestLine("site", package.id, "/srv/site", package.sha256, number)
    kept = Environment(package.id, {"A": "1"})
    await store.manifest.move([line], [kept], ["site"], ())
    await store.runs.save("run", "report.json", b"{}")

    assert await store.manifest.read() == (line,)
    assert await store.manifest.environment(package.id) == kept
    assert await store.packages.ids("site") == [package.id]
    assert await store.packages.prune("site", 1, frozenset()) == 0
    assert await store.runs.generations() == {"run": 7}
    assert await store.runs.ids() == ["run"]
    assert await store.runs.load("run", "journal.jsonl") == b"one\ntwo\nthree\n"
    archive = await store.packages.archive(package.id, folder / "copies")
    assert archive.read_bytes() == b"archive" * 99


@pytest.mark.parametrize("fault", FAULTS)
async def test_one_call_that_fails_is_made_up_for_wherever_it_is(
    through: tuple[Proxy, S3Server], tmp_path: Path, fault: Fault
) -> None:
    spoiler, server = through
    async with S3Store(url(), server.settings) as store:
        await store.identity(make=True)  # the trial of its conditions is another test
        spoiler.spoil(None, -1)
        await all_of_it(store, tmp_path / "first")
    calls = len(spoiler.calls)
    assert calls > 20

    for at in range(calls):
        where = url()
        async with S3Store(where, server.settings) as store:
            spoiler.spoil(None, -1)
            await store._bucket.put("CONDITIONS", b"hold\n")
            await store.identity(make=True)
            spoiler.spoil(fault, at)
            await all_of_it(store, tmp_path / f"{at}")


@pytest.mark.parametrize("fault", FAULTS)
async def test_the_active_color_moves_once_whichever_call_fails(
    through: tuple[Proxy, S3Server], fault: Fault
) -> None:
    spoiler, server = through
    where, moved = f"{url()}/blue", ActiveColor("blue", 1, "run", "ada", "", 0.0)
    async with S3Store(where, server.settings) as store:
        await store.move_active_color(moved, None)

    at, calls = 0, 1
    while at < calls:
        async with S3Store(where, server.settings) as store:
            spoiler.spoil(fault, at)
            after = attrs.evolve(moved, number=moved.number + 1)
            await store.move_active_color(after, moved)
            moved, at, calls = after, at + 1, len(spoiler.calls)
            assert await store.active_color() == moved
    assert calls >= 3


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_trial_that_is_disturbed_finds_what_it_would_have_found(
    through: tuple[Proxy, S3Server], fault: Fault
) -> None:
    spoiler, server = through
    for at in (0, 1, 5, 17, 20, 33):
        async with S3Store(url(), server.settings) as store:
            spoiler.spoil(fault, at)
            await store.identity(make=True)
            found = await store._bucket.get("CONDITIONS")
            assert found is not None
            assert found.data == b"hold\n"


async def test_a_large_archive_goes_in_parts_and_comes_back_whole(
    through: tuple[Proxy, S3Server], tmp_path: Path
) -> None:
    spoiler, server = through
    data = os.urandom(LARGE)
    async with S3Store(url(), server.settings) as store:
        package_id = await store.packages.reserve("site", COMMIT)
        await publish(store, tmp_path / "built", package_id, data)
        sent = [call for call in spoiler.calls if "partNumber=" in call]
        spoiler.spoil("answer cut", 1)

        archive = await store.packages.archive(package_id, tmp_path / "copies")

    assert len(sent) == 3
    assert archive.read_bytes() == data
    assert [path.name for path in (tmp_path / "copies").iterdir()] == [archive.name]


async def test_an_archive_is_there_though_the_last_answer_was_lost(
    through: tuple[Proxy, S3Server], tmp_path: Path
) -> None:
    spoiler, server = through
    async with S3Store(url(), server.settings) as store:
        package_id = await store.packages.reserve("site", COMMIT)
        # Three parts, of which one call tells before and one after.
        spoiler.spoil("answer lost", 4)
        await publish(store, tmp_path / "built", package_id, bytes(LARGE))

        assert "uploadId=" in spoiler.calls[4]
        assert spoiler.calls[4].startswith("POST")
        assert await store.packages.ids("site") == [package_id]


async def test_a_journal_of_which_a_part_cannot_be_read_is_an_error(
    through: tuple[Proxy, S3Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiler, server = through
    monkeypatch.setattr("ghostasync._s3.client.TRIES", 2)
    async with S3Store(url(), server.settings) as store:
        for at in range(3):
            await store.runs.append("run", "journal.jsonl", at, b"x")
        spoiler.spoil(None, -1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(goes_away, spoiler)
            with anyio.fail_after(60), pytest.raises(StoreError, match="GetObject"):
                await store.runs.load("run", "journal.jsonl")


async def test_parts_of_an_archive_that_was_not_sent_whole_are_taken_away(
    through: tuple[Proxy, S3Server], tmp_path: Path
) -> None:
    spoiler, server = through
    async with S3Store(url(), server.settings) as store:
        package_id = await store.packages.reserve("site", COMMIT)
        with anyio.move_on_after(60) as scope:
            async with anyio.create_task_group() as tasks:
                data = os.urandom(LARGE)
                tasks.start_soon(publish, store, tmp_path / "b", package_id, data)
                await spoiler.until("partNumber=")
                scope.cancel()

        assert any(call.startswith("DELETE") for call in spoiler.calls)
        assert await store.packages.ids("site") == []
        with pytest.raises(NotInStore):
            await store.packages.package(package_id)


async def test_a_package_that_is_pruned_while_manifest_moves_to_it_is_not_named(
    through: tuple[Proxy, S3Server], tmp_path: Path
) -> None:
    _, server = through
    where = url()
    async with (
        S3Store(where, server.settings) as store,
        S3Store(where, server.settings) as other,
    ):
        old = await publish(store, tmp_path, "1700000000_site_4f2a9c1", b"old")
        new = await publish(store, tmp_path, "1700000001_site_4f2a9c1", b"new")
        line = ManifestLine("site", new.id, "/srv/site", new.sha256, 1)
        await store.manifest.move([line], [], [])
        back = attrs.evolve(line, package=old.id, sha256=old.sha256, generation=2)
        outcome: list[str] = []

        async def move() -> None:
            try:
                await store.manifest.move([back], [], [])
                outcome.append("moved")
            except NotInStore:
                outcome.append("refused")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(move)
            tasks.start_soon(other.packages.prune, "site", 1, frozenset[str]())

        (named,) = await other.manifest.read()
        assert (await other.packages.package(named.package)).id == named.package
        assert (named == back) == (outcome == ["moved"])


async def goes_away(spoiler: Proxy) -> None:
    """Have a store go away once it has listed the parts of a file."""
    await spoiler.until("list-type=2")
    spoiler.away = True


# --- Refused, in one line -------------------------------------------------------------


async def refusal(settings: StoreSettings, where: str) -> str:
    async with S3Store(where, settings) as store:
        with pytest.raises(StoreError) as refused:
            await store.manifest.read()
    text = str(refused.value)
    assert "\n" not in text
    return text


async def test_a_bucket_that_is_not_there(through: tuple[Proxy, S3Server]) -> None:
    _, server = through
    text = await refusal(server.settings, "s3://no-such-bucket/x")

    assert text == (
        "GetObject s3://no-such-bucket/x/MANIFEST: there is no such bucket: make it, "
        "or mend its name"
    )


async def test_the_extra_is_not_installed(
    through: tuple[Proxy, S3Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "aiobotocore.config", None)
    _, server = through

    text = await refusal(server.settings, url())

    assert text == "S3 needs more: pip install 'ghostasync[s3]'"


async def test_nobody_has_signed_in(
    through: tuple[Proxy, S3Server], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, server = through
    for name in server.environ:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    text = await refusal(server.settings, url())

    assert "no credentials; sign in, or set AWS_PROFILE" in text


async def test_a_profile_that_is_not_there(
    through: tuple[Proxy, S3Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, server = through
    monkeypatch.setenv("AWS_PROFILE", "nobody")

    assert "(nobody) could not be found" in await refusal(server.settings, url())


async def test_a_server_that_is_not_there(
    through: tuple[Proxy, S3Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, server = through
    monkeypatch.setattr("ghostasync._s3.client.TRIES", 2)
    away = attrs.evolve(server.settings, endpoint_url="http://127.0.0.1:1")

    text = await refusal(away, url())

    assert text.endswith(
        "MANIFEST: http://127.0.0.1:1 does not answer; check the network, "
        "store.endpoint_url and store.region"
    )


async def test_a_secret_that_is_wrong(
    swift_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", swift_server.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")

    text = await refusal(swift_server.settings, url())

    assert "the secret does not belong to the access key" in text


async def test_a_full_disk_here_is_one_line_and_leaves_no_half_archive(
    ministack_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ministack_server.environ.items():
        monkeypatch.setenv(name, value)
    await make_bucket(ministack_server)
    package_id, into = "1700000000_site_4f2a9c1", tmp_path / "copies"
    async with S3Store(url(), ministack_server.settings) as store:
        await publish(store, tmp_path, package_id, b"x" * (4 << 20))
        with small_files(1 << 20), pytest.raises(StoreError) as caught:
            await store.packages.archive(package_id, into)

        assert "File too large" in str(caught.value)
        assert str(into) in str(caught.value)
        assert list(into.iterdir()) == []
        # Nothing of it is in the way once there is room.
        assert (
            await store.packages.archive(package_id, into)
        ).stat().st_size == 4 << 20
