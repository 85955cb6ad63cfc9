from __future__ import annotations

import io
import logging
import os
import threading
from pathlib import Path

import pytest

from ghostasync.cli._sink import Errors, Sink, show


def test_text_is_written_in_order(tmp_path: Path) -> None:
    path = tmp_path / "out"

    with path.open("w") as stream, Sink(stream) as sink:
        for number in range(1000):
            sink.write(f"{number}\n")

    assert path.read_text().split() == [str(n) for n in range(1000)]


def test_a_reader_that_does_not_read_holds_up_nobody() -> None:
    reader, writer = os.pipe()
    got = bytearray()

    def read_all() -> None:
        while data := os.read(reader, 65536):
            got.extend(data)

    late = threading.Thread(target=read_all)
    with os.fdopen(writer, "w") as stream, Sink(stream) as sink:
        for _ in range(100):
            sink.write("x" * 10_000)  # a pipe holds 65,536 bytes
        assert sink.busy
        late.start()
    late.join()
    os.close(reader)

    assert len(got) == 1_000_000


def test_a_reader_that_is_gone_ends_the_writing_and_raises_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")

    with Sink(stream) as sink:
        sink.write("one\n")
        sink.write("two\n")
    assert sink.lost
    sink.write("three\n")
    show(["four"], stream)

    with pytest.raises(BrokenPipeError):
        stream.close()


def test_a_stream_that_was_closed_is_a_lost_one() -> None:
    stream = io.TextIOWrapper(io.BytesIO())
    stream.close()

    with Sink(stream) as sink:
        sink.write("one")

    assert sink.lost


def test_letters_the_terminal_does_not_know_become_question_marks() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")

    with Sink(stream) as sink:
        sink.write("naïve ✓ \udcff\n")
    show(["über"], stream)

    assert raw.getvalue() == b"na?ve ? ?\n?ber\n"


def test_what_is_shown_is_plain_unless_it_is_to_be_exact() -> None:
    plain, exact = io.StringIO(), io.StringIO()

    show(["a\u202e\x1b[2J\nb"], plain)
    show(["\ta\x1b[2J"], exact, exact=True)

    assert plain.getvalue() == "a b\n"
    assert exact.getvalue() == "\ta\x1b[2J\n"


def test_what_a_library_logs_is_plain() -> None:
    record = logging.LogRecord(
        "asyncssh", logging.WARNING, "", 0, "%s said\n%s", ("h\x1b[2J", "\u202eb"), None
    )

    assert Errors().format(record) == "h said\nb"
