"""What a run leaves on this machine, and in a store that is elsewhere."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import attrs
import pytest

from ghostasync import events as e
from ghostasync._local.logs import MOST
from ghostasync._run import record as record_module
from ghostasync._run.record import Recording
from ghostasync.errors import StoreError
from ghostasync.history import _leftovers as leftovers
from ghostasync.history._leftovers import claim, hand_in_killed
from ghostasync.model import Outcome, Report
from ghostasync.protocols import RunLog
from ghostasync.stores import DirectoryStore
from ghostasync.testing import MemoryStore
from ghostasync.testing._memory_store import MemoryRunLog

RUN = "20260101T000000Z-0a1b2c"
JOURNAL = "journal.jsonl"

Append = Callable[[str, str, int, bytes], Awaitable[None]]


def folder_in(runs: RunLog) -> Path:
    """Return the folder for a run in a store that is one."""
    folder = runs.folder(RUN)
    assert folder is not None
    return folder


@attrs.define(eq=False)
class Far(MemoryRunLog):
    """Where runs are kept, at the end of a line that has faults."""

    url: str = "memory:far"
    appends: Append | None = None
    saves: Callable[[], Awaitable[None]] | None = None

    async def append(self, run: str, name: str, at: int, data: bytes) -> None:
        await (self.appends or self.put)(run, name, at, data)

    async def put(self, run: str, name: str, at: int, data: bytes) -> None:
        await super().append(run, name, at, data)

    async def save(self, run: str, name: str, data: bytes) -> None:
        if self.saves:
            await self.saves()
        await super().save(run, name, data)


@attrs.define
class Desk:
    """A machine, and where its runs are kept."""

    folder: Path
    runs: Far = attrs.field(factory=Far)

    def start(self, run: str = RUN) -> Recording:
        return Recording.start(run, self.folder / run, self.runs)

    async def kept(self, name: str = JOURNAL, run: str = RUN) -> bytes:
        return await self.runs.load(run, name)

    def here(self, name: str = JOURNAL, run: str = RUN) -> bytes:
        return (self.folder / run / name).read_bytes()


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(record_module, "PART_SECONDS", 0.01)
    return Desk(tmp_path / "here")


def report(recording: Recording) -> Report:
    return Report(
        run=recording.run,
        outcome=Outcome.LIVE,
        exit_status=0,
        releases={},
        hosts={},
        waves=(),
        nbytes=0,
        skew=0.0,
        seconds=1.0,
        log=str(recording.folder),
        reason="",
    )


def warned(data: bytes) -> list[bytes]:
    return [line for line in data.splitlines() if b'"Warned"' in line]


async def away(*_: object) -> None:
    raise StoreError("503 Slow Down")


# --- A store that is a folder here ---------------------------------------------------


async def test_a_run_writes_into_a_store_that_is_a_folder(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    folder = folder_in(store.runs)
    recording = Recording.start(RUN, folder, store.runs)

    async with recording.copying():
        recording.note(e.Warned("hello"))
        await recording.before_first_switch()
        recording.write("web1", b"out")
    await recording.finish(report(recording))
    recording.close()

    assert sorted(path.name for path in folder.iterdir()) == [
        "build",
        "hosts",
        JOURNAL,
        "report.json",
    ]
    kept = await store.runs.load(RUN, JOURNAL)
    assert [b"Warned" in kept, b"Finished" in kept] == [True, True]
    assert await store.runs.load(RUN, "hosts/web1.log") == b"out"


@pytest.mark.parametrize("host", ["web1", "a/b", "..", ".", "50%", "naïve", "a=b", ""])
async def test_a_log_is_found_under_the_same_name_in_any_store(
    tmp_path: Path, desk: Desk, host: str
) -> None:
    near = DirectoryStore(tmp_path / "store").runs
    for runs, path in ((near, folder_in(near)), (desk.runs, desk.folder / RUN)):
        recording = Recording.start(RUN, path, runs)
        recording.write(host, b"out")
        await recording.finish(report(recording))
        recording.close()
        name = str(recording.host_log(host).relative_to(path))

        assert await runs.load(RUN, name) == b"out"


def test_hosts_have_logs_of_their_own(desk: Desk) -> None:
    recording = desk.start()
    names = ["a/b", "a=2Fb", "a%2Fb", "a-b", "a_b", "A/B", "..", "_."]

    assert len({recording.host_log(name) for name in names}) == len(names)
    recording.close()


def test_the_log_of_a_host_has_a_limit(desk: Desk) -> None:
    recording = desk.start()

    for _ in range(20):
        recording.write("h1", b"x" * (1 << 20))
    recording.write("h2", b"y")

    assert recording.host_log("h1").stat().st_size <= MOST
    assert b"bytes are left out here" in recording.host_log("h1").read_bytes()
    assert recording.host_log("h2").read_bytes() == b"y"
    recording.close()


async def test_a_folder_that_cannot_be_made_is_told_with_what_to_look_at(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    store = DirectoryStore(tmp_path / "file")

    with pytest.raises(StoreError, match=r"Not a directory; check store\.url"):
        Recording.start(RUN, folder_in(store.runs), store.runs)
    with pytest.raises(StoreError, match="Not a directory; check XDG_STATE_HOME"):
        Recording.start(RUN, tmp_path / "file" / RUN, MemoryStore().runs)


# --- A store that is elsewhere -----------------------------------------------------


async def test_a_journal_arrives_while_the_run_goes_on(desk: Desk) -> None:
    arrived, recording = anyio.Event(), desk.start()

    async def tell(run: str, name: str, at: int, data: bytes) -> None:
        await desk.runs.put(run, name, at, data)
        if b"two" in data:
            arrived.set()

    desk.runs.appends = tell

    async with recording.copying():
        recording.note(e.Warned("one"))
        recording.note(e.Warned("two"))
        await arrived.wait()

        assert await desk.kept() == desk.here()
    recording.close()


async def test_folders_of_a_run_are_private(desk: Desk) -> None:
    before = os.umask(0)
    try:
        desk.start().close()
    finally:
        os.umask(before)

    folders = [desk.folder, *(p for p in desk.folder.rglob("*") if p.is_dir())]
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o700}
    assert (desk.folder / RUN / JOURNAL).stat().st_mode & 0o777 == 0o600


async def test_the_first_switch_waits_for_a_slow_store(desk: Desk) -> None:
    recording, pause = desk.start(), anyio.Event()

    async def slow(run: str, name: str, at: int, data: bytes) -> None:
        await pause.wait()
        await desk.runs.put(run, name, at, data)

    desk.runs.appends = slow
    recording.note(e.WaveStarted(1, 1, ("h1",)))
    async with recording.copying(), anyio.create_task_group() as tasks:
        tasks.start_soon(recording.before_first_switch)
        await anyio.wait_all_tasks_blocked()
        pause.set()

    assert b"WaveStarted" in await desk.kept()
    assert warned(desk.here()) == []
    recording.close()


@pytest.mark.parametrize("near", [True, False])
async def test_all_hosts_of_a_wave_go_on_at_once(desk: Desk, *, near: bool) -> None:
    """Whatever they waited for: first one and then another would be skew."""
    runs = DirectoryStore(desk.folder).runs if near else desk.runs
    folder = runs.folder(RUN) or desk.folder / RUN
    recording = Recording.start(RUN, folder, runs)
    turns, ended = 0, list[int]()

    async def go_on() -> None:
        await recording.before_first_switch()
        ended.append(turns)

    recording.note(e.WaveStarted(1, 1, ("h1",)))
    async with recording.copying(), anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(go_on)
        while len(ended) < 50:
            await anyio.lowlevel.checkpoint()
            turns += 1

    assert max(ended) - min(ended) <= 2
    recording.close()


@pytest.mark.parametrize("answer", [away, lambda *_: anyio.sleep_forever()])
async def test_a_store_that_is_away_keeps_no_run_from_its_end(
    desk: Desk, answer: Append, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_module, "FIRST_SWITCH_SECONDS", 0.1)
    recording = desk.start()
    desk.runs.appends = answer

    async with recording.copying():
        recording.note(e.WaveStarted(1, 1, ("h1",)))
        await recording.before_first_switch()
    await recording.finish(report(recording))
    recording.close()

    (line,) = warned(desk.here())
    assert b"only this machine can resume the run" in line
    assert b"Finished" in desk.here().splitlines()[-1]

    desk.runs.appends = None
    assert await hand_in_killed(desk.runs, desk.folder) == ()
    assert await desk.kept() == desk.here()


async def test_a_part_whose_answer_was_lost_is_there_once(desk: Desk) -> None:
    recording, lost = desk.start(), [True]

    async def forgetful(run: str, name: str, at: int, data: bytes) -> None:
        await desk.runs.put(run, name, at, data)
        if lost and lost.pop():
            recording.note(e.Warned("meanwhile"))
            raise StoreError("connection reset")

    desk.runs.appends = forgetful
    recording.note(e.Warned("one"))
    async with recording.copying():
        await recording.before_first_switch()
    await recording.finish(report(recording))
    recording.close()

    assert await desk.kept() == desk.here()
    assert b"meanwhile" in desk.here()


async def test_reports_and_logs_that_cannot_be_kept_are_warned_of(desk: Desk) -> None:
    recording = desk.start()
    desk.runs.saves = away

    recording.write("web1", b"out")
    await recording.finish(report(recording))
    recording.close()

    (line,) = warned(await desk.kept())
    assert b"the store lacks the report or a log: 503 Slow Down; all are in" in line
    desk.runs.saves = None
    assert await hand_in_killed(desk.runs, desk.folder) == ()
    assert await desk.kept("hosts/web1.log") == b"out"
    assert await desk.kept("report.json") == desk.here("report.json")


# --- What a killed run left --------------------------------------------------------


def kill(recording: Recording) -> None:
    """Have it be as if the process had died: its files are closed, as they are."""
    recording.close()


async def test_what_a_killed_run_left_is_handed_in_once(desk: Desk) -> None:
    recording = desk.start()
    recording.note(e.Warned("one"))
    recording.write("web1", b"out")
    await recording.before_first_switch()
    recording.note(e.Warned("two"))
    kill(recording)
    with (desk.folder / RUN / JOURNAL).open("ab") as file:
        file.write(b'{"v":1,"se')

    assert await hand_in_killed(desk.runs, desk.folder) == ()

    assert await desk.kept() == desk.here().removesuffix(b'{"v":1,"se')
    assert await desk.kept("hosts/web1.log") == b"out"
    desk.runs.appends = away
    assert await hand_in_killed(desk.runs, desk.folder) == ()


async def test_a_run_that_lives_keeps_its_folder_to_itself(desk: Desk) -> None:
    recording = desk.start()
    recording.note(e.Warned("one"))

    assert await hand_in_killed(desk.runs, desk.folder) == ()

    assert await desk.runs.ids() == []
    assert claim(recording.folder) is None
    recording.close()


async def test_what_cannot_be_handed_in_is_told_and_tried_again(desk: Desk) -> None:
    recording = desk.start()
    recording.note(e.Warned("one"))
    kill(recording)
    desk.runs.appends = away

    (text,) = await hand_in_killed(desk.runs, desk.folder)

    assert text == f"the store does not have all of run {RUN}: 503 Slow Down"
    desk.runs.appends = None
    assert await hand_in_killed(desk.runs, desk.folder) == ()
    assert await desk.kept() == desk.here()


async def test_folders_of_old_runs_go_once_the_store_has_them(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "KEEP", 2)
    runs = [f"2026010{number}T000000Z-000000" for number in range(1, 6)]
    for run in runs:
        recording = desk.start(run)
        await recording.finish(report(recording))
        recording.close()
    (desk.folder / runs[0] / ".handed-in").unlink()

    assert await hand_in_killed(desk.runs, desk.folder) == ()

    assert sorted(path.name for path in desk.folder.iterdir()) == [
        runs[0],
        *runs[3:],
    ]


async def test_nothing_is_left_where_nothing_ran(desk: Desk) -> None:
    assert await hand_in_killed(desk.runs, desk.folder) == ()
    assert not desk.folder.exists()
