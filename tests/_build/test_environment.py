from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ghostasync._build.environment import (
    LONGEST_VARIABLE,
    MOST_VARIABLES,
    exports,
    parse_exports,
    recorded_secrets,
    secret_names,
    shortened,
    size_of,
    split_secret_names,
)

NUL_FREE = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(NUL_FREE, st.integers(0, 4), st.sampled_from(["x", "é", "€", "𝄞"]))
def test_a_long_message_is_cut_between_two_characters(
    text: str, odd: int, letter: str
) -> None:
    message = "." * odd + letter * 32_000 + text

    short = shortened(message)

    assert message.startswith(short)
    assert 31_997 <= len(short.encode()) <= 32_000


@given(NUL_FREE)
def test_a_short_message_stays_as_it_is(text: str) -> None:
    assert shortened(text) == text


def test_a_message_in_another_encoding_is_cut_where_it_must() -> None:
    message = os.fsdecode(b"\xe9\x80" * 20_000)

    short = os.fsencode(shortened(message))

    assert os.fsencode(message).startswith(short)
    assert 31_997 <= len(short) <= 32_000


@pytest.mark.parametrize(
    "variables",
    [
        {"A": "x" * (LONGEST_VARIABLE - 3)},
        {f"A{n}": "é" * 60_000 for n in range(8)},
    ],
)
def test_linux_starts_a_program_with_what_is_allowed(variables: dict[str, str]) -> None:
    assert sum(size_of(*item) for item in variables.items()) <= MOST_VARIABLES

    subprocess.run(["/bin/true"], env=variables, check=True)


VALUES = st.one_of(NUL_FREE, st.binary().map(lambda b: b.replace(b"\0", b"'"))).map(
    lambda value: os.fsdecode(value) if isinstance(value, bytes) else value
)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True)


@given(st.dictionaries(NAMES, VALUES))
def test_exports_are_read_back(variables: dict[str, str]) -> None:
    assert parse_exports(exports(variables)) == variables


@given(st.dictionaries(NAMES, VALUES, min_size=1), st.integers(0), st.integers(0, 255))
def test_what_is_no_list_of_exports_is_refused(
    variables: dict[str, str], at: int, byte: int
) -> None:
    data = bytearray(exports(variables))
    data[at % len(data)] = byte
    try:
        found = parse_exports(bytes(data))
    except ValueError as error:
        assert str(error) == "no list of exports"
    else:
        assert parse_exports(exports(found)) == found


def on_record(*environments: tuple[Mapping[str, str], list[str] | None]) -> bytes:
    """Return environments as ``recorded.sh`` prints them."""
    return b"".join(
        b"environment\n"
        + (b"" if names is None else secret_names(names))
        + exports(variables)
        + b'ghost_verify=\'{"command": ""}\'\n'
        for variables, names in environments
    )


@given(st.dictionaries(NAMES, VALUES), st.sets(NAMES))
def test_what_is_secret_is_said_in_the_same_file(
    variables: dict[str, str], names: set[str]
) -> None:
    names |= {*sorted(variables)[:2]}
    data = secret_names(names) + exports(variables)

    assert split_secret_names(data) == (tuple(sorted(names)), exports(variables))
    found = [*recorded_secrets(on_record((variables, sorted(names))), ())]
    assert sorted(found) == sorted(variables[n] for n in names & variables.keys())


def test_records_of_several_releases_say_each_for_itself() -> None:
    data = on_record(
        ({"TOKEN": "first", "COLOR": "plain"}, ["TOKEN"]),
        ({"API_KEY": "second", "COLOR": "plain"}, ["API_KEY"]),
        ({"TOKEN": "plain"}, []),
    )

    assert [*recorded_secrets(data, ())] == ["first", "second"]


def test_of_a_record_that_does_not_say_all_but_what_is_known_to_be_plain_counts() -> (
    None
):
    variables = {
        "OLD_TOKEN": "of-long-ago",
        "COLOR": "known-as-plain",
        "GHOST_APP": "ours-and-no-secret",
        "SIZE": "short",
    }

    found = [*recorded_secrets(on_record((variables, None)), {"COLOR"})]

    assert found == ["of-long-ago"]


@given(st.binary())
@example(b"environment\nghost_secrets='A'\nexport A='x")
@example(b"ghost_secrets='A'\nexport A='\xff'\n\0")
def test_whatever_a_host_answers_holds_secrets_or_none(data: bytes) -> None:
    assert all(isinstance(value, str) for value in recorded_secrets(data, ()))
