"""Activation records: from a value to lines and back, here and by a host's printf."""

from __future__ import annotations

import os
import subprocess
from typing import get_args

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostasync._remote.activation import (
    Activation,
    Ended,
    escape,
    read,
    unescape,
    write,
)
from tests._remote.shells import SHELLS

PEOPLES = ("actor", "reason", "subject")
OTHERS = tuple(
    field.name
    for field in attrs.fields(Activation)
    if field.name not in {"generation", "outcome", "reverted_by", *PEOPLES}
)
LIMIT = 200

# What is no UTF-8 becomes surrogate escapes, as in arguments and names of files.
ODD = st.sampled_from(("\n", "\r", "\\", "\\0101", "\\n", "\x00", "\x7f", "\x85", "="))
TEXTS = st.one_of(
    st.text(st.characters(codec="utf-8")),
    st.lists(st.one_of(ODD, st.text(max_size=2))).map("".join),
    st.binary().map(os.fsdecode),
)
# Two surrogate escapes side by side may be bytes of one character.
LONG_TEXTS = TEXTS.map(lambda text: os.fsdecode(os.fsencode(text) * 50))
ACTIVATIONS = st.builds(
    Activation,
    generation=st.integers(1, 10**15 - 1),
    outcome=st.sampled_from(get_args(Ended)),
    reverted_by=st.sampled_from(("", "20260704T101500Z-0a1b2c")),
    **{name: TEXTS.filter(bool) for name in ("run", "release")},
    **{name: TEXTS for name in OTHERS if name not in {"run", "release"}},
    **{name: st.one_of(TEXTS, LONG_TEXTS) for name in PEOPLES},
)


def _lines(record: Activation) -> dict[str, str]:
    """Return the lines of a record as hosts complete them."""
    text = f"outcome={record.outcome:<8}\n{write(record)}"
    if record.reverted_by:
        text += f"\nreverted_by={record.reverted_by}"
    pairs = [line.partition("=")[::2] for line in text.split("\n")]
    assert len(pairs) == len(attrs.fields(Activation)) - (not record.reverted_by)
    return dict(pairs)


@given(record=ACTIVATIONS)
def test_a_record_is_read_as_it_was_written(record: Activation) -> None:
    short = {name: getattr(record, name)[:LIMIT] for name in PEOPLES}

    again = read(str(record.generation), _lines(record))

    assert again == attrs.evolve(record, **short)


@given(text=TEXTS)
def test_an_escaped_text_has_no_line_and_no_control_character(text: str) -> None:
    assert all(ord(sign) >= 32 and ord(sign) != 127 for sign in escape(text))
    assert unescape(escape(text)) == text


@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=30)
@given(texts=st.lists(TEXTS, min_size=1, max_size=20))
def test_a_host_reads_back_what_was_escaped(shell: str, texts: list[str]) -> None:
    words = [os.fsencode(escape(text)) for text in texts]

    said = subprocess.run(
        [*SHELLS[shell], 'printf "%b\\n" "$@"', "sh", *words],
        capture_output=True,
        check=True,
    ).stdout

    assert said == b"".join(os.fsencode(text) + b"\n" for text in texts)


@pytest.mark.parametrize("text", ["\\", r"\x41", r"\101", r"\08", r"a\0", r"\n"])
def test_what_nobody_escaped_stays_as_it_is(text: str) -> None:
    assert unescape(text) == text


def test_a_byte_has_no_more_than_8_bits() -> None:
    assert unescape(r"\0501") == "A"


WHOLE = {"outcome": "live    ", "generation": "5", "run": "r", "release": "5_site_a"}


def test_keys_may_be_unknown_or_missing() -> None:
    record = read("5", {**WHOLE, "weather": "fine"})

    assert record == Activation(5, "r", "5_site_a", outcome="live")


@pytest.mark.parametrize("gone", ["outcome", "run", "release"])
@pytest.mark.parametrize("left", ["", None])
def test_a_record_that_lacks_what_it_must_have_is_none(
    gone: str, left: str | None
) -> None:
    lines = {key: value for key, value in WHOLE.items() if key != gone}
    if left is not None:
        lines[gone] = left

    assert read("5", lines) is None


@pytest.mark.parametrize("outcome", ["mov", "LIVE", "live\0", " live", "live reverted"])
def test_a_record_with_another_outcome_is_none(outcome: str) -> None:
    assert read("5", {**WHOLE, "outcome": outcome}) is None


@pytest.mark.parametrize("number", ["", "5.new", "x", "-5", "٣", "²", "1" * 16])
def test_a_record_in_a_file_that_is_no_number_is_none(number: str) -> None:
    assert read(number, WHOLE) is None
    assert read("1" * 15, WHOLE) is not None


@pytest.mark.parametrize("sign", ["a", "\n", "\\", "\x1b", "é", "😀", "\udcff"])
def test_a_record_of_people_with_much_to_say_stays_below_4_kib(sign: str) -> None:
    release = "20260704-101500_documentation_0a1b2c3d4e5f"
    record = Activation(
        generation=10**15 - 1,
        run="20260704-101500-0a1b2c3d",
        release=release,
        goal="rollback",
        outcome="reverted",
        previous=f"/var/lib/ghost/shop/production/web/green/documentation/{release}",
        target="/srv/www/documentation.example.org/current",
        aside="/srv/www/documentation.example.org/.current.before",
        fingerprint="f" * 64,
        store="0" * 36,
        instance=f"i-{'0' * 17}/{'f' * 32}",
        at="2026-07-04T10:15:00Z",
        commit="c" * 40,
        undoes="20260704-101500-0a1b2c3d",
        resumes="20260704-101500-0a1b2c3d",
        **dict.fromkeys(PEOPLES, sign * 10_000),
    )

    assert len(os.fsencode(write(record))) + len("outcome=reverted\n\n") <= 4096
    assert read("1", _lines(record)) is not None


@pytest.mark.parametrize(
    ("previous", "moved"),
    [("", True), ("/app/site/4_site_a", True), ("/app/site/5_site_a", False)],
)
def test_a_release_that_served_already_did_not_move(previous: str, moved: bool) -> None:
    assert Activation(5, "r", "5_site_a", previous=previous).moved is moved


def test_every_outcome_has_room_in_the_first_line() -> None:
    """``restore.sh`` and ``prune.sh`` overwrite it in place."""
    assert max(map(len, get_args(Ended))) == len("reverted")
