from __future__ import annotations

import re

import pytest
from rich.cells import cell_len

from ghostasync import events as e
from ghostasync.cli._bars import ASCII, UNICODE, Glyphs
from ghostasync.cli._view import MAX_ROWS, lines
from ghostasync.model import State as S  # noqa: N817  as in the table
from ghostasync.views.board import Board
from tests.story import OLD, Story, failed_run, folded, gated_run, good_run, names


def drawn(story: Story, width: int = 80, height: int = 24) -> list[str]:
    board = folded(story.records)
    return [line.plain for line in lines(board, board.at + 1, width, height)]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 132])
@pytest.mark.parametrize("glyphs", [UNICODE, ASCII])
def test_every_frame_of_a_run_fits_the_terminal(width: int, glyphs: Glyphs) -> None:
    board = folded([])

    told = [*failed_run(60).records, *gated_run(40).records]
    for number, record in enumerate(told):
        board.apply(record)
        if number % 7:
            continue
        frame = lines(board, board.at, width, 24, glyphs)

        assert max(cell_len(line.plain) for line in frame) <= width
        assert len(frame) <= 23
        assert not any("\n" in line.plain for line in frame)


def test_without_unicode_a_frame_is_ascii() -> None:
    for story in (failed_run(60), good_run(), gated_run()):
        for end in range(1, len(story.records), 11):
            board = folded(story.records[:end])
            frame = lines(board, board.at, 60, 24, ASCII)
            text = "".join(line.plain for line in frame)

            assert text.isascii()


def test_at_60_columns_the_pipeline_is_whole() -> None:
    frame = drawn(good_run(300), width=60)

    stages = "build upload prepare ready|switch activate verify live"
    signs = {" ": UNICODE.then, "|": UNICODE.barrier}
    assert " " + "".join(signs.get(c, c) for c in stages) in frame


def test_at_80_columns_stages_and_their_hosts_stand_one_above_the_other() -> None:
    frame = drawn(good_run(300))
    at = next(n for n, line in enumerate(frame) if line.startswith(" build "))

    stages, counts = frame[at : at + 2]

    words = [word for word in stages.split() if word != UNICODE.then]
    assert words == [
        *("build", "upload", "prepare", "ready", UNICODE.barrier),
        *("switch", "activate", "verify", "live"),
    ]
    assert counts.index("300") == stages.index("live")
    assert counts.index(UNICODE.barrier) == stages.index(UNICODE.barrier)


def test_what_the_fleet_waits_for_is_drawn_with_what_it_says() -> None:
    story = gated_run()
    at = [isinstance(r.event, e.AfterWavePassed) for r in story.records].index(True)
    story.records = story.records[:at]

    frame = drawn(story)

    line = next(n for n, text in enumerate(frame) if text.startswith(" after_wave"))
    assert frame[line].split() == ["after_wave", "of", "wave", "1", "0:02"]
    assert frame[line + 1] == "   0.2 % of requests"
    assert any(text.startswith(" gate ") for text in frame)


def test_a_host_that_is_drained_shows_what_its_balancer_says() -> None:
    story = gated_run()
    at = [isinstance(r.event, e.Drained) for r in story.records].index(True)
    story.records = story.records[:at]

    frame = drawn(story)

    assert " 1 draining" in frame
    row = next(text for text in frame if text.startswith("   web1"))
    assert row.split() == ["web1", "draining", "0:01", *["12", "connections", "left"]]


def test_hosts_never_take_more_than_their_rows() -> None:
    story = Story(names(100))
    story.start()

    frame = drawn(story, height=100)

    rows = [line for line in frame if "connecting" in line]
    assert 10 < len(rows) <= MAX_ROWS
    assert frame[-1].strip() == f"… {100 - len(rows)} more"


def test_failures_are_folded_and_never_crowd_out_the_hosts_at_work() -> None:
    story = Story(names(40))
    story.start()
    for n, host in enumerate(story.hosts[:30]):
        story.tell(e.Failed(host, f"reason {n}", S.CONNECTING))

    frame = drawn(story)

    assert any("other hosts" in line for line in frame)
    assert sum("✗" in line for line in frame) < sum("web" in line for line in frame)


def test_rollback_shows_why_and_how_far() -> None:
    story = failed_run(300)
    end = next(
        n for n, r in enumerate(story.records) if isinstance(r.event, e.RolledBack)
    )
    story.records = story.records[: end + 10]

    frame = "\n".join(drawn(story))

    assert "going back" in frame
    assert "10 of 75 hosts" in frame
    assert "24 hosts failed and 15 may" in frame
    assert "web[002,004,008-025]" in frame


def progress(story: Story) -> list[str]:
    """Return the words behind the bar: share, and how many of how many."""
    (line,) = (line for line in drawn(story) if "%" in line)
    return line[max(map(line.rfind, "━─")) + 1 :].split()


def halting_run(count: int = 8) -> Story:
    """One host fails while others prepare, and two of those are halted so far."""
    story = Story(names(count))
    story.start()
    story.connect()
    story.build()
    story.package()
    story.upload()
    story.each(e.Prepared, story.hosts[:1])
    story.tell(e.Failed(story.hosts[4], "pre_deploy exited 28", S.PREPARING, 28))
    story.tell(e.Stopped("1 host failed, 0 allowed"))
    story.each(lambda h: e.Halted(h, "1 host failed, 0 allowed"), story.hosts[:2])
    return story


def test_a_run_that_stops_before_the_bar_shows_how_many_hosts_are_at_rest() -> None:
    story = halting_run()

    assert " 1 failed · 2 halted" in drawn(story)
    assert progress(story) == ["38%", "3", "of", "8", "hosts", "at", "rest"]


def switched(count: int = 4) -> Story:
    """One wave has switched and runs its post-deploys."""
    story = Story(names(count))
    story.start()
    story.connect()
    story.build()
    story.package()
    story.upload()
    story.each(e.Prepared)
    story.wave(1, 1, story.hosts)
    return story


def test_hosts_that_stay_live_are_not_counted_among_those_that_go_back() -> None:
    story = switched()
    for what in (e.Activated, e.Verified, e.Undrained):
        story.each(what, story.hosts[1:])
    story.tell(e.Failed("web1", "post_deploy exited 1", S.ACTIVATING))

    # Nothing has stopped the run yet, so the fleet goes on while one host goes back.
    assert progress(story) == ["75%", "3", "of", "4", "hosts"]
    story.tell(e.Stopped("1 host failed, 0 allowed"))
    assert progress(story) == ["0%", "0", "of", "1", "host"]


def test_hosts_that_are_to_go_back_are_counted_before_they_do() -> None:
    story = switched()
    story.tell(e.Failed("web1", "post_deploy exited 1", S.ACTIVATING))
    story.tell(e.Stopped("1 host failed, 0 allowed"))
    story.tell(e.FleetRollbackStarted("1 host failed, 0 allowed", story.hosts))
    story.tell(e.RolledBack("web1", {"site": OLD}))

    assert progress(story) == ["25%", "1", "of", "4", "hosts"]


def test_a_host_that_is_stranded_is_no_host_that_is_back() -> None:
    story = switched()
    story.tell(e.Stopped("1 host failed, 0 allowed"))
    story.tell(e.FleetRollbackStarted("1 host failed, 0 allowed", story.hosts))
    story.each(lambda h: e.RollbackRequested(h, "1 host failed, 0 allowed"))
    story.tell(e.Failed("web1", "the link could not be read", S.ROLLING_BACK))
    story.each(lambda h: e.RolledBack(h, {"site": OLD}), story.hosts[1:3])

    assert progress(story) == ["50%", "2", "of", "4", "hosts"]


def test_a_finished_frame_has_the_outcome_and_no_hosts() -> None:
    good, bad = drawn(good_run()), drawn(failed_run())

    assert good[0].startswith(" ✓ deploy shop/prod/web")
    assert bad[0].startswith(" ✗ deploy shop/prod/web")
    assert not any("web0" in line for line in bad)
    # Those that failed after the switch are back as well, and counted once.
    assert " 24 failed · 55 back as before" in bad


def test_what_hosts_print_cannot_steer_the_terminal() -> None:
    story = Story(names(2))
    story.start()
    story.tell(e.Failed("web1", "\x1b[2Jgone\x07", S.CONNECTING))

    frame = "\n".join(drawn(story))

    assert "\x1b" not in frame
    assert "gone" in frame


def test_a_build_that_failed_says_so_in_its_line() -> None:
    story = Story(names(1))
    story.start(("site", "api"))
    story.build(("site", "api"))
    story.package(("site",))
    story.tell(e.BuildFailed("buildpack exited 2", exit_status=2))

    frame = drawn(story)

    assert any("api" in line and "✗ buildpack exited 2" in line for line in frame)


def test_nothing_is_drawn_before_the_run_has_started() -> None:
    assert not any("deploy" in line.plain for line in lines(folded([]), 0, 80, 24))


def test_a_wave_that_was_live_before_is_drawn_as_done() -> None:
    story = Story(names(3))
    story.start(action="resume")
    story.connect()
    story.package()
    story.tell(e.Resumed("web1"))
    story.upload(story.hosts[1:])
    story.each(e.Prepared, story.hosts[1:])
    story.wave(2, 2, story.hosts[1:])

    (drawn_waves,) = (line for line in drawn(story) if line.startswith(" wave 2/2"))

    assert drawn_waves.split()[2] == UNICODE.full * len(drawn_waves.split()[2])


# --- A big incident ----------------------------------------------------------------


def incident() -> Story:
    """210 hosts: six are dead, the second wave breaks, and one cannot go back."""
    story = Story(tuple(f"web-{n:03}.shop.example.com" for n in range(1, 211)))
    dead, well = story.hosts[5:11], (*story.hosts[:5], *story.hosts[11:])
    story.start()
    for n, host in enumerate(dead):
        reason = f"10.0.0.{n}:22: no route to host"
        story.tell(e.Failed(host, reason, S.CONNECTING, unreachable=True))
    story.connect(well)
    story.build()
    story.package()
    story.upload(well)
    story.each(e.Prepared, well)
    story.wave(1, 2, well[:40])
    for host in well[10:25]:
        reason = f"post_deploy exited 1: {host}: cannot bind"
        story.tell(e.Failed(host, reason, S.ACTIVATING, 1, "reloading\n"))
    story.tell(e.Stopped("9 hosts failed, 8 allowed"))
    story.tell(e.FleetRollbackStarted("9 hosts failed, 8 allowed", well[:40]))
    story.each(lambda h: e.RollbackRequested(h, "no"), (*well[:10], *well[25:40]))
    story.tell(e.Failed(well[17], "the connection died", S.ROLLING_BACK))
    story.each(lambda h: e.RolledBack(h, {"site": OLD}), well[:10])
    return story


@pytest.mark.parametrize(("width", "height"), [(40, 24), (60, 20), (80, 24), (200, 60)])
def test_the_stranded_host_comes_first_and_no_name_is_cut_at_any_size(
    width: int, height: int
) -> None:
    frame = drawn(incident(), width, height)

    assert max(map(cell_len, frame)) <= width
    first, *others = [line for line in frame if line.startswith(" ✗ ")]
    assert first.startswith(" ✗ web-024.shop.example.com")
    assert others[0].startswith(" ✗ web-")
    assert "stranded" in "".join(frame)
    rows = [line for line in frame if "  rolling back  " in line]
    assert rows
    names = {line.split()[0] for line in rows if not line.startswith(" ✗")}
    assert width < 60 or names <= set(incident().hosts)


def test_failures_that_are_alike_take_one_line_each() -> None:
    frame = drawn(incident(), 200, 60)

    assert [line.split("  ")[0] for line in frame if line.startswith(" ✗ ")] == [
        " ✗ web-024.shop.example.com",
        " ✗ web-[017-023,025-031].shop.example.com",
        " ✗ web-[006-011].shop.example.com",
    ]
    assert any("post_deploy exited 1: HOST: cannot bind" in line for line in frame)
    assert any(line.endswith("no route to host") for line in frame)


def scattered() -> Story:
    """Five hosts whose names fold badly fail alike; the others are live."""
    hosts = tuple(f"{zone}-web.shop.example.com" for zone in "abcdefghij")
    story = Story(hosts)
    story.start()
    story.connect()
    story.package()
    story.upload()
    story.each(e.Prepared)
    story.wave(1, 1, hosts)
    for host in hosts[:5]:
        story.tell(e.Failed(host, "post_deploy exited 1: no", S.ACTIVATING))
    return story


@pytest.mark.parametrize("height", [24, 16])
def test_names_take_as_many_lines_as_there_are(height: int) -> None:
    frame = drawn(scattered(), 80, height)

    text = " ".join(line.strip() for line in frame)
    told = [f"{zone}-web.shop.example.com" for zone in "abcde"]
    assert (", ".join(told) in text) == (height == 24)
    assert ("a-web.shop.example.com and 4 others" in text) == (height == 16)
    assert "post_deploy exited 1: no" in text
    # The height is for hosts then, not for what was built.
    assert not any(line.startswith(" site ") for line in frame)


def test_the_last_board_leaves_its_height_to_the_closing_words() -> None:
    story = incident()
    story.finish("stranded", 3, "9 hosts failed, 8 allowed")

    frame = drawn(story, 60, 20)

    assert len(frame) == 6
    assert frame[3].startswith(" unknown on 1 host")


def test_hosts_are_counted_once_in_an_incident() -> None:
    frame = drawn(incident())

    assert " 1 stranded · 20 failed · 15 going back · 10 back as before" in frame


def test_the_reason_is_whole_where_there_is_room() -> None:
    frame = drawn(switched_with_a_long_reason())

    (reason,) = (line for line in frame if "the long reason" in line)
    assert reason.endswith("that it gave")


def switched_with_a_long_reason() -> Story:
    story = switched()
    reason = "post_deploy exited 1: this is the long reason that it gave"
    story.tell(e.Failed("web1", reason, S.ACTIVATING))
    story.tell(e.Stopped("1 host failed, 0 allowed"))
    return story


def test_while_another_run_is_waited_for_no_host_is_shown_as_failed() -> None:
    story = Story(names(500))
    story.start()
    held = "another run holds the lock: run R0 by ada on hq (pid 7) since 00:16"
    story.tell(e.Connected("web001"))
    board, frames = folded(story.records), []
    for event in (
        e.Failed("web001", held, S.CHECKING, locked=True),
        e.LockAwaited("web001", held, 600.0, story.hosts),
    ):
        board.apply(e.Record(9, board.at, "r", event))
        frames.append([line.plain for line in lines(board, board.at + 5, 80, 24)])

    for frame in frames:
        assert not re.search("failed|✗|interrupted|halted", "".join(frame))
    frame = frames[-1]
    assert any("0:05 of up to 10:00" in line for line in frame)
    assert f" web001: {held}" in frame
    assert not any("connecting" in line for line in frame)


def test_what_was_never_built_stops_its_clock() -> None:
    story = Story(names(1))
    story.start()
    story.build()
    story.finish("interrupted", 130, "SIGINT")

    assert any(line.endswith("not built") for line in drawn(story))


def test_a_mixed_fleet_shows_what_serves_where() -> None:
    story = switched()
    for what in (e.Activated, e.Verified, e.Undrained):
        story.each(what, story.hosts[:3])
    story.tell(e.Failed("web4", "post_deploy exited 1", S.ACTIVATING))
    story.tell(e.RolledBack("web4", {"site": OLD}))
    story.finish("mixed", 5, "1 host failed, 0 allowed")

    frame = drawn(story)

    assert " new release live on 3 hosts · old release live on 1 host" in frame
    assert " 1 failed" in frame


def test_the_last_board_tells_a_warning_in_full() -> None:
    text = (
        f"MANIFEST stays: the run was under --limit; {'words ' * 12}ghostasync deploy"
    )
    records = good_run(3).records
    board = folded(records[:-1])
    board.warnings.append(text)
    over = folded(records)
    over.warnings.append(text)

    def shown(board: Board) -> str:
        return " ".join(line.plain.strip() for line in lines(board, 0.0, 80, 24))

    assert text not in shown(board)
    assert text in shown(over)
