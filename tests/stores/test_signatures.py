"""A writer of the store without a key, and who asks for signatures."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import attrs
import pytest

from ghostasync._s3.client import Bucket
from ghostasync.errors import StoreError
from ghostasync.model import App, Package, Revision, Signing, StoreSettings
from ghostasync.protocols import (
    ActiveColor,
    ColorStore,
    Environment,
    ManifestLine,
    Store,
)
from ghostasync.stores import DirectoryStore
from ghostasync.stores import _signatures as signatures_module
from ghostasync.stores.s3 import S3Store
from ghostasync.stores.trust import Trust
from tests.s3_servers import BUCKET, make_bucket
from tests.signing import make_key, public

APP: Final = App("shop", "prod", "web")
OLD: Final = "1700000000_site_4f2a9c1"
NEW: Final = "1700000001_site_4f2a9c1"
API: Final = "1700000000_api_4f2a9c1"


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signatures_module, "_PAUSE", 0)


def verify(folder: Path, statement: bytes) -> subprocess.CompletedProcess[bytes]:
    command = ["ssh-keygen", "-Y", "verify", "-f", "signers", "-I", "ann@example.com"]
    return subprocess.run(
        [*command, "-n", "ghostasync", "-s", "sig"],
        cwd=folder,
        input=statement,
        capture_output=True,
        check=False,
    )


@attrs.frozen
class Ground:
    """One store, opened by those who have a key, and by somebody who has none."""

    folder: Path
    open: Callable[[Trust | None], Store]
    read: Callable[[str], Awaitable[bytes]]
    write: Callable[[str, bytes | None], Awaitable[None]]

    def trust(self, key: str = "key", app: App = APP) -> Trust:
        settings = StoreSettings(
            sign=Signing(key=key) if key else Signing(), signers="signers"
        )
        return Trust(app, settings, self.folder, dict(os.environ))

    async def publish(
        self, store: Store, package_id: str, data: bytes = b"archive"
    ) -> Package:
        archive, manifest = self.folder / "built", self.folder / "list"
        archive.write_bytes(data)
        manifest.write_bytes(b"manifest")
        package = Package(
            id=package_id,
            module=package_id.split("_")[1],
            revision=Revision(commit="4f2a9c1" + "0" * 33, message="good"),
            sha256=hashlib.sha256(data).hexdigest(),
            content="c" * 64,
            nbytes=len(data),
            unpacked=510,
            entries=3,
            manifest=hashlib.sha256(b"manifest").hexdigest(),
        )
        await store.packages.publish(package, archive, manifest)
        return package

    async def move(
        self, store: Store, package: Package, generation: int, **variables: str
    ) -> None:
        line = ManifestLine(
            package.module,
            package.id,
            f"/srv/{package.module}",
            package.sha256,
            generation,
        )
        kept = [Environment(package.id, variables)]
        await store.manifest.move([line], kept, ["site", "api"])


def on_disk(folder: Path) -> Ground:
    store = folder / "store"

    async def read(key: str) -> bytes:
        return (store / key).read_bytes()

    async def write(key: str, data: bytes | None) -> None:
        if data is None:
            (store / key).unlink()
        else:
            (store / key).write_bytes(data)

    return Ground(folder, lambda trust: DirectoryStore(store, trust), read, write)


@pytest.fixture(
    params=["directory", pytest.param("ministack", marks=pytest.mark.fleet)]
)
async def ground(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Ground]:
    for name in ("key", "stranger"):
        make_key(tmp_path / name)
    line = f'ann@example.com namespaces="ghostasync" {public(tmp_path / "key")}\n'
    (tmp_path / "signers").write_text(f"# who releases\n\n{line}")
    if request.param == "directory":
        yield on_disk(tmp_path)
        return
    server = request.getfixturevalue("ministack_server")
    for name, value in server.environ.items():
        monkeypatch.setenv(name, value)
    await make_bucket(server)
    top = secrets.token_hex(6)
    url = f"s3://{BUCKET}/{top}/blue"
    async with AsyncExitStack() as stack:
        whole = Bucket(f"s3://{BUCKET}", server.settings)
        stack.push_async_callback(whole.aclose)

        def full(key: str) -> str:
            place = f"{top}/blue/{key}"
            return place.replace("/blue/..", "")

        def opened(trust: Trust | None) -> Store:
            store = S3Store(url, server.settings, trust)
            stack.push_async_exit(store)
            return store

        async def read(key: str) -> bytes:
            found = await whole.get(full(key))
            assert found is not None
            return found.data

        async def write(key: str, data: bytes | None) -> None:
            if data is None:
                await whole.delete([full(key)])
            else:
                await whole.put(full(key), data)

        yield Ground(tmp_path, opened, read, write)


@pytest.fixture
async def store(ground: Ground) -> Store:
    """A store with two releases of a module, the newer in MANIFEST, and another's."""
    ours = ground.open(ground.trust())
    for package_id, generation, color in ((OLD, 1, "blue"), (NEW, 2, "green")):
        package = await ground.publish(ours, package_id, package_id.encode())
        await ground.move(ours, package, generation, COLOR=color)
    await ground.move(ours, await ground.publish(ours, API), 2, PORT="80")
    return ours


async def test_what_was_signed_is_taken_by_who_has_no_key(
    ground: Ground, store: Store, tmp_path: Path
) -> None:
    theirs = ground.open(ground.trust(key=""))

    assert await theirs.manifest.read() == await store.manifest.read()
    assert await theirs.packages.package(OLD) == await store.packages.package(OLD)
    assert (await theirs.packages.archive(OLD, tmp_path)).read_bytes() == OLD.encode()
    kept = await theirs.manifest.environment(OLD)
    assert kept is not None
    assert kept.variables == {"COLOR": "blue"}


async def test_openssh_takes_what_was_signed(ground: Ground, store: Store) -> None:
    lines = (await ground.read("MANIFEST")).decode().splitlines()
    digests = [
        hashlib.sha256(await ground.read(f"environments/{each}.sh")).hexdigest()
        for each in (NEW, API)
    ]
    pairs = zip(lines, digests, strict=True)
    statement = "".join(
        f"{line}\n"
        for line in (
            *("ghostasync MANIFEST 1", "app=shop", "env=prod", "role=web", "color="),
            *(f"{line}:{digest}" for line, digest in pairs),
        )
    ).encode()
    name = hashlib.sha256(statement).hexdigest()
    (ground.folder / "sig").write_bytes(await ground.read(f"signatures/{name}"))

    verified = verify(ground.folder, statement)
    assert verified.returncode == 0, verified.stderr


# --- Somebody who can write to the store -------------------------------------------


async def edit(ground: Ground, key: str, old: bytes, new: bytes) -> None:
    data = await ground.read(key)
    assert old in data
    await ground.write(key, data.replace(old, new))


async def change_a_message(ground: Ground) -> None:
    await edit(ground, f"packages/{NEW}.json", b"good", b"$(reboot)")


async def change_an_archive(ground: Ground) -> None:
    known = json.loads(await ground.read(f"packages/{NEW}.json"))
    edited = {**known, "sha256": hashlib.sha256(b"evil").hexdigest()}
    await ground.write(f"packages/{NEW}.json", json.dumps(edited, indent=1).encode())


async def name_another_package(ground: Ground) -> None:
    known = await ground.read(f"packages/{OLD}.json")
    await ground.write(f"packages/{NEW}.json", known)


async def publish_anew(ground: Ground) -> None:
    await ground.write(f"packages/{NEW}.json", None)
    for suffix in (".tar.zst", ".manifest"):
        if isinstance(ground.open(None), DirectoryStore):
            await ground.write(f"packages/{NEW}{suffix}", None)
    await ground.publish(ground.open(None), NEW, b"evil")


async def publish_anew_with_a_key_of_nobody(ground: Ground) -> None:
    await publish_anew(ground)
    (ground.folder / "all").write_text(f"x {public(ground.folder / 'stranger')}\n")
    settings = StoreSettings(sign=Signing(key="stranger"), signers="all")
    trust = Trust(APP, settings, ground.folder, dict(os.environ))
    package = await ground.open(None).packages.package(NEW)
    await ground.open(trust).packages._signatures.keep_package(package)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "attack",
    [
        change_a_message,
        change_an_archive,
        name_another_package,
        publish_anew,
        publish_anew_with_a_key_of_nobody,
    ],
)
async def test_a_package_that_nobody_signed_is_refused(
    ground: Ground, store: Store, attack: Callable[[Ground], Awaitable[None]]
) -> None:
    await attack(ground)

    theirs = ground.open(ground.trust())
    with pytest.raises(StoreError, match=r"has no .*signature|is damaged"):
        await theirs.packages.package(NEW)
    with pytest.raises(StoreError, match=r"has no .*signature|is damaged"):
        await theirs.packages.archive(NEW, ground.folder)


async def put_an_old_line_back(ground: Ground) -> None:
    old = await ground.open(None).packages.package(OLD)
    await ground.move(ground.open(None), old, 3, COLOR="blue")


async def lower_a_generation(ground: Ground) -> None:
    await edit(ground, "MANIFEST", b":2\n", b":1\n")


async def raise_a_generation(ground: Ground) -> None:
    await edit(ground, "MANIFEST", b":2\n", b":9\n")


async def change_a_path(ground: Ground) -> None:
    await edit(ground, "MANIFEST", b"/srv/site", b"/srv/other")


async def drop_a_line(ground: Ground) -> None:
    lines = (await ground.read("MANIFEST")).splitlines(keepends=True)
    await ground.write("MANIFEST", lines[1])


async def change_an_environment(ground: Ground) -> None:
    await edit(ground, f"environments/{NEW}.sh", b"green", b"evil")


async def add_a_variable_of_every_run(ground: Ground) -> None:
    added = b"export GHOST_MODULE_USER='evil'\n"
    kept = await ground.read(f"environments/{NEW}.sh")
    await ground.write(f"environments/{NEW}.sh", kept + added)


async def put_another_environment_there(ground: Ground) -> None:
    kept = await ground.read(f"environments/{OLD}.sh")
    await ground.write(f"environments/{NEW}.sh", kept)


async def take_an_environment_away(ground: Ground) -> None:
    await ground.write(f"environments/{NEW}.sh", None)


@pytest.mark.parametrize(
    "attack",
    [
        put_an_old_line_back,
        lower_a_generation,
        raise_a_generation,
        change_a_path,
        drop_a_line,
        change_an_environment,
        add_a_variable_of_every_run,
        put_another_environment_there,
        take_an_environment_away,
    ],
)
async def test_a_manifest_that_nobody_signed_is_refused(
    ground: Ground, store: Store, attack: Callable[[Ground], Awaitable[None]]
) -> None:
    await attack(ground)

    theirs = ground.open(ground.trust())
    with pytest.raises(StoreError, match="signature"):
        await theirs.manifest.read()
    # Nor is it made good by the next who deploys.
    package = await ground.publish(theirs, "1700000002_site_4f2a9c1")
    with pytest.raises(StoreError, match="signature"):
        await ground.move(theirs, package, 9)


@pytest.mark.parametrize("package", [OLD, NEW])
async def test_an_edited_environment_is_refused_also_behind_manifest(
    ground: Ground, store: Store, package: str
) -> None:
    await edit(ground, f"environments/{package}.sh", b"COLOR", b"PATH")

    with pytest.raises(StoreError, match=rf"^the environment of {package} in "):
        await ground.open(ground.trust()).manifest.environment(package)


async def test_an_environment_of_its_day_is_none_for_manifest(
    ground: Ground, store: Store
) -> None:
    """Signed for the same package, then replaced: MANIFEST says which one counts."""
    before = await ground.read(f"environments/{NEW}.sh")
    await ground.move(store, await store.packages.package(NEW), 3, COLOR="red")
    assert await ground.open(ground.trust()).manifest.read()
    await ground.write(f"environments/{NEW}.sh", before)

    with pytest.raises(StoreError, match="MANIFEST has no signature"):
        await ground.open(ground.trust()).manifest.read()


async def test_manifest_counts_while_an_environment_is_replaced(
    ground: Ground, store: Store
) -> None:
    manifest = await ground.read("MANIFEST")
    await ground.move(store, await store.packages.package(NEW), 3, COLOR="red")
    await ground.write("MANIFEST", manifest)

    assert (await ground.open(ground.trust()).manifest.read())[0].generation == 2


async def test_the_active_color_is_the_one_that_was_signed(
    ground: Ground, store: Store
) -> None:
    assert isinstance(store, ColorStore)
    blue = ActiveColor("blue", 1, "run", "ann", "", 1.0)
    await store.move_active_color(blue, None)
    theirs = ground.open(ground.trust(key=""))
    assert isinstance(theirs, ColorStore)
    assert await theirs.active_color() == blue

    with pytest.raises(StoreError, match=r"^store\.signers is set and store\.sign is"):
        await theirs.move_active_color(attrs.evolve(blue, number=2), blue)

    await edit(ground, "../ACTIVE", b"blue", b"green")
    with pytest.raises(StoreError, match="ACTIVE has no signature"):
        await theirs.active_color()


@pytest.mark.parametrize("other", ["name", "env", "role", "color"])
async def test_a_package_of_another_app_is_refused(
    ground: Ground, store: Store, other: str
) -> None:
    theirs = attrs.evolve(APP, **{other: "other"})  # type: ignore[arg-type]

    with pytest.raises(StoreError, match="has no signature"):
        await ground.open(ground.trust(app=theirs)).packages.package(NEW)


async def test_a_store_that_asks_takes_nothing_in_without_a_key(
    ground: Ground, store: Store
) -> None:
    theirs = ground.open(ground.trust(key=""))
    before = await ground.read("MANIFEST")

    with pytest.raises(StoreError, match=r"^store\.signers is set and store\.sign is"):
        await ground.publish(theirs, "1700000002_site_4f2a9c1")
    with pytest.raises(StoreError, match=r"^store\.signers is set and store\.sign is"):
        await ground.move(theirs, await theirs.packages.package(OLD), 3)

    assert await ground.read("MANIFEST") == before
    assert await store.packages.ids("site") == [OLD, NEW]


async def test_a_store_that_nobody_asks_is_signed_all_the_same(ground: Ground) -> None:
    settings = StoreSettings(sign=Signing(key="key"))
    ours = ground.open(Trust(APP, settings, ground.folder, dict(os.environ)))
    await ground.move(ours, await ground.publish(ours, NEW), 1)

    assert len(await ground.open(ground.trust()).manifest.read()) == 1
