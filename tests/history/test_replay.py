"""What journals say, wherever they end."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostasync import events as e
from ghostasync.history.past_run import PastRun, continued
from ghostasync.history.replay import read_run
from ghostasync.history.runs import find_run, serving_run, unfinished_run
from ghostasync.journal import line
from ghostasync.model import Revision, State
from ghostasync.stores.directory import DirectoryStore
from tests.story import NEW, OLD, Story

HOSTS = ("h1", "h2", "h3")
PREVIOUS = {"site": f"/ghost/site/{OLD}"}


def started(**changes: object) -> e.Started:
    event = e.Started("deploy", "shop/prod/web", ("site",), HOSTS, actor="ann")
    return attrs.evolve(event, **changes)  # type: ignore[arg-type]  # its own keys


def story(begin: e.Started, *, waves: tuple[tuple[str, ...], ...] = (HOSTS,)) -> Story:
    """Tell a run in which all goes well."""
    told = Story(HOSTS)
    told.tell(begin)
    told.tell(e.Resolved("site", Revision("repo", "main", "a" * 40)))
    told.tell(e.Packaged("site", NEW, 10, 20, 3))
    for host in HOSTS:
        for event in (
            e.Connected(host),
            e.Checked(host, {"site": OLD}),
            e.Uploaded(host),
            e.Output(host, "site", "pre_deploy", "fine"),
            e.Prepared(host, PREVIOUS),
        ):
            told.tell(event)
    told.tell(e.Judged(3, 0, 0))
    for number, names in enumerate(waves, start=1):
        told.tell(e.WaveStarted(number, len(waves), names))
        for kind in (e.Drained, e.Switched, e.Activated, e.Verified, e.Undrained):
            for host in names:
                if kind is e.Drained:
                    told.tell(e.Admitted(host, number))
                told.tell(kind(host))
        told.tell(e.WaveFinished(number, len(names), 0))
    told.tell(e.ManifestMoved({"site": NEW}))
    told.tell(finished(dict.fromkeys(HOSTS, "LIVE")))
    return told


def finished(hosts: dict[str, str], outcome: str = "live") -> e.Finished:
    return e.Finished(outcome, 0, {"site": NEW}, hosts, 1.0, 10, 1.0, "/log")


def journal(told: Story, run: str = "") -> list[bytes]:
    return [
        line(attrs.evolve(record, run=run or record.run)).encode() + b"\n"
        for record in told.records
    ]


WHOLE = journal(
    story(started(limited=True, manifest={"site": OLD}), waves=(("h1",), ("h2", "h3")))
)


def test_a_whole_journal_is_the_whole_run() -> None:
    found = read_run(WHOLE)

    assert found is not None
    assert (found.action, found.actor, found.limited) == ("deploy", "ann", True)
    assert found.packages == {"site": NEW}
    assert found.revisions["site"].commit == "a" * 40
    assert found.manifest == {"site": OLD}
    assert found.states == dict.fromkeys(HOSTS, State.LIVE)
    assert found.previous == dict.fromkeys(HOSTS, PREVIOUS)
    assert found.switching
    assert found.committed
    assert found.went_live
    assert not found.is_open


def test_a_journal_can_end_after_any_line() -> None:
    seen = []
    for count in range(len(WHOLE)):
        found = read_run(WHOLE[:count])
        if count == 0:
            assert found is None
            continue
        assert found is not None
        assert found.is_open
        assert found.hosts == HOSTS
        # A link can only have moved where what it said before is on record.
        assert set(found.changed) <= set(found.previous)
        assert not found.committed or found.switching
        seen.append(len(found.changed))
    assert seen == sorted(seen)
    assert seen[-1] == len(HOSTS)


def test_a_run_that_waited_for_a_lock_began_again_with_every_host() -> None:
    told = story(started())
    at = next(n for n, r in enumerate(told.records) if isinstance(r.event, e.Judged))
    waited = Story(HOSTS)
    for record in told.records[:at]:
        waited.tell(record.event)
    waited.tell(e.LockAwaited("h1", "run 1 by ann", 60.0))
    waited.machines.clear()
    begun_again = read_run(journal(waited))
    for record in told.records[1:]:
        waited.tell(record.event)

    found = read_run(journal(waited))

    assert begun_again is not None
    assert begun_again.states == dict.fromkeys(HOSTS, State.CONNECTING)
    assert begun_again.previous == {}
    assert found == read_run(journal(told))


@given(st.data())
def test_a_torn_line_counts_for_nothing(data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(WHOLE) - 1))
    torn = WHOLE[count][: data.draw(st.integers(0, len(WHOLE[count]) - 1))]

    assert read_run([*WHOLE[:count], torn]) == read_run(WHOLE[:count])


def test_every_byte_of_a_line_can_be_the_last() -> None:
    at = next(n for n, text in enumerate(WHOLE) if b"Prepared" in text)
    before = read_run(WHOLE[:at])

    for count in range(len(WHOLE[at])):
        assert read_run([*WHOLE[:at], WHOLE[at][:count]]) == before
    assert read_run(WHOLE[: at + 1]) != before


@given(st.data())
def test_a_journal_is_read_up_to_what_a_power_failure_damaged(
    data: st.DataObject,
) -> None:
    count = data.draw(st.integers(1, len(WHOLE) - 1))
    noise = data.draw(st.binary(min_size=1, max_size=80)) + b"\n"

    assert read_run([*WHOLE[:count], noise, *WHOLE[count:]]) == read_run(WHOLE[:count])


def test_a_build_is_no_run_on_hosts() -> None:
    told = Story(())
    told.tell(e.Packaged("site", NEW, 10, 20, 3))

    assert read_run(journal(told)) is None


def test_an_old_journal_reads_with_defaults() -> None:
    first = WHOLE[0].decode()
    cut = first[: first.index(',"manifest"')] + "}\n"

    found = read_run([cut.encode(), *WHOLE[1:]])

    assert found is not None
    assert (found.limited, found.manifest) == (False, {})


# --- Runs in a row ---------------------------------------------------------------


def was(**states: State) -> PastRun:
    return PastRun(
        ("1",), hosts=tuple(states), states=states, previous={"h1": PREVIOUS}
    )


@pytest.mark.parametrize(
    ("before", "then", "now"),
    [
        (State.LIVE, State.CONNECTING, State.LIVE),
        (State.LIVE, State.FAILED, State.LIVE),
        (State.LIVE, State.READY, State.ACTIVATING),
        (State.ACTIVATING, State.CHECKING, State.ACTIVATING),
        (State.ACTIVATING, State.LIVE, State.LIVE),
        (State.ACTIVATING, State.ROLLED_BACK, State.ROLLED_BACK),
        (State.LIVE, State.UNCHANGED, State.UNCHANGED),
        (State.READY, State.CHECKING, State.CHECKING),
        (State.DRAINING, State.FAILED, State.DRAINING),
        (State.DRAINING, State.ROLLED_BACK, State.ROLLED_BACK),
        (State.STRANDED, State.FAILED, State.STRANDED),
    ],
)
def test_what_a_resumed_run_did_not_touch_is_as_it_was(
    before: State, then: State, now: State
) -> None:
    newer = PastRun(("2",), action="resume", continues="1", states={"h1": then})

    both = continued(newer, was(h1=before))

    assert both.states == {"h1": now}
    assert both.ids == ("2", "1")
    assert both.previous == {"h1": PREVIOUS}


@attrs.define
class Runs:
    """Journals in a store, told one after the other."""

    folder: Path
    count: int = 0

    @property
    def store(self) -> DirectoryStore:
        return DirectoryStore(self.folder)

    def add(self, begin: e.Started, lines: int | None = None) -> str:
        """Add a run, whole or cut; return its id."""
        self.count += 1
        run = f"2026010{self.count}T000000Z-000000"
        path = self.folder / "runs" / run
        path.mkdir(parents=True)
        told = journal(story(begin), run)
        (path / "journal.jsonl").write_bytes(b"".join(told[:lines]))
        return run


async def test_nothing_is_unfinished_where_nothing_ran(tmp_path: Path) -> None:
    runs = Runs(tmp_path)

    assert await unfinished_run(runs.store.runs) is None
    assert await serving_run(runs.store.runs) is None
    assert await find_run(runs.store.runs, "20260101T000000Z-000000") is None


async def test_a_later_run_that_went_live_makes_up_for_a_killed_one(
    tmp_path: Path,
) -> None:
    runs = Runs(tmp_path)
    killed = runs.add(started(), 25)
    found = await unfinished_run(runs.store.runs)
    assert found is not None
    assert found.id == killed

    runs.add(started())

    assert await unfinished_run(runs.store.runs) is None
    assert await unfinished_run(runs.store.runs, killed) is None


async def test_a_later_run_of_few_hosts_does_not(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    killed = runs.add(started(hosts=(*HOSTS, "h9")), 25)
    runs.add(started(limited=True))

    found = await unfinished_run(runs.store.runs)

    assert found is not None
    assert found.id == killed


async def test_a_later_run_of_another_module_does_not(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    killed = runs.add(started(modules=("site", "api")), 25)
    runs.add(started(modules=("api",)))

    found = await unfinished_run(runs.store.runs)

    assert found is not None
    assert found.id == killed
    assert await unfinished_run(runs.store.runs, modules=("site", "api")) == found
    runs.add(started(modules=("site",)))
    assert await unfinished_run(runs.store.runs) is None
    assert await unfinished_run(runs.store.runs, modules=("site", "api")) is None


async def test_later_runs_of_few_hosts_do_together(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    runs.add(started(modules=("site", "api")), 25)

    runs.add(started(modules=("api",), limited=True))
    assert await unfinished_run(runs.store.runs) is not None
    runs.add(started(modules=("site",), limited=True))

    assert await unfinished_run(runs.store.runs) is None


async def test_a_later_run_that_takes_another_back_does_not(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    killed = runs.add(started(), 25)
    runs.add(started(action="rollback", of="20250101T000000Z-000000", revert=True))

    found = await unfinished_run(runs.store.runs)

    assert found is not None
    assert found.id == killed


async def test_a_killed_resumption_is_one_with_what_it_resumed(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    first = runs.add(started(), -3)
    second = runs.add(started(action="resume", of=first), 2)

    found = await unfinished_run(runs.store.runs)

    assert found is not None
    assert found.ids == (second, first)
    assert found.action == "deploy"
    assert found.states == dict.fromkeys(HOSTS, State.LIVE)
    assert found.packages == {"site": NEW}


async def test_a_run_that_was_not_dead_ends_by_itself(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    first = runs.add(started())
    runs.add(started(action="resume", of=first), 2)

    found = await serving_run(runs.store.runs)

    assert await unfinished_run(runs.store.runs) is None
    assert found is not None
    assert first in found.ids


async def test_a_damaged_folder_of_runs_is_no_bar(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    (tmp_path / "runs" / "20260109T000000Z-000000").mkdir(parents=True)
    serves = runs.add(started())

    found = await serving_run(runs.store.runs)

    assert found is not None
    assert found.id == serves
