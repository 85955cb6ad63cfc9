"""Records of runs go when they are older than ``store.keep_runs``, and not unseen."""

from __future__ import annotations

import shutil
from pathlib import Path

import attrs
import pytest

from ghostasync import deploy, verify_history
from ghostasync import events as e
from ghostasync.history import outdated
from ghostasync.journal import line
from tests.killing import Scene


@pytest.fixture
async def scene(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A fleet of four deploys, of which two stay; days are over before they begin."""
    monkeypatch.setattr(outdated, "NEWEST", 2)
    monkeypatch.setitem(outdated._UNITS, "d", -60)
    for text in ("2", "3", "4"):
        scene.version(text)
        await scene.deploy()
    store = attrs.evolve(scene.plan.store, keep_runs="1d")
    scene.plan = attrs.evolve(scene.plan, store=store)
    return scene


def kept(scene: Scene) -> list[Path]:
    """Return the folders of runs, the oldest first."""
    return sorted(scene.folder.glob("store/shop/prod/web/runs/[0-9]*"))


async def removed(scene: Scene) -> list[str]:
    """Deploy once more; return the runs whose records went by that."""
    scene.version("5")
    seen: list[e.Event] = []
    await deploy(
        scene.plan,
        transport=scene.fleet.transport,
        observe=lambda record: seen.append(record.event),
    )
    return [
        run for each in seen if isinstance(each, e.RunsRemoved) for run in each.runs
    ]


async def test_old_records_go_and_the_chain_knows_of_it(scene: Scene) -> None:
    before = kept(scene)

    gone = await removed(scene)

    assert gone == [folder.name for folder in before[:3]]
    assert [folder.name for folder in kept(scene)[:-1]] == [before[3].name]
    assert await verify_history(scene.plan) == (2, [])


async def test_what_somebody_else_takes_away_is_missed(scene: Scene) -> None:
    await removed(scene)
    fourth, fifth = kept(scene)
    shutil.rmtree(fourth)
    store = attrs.evolve(scene.plan.store, keep_runs="")

    _, wrong = await verify_history(attrs.evolve(scene.plan, store=store))

    assert wrong == [
        f"the journal of {fourth.name} is not here",
        f"the journal of {fourth.name} is gone since {fifth.name} began",
    ]


async def test_for_ever_is_for_ever(scene: Scene) -> None:
    store = attrs.evolve(scene.plan.store, keep_runs="")
    scene.plan = attrs.evolve(scene.plan, store=store)

    assert await removed(scene) == []
    assert len(kept(scene)) == 5


async def test_a_word_about_a_young_run_hides_nothing(scene: Scene) -> None:
    *_, third, fourth = kept(scene)
    shutil.rmtree(third)
    journal = fourth / "journal.jsonl"
    lines = journal.read_text().splitlines()
    event = e.RunsRemoved((third.name,))
    lines.append(line(e.Record(len(lines) + 1, 0.0, fourth.name, event)))
    journal.write_text("\n".join(lines) + "\n")
    store = attrs.evolve(scene.plan.store, keep_runs="2y")

    _, wrong = await verify_history(attrs.evolve(scene.plan, store=store))

    assert f"the journal of {third.name} is gone since {fourth.name} began" in wrong
