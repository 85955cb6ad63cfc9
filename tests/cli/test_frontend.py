from __future__ import annotations

import io
import json

import anyio
import anyio.lowlevel
import pytest

from ghostasync import events as e
from ghostasync.cli._frontend import FrontEnd
from ghostasync.cli._options import Output
from tests.story import Story, failed_run, good_run


def shown(story: Story, output: Output, *, say: str = "") -> str:
    stream = io.StringIO()
    with FrontEnd(output, stream) as front:
        for record in story.records:
            front.observe(record)
        if say:
            front.say(say)
    return stream.getvalue()


def test_json_is_one_object_a_line_and_progress_is_left_out() -> None:
    story = failed_run(40)

    objects = [json.loads(line) for line in shown(story, "json").splitlines()]

    assert [o["seq"] for o in objects] == list(range(1, len(objects) + 1))
    assert not any(o["event"] == "Progressed" for o in objects)
    assert objects[-1]["event"] == "Finished"
    assert objects[-1]["exit"] == 1


def test_lines_are_what_auto_means_beside_a_terminal() -> None:
    story = good_run(2)

    text = shown(story, "auto")

    assert text == shown(story, "lines")
    assert "\x1b" not in text
    assert text.splitlines()[-1].endswith("4f2a9c1")


@pytest.mark.parametrize(
    ("output", "there"), [("lines", True), ("board", True), ("json", False)]
)
def test_what_is_said_beside_the_records_never_breaks_json(
    output: Output, there: bool
) -> None:
    story = good_run(2)

    assert ("please wait" in shown(story, output, say="please wait")) is there


def test_a_board_ticks_while_nothing_happens() -> None:
    stream = io.StringIO()
    story = Story(("web1",))
    story.start()

    with FrontEnd("board", stream) as front:
        for record in story.records:
            front.observe(record)
        anyio.run(tick_once, front)

    assert stream.getvalue().count("shop/prod/web") == 2


async def tick_once(front: FrontEnd) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(front.tick)
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()


async def test_lines_do_not_tick() -> None:
    front = FrontEnd("lines", io.StringIO())

    await front.tick()

    assert front.board.started is None


def test_the_board_is_folded_whatever_is_shown() -> None:
    front = FrontEnd("json", io.StringIO())

    for record in good_run(2).records:
        front.observe(record)

    assert isinstance(front.board.finished, e.Finished)
