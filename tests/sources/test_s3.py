"""A source in S3: servers of two kinds, and what may happen on the way."""

from __future__ import annotations

import gzip
import os
import secrets
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

from ghostasync._local.together import at_once
from ghostasync._s3 import client
from ghostasync.errors import SourceError, UnknownRevision
from ghostasync.model import Revision, S3Source
from ghostasync.sources.s3 import S3
from tests.s3_proxy import FAULTS, Fault, Proxy, proxy
from tests.s3_servers import BUCKET, VERSIONED, S3Server, make_bucket, versioned
from tests.s3_servers import client as s3_client
from tests.sources.archives import Jail, small_files, tar_of, umask, zip_of, zipped

pytestmark = pytest.mark.fleet


@attrs.frozen
class Place:
    """A prefix of a test's own, in each of two buckets."""

    server: S3Server
    folder: Path
    prefix: str = attrs.field(factory=lambda: secrets.token_hex(4))

    def url(self, key: str = "", bucket: str = BUCKET) -> str:
        return f"s3://{bucket}/{self.prefix}/{key}"

    def source(
        self, key: str = "", version: str = "", bucket: str = BUCKET, **how: Any
    ) -> S3:
        settings = attrs.evolve(self.server.settings, **how)
        return S3("site", S3Source(self.url(key, bucket), version), settings)

    async def put(
        self, key: str, data: bytes = b"", bucket: str = BUCKET, **how: Any
    ) -> str:
        """Write an object; return its version."""
        async with s3_client(self.server) as s3:
            name = f"{self.prefix}/{key}"
            answer = await s3.put_object(Bucket=bucket, Key=name, Body=data, **how)
        return str(answer.get("VersionId", ""))

    async def put_all(self, objects: Mapping[str, bytes]) -> None:
        """Write objects below ``tree/``."""
        async with s3_client(self.server) as s3:

            async def put(item: tuple[str, bytes]) -> None:
                key, data = f"{self.prefix}/tree/{item[0]}", item[1]
                await s3.put_object(Bucket=BUCKET, Key=key, Body=data)

            await at_once(16, put, objects.items())

    async def delete(self, key: str, bucket: str = BUCKET, **how: Any) -> str:
        async with s3_client(self.server) as s3:
            name = f"{self.prefix}/{key}"
            answer = await s3.delete_object(Bucket=bucket, Key=name, **how)
        return str(answer.get("VersionId", ""))

    async def make_buckets(self) -> None:
        await make_bucket(self.server)
        async with versioned(self.server):
            pass

    async def fetched(self, source: S3, revision: Revision | None = None) -> Jail:
        """Resolve, unless that was done, and fetch."""
        jail = Jail.make(self.folder / secrets.token_hex(4))
        revision = revision or await source.resolve()
        await source.fetch(revision, jail.into, lambda _: None)
        return jail


@pytest.fixture(params=["ministack_server", "swift_server"])
async def place(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Place:
    server: S3Server = request.getfixturevalue(request.param)
    for name, value in server.environ.items():
        monkeypatch.setenv(name, value)
    made = Place(server, tmp_path)
    await made.make_buckets()
    return made


@pytest.fixture
async def through(
    ministack_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[tuple[Proxy, Place]]:
    """A place behind a proxy."""
    for name, value in ministack_server.environ.items():
        monkeypatch.setenv(name, value)
    await Place(ministack_server, tmp_path).make_buckets()
    async with proxy(ministack_server) as (spoiler, server):
        yield spoiler, Place(server, tmp_path)


@pytest.fixture
def few_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting between tries is not what is tested."""
    monkeypatch.setattr(client, "TRIES", 2)


def files(jail: Jail) -> dict[bytes, bytes]:
    return {name: told[3] for name, told in jail.tree().items() if told[0] == "file"}


SITE = tar_of(("index", b"one", {"mode": 0o640}), ("bin/run", b"x", {"mode": 0o755}))


# --- One object -----------------------------------------------------------------------


async def test_an_archive_is_the_tree_that_is_in_it(place: Place) -> None:
    await place.put("site-1.0.tar.gz", gzip.compress(SITE))

    source = place.source("site-1.0.tar.gz")
    revision = await source.resolve()
    jail = await place.fetched(source, revision)

    assert revision.repo == place.url("site-1.0.tar.gz")
    assert revision.rev == ""
    assert len(bytes.fromhex(revision.commit)) == 20
    assert revision.message.startswith("site-1.0.tar.gz, ")
    assert abs(revision.epoch - jail.into.stat().st_mtime) == 0
    assert files(jail) == {b"index": b"one", b"bin/run": b"x"}
    assert (jail.into / "index").stat().st_mode & 0o777 == 0o640


async def test_an_archive_that_says_it_is_encoded_is_not_decoded_twice(
    place: Place,
) -> None:
    await place.put("site.tgz", gzip.compress(SITE), ContentEncoding="gzip")

    jail = await place.fetched(place.source("site.tgz"))

    assert files(jail) == {b"index": b"one", b"bin/run": b"x"}


async def test_a_zip_is_unpacked_too(place: Place) -> None:
    await place.put("a b+ä.zip", zip_of((zipped("index"), b"one")))

    jail = await place.fetched(place.source("a b+ä.zip"))

    assert files(jail) == {b"index": b"one"}


async def test_another_object_is_a_tree_of_one_file(place: Place) -> None:
    await place.put("dist/app.jar", b"PK")

    jail = await place.fetched(place.source("dist/app.jar"))

    assert {name: told[:2] for name, told in jail.tree().items()} == {
        b"app.jar": ("file", 0o644)
    }
    assert files(jail) == {b"app.jar": b"PK"}


async def test_the_same_object_written_again_is_the_same_commit(place: Place) -> None:
    source = place.source("app.jar")
    await place.put("app.jar", b"one")
    first = await source.resolve()
    await place.put("app.jar", b"one")
    again = await source.resolve()
    await place.put("app.jar", b"two")
    other = await source.resolve()

    assert again.commit == first.commit
    assert other.commit != first.commit


async def test_a_version_that_was_replaced_is_fetched_as_it_was_resolved(
    place: Place,
) -> None:
    first = await place.put("site.tar", SITE, VERSIONED)
    source = place.source("site.tar", bucket=VERSIONED)
    revision = await source.resolve()
    await place.put("site.tar", tar_of(("index", b"two", {})), VERSIONED)

    then = await place.fetched(source, revision)
    now = await place.fetched(source)
    named = place.source("site.tar", first, VERSIONED)

    assert revision.rev == first
    assert files(then)[b"index"] == b"one"
    assert files(now)[b"index"] == b"two"
    assert await named.resolve() == revision
    assert files(await place.fetched(named))[b"index"] == b"one"


async def test_an_object_without_versions_that_changed_meanwhile_is_an_error(
    place: Place,
) -> None:
    await place.put("site.tar", SITE)
    source = place.source("site.tar")
    revision = await source.resolve()
    await place.put("site.tar", tar_of(("index", b"two", {})))

    with pytest.raises(SourceError) as caught:
        await place.fetched(source, revision)

    assert str(caught.value) == (
        f"site: {place.url('site.tar')}: it has changed since it was looked at; deploy"
        " again"
    )


@pytest.mark.parametrize(
    ("key", "version", "bucket", "told"),
    [
        ("none.tar", "", BUCKET, "s3://{bucket} has no object at or below '{key}'"),
        ("", "", BUCKET, "s3://{bucket} has no object at or below '{key}'"),
        ("site.tar", "bogus", BUCKET, "{url} has no version 'bogus'"),
        ("site.tar", "bogus", VERSIONED, "{url} has no version 'bogus'"),
        ("none.tar", "1795768880.28526", VERSIONED, "{url} has no version '1795"),
        ("site.tar", "marker", VERSIONED, "{url} has no version '"),
        ("site.tar", "", VERSIONED, "s3://{bucket} has no object at or below '{key}'"),
    ],
)
async def test_what_is_not_there_is_an_unknown_revision(
    place: Place, key: str, version: str, bucket: str, told: str
) -> None:
    if key == "site.tar":
        await place.put(key, SITE, bucket)
    if bucket == VERSIONED and version in {"", "marker"}:
        marker = await place.delete(key, bucket)
        version = version and marker

    with pytest.raises(UnknownRevision) as caught:
        await place.source(key, version, bucket).resolve()

    name = f"{place.prefix}/{key}"
    expected = told.format(bucket=bucket, key=name, url=place.url(key, bucket))
    assert str(caught.value).startswith(f"site: {expected}")


async def test_a_server_that_knows_no_versions_is_not_believed(
    through: tuple[Proxy, Place],
) -> None:
    spoiler, place = through
    await place.put("site.tar", SITE)
    spoiler.ignores = "versionId"

    with pytest.raises(UnknownRevision, match="has no version '3sL4kq'"):
        await place.source("site.tar", "3sL4kq").resolve()


async def test_a_version_that_was_removed_meanwhile_is_an_unknown_revision(
    place: Place,
) -> None:
    version = await place.put("site.tar", SITE, VERSIONED)
    source = place.source("site.tar", bucket=VERSIONED)
    revision = await source.resolve()
    await place.put("site.tar", SITE, VERSIONED)
    await place.delete("site.tar", VERSIONED, VersionId=version)

    with pytest.raises(UnknownRevision, match="has no version"):
        await place.fetched(source, revision)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("x.tar", tar_of(("../../x", b"", {})), '../../x: the name has ".." in it'),
        ("x.tar.gz", gzip.compress(SITE)[:-9], "damaged: Compressed file ended"),
        ("x.zip", SITE, "damaged: File is not a zip file"),
    ],
)
async def test_an_archive_that_is_damaged_or_mean_is_named_with_its_member(
    place: Place, name: str, data: bytes, reason: str
) -> None:
    await place.put(name, data)

    with pytest.raises(SourceError) as caught:
        await place.fetched(place.source(name))

    assert str(caught.value).startswith(f"site: {place.url(name)}: {reason}")


# --- A prefix -------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["", "/"])
async def test_a_prefix_is_the_tree_of_all_objects_below_it(
    place: Place, end: str
) -> None:
    objects = {"index": b"one", "b/c/ä\u4e2d x": b"two", "b/site.tar": b"kept"}
    await place.put_all(objects)
    for key in ("tree/", "tree/empty/"):
        await place.put(key)
    await place.put("tree-of-another/index", b"no")

    source = place.source(f"tree{end}")
    revision = await source.resolve()
    with umask(0o077):
        jail = await place.fetched(source, revision)

    assert revision.message == "4 objects, 10 B"
    assert files(jail) == {key.encode(): data for key, data in objects.items()}
    found = jail.tree()
    assert found[b"index"][1:3] == (0o644, found[b"index"][2])
    assert found[b"b"][:2] == found[b"empty"][:2] == ("folder", 0o755)
    assert max(told[2] for told in found.values()) == revision.epoch


async def test_an_object_that_was_written_in_parts_is_one_of_a_tree(
    place: Place,
) -> None:
    large = os.urandom(client.PART + 1)
    (place.folder / "large").write_bytes(large)
    bucket = client.Bucket(place.url(), place.server.settings)
    await bucket.upload("tree/large", place.folder / "large")
    await bucket.aclose()

    jail = await place.fetched(place.source("tree/"))

    assert files(jail) == {b"large": large}


async def test_more_objects_than_a_listing_has_are_all_fetched(
    through: tuple[Proxy, Place],
) -> None:
    spoiler, place = through
    objects = {f"{n % 7}/{n}": f"{n}".encode() for n in range(1_050)}
    await place.put_all(objects)
    spoiler.spoil(None, -1)
    heard: list[bytes] = []
    source, jail = place.source("tree/"), Jail.make(place.folder / "jail")

    await source.fetch(await source.resolve(), jail.into, heard.append)

    assert files(jail) == {key.encode(): data for key, data in objects.items()}
    assert sum("list-type=2" in call for call in spoiler.calls) == 4
    assert 90 <= len(heard) <= 100
    assert heard[-1] == b"3.1 kB of 3.1 kB\n"


@pytest.mark.parametrize("what", ["changed", "added", "removed"])
async def test_a_prefix_that_changed_meanwhile_is_an_error(
    place: Place, what: str
) -> None:
    await place.put_all({"one": b"one", "two": b"one"})
    source = place.source("tree/")
    revision = await source.resolve()
    if what == "removed":
        await place.delete("tree/two")
    else:
        await place.put("tree/two" if what == "changed" else "tree/new", b"two")

    with pytest.raises(SourceError, match="it has changed since it was looked at"):
        await place.fetched(source, revision)


@pytest.mark.parametrize("what", ["changed", "removed"])
async def test_an_object_that_changes_while_others_are_fetched_is_named(
    through: tuple[Proxy, Place], what: str
) -> None:
    _, place = through
    await place.put_all({"one": b"one", "two": b"one"})
    source = place.source("tree/")
    revision = await source.resolve()
    real = client.Bucket.listed

    async def listed(self: client.Bucket, folder: str) -> list[client.Entry]:
        found = await real(self, folder)
        if what == "changed":
            await place.put("tree/two", b"two")
        else:
            await place.delete("tree/two")
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client.Bucket, "listed", listed)
        with pytest.raises(SourceError) as caught:
            await place.fetched(source, revision)

    assert str(caught.value) == (
        f"site: {place.url('tree/two')}: it has changed since it was looked at; deploy"
        " again"
    )


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (["a/../../x"], '{url}: a/../../x: the name has ".." in it'),
        (["/etc/passwd"], "{url}: /etc/passwd: the name is absolute"),
        (["a//b", "a/b"], "{url}: a/b: its place in the tree is taken already"),
        (["a", "a/b"], "{url}a: its place in the tree is taken already"),
        (["a/"], "{url}: a/: a folder with data in it cannot be unpacked"),
    ],
)
async def test_keys_that_are_no_paths_of_a_tree_are_named(
    place: Place, keys: list[str], reason: str
) -> None:
    await place.put_all(dict.fromkeys(keys, b"x"))

    with pytest.raises(SourceError) as caught:
        await place.fetched(place.source("tree/"))

    told = reason.format(url=place.url("tree/"))
    assert str(caught.value).startswith(f"site: {told}")


# --- On the way -----------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
async def test_one_call_that_fails_is_made_up_for_wherever_it_is(
    through: tuple[Proxy, Place], fault: Fault
) -> None:
    spoiler, place = through
    large = os.urandom(3 << 20)
    await place.put("site.tar", tar_of(("index", large, {})))
    await place.put("tree/one", large)
    await place.put("tree/two", b"two")
    spoiler.spoil(None, -1)
    await place.fetched(place.source("site.tar"))
    await place.fetched(place.source("tree"))
    calls = len(spoiler.calls)
    assert calls >= 9

    for at in range(calls):
        spoiler.spoil(fault, at)
        archive = await place.fetched(place.source("site.tar"))
        tree = await place.fetched(place.source("tree"))

        assert files(archive) == {b"index": large}
        assert files(tree) == {b"one": large, b"two": b"two"}


async def test_a_server_that_is_away_is_one_line(
    through: tuple[Proxy, Place], few_tries: None
) -> None:
    spoiler, place = through
    spoiler.away = True

    with pytest.raises(SourceError) as caught:
        await place.source("site.tar").resolve()

    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"site: GetObject {place.url('site.tar')}: ")


async def test_a_bucket_that_is_not_there_is_said(place: Place) -> None:
    with pytest.raises(SourceError) as caught:
        await place.source("site.tar", bucket="nowhere").resolve()

    assert str(caught.value) == (
        f"site: GetObject {place.url('site.tar', 'nowhere')}: there is no such bucket:"
        " make it, or mend its name"
    )


async def test_without_credentials_it_is_said_how_to_have_some(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in place.server.environ:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(place.folder))

    with pytest.raises(SourceError, match="no credentials; sign in, or set AWS_PROF"):
        await place.source("site.tar").resolve()


@pytest.mark.parametrize("key", ["site.tar", "tree/large"])
async def test_a_full_disk_is_one_line_that_says_for_what(
    place: Place, key: str
) -> None:
    await place.put(key, bytes(3 << 20))
    source = place.source("site.tar" if key == "site.tar" else "tree")
    revision = await source.resolve()

    with small_files(1 << 20), pytest.raises(SourceError) as caught:
        await place.fetched(source, revision)

    assert str(caught.value) == (
        f"site: {place.url(key)}: cannot be written here: File too large"
    )


async def test_cancelling_ends_the_fetching_and_leaves_no_connection(
    through: tuple[Proxy, Place],
) -> None:
    spoiler, place = through
    await place.put_all({f"{number:02}": b"x" * 100 for number in range(100)})
    source, jail = place.source("tree/"), Jail.make(place.folder / "jail")
    revision = await source.resolve()
    spoiler.spoil("slow", 1)

    with anyio.fail_after(30), anyio.CancelScope() as scope:

        def heard(_: bytes) -> None:
            scope.cancel()

        await source.fetch(revision, jail.into, heard)

    assert scope.cancelled_caught
    assert len(spoiler.calls) < 90
