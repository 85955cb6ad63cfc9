"""What is not as it was stored is refused, on every road by which it could come."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import attrs
import pytest

from ghostasync import (
    DeployFailed,
    DirectorySource,
    Plan,
    PlanError,
    Report,
    check,
    converge,
    deploy,
    redeploy,
    resume,
    rollback,
)
from ghostasync import events as e
from ghostasync.errors import StoreError
from ghostasync.model import Signing, StoreSettings
from ghostasync.testing import FakeHosts
from tests.deploying import fails
from tests.signing import make_key, public

STORE: Final = "store/shop/prod/web"


@attrs.define
class Scene:
    """A site with two releases in the store, and a fleet that has none of them."""

    plan: Plan
    packages: list[str] = attrs.field(factory=list)
    hosts: FakeHosts = attrs.field(factory=FakeHosts)

    async def deploys(self, version: str) -> None:
        source = self.plan.modules[0].source
        assert isinstance(source, DirectorySource)
        folder = self.plan.base / source.dir
        folder.mkdir(exist_ok=True)
        (folder / "index").write_text(version)
        # These hosts are forgotten: others that boot later have nothing at all.
        report = await deploy(self.plan, transport=FakeHosts().transport)
        self.packages.append(report.releases["site"])

    @property
    def kept(self) -> Path:
        return self.plan.base / STORE

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.kept / name).read_text()
        assert old in text
        (self.kept / name).write_text(text.replace(old, new))


@pytest.fixture(params=["plain", "signed"])
async def scene(plan: Plan, request: pytest.FixtureRequest) -> Scene:
    site = attrs.evolve(
        plan.modules[0], source=DirectorySource(str(plan.base / "tree"))
    )
    plan = attrs.evolve(plan, modules=(site,))
    if request.param == "signed":
        key = make_key(plan.base / "key")
        (plan.base / "signers").write_text(f"ann {public(key)}\n")
        sign = Signing(key="key")
        store = attrs.evolve(plan.store, sign=sign, signers="signers")
        plan = attrs.evolve(plan, store=store)
    scene = Scene(plan)
    await scene.deploys("1")
    await scene.deploys("2")
    return scene


Road = Callable[[Scene], Awaitable[Report]]


async def by_converge(scene: Scene) -> Report:
    return await converge(scene.plan, transport=scene.hosts.transport)


async def by_redeploy(scene: Scene) -> Report:
    package = scene.packages[1]
    return await redeploy(scene.plan, [package], transport=scene.hosts.transport)


async def by_package(scene: Scene) -> Report:
    package = scene.packages[1]
    return await deploy(scene.plan, packages=[package], transport=scene.hosts.transport)


async def by_rollback(scene: Scene) -> Report:
    package = scene.packages[1]
    return await rollback(scene.plan, to=[package], transport=scene.hosts.transport)


ROADS: Final = [by_converge, by_redeploy, by_package, by_rollback]


@pytest.mark.parametrize("road", ROADS)
async def test_what_is_as_it_was_stored_comes_on_every_road(
    scene: Scene, road: Road
) -> None:
    await road(scene)

    assert set(scene.hosts.serves.values()) == {scene.packages[1]}


def another_digest_in_manifest(scene: Scene) -> None:
    lines = (scene.kept / "MANIFEST").read_text().split(":")
    scene.edit("MANIFEST", lines[3], "0" * 64)


def another_archive(scene: Scene) -> None:
    archive = scene.kept / f"packages/{scene.packages[1]}.tar.zst"
    archive.write_bytes(
        (scene.kept / f"packages/{scene.packages[0]}.tar.zst").read_bytes()
    )


def half_an_archive(scene: Scene) -> None:
    archive = scene.kept / f"packages/{scene.packages[1]}.tar.zst"
    archive.write_bytes(archive.read_bytes()[:-100])


def no_archive(scene: Scene) -> None:
    (scene.kept / f"packages/{scene.packages[1]}.tar.zst").unlink()


def another_package(scene: Scene) -> None:
    old, new = scene.packages
    for suffix in (".json", ".tar.zst", ".manifest"):
        data = (scene.kept / f"packages/{old}{suffix}").read_bytes()
        data = data.replace(old.encode(), new.encode())
        (scene.kept / f"packages/{new}{suffix}").write_bytes(data)


def pruned(scene: Scene) -> None:
    for path in (scene.kept / "packages").glob(f"{scene.packages[1]}*"):
        path.unlink()


ATTACKS: Final = [
    another_digest_in_manifest,
    another_archive,
    half_an_archive,
    no_archive,
    another_package,
    pruned,
]


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("road", ROADS)
async def test_what_is_not_is_refused_and_no_host_is_touched(
    scene: Scene, road: Road, attack: Callable[[Scene], None]
) -> None:
    attack(scene)
    before = (scene.kept / "MANIFEST").read_bytes()

    with pytest.raises((PlanError, StoreError, DeployFailed)) as caught:
        await road(scene)

    # A line or two that name the package or the file, and what to do.
    if isinstance(caught.value, DeployFailed):
        said = caught.value.report.reason
    else:
        said = str(caught.value)
    assert len(said.splitlines()) <= 2
    assert scene.packages[1] in said or "MANIFEST" in said
    assert set(scene.hosts.serves.values()) <= {""}
    assert (scene.kept / "MANIFEST").read_bytes() == before


@pytest.mark.parametrize("scene", ["signed"], indirect=True)
@pytest.mark.parametrize("road", ROADS)
async def test_without_its_signers_nothing_is_taken(scene: Scene, road: Road) -> None:
    other = make_key(scene.plan.base / "other")
    (scene.plan.base / "signers").write_text(f"bob {public(other)}\n")

    with pytest.raises((PlanError, StoreError), match="revoked or no longer valid"):
        await road(scene)

    assert set(scene.hosts.serves.values()) <= {""}


@pytest.mark.parametrize("scene", ["signed"], indirect=True)
async def test_a_journal_chooses_nothing_that_is_built_and_signed(scene: Scene) -> None:
    """Who can write to the store has resume take up a run that never was."""
    hosts = FakeHosts()
    hosts.breaks = fails("pre_deploy", "h1")
    with pytest.raises(DeployFailed) as caught:
        await deploy(scene.plan, transport=hosts.transport, force=True)
    run = caught.value.report.run
    journal = scene.kept / f"runs/{run}/journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    forged = [
        line
        for line in lines
        if '"event":"Finished"' not in line and '"event":"Packaged"' not in line
    ]
    at = next(n for n, line in enumerate(forged) if '"event":"Resolved"' in line)
    numbered = json.loads(forged[at])
    numbered |= {"event": "Numbered", "generation": 9, "after": "", "nbytes": 0}
    numbered = {k: v for k, v in numbered.items() if k not in {"module", "revision"}}
    forged.insert(at + 1, json.dumps({**numbered, "digest": ""}) + "\n")
    journal.write_text("".join(forged))
    before = sorted(os.listdir(scene.kept / "packages"))

    with pytest.raises(PlanError) as refused:
        await resume(scene.plan, run=run, transport=hosts.transport)

    assert "a journal is nobody's word" in str(refused.value)
    assert sorted(os.listdir(scene.kept / "packages")) == before


@pytest.mark.parametrize("scene", ["signed"], indirect=True)
async def test_a_lost_key_is_replaced_as_the_manual_says(scene: Scene) -> None:
    other = make_key(scene.plan.base / "other")
    (scene.plan.base / "signers").write_text(f"bob {public(other)}\n")
    settings = attrs.evolve(scene.plan.store, sign=Signing(key="other"))
    scene.plan = attrs.evolve(scene.plan, store=settings)
    with pytest.raises(StoreError, match="has no valid signature"):
        await scene.deploys("3")

    (scene.kept / "MANIFEST").unlink()
    await scene.deploys("3")
    await by_converge(scene)

    assert set(scene.hosts.serves.values()) == {scene.packages[2]}


@pytest.mark.parametrize("scene", ["signed"], indirect=True)
@pytest.mark.parametrize("key", ["", "stranger", "missing"])
async def test_without_a_key_nothing_is_built(scene: Scene, key: str) -> None:
    make_key(scene.plan.base / "stranger")
    settings = attrs.evolve(scene.plan.store, sign=Signing(key=key))
    before = sorted(os.listdir(scene.kept / "packages"))

    with pytest.raises(PlanError, match=r"store\.sign"):
        await deploy(
            attrs.evolve(scene.plan, store=settings), transport=scene.hosts.transport
        )

    assert sorted(os.listdir(scene.kept / "packages")) == before


@pytest.mark.parametrize("scene", ["signed"], indirect=True)
async def test_a_fleet_goes_back_without_a_key(scene: Scene) -> None:
    """The releases are on the hosts; MANIFEST, which nobody can sign, stays."""
    for _ in range(2):
        await deploy(scene.plan, transport=scene.hosts.transport, force=True)
    settings = attrs.evolve(scene.plan.store, sign=Signing())
    before = (scene.kept / "MANIFEST").read_bytes()

    await rollback(
        attrs.evolve(scene.plan, store=settings), transport=scene.hosts.transport
    )

    assert (scene.kept / "MANIFEST").read_bytes() == before


async def test_whoever_could_not_boot_is_told_once_for_all_hosts(scene: Scene) -> None:
    seen: list[e.Event] = []
    await deploy(
        scene.plan,
        transport=scene.hosts.transport,
        observe=lambda record: seen.append(record.event),
    )
    checked = await check(scene.plan, transport=scene.hosts.transport)

    lacks = "ssh-keygen is missing: new hosts like it could not boot (store.signers)"
    texts = [event.text for event in seen if isinstance(event, e.Warned)]
    told = [text for text in texts if "ssh-keygen" in text]
    found = [each for each in checked if each.text == lacks]
    signed = bool(scene.plan.store.signers)
    assert told == [f"h[1-6]: {lacks}"] * signed
    assert len(found) == 6 * signed
    assert all(each.warning for each in found)


async def test_a_file_of_signers_without_a_key_stops_before_anything(
    plan: Plan,
) -> None:
    (plan.base / "signers").write_text("# nobody\n")
    settings = attrs.evolve(plan.store, sign=Signing(key="key"), signers="signers")

    with pytest.raises(PlanError, match=r"^store\.signers: .*ALLOWED SIGNERS"):
        await deploy(
            attrs.evolve(plan, store=settings), transport=FakeHosts().transport
        )


async def test_a_store_that_asks_for_nothing_is_refused_where_signers_are_named(
    plan: Plan,
) -> None:
    from ghostasync.testing import MemoryStore

    key = make_key(plan.base / "key")
    (plan.base / "signers").write_text(f"ann {public(key)}\n")
    settings = StoreSettings(sign=Signing(key="key"), signers="signers")

    with pytest.raises(PlanError, match="asks for no signatures"):
        await deploy(
            attrs.evolve(plan, store=settings),
            store=MemoryStore(),
            transport=FakeHosts().transport,
        )
