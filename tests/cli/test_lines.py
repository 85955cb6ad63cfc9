from __future__ import annotations

import re
import time

import pytest

from ghostasync import events as e
from ghostasync.cli._lines import LineWriter
from ghostasync.model import State
from tests.story import NEW, OLD, RUN, Story, folded, good_run, names


def told(story: Story) -> list[str]:
    """The lines of a run without their time of day."""
    board, teller = folded([]), LineWriter()
    said = []
    for record in story.records:
        board.apply(record)
        said += [line.split(" ", 1)[1] for line in teller.tell(record, board)]
    return said


def test_a_run_reads_as_a_log() -> None:
    assert told(good_run(1)) == [
        "run   deploy shop/prod/web on 1 host by ada: the basket forgets its coupons",
        "site  main is 4f2a9c1",
        "site  building",
        "site  | collecting assets",
        "site  | bundled 312 modules",
        f"site  packaged 51.2 MB, 4,836 entries in 2.1 s: {NEW}",
        "web1  uploaded 51.2 MB in 0.8 s",
        "web1  ready",
        "run   1 host ready, 0 failed (0 may)",
        "run   wave 1 of 1: web1",
        "web1  switched",
        "web1  live",
        "run   wave 1: 1 live, 0 failed; its links moved within 84 ms",
        f"run   instances that boot now get {NEW}",
    ]


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (e.Unchanged("web1"), "web1  unchanged"),
        (e.Resumed("web1"), "web1  live already"),
        (e.Uploaded("web1", 0, 0.2), "web1  has the release already"),
        (
            e.Started("resume", "shop", ("site",), ("web1",), of="R1"),
            "run   resume shop on 1 host (goes on with run R1)",
        ),
        (
            e.Started("rollback", "shop", ("site",), ("web1",), "ada", of="R1"),
            "run   rollback shop on 1 host by ada (back from run R1)",
        ),
        (
            e.ScalingSuspended({"blue": ("HealthCheck", "Terminate"), "green": ("x",)}),
            "run   suspended blue: HealthCheck Terminate; green: x",
        ),
        (e.ScalingResumed({"blue": ("x",)}), "run   resumed blue: x"),
        (
            e.Failed("web1", "pre_deploy exited 3", State.PREPARING, 3),
            "web1  FAILED preparing: pre_deploy exited 3",
        ),
        (
            e.Failed("web1", "gone", State.ROLLING_BACK),
            "web1  FAILED rolling back: gone",
        ),
        (e.Gone("web1", "terminated"), "web1  halted: terminated"),
        (e.RolledBack("web1", {"site": OLD}), f"web1  back to {OLD}"),
        (e.RolledBack("web1", {"site": ""}), "web1  back to no release, as before"),
        (e.HostWarned("web1", "disk is 95% full"), "web1  warning: disk is 95% full"),
        (e.Soaked(1, 30), "run   wave 1 still well after 30 s"),
        (e.Drained("web1", 2.5), "web1  drained in 2.5 s"),
        (e.Undrained("web1", 0.3), "web1  live, undrained in 0.3 s"),
        (e.BeforeSwitchStarted("site", "web1"), "site  before_switch on web1"),
        (
            e.BeforeSwitchPassed("site", "web1", 12),
            "site  before_switch passed on web1 in 12 s",
        ),
        (
            e.BeforeSwitchFailed("site", "web1", "before_switch of site exited 1"),
            "site  FAILED, and no link moves: before_switch of site exited 1 on web1",
        ),
        (e.AfterWaveStarted(2), "run   wave 2: after_wave"),
        (e.AfterWavePassed(2, 3), "run   wave 2: after_wave passed in 3.0 s"),
        (
            e.AfterWaveFailed(2, "after_wave exited 1"),
            "run   wave 2: FAILED: after_wave exited 1",
        ),
        (e.BuildOutput("", "after_wave", "checking\n"), "run   | checking"),
        (e.Stopped("over budget"), "run   stopping: over budget"),
        (e.FleetRollbackStarted("no", ("web1",)), "run   1 host going back: no"),
        (e.BuildFailed("buildpack exited 2"), "run   FAILED: buildpack exited 2"),
        (e.Warned("no room"), "run   warning: no room"),
        (e.AfterAllFailed("no"), "run   FAILED, but the fleet stays live: no"),
        (e.HostWarned("web1", "gone"), "web1  warning: gone"),
    ],
)
def test_what_matters_is_one_line(event: e.Event, line: str) -> None:
    story = Story(("web1",))
    story.start()
    board = folded(story.records)

    said = list(LineWriter().tell(e.Record(2, 0.0, RUN, event), board))

    assert [text.split(" ", 1)[1] for text in said] == [line]


@pytest.mark.parametrize(
    "event",
    [
        e.Connected("web1", 0.1),
        e.Checked("web1", {}),
        e.Admitted("web1", 1),
        e.Drained("web1"),
        e.Activated("web1"),
        e.Verified("web1"),
        e.RollbackRequested("web1", "no"),
        e.Halted("web1", "over budget"),
        e.Failed("web1", "another run holds the lock", State.CHECKING, locked=True),
        e.Output("web1", "site", "pre_deploy", "hello"),
        e.Progressed(1, {}),
        good_run(1).records[-1].event,
    ],
)
def test_steps_on_the_way_are_left_out(event: e.Event) -> None:
    board = folded(good_run(1).records)

    assert list(LineWriter().tell(e.Record(2, 0.0, RUN, event), board)) == []


def test_a_host_that_has_run_a_script_is_done_and_not_live() -> None:
    story = Story(("web1", "web2"))
    story.tell(e.Started("exec", "shop", ("site",), story.hosts))
    story.each(e.Connected)
    story.tell(e.Unchanged("web1"))
    story.tell(e.Failed("web2", "exec of site exited 3", State.CHECKING, 3))
    story.tell(e.WaveFinished(1, 1, 1))

    assert told(story) == [
        "run   exec shop on 2 hosts",
        "web1  done",
        "web2  FAILED: exec of site exited 3",
        "run   wave 1: 1 done, 1 failed",
    ]


def test_a_swap_tells_when_the_color_is_the_active_one() -> None:
    story = Story(("web1", "web2"))
    story.tell(e.Started("swap", "shop", ("site",), story.hosts, color="green"))
    story.each(e.Connected)
    story.tell(e.Unchanged("web1"))
    story.tell(e.WaveFinished(1, 1, 0))
    story.tell(e.ColorMoved("green"))

    assert told(story) == [
        "run   swap shop on 2 hosts to green",
        "web1  done",
        "run   wave 1: 1 done, 0 failed",
        "run   green is the active color",
    ]


def test_every_line_begins_with_the_local_time_of_day() -> None:
    story = Story(names(1))
    story.start()
    record = story.records[0]

    (line,) = LineWriter().tell(record, folded([record]))

    assert line.startswith(time.strftime("%H:%M:%S ", time.localtime(record.at)))
    assert re.match(r"\d\d:\d\d:\d\d run ", line)


def test_of_a_growing_tail_only_what_is_new_is_told() -> None:
    story = Story(())
    for text in ("one\n", "one\ntwo\nthr", "one\ntwo\nthree\n", "wo\nthree\nfour\n"):
        story.tell(e.BuildOutput("site", "buildpack", text))

    said = [line.split("| ")[1] for line in told(story)]

    assert said == ["one", "two", "three", "four"]


def test_a_locked_host_that_the_run_does_without_is_told_once_it_is_certain() -> None:
    story = Story(names(3))
    story.start()
    held = "another run holds the lock: run R0 by ada"
    story.tell(e.Failed("web2", held, State.CHECKING, locked=True))
    story.tell(e.Judged(2, 1, 1))

    assert told(story)[1:] == [
        "run   2 hosts ready, 1 failed (1 may)",
        f"run   FAILED web2: {held}",
    ]


def test_hosts_that_were_halted_are_one_line() -> None:
    story = Story(names(500))
    story.start()
    held = "another run holds the lock: run R0 by ada"
    story.each(lambda h: e.Failed(h, held, State.CHECKING, locked=True), ["web001"])
    story.tell(e.Stopped(f"web001: {held}", "locked"))
    story.each(lambda h: e.Halted(h, f"web001: {held}"), story.hosts[1:])
    story.finish("locked", 4, f"web001: {held}")

    assert told(story)[1:] == [
        f"run     stopping: web001: {held}",
        "run     499 hosts halted",
    ]


def test_how_long_a_balancer_may_take_is_told_at_the_start() -> None:
    seconds = {"drain": 330.0, "undrain": 60.0}
    story = Story(())
    story.tell(e.Started("deploy", "shop", ("site",), (), balancer_seconds=seconds))

    assert told(story)[1:] == [
        "run   drain by the balancer's settings 5 min 30 s at most, undrain 1 min 00 s"
    ]
