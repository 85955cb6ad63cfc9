from __future__ import annotations

import pytest
from rich.cells import cell_len

from ghostasync import events as e
from ghostasync.cli.bars import ASCII, UNICODE, Glyphs
from ghostasync.cli.view import MAX_ROWS, lines
from ghostasync.model import State as S  # noqa: N817  as in the table
from tests.story import Story, failed_run, folded, gated_run, good_run, names


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


def test_a_finished_frame_has_the_outcome_and_no_hosts() -> None:
    good, bad = drawn(good_run()), drawn(failed_run())

    assert good[0].startswith(" ✓ deploy shop/prod/web")
    assert bad[0].startswith(" ✗ deploy shop/prod/web")
    assert not any("web0" in line for line in bad)
    assert " 4 failed · 75 back as before" in bad


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
