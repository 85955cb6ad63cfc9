"""Each run has on record what the one before it had; nobody changes that unseen."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ghostasync import events as e
from ghostasync import resume, verify_history
from ghostasync.cli import _tables as tables
from tests.killing import Scene

STORE = "store/shop/prod/web/runs"


def journals(scene: Scene) -> list[Path]:
    """Return the journals of all runs, the oldest first."""
    return sorted((scene.folder / STORE).glob("*/journal.jsonl"))


async def three_runs(scene: Scene) -> list[Path]:
    for text in ("2", "3"):
        scene.version(text)
        await scene.deploy()
    assert await verify_history(scene.plan) == (3, [])
    return journals(scene)


def change(journal: Path) -> None:
    data = journal.read_bytes()
    journal.write_bytes(data.replace(b'"Switched"', b'"Undrained"', 1))
    assert journal.read_bytes() != data


def cut_off(journal: Path) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]))


def take_away(journal: Path) -> None:
    shutil.rmtree(journal.parent)


@pytest.mark.parametrize(
    ("do", "says"),
    [(change, "was changed"), (cut_off, "was cut off"), (take_away, "is gone")],
)
async def test_what_was_done_to_a_journal_is_told(
    scene: Scene, do: Callable[[Path], None], says: str
) -> None:
    _, second, third = await three_runs(scene)

    do(second)

    runs, wrong = await verify_history(scene.plan)
    assert runs == 3
    last = f"the journal of {second.parent.name} {says} since {third.parent.name} began"
    assert wrong[-1] == last
    assert list(tables.verified(runs, wrong))[-2] == last


async def test_a_run_of_which_nothing_is_left_is_missed(scene: Scene) -> None:
    _, second, third = await three_runs(scene)
    take_away(second)
    (marker,) = (scene.folder / STORE / "by-generation").glob(f"*-{second.parent.name}")
    marker.unlink()

    _, wrong = await verify_history(scene.plan)

    assert wrong == [
        f"the journal of {second.parent.name} is gone since {third.parent.name} began"
    ]


async def test_a_killed_run_and_the_one_that_resumes_it_are_in_order(
    scene: Scene,
) -> None:
    scene.version("2")
    await scene.deploy_and_watch()
    scene.kill(scene.at(e.Switched, "h2"))
    await resume(scene.plan, transport=scene.fleet.transport)

    assert await verify_history(scene.plan) == (3, [])


async def test_a_run_that_went_on_meanwhile_was_seen_as_far_as_it_was(
    scene: Scene,
) -> None:
    _, second, _ = await three_runs(scene)
    with second.open("ab") as journal:
        journal.write(journals(scene)[0].read_bytes().splitlines(keepends=True)[-1])

    assert await verify_history(scene.plan) == (3, [])
