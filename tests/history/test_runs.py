"""The runs that a store knows of, in the order of their numbers."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from ghostasync import PlanError, State
from ghostasync import events as e
from ghostasync.history.past_run import PastRun
from ghostasync.history.runs import find_run, open_runs, run_named
from ghostasync.stores.directory import DirectoryStore
from tests.history.telling import HOSTS, journal, started, story
from tests.story import NEW


@attrs.define
class Runs:
    """Journals in a store, told one after the other."""

    folder: Path
    count: int = 0

    @property
    def store(self) -> DirectoryStore:
        return DirectoryStore(self.folder)

    async def add(
        self, begin: e.Started, lines: int | None = None, *, number: int = 0
    ) -> str:
        """Add a run, whole or cut, that has taken the next number; return its id."""
        self.count += 1
        run = f"202601{self.count:02}T000000Z-000000"
        path = self.folder / "runs" / run
        path.mkdir(parents=True)
        told = journal(story(begin), run)
        (path / "journal.jsonl").write_bytes(b"".join(told[:lines]))
        await self.store.runs.reserve(run, number or self.count)
        return run

    async def open(self, lowest: int = 0) -> list[PastRun]:
        return await open_runs(self.store.runs, lowest)


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


async def test_nothing_is_open_where_nothing_ran(runs: Runs) -> None:
    assert await runs.open() == []
    assert await find_run(runs.store.runs, "20260101T000000Z-000000") is None


async def test_open_runs_come_in_the_order_of_their_numbers(runs: Runs) -> None:
    await runs.add(started(), 25, number=1)
    early = await runs.add(started(), 25, number=9)
    await runs.add(started(), number=7)
    late = await runs.add(started(), 25, number=8)
    # One that began later may have waited less, and have a lower number.
    await runs.add(started(), 25, number=2)

    found = await runs.open(3)

    assert [(each.id, each.generation) for each in found] == [(early, 9), (late, 8)]
    assert len(await runs.open()) == 4


async def test_a_resumption_that_had_no_number_is_part_of_the_work(runs: Runs) -> None:
    first = await runs.add(started(), 25)
    second = await runs.add(started(action="resume", of=first), 2)
    (runs.folder / "runs" / "by-generation" / f"2-{second}").unlink()

    (found,) = await runs.open()

    assert (found.ids, found.generation) == ((second, first), 1)


async def test_a_run_without_a_number_is_history(runs: Runs) -> None:
    run = await runs.add(started(), 3)
    assert len(await runs.open()) == 1
    (runs.folder / "runs" / "by-generation" / f"1-{run}").unlink()

    assert await runs.open() == []
    assert await find_run(runs.store.runs, run) is not None


async def test_a_killed_resumption_is_one_with_what_it_resumed(runs: Runs) -> None:
    first = await runs.add(started(), -3)
    second = await runs.add(started(action="resume", of=first), 2)

    (found,) = await runs.open()

    assert found.ids == (second, first)
    assert (found.action, found.generation) == ("deploy", 2)
    assert found.states == dict.fromkeys(HOSTS, State.LIVE)
    assert found.packages == {"site": NEW}


async def test_a_run_that_was_not_dead_ends_by_itself(runs: Runs) -> None:
    first = await runs.add(started())
    await runs.add(started(action="resume", of=first), 2)

    assert await runs.open() == []


async def test_a_damaged_folder_of_runs_is_no_bar(runs: Runs) -> None:
    run = await runs.add(started(), 25)
    await runs.store.runs.reserve("20260199T000000Z-000000", 9)
    (runs.folder / "runs" / "20260199T000000Z-000000").mkdir()

    assert [each.id for each in await runs.open()] == [run]


async def test_a_run_is_named_by_how_its_id_begins(runs: Runs) -> None:
    later, earlier = await runs.add(started()), await runs.add(started())
    log = runs.store.runs

    assert await run_named(log, later[:8]) == later
    assert await run_named(log) == max(later, earlier)
    with pytest.raises(PlanError, match="2 runs begin with 2026"):
        await run_named(log, "2026")
    with pytest.raises(PlanError, match="there is no run 1999"):
        await run_named(log, "1999")
