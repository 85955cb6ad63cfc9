from __future__ import annotations

import attrs

from ghostasync import events as e
from ghostasync.model import State as S  # noqa: N817  as in the table
from tests.story import (
    BEGAN,
    NBYTES,
    NEW,
    OLD,
    Story,
    failed_run,
    folded,
    gated_run,
    good_run,
    names,
)


def begun(count: int = 4) -> Story:
    story = Story(names(count))
    story.start()
    story.connect()
    return story


def test_counts_add_up_to_the_fleet_after_every_record() -> None:
    story = failed_run(40)
    board = folded(story.records[:1])

    for record in story.records[1:]:
        board.apply(record)

        assert sum(board.counts.values()) == 40
        working = sum(r.state not in RESTING for r in board.hosts.values())
        assert board.active_count == working


RESTING = {S.READY, S.LIVE, S.UNCHANGED, S.FAILED, S.ROLLED_BACK, S.STRANDED}


def test_a_good_run_goes_through_its_phases_in_order() -> None:
    story, seen = good_run(), []
    board = folded([])

    for record in story.records:
        board.apply(record)
        if board.phase not in seen:
            seen.append(board.phase)

    assert seen == ["building", "uploading", "preparing", "ready", "switching", "live"]


def test_what_the_fleet_waits_for_is_a_phase_of_its_own() -> None:
    story, said = gated_run(), set()
    seen: list[str] = []
    board = folded([])

    for record in story.records:
        board.apply(record)
        if not seen or board.phase != seen[-1]:
            seen.append(board.phase)
        if board.gate:
            said.add((board.gate.name, board.gate.where, board.gate.line))

    assert seen == [
        *("building", "uploading", "preparing", "ready", "gate", "ready"),
        *("switching", "soaking", "gate", "switching", "soaking", "gate"),
        *("stopping", "going back", "failed"),
    ]
    assert ("before_switch", "of site on web1", "40 % of 2 million rows") in said
    assert ("after_wave", "of wave 2", "0.2 % of requests") in said
    assert list(board.modules) == ["site"]


def test_a_failed_run_ends_with_the_fleet_as_before() -> None:
    board = folded(failed_run(300).records)

    assert board.phase == "failed"
    assert board.counts[S.FAILED] == 4
    assert board.counts[S.ROLLED_BACK] == 75
    assert board.counts[S.READY] == 221
    assert {r.serves["site"] for r in board.hosts.values() if r.serves} == {OLD}
    assert [len(failure.hosts) for failure in board.failures] == [20, 3, 1]


def test_upload_fraction_counts_hosts_alike_and_leaves_out_the_spared() -> None:
    story = begun(4)
    story.build()
    story.package()
    story.tell(e.Unchanged("web1"))
    story.tell(e.Failed("web2", "no room", S.UPLOADING))
    story.tell(e.Uploaded("web3", NBYTES, 1.0))

    story.tell(e.Progressed(NBYTES * 3 // 2, {"web4": NBYTES // 2}))

    board = folded(story.records)
    assert 0.749 < board.upload_fraction < 0.751
    assert board.hosts["web4"].nbytes == NBYTES // 2


def test_bytes_that_hosts_fetched_are_none_that_were_sent() -> None:
    story = begun(2)
    story.build()
    story.package()
    story.each(lambda h: e.Uploaded(h, fetched=NBYTES))

    board = folded(story.records)
    assert (board.nbytes, board.fetched) == (0, 2 * NBYTES)
    assert board.upload_fraction == 1.0


def test_a_delta_that_sends_little_still_reaches_the_whole() -> None:
    story = begun(2)
    story.build()
    story.package()
    story.each(lambda h: e.Uploaded(h, 1000, 0.1))

    assert folded(story.records).upload_fraction == 1.0


def test_a_failure_after_the_upload_spares_nothing() -> None:
    story = begun(2)
    story.build()
    story.package()
    story.upload()
    story.tell(e.Failed("web1", "no", S.PREPARING))

    assert folded(story.records).upload_fraction == 1.0


def test_the_rate_is_that_of_the_last_seconds() -> None:
    story = begun(1)
    for second in range(20):
        speed = 1000 if second < 10 else 5000
        before = story.records[-1].event
        sent = before.nbytes if isinstance(before, e.Progressed) else 0
        story.tell(e.Progressed(sent + speed, {}), after=1.0)

    assert folded(story.records).rate == 5000


def test_there_is_no_rate_from_one_sample() -> None:
    story = begun(1)
    story.tell(e.Progressed(5000, {}))

    assert folded(story.records).rate == 0


def test_active_hosts_are_bounded_and_those_longest_at_it_come_first() -> None:
    story = begun(30)
    story.build()
    story.package()
    story.upload(story.hosts[5:])

    rows = folded(story.records).active(20)

    assert len(rows) == 20
    assert [row.name for row in rows[:5]] == list(story.hosts[:5])


def test_hosts_that_wait_for_the_package_are_not_shown_as_working() -> None:
    story = begun(3)
    story.build()

    board = folded(story.records)

    assert (board.active(20), board.active_count) == ([], 3)


def test_a_module_shows_its_revision_then_its_last_output_then_its_package() -> None:
    story = begun(1)
    story.build()
    row = folded(story.records).modules["site"]
    assert (row.revision, row.status, row.line) == (
        "main 4f2a9c1",
        "building",
        "bundled 312 modules",
    )

    story.package()

    row = folded(story.records).modules["site"]
    assert row.packaged is not None
    assert (row.packaged.package, row.line) == (NEW, "")


def test_output_belongs_to_the_state_it_was_printed_in() -> None:
    story = begun(1)
    story.build()
    story.package()
    story.upload()
    story.tell(e.Output("web1", "site", "pre_deploy", "one\n\x1b[1mtwo\x1b[0m\n"))
    assert folded(story.records).hosts["web1"].line == "two"

    story.tell(e.Prepared("web1"))

    assert folded(story.records).hosts["web1"].line == ""


def test_elapsed_time_stops_with_the_run() -> None:
    story = good_run()

    going, over = folded(story.records[:-1]), folded(story.records)

    assert going.elapsed(BEGAN + 1000) == 1000
    assert over.elapsed(BEGAN + 1000) == story.at - BEGAN


def test_waves_are_remembered_with_how_they_ended() -> None:
    board = folded(failed_run(300).records)

    assert (board.wave, board.wave_count) == (2, 5)
    assert {n: w.failed for n, w in board.waves_over.items()} == {1: 0, 2: 20}


def test_warnings_name_their_host() -> None:
    story = begun(1)
    story.tell(e.HostWarned("web1", "the clock is 9 min off"))
    story.tell(e.Warned("the store has no room"))

    board = folded(story.records)

    assert board.warnings == ["web1: the clock is 9 min off", "the store has no room"]


def test_a_build_without_a_run_is_shown_too() -> None:
    story = Story(())
    story.build()
    story.package()

    board = folded(story.records)

    assert board.packaged
    assert list(board.modules) == ["site"]


def test_a_run_that_only_goes_back_has_nothing_to_build() -> None:
    story = Story(names(2))
    story.revert("R1")
    board = folded(story.records)
    assert (board.phase, board.modules) == ("checking", {})

    story.each(e.Connected)
    story.tell(e.Unchanged("web1"))
    story.tell(e.RollbackRequested("web2", "back from R1"))

    assert folded(story.records).phase == "going back"


def test_a_host_that_is_live_already_is_sent_nothing() -> None:
    story = Story(names(2))
    story.start(action="resume")
    story.connect()
    story.package()
    story.tell(e.Resumed("web1"))
    assert folded(story.records).upload_fraction == 0.0

    story.upload(["web2"])

    board = folded(story.records)
    assert (board.upload_fraction, board.counts[S.LIVE]) == (1.0, 1)


# --- Trouble ---------------------------------------------------------------------


def test_a_host_that_the_run_waits_for_has_not_failed() -> None:
    story = begun(3)
    story.build()
    held = "another run holds the lock: run R0 by ada"
    story.tell(e.Failed("web1", held, S.UPLOADING, locked=True))
    board = folded(story.records)
    assert (len(board.failures), board.tallies[S.FAILED], board.held) == (0, 0, 1)

    # Nobody was halted: all begin again.
    board.apply(
        e.Record(99, story.at, "r", e.LockAwaited("web1", held, 60.0, story.hosts))
    )

    assert (board.phase, len(board.failures), board.held) == ("waiting", 0, 0)
    assert board.counts == {S.CONNECTING: 3}


def test_a_locked_host_that_the_run_does_without_has_failed() -> None:
    story = begun(3)
    held = "another run holds the lock: run R0 by ada"
    story.tell(e.Failed("web1", held, S.UPLOADING, locked=True))
    story.tell(e.Judged(2, 1, 1))

    (failure,) = folded(story.records).failures

    assert (failure.hosts, failure.reason) == (("web1",), held)


def test_a_host_that_another_run_holds_is_told_where_the_run_does_not_wait() -> None:
    story = begun(3)
    held = "another run holds the lock: run R0 by ada as {}"
    for host in story.hosts[:2]:
        text = held.format(host)
        story.tell(e.Failed(host, text, S.UPLOADING, locked=True))
    story.tell(e.Stopped(f"web1: {held.format('web1')}", "locked"))

    board = folded(story.records)

    (failure,) = board.failures
    assert failure.hosts == ("web1", "web2")
    assert failure.reason == "another run holds the lock: run R0 by ada"
    assert (board.tallies[S.FAILED], board.held) == (0, 2)


def test_what_stopped_the_run_comes_before_what_is_newer() -> None:
    story = failed_run(40)
    ready = story.in_state(S.HALTED, S.ROLLED_BACK)
    board = folded(story.records)
    board.failures.add(ready[0], S.CHECKING, "newer")

    reasons = [failure.reason for failure in board.failures]

    assert reasons[:2] == ["verify exited 22: 503 Service Unavailable", "newer"]


def test_hosts_of_one_reason_fold_where_the_plan_says_their_addresses() -> None:
    story = Story(names(3))
    story.start()
    first = story.records[0]
    assert isinstance(first.event, e.Started)
    where = {"web1": "10.0.0.1:2201", "web2": "10.0.0.2:2202"}
    told = attrs.evolve(first.event, addresses=where)
    story.records[0] = attrs.evolve(first, event=told)
    story.connect()
    for host, address in where.items():
        story.tell(e.Failed(host, f"cannot bind {address}", S.UPLOADING))

    (failure,) = folded(story.records).failures

    assert failure.reason == "cannot bind HOST"
