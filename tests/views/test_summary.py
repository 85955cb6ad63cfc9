from __future__ import annotations

from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostasync import events as e
from ghostasync.model import HostReport, Outcome, Report
from ghostasync.model import State as S  # noqa: N817  as in the table
from ghostasync.views.summary import MAX_LINES, TypedCommand, failure, is_clean, success
from tests.story import (
    NEW,
    OLD,
    RUN,
    Story,
    failed_run,
    folded,
    gated_run,
    good_run,
    names,
    report_of,
)

THIS = TypedCommand.typed(
    ["--config", "shop file.toml", "deploy", "site@main"], Path("s.toml")
)

BACK = "--config s.toml   # back to what MANIFEST names"


def words(story: Story) -> list[str]:
    return failure(report_of(story), folded(story.records), THIS)


def test_names_are_told_in_full_where_they_fit_into_a_line() -> None:
    story = Story(tuple(f"{zone}-web.shop.example.com" for zone in "abcdef"))
    story.start()
    for host in story.hosts[:4]:
        story.tell(e.Failed(host, "no route to host", S.CONNECTING, unreachable=True))
    story.finish("failed", 1, "4 hosts failed, 0 allowed")
    report, board = report_of(story), folded(story.records)

    told = [failure(report, board, THIS, width) for width in (80, 200)]

    why = "  connecting: no route to host"
    assert told[0][1] == f"  {story.hosts[0]} and 3 others{why}"
    assert told[1][1] == f"  {','.join(story.hosts[:4])}{why}"
    # Which host serves what is asked by status; here one name of many is of no use.
    assert told[0][2] == told[1][2]
    assert story.hosts[0] not in told[0][2]


def begun(count: int) -> Story:
    story = Story(names(count))
    story.start()
    story.connect()
    story.build()
    return story


def test_a_failed_run_of_300_hosts_ends_in_eight_lines() -> None:
    assert words(failed_run(300)) == [
        "ghostasync: failed: 24 hosts failed and 15 may",
        "  web[002,004,008-025]  verifying: verify exited 22: 503 Service Unavailable",
        "  web[005-007]  preparing: pre_deploy exited 28: No space left",
        "  web003  connecting: no answer within 30 s",
        "    | No space left on device",
        f"  now:  {OLD} on web[001-002,004-300]; as before on web003",
        f"  log:  /var/lib/ghostasync/shop/prod/web/runs/{RUN}",
        f"  next: ghostasync logs {RUN} web002 --config s.toml",
    ]


FAILURES = st.lists(
    st.tuples(st.sampled_from(list(S)), st.text(max_size=30), st.text(max_size=200)),
    max_size=12,
)


@given(FAILURES, st.sampled_from(list(Outcome)), st.text(max_size=80))
def test_no_run_ends_in_more_than_eight_lines(
    failures: list[tuple[S, str, str]], outcome: Outcome, reason: str
) -> None:
    story = begun(len(failures) + 1)
    board = folded(story.records)
    for host, (stage, why, tail) in zip(story.hosts, failures, strict=False):
        board.apply(e.Record(9, 0, RUN, e.Failed(host, why, stage, 1, tail)))
    rows = {host: HostReport(S.FAILED) for host in story.hosts}
    report = Report(RUN, outcome, 1, {}, rows, reason=reason, log="/x")

    lines = failure(report, board, THIS)

    assert len(lines) <= MAX_LINES
    assert not any("\n" in line or "\r" in line for line in lines)
    assert lines[0].startswith("ghostasync: ")
    assert lines[-1].startswith("  next: ghostasync ")


def test_the_last_lines_of_the_first_failing_script_are_shown() -> None:
    story = begun(2)
    story.package()
    story.upload()
    tail = "1\n2\n3\n4\n5\n"
    story.tell(e.Failed("web1", "pre_deploy exited 1", S.PREPARING, 1, tail))
    story.tell(e.Halted("web2", "over budget"))
    story.finish("failed", 1, "1 host failed and none may")

    lines = words(story)

    assert [line.strip() for line in lines if "|" in line] == ["| 3", "| 4", "| 5"]


def test_a_failed_build_names_the_module_and_how_to_read_its_output() -> None:
    story = begun(2)
    story.tell(
        e.BuildFailed("buildpack exited 2", exit_status=2, tail="no page.html\n")
    )
    story.each(lambda h: e.Halted(h, "buildpack exited 2"))
    story.finish("failed", 1, "buildpack exited 2")

    lines = words(story)

    assert "  site  buildpack exited 2" in lines
    assert "    | no page.html" in lines
    assert f"  now:  {OLD} on 2 hosts" in lines
    logs = f"  next: ghostasync logs {RUN} --script buildpack --config s.toml"
    assert lines[-1] == logs


def test_a_tree_that_cannot_be_packaged_is_built_alone() -> None:
    story = begun(2)
    story.tell(e.BuildFailed("the tree is empty (modules[0].allow_empty)"))
    story.finish("failed", 1, "the tree is empty")

    assert words(story)[-1] == "  next: ghostasync build site --config s.toml"


def test_a_source_that_fails_is_told_once_and_leads_to_a_check() -> None:
    reason = "site: /x is not a folder (modules[0].source.dir)"
    story = Story(names(2))
    story.start()
    story.connect()
    story.tell(e.BuildFailed(reason))
    story.each(lambda h: e.Halted(h, reason))
    story.finish("failed", 1, reason)

    lines = words(story)

    assert lines[0] == f"ghostasync: failed: {reason}"
    assert "\n".join(lines).count("is not a folder") == 1
    assert lines[-1] == "  next: ghostasync check --config s.toml"


def test_a_source_that_fails_beside_something_else_has_its_name_once() -> None:
    story = begun(1)
    story.tell(e.BuildFailed("site: /x is not a folder"))
    story.finish("failed", 1, "SIGTERM")

    assert "  site  /x is not a folder" in words(story)


def test_a_buildpack_that_fails_is_told_once_with_its_last_words() -> None:
    reason = "buildpack of site exited 2"
    story = begun(1)
    story.tell(e.BuildFailed(reason, exit_status=2, tail="no page.html\n"))
    story.each(lambda h: e.Halted(h, reason))
    story.finish("failed", 1, reason)

    assert words(story)[:2] == [f"ghostasync: failed: {reason}", "    | no page.html"]


def test_a_migration_that_failed_shows_its_last_words() -> None:
    story = begun(2)
    story.package()
    story.upload()
    story.each(e.Prepared)
    reason, tail = "before_switch of site exited 1: locked", "altering\nlocked\n"
    story.tell(e.BeforeSwitchStarted("site", "web1"))
    story.tell(e.BeforeSwitchFailed("site", "web1", reason, 1, tail))
    story.finish("failed", 1, f"web1: {reason}")

    assert words(story)[:5] == [
        f"ghostasync: failed: web1: {reason}",
        f"  web1  {reason}",
        "    | altering",
        "    | locked",
        f"  now:  {OLD} on 2 hosts",
    ]


def test_a_gate_that_closed_shows_its_last_words() -> None:
    assert words(gated_run())[:5] == [
        "ghostasync: failed: wave 2: after_wave exited 1",
        "  of wave 2  after_wave exited 1",
        "    | asking for the error rate",
        "    | 0.2 % of requests",
        f"  now:  {OLD} on 6 hosts",
    ]


def test_a_stranded_host_comes_first_and_asks_for_a_person() -> None:
    story = begun(3)
    story.package()
    story.upload()
    story.each(e.Prepared)
    story.wave(1, 1, story.hosts)
    story.tell(e.Failed("web1", "post_deploy exited 1", S.ACTIVATING))
    story.tell(e.Failed("web1", "the connection died", S.ROLLING_BACK))
    for host in ("web2", "web3"):
        story.tell(e.RollbackRequested(host, "no"))
        story.tell(e.RolledBack(host, {"site": OLD}))
    story.finish("stranded", 3, "web1 could not be put back")

    lines = words(story)

    assert lines[1] == "  web1  rolling back: the connection died"
    assert f"  now:  unknown on web1: look there; {OLD} on web[2-3]" in lines
    assert lines[-1] == f"  next: ghostasync converge web1 {BACK}"


@pytest.mark.parametrize(
    ("count", "first", "cure"),
    [
        (2, False, f"converge web1 web2 {BACK}"),
        (50, False, f"converge @failed {BACK}"),
        (2, True, "status --config s.toml"),  # there is nothing yet to bring a host to
    ],
)
def test_what_cures_stranded_hosts_is_said(count: int, first: bool, cure: str) -> None:
    story = begun(count)
    if first:
        record = story.records[0]
        assert isinstance(record.event, e.Started)
        before = attrs.evolve(record.event, manifest={})
        story.records[0] = attrs.evolve(record, event=before)
    story.package()
    story.upload()
    story.each(e.Prepared)
    story.wave(1, 1, story.hosts)
    story.each(lambda h: e.Failed(h, "post_deploy exited 1", S.ACTIVATING))
    story.each(lambda h: e.Failed(h, "the connection died", S.ROLLING_BACK))
    story.finish("stranded", 3, "they could not be put back")

    now, *_, then = words(story)[-3:]
    assert now == f"  now:  unknown on {count} hosts: look there"
    assert then == f"  next: ghostasync {cure}"


def test_a_mixed_fleet_is_told_apart() -> None:
    story = begun(4)
    story.package()
    story.upload()
    story.each(e.Prepared)
    story.wave(1, 2, story.hosts[:3])
    for what in (e.Activated, e.Verified, e.Undrained):
        story.each(what, story.hosts[:3])
    story.finish("mixed", 5, "stopped after wave 1")

    assert f"  now:  {NEW} on web[1-3]; {OLD} on web4" in words(story)


def test_hosts_that_cannot_be_reached_lead_to_a_check() -> None:
    story = Story(names(2))
    story.start()
    story.each(lambda h: e.Failed(h, "no answer", S.CONNECTING, unreachable=True))
    story.finish("failed", 1, "2 hosts failed and none may")

    lines = words(story)

    assert lines[-1] == "  next: ghostasync check --config s.toml"
    assert "  now:  as before on web[1-2]" in lines


def test_after_all_deploy_is_told_although_the_fleet_is_live() -> None:
    story = good_run(2)
    del story.records[-1]
    story.tell(e.AfterAllFailed("after_all_deploy exited 1", "no such queue\n"))
    story.finish("live", 7)

    lines = words(story)

    assert lines[0] == "ghostasync: live, but not all is well"
    assert "  after_all_deploy  after_all_deploy exited 1" in lines
    assert "    | no such queue" in lines


@pytest.mark.parametrize(
    ("typed", "next_"),
    [
        (["deploy", "site@main"], "deploy site@main"),
        (["resume", "--wait", "1", "R1"], "resume R1"),
        (["converge", "--wait=1", "h1"], "converge h1"),
    ],
)
def test_who_holds_the_lock_is_said_once_and_how_to_wait(
    typed: list[str], next_: str
) -> None:
    story = Story(names(3))
    story.start()
    held = "another run holds the lock: run R0 by ada on hq (pid 7) since 00:16"
    story.each(e.Connected)
    story.each(lambda h: e.Failed(h, held, S.CHECKING, locked=True), ["web1", "web2"])
    story.tell(e.Halted("web3", held))
    story.finish("locked", 4, f"web1: {held}")

    lines = failure(
        report_of(story), folded(story.records), TypedCommand.typed(typed, None)
    )

    assert lines[:2] == ["ghostasync: locked", f"  web[1-2]  checking: {held}"]
    assert "\n".join(lines).count("another run") == 1
    assert lines[-1] == f"  next: ghostasync {next_} --wait 600"


def test_a_partial_run_is_a_success_that_says_what_is_missing() -> None:
    story = begun(3)
    story.package()
    story.tell(e.Failed("web1", "no room", S.UPLOADING))
    story.upload(story.hosts[1:])
    story.each(e.Prepared, story.hosts[1:])
    story.wave(1, 1, story.hosts[1:])
    for what in (e.Activated, e.Verified, e.Undrained):
        story.each(what, story.hosts[1:])
    story.finish("partial", 0)

    report = report_of(story)

    assert not is_clean(report)
    assert (
        words(story)[0] == "ghostasync: live, but not on 1 host, as max_failures allows"
    )
    assert words(story)[-1] == "  next: ghostasync converge web1 --config s.toml"
    assert success(report, folded(story.records)).startswith("2 hosts live in ")


@pytest.mark.parametrize("output", [["--output", "json"], ["--output=json"]])
def test_what_to_type_next_is_for_people(output: list[str]) -> None:
    again = TypedCommand.typed([*output, "deploy", "site", "--force"], None)

    assert again.this == "ghostasync deploy site --force"


def test_words_of_another_command_stay_behind_the_dashes() -> None:
    words = ["exec", "--output", "json", "--", "sort", "--wait", "--output", "x"]
    again = TypedCommand.typed(words, None)

    assert again.this == "ghostasync exec -- sort --wait --output x"
    assert again.patient == ("ghostasync exec --wait 600 -- sort --wait --output x")


def executed(outcome: str, status: int, *events: e.Event) -> Story:
    story = Story(("web1", "web2"))
    story.tell(e.Started("exec", "shop", ("site",), story.hosts, "ada"))
    story.each(e.Connected)
    story.tell(e.WaveStarted(1, 1, story.hosts))
    for event in events:
        story.tell(event)
    story.finish(outcome, status)
    return story


def test_a_script_of_exec_says_nothing_of_releases() -> None:
    broke = e.Failed("web2", "exec of site exited 3", S.CHECKING, 3)
    good = executed("unchanged", 0, *map(e.Unchanged, ("web1", "web2")))
    failed = executed("failed", 1, e.Unchanged("web1"), broke)
    partly = executed("partial", 0, e.Unchanged("web1"), broke)
    stopped = executed("interrupted", 130, e.Halted("web1", "SIGINT"))

    assert success(report_of(good), folded(good.records)).startswith("exec on 2 hosts")
    assert words(failed) == [
        "ghostasync: failed",
        "  web2  exec of site exited 3",
        f"  log:  {report_of(failed).log}",
        f"  next: ghostasync logs {report_of(failed).run} web2 --config s.toml",
    ]
    assert words(partly)[0] == (
        "ghostasync: done, but not on 1 host, as max_failures allows"
    )
    run = report_of(stopped).run
    assert words(stopped)[-1] == f"  next: ghostasync logs {run} --config s.toml"


def swapped(outcome: str, status: int, *events: e.Event) -> Story:
    story = Story(("web1", "web2"))
    story.tell(e.Started("swap", "shop", ("site",), story.hosts, "ada", color="green"))
    story.each(e.Connected)
    story.tell(e.WaveStarted(1, 2, story.hosts[:1]))
    for event in events:
        story.tell(event)
    story.finish(outcome, status)
    return story


def test_a_swap_says_which_color_is_active_and_is_never_typed_again() -> None:
    broke = e.Failed("web2", "drain exited 3", S.CHECKING, 3)
    good = swapped("live", 0, *map(e.Unchanged, ("web1", "web2")))
    left = swapped("partial", 1, e.Unchanged("web1"), e.Committed(), broke)
    locked = swapped("locked", 4, *map(e.Halted, ("web1", "web2"), ("held", "held")))

    told = success(report_of(good), folded(good.records))
    assert told.startswith("green is active in ")
    assert told.endswith(", on 2 hosts of both colors")
    assert words(left) == [
        "ghostasync: green is active, but not all is well",
        "  web2  checking: drain exited 3",
        f"  log:  {report_of(left).log}",
        "  next: ghostasync status --config s.toml",
    ]
    # Typed again once another swap is over, it would undo that.
    assert words(locked)[-1] == "  next: ghostasync status --config s.toml"


def test_the_log_of_the_first_failed_host_is_preferred() -> None:
    story = failed_run(30)
    report = report_of(story)
    rows = {n: attrs.evolve(h, log=f"/logs/{n}.log") for n, h in report.hosts.items()}

    lines = failure(attrs.evolve(report, hosts=rows), folded(story.records), THIS)

    assert "  log:  /logs/web02.log" in lines


@pytest.mark.parametrize(
    ("states", "waves", "line"),
    [
        (
            [S.LIVE] * 300,
            1,
            "300 hosts live in 41 s; old and new together for 84 ms; 12.3 MB sent",
        ),
        (
            [S.LIVE] * 3 + [S.UNCHANGED],
            5,
            (
                "3 hosts live in 41 s; 1 unchanged; "
                "5 waves, the widest switched within 84 ms; 12.3 MB sent"
            ),
        ),
        ([S.LIVE], 1, "1 host live in 41 s; 12.3 MB sent"),
        ([S.UNCHANGED] * 2, 0, "2 hosts unchanged in 41 s: they serve it already"),
    ],
)
def test_success_is_one_line(states: list[S], waves: int, line: str) -> None:
    rows = {f"web{n}": HostReport(state) for n, state in enumerate(states)}
    report = Report(
        *(RUN, Outcome.LIVE, 0, {"site": NEW}, rows),
        nbytes=12_345_678,
        skew=0.084,
        seconds=41.2,
    )
    board = folded([])
    board.waves = [e.WaveStarted(n, waves, ()) for n in range(1, waves + 1)]

    assert success(report, board) == line
    assert is_clean(report)


# --- Runs that take up another one -------------------------------------------------


def reverted(story: Story) -> Story:
    story.revert("R1")
    story.each(e.Connected)
    story.each(lambda h: e.RollbackRequested(h, "back from R1"), story.hosts[1:])
    story.each(lambda h: e.RolledBack(h, {"site": OLD}), story.hosts[1:])
    return story


def test_a_revert_says_what_is_as_before() -> None:
    story = reverted(Story(names(3)))
    story.tell(e.Unchanged("web1"))
    story.finish("live", 0)
    report = report_of(story)

    assert is_clean(report)
    assert success(report, folded(story.records)) == (
        "2 hosts back in 70 ms, as before run R1; 1 had nothing to go back from"
    )


def test_a_host_that_is_back_serves_its_modules_that_never_moved_as_well() -> None:
    story = Story(names(2))
    story.start()
    story.each(e.Connected)
    story.each(lambda h: e.Checked(h, {"site": OLD, "api": "api1"}))
    story.package()
    story.upload()
    story.each(e.Prepared)
    story.wave(1, 1, story.hosts)
    story.tell(e.Failed("web2", "post_deploy exited 1", S.ACTIVATING))
    story.each(lambda h: e.RollbackRequested(h, "1 host failed"), ["web1"])
    story.each(lambda h: e.RolledBack(h, {"site": OLD}))
    story.finish("failed", 1, "1 host failed")

    assert f"  now:  {OLD}, api1 on 2 hosts" in words(story)


def test_a_revert_that_lost_a_host_does_not_guess_what_it_serves() -> None:
    story = reverted(Story(names(3)))
    story.tell(e.Failed("web1", "no answer", S.CHECKING, unreachable=True))
    story.finish("stranded", 3)

    assert words(story)[-3:] == [
        f"  now:  unknown on web1: look there; {OLD} on web[2-3]",
        f"  log:  /var/lib/ghostasync/shop/prod/web/runs/{RUN}",
        "  next: ghostasync status --config s.toml",
    ]


def test_a_resumed_run_that_went_back_leaves_nothing_to_resume() -> None:
    story = Story(names(2))
    story.start(action="resume")
    story.connect()
    story.package()
    story.each(e.Resumed)
    story.tell(e.FleetRollbackStarted("1 host failed", story.hosts))
    story.each(lambda h: e.RollbackRequested(h, "1 host failed"))
    story.each(lambda h: e.RolledBack(h, {"site": OLD}))
    story.finish("failed", 1, "1 host failed")

    assert words(story)[-1] == "  next: ghostasync deploy --config s.toml"
