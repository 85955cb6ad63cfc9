from __future__ import annotations

import io
import json
import re

import anyio
import anyio.lowlevel
import attrs
import pytest

from ghostasync import events as e
from ghostasync.cli._frontend import FrontEnd
from ghostasync.cli._options import Output
from ghostasync.model import Revision, State
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


TRICK = "a\x1b[2J\n00:00:00 web9  live\u2028\u202e\x9b31m\x85\x00\x7f\u200b\udcffz"
"""A screen is cleared, a line forged, the direction turned, and more."""


def _tricky() -> Story:
    """Tell a run in which all text of others is a trick."""
    story = Story(("web1", "web2"))
    story.tell(
        e.Started("deploy", "shop", ("site",), story.hosts, actor=TRICK, reason=TRICK)
    )
    revision = Revision("git", f"main{TRICK}", "4f2a9c1" * 5, message=TRICK)
    story.tell(e.Resolved("site", revision))
    story.tell(e.BuildOutput("site", "buildpack", f"{TRICK}\n"))
    story.tell(e.HostWarned("web1", TRICK))
    story.tell(e.Output("web1", "site", "pre_deploy", TRICK))
    story.tell(e.Failed("web1", TRICK, State.CONNECTING, tail=TRICK))
    story.tell(e.Warned(TRICK))
    story.tell(e.Stopped(TRICK))
    return story


def test_no_text_of_others_is_obeyed_or_makes_a_line() -> None:
    story = _tricky()
    honest = [
        attrs.evolve(record, event=_honest(record.event)) for record in story.records
    ]

    text = shown(story, "lines", say=TRICK)

    plain = shown(attrs.evolve(story, records=honest), "lines", say="a z")
    assert all(line.isprintable() for line in text.split("\n"))
    # The build's output has lines of its own, each behind the module's name.
    assert text.count("\n") == plain.count("\n") + 1
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in text.splitlines())


def _honest(event: e.Event) -> e.Event:
    texts = {
        field.name: getattr(event, field.name).replace(TRICK, "a z")
        for field in attrs.fields(type(event))
        if isinstance(getattr(event, field.name), str)
    }
    return attrs.evolve(event, **texts)


def test_json_has_all_text_escaped() -> None:
    text = shown(_tricky(), "json")

    assert text.isascii()
    assert text.replace("\n", "").isprintable()
    warned = [json.loads(line) for line in text.splitlines()][3]
    assert warned["text"] == TRICK.replace("\udcff", "\ufffd")


def test_a_board_draws_no_trick() -> None:
    text = shown(_tricky(), "board", say=TRICK)

    assert not {"\u202e", "\u2028", "\u200b", "\x9b", "\x00", "\x7f"} & set(text)
    assert "\x1b[2J" not in text
    assert "web1" in text


@pytest.mark.parametrize("output", ["board", "lines"])
def test_what_a_source_says_before_the_run_is_written(output: Output) -> None:
    text = "remote: Counting objects: 10% (1/10)\n"
    event = e.BuildOutput("site", "source", text, final=False)
    stream = io.StringIO()

    with FrontEnd(output, stream) as front:
        front.observe(e.Record(0, 0.0, "run", event))

    assert stream.getvalue().endswith(f" site  | {text}")


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
