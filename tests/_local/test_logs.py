"""Logs have an end, whatever is printed; what is left out of them is said."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostasync._local import logs
from ghostasync._local.logs import CappedLog


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CappedLog:
    """A log that keeps hundreds of bytes in place of megabytes."""
    monkeypatch.setattr(logs, "HEAD", 100)
    monkeypatch.setattr(logs, "TAIL", 100)
    monkeypatch.setattr(logs, "MOST", 300 + len(logs._LINE % 0))
    return CappedLog(tmp_path / "log")


def test_what_is_short_is_kept_whole(log: CappedLog) -> None:
    log.write(b"one\n")
    log.write(b"two\n")

    assert log.path.read_bytes() == b"one\ntwo\n"
    assert log.left_out == 0


@settings(max_examples=50)
@given(sizes=st.lists(st.integers(0, 900), max_size=20))
def test_the_beginning_and_the_end_are_kept_and_the_rest_is_counted(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs, "HEAD", 100)
        patch.setattr(logs, "TAIL", 100)
        patch.setattr(logs, "MOST", 300 + len(logs._LINE % 0))
        log = CappedLog(tmp_path_factory.mktemp("log") / "log")
        said = b""
        for number, size in enumerate(sizes):
            data = bytes([97 + number % 26]) * size
            log.write(data)
            said += data
            assert not size or log.path.stat().st_size <= logs.MOST

    kept = log.path.read_bytes() if sizes else b""
    if log.left_out:
        head, count, tail = re.split(rb"\n--- +(\d+) bytes are left out[^\n]*\n", kept)
        assert int(count) == log.left_out
        assert said.startswith(head)
        assert said.endswith(tail)
        assert len(head) + len(tail) + log.left_out == len(said)
        assert (len(head), len(tail) >= 100) == (100, True)
    else:
        assert kept == said


def test_a_host_that_never_ends_fills_no_disk(tmp_path: Path) -> None:
    log = CappedLog(tmp_path / "log")
    chunk = os.urandom(1 << 20)

    for _ in range(40):
        log.write(chunk)
    log.write(b"the end")

    assert log.path.stat().st_size <= logs.MOST < 13 << 20
    assert log.path.read_bytes().endswith(b"the end")
