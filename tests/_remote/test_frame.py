from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from ghostasync._remote.frame import Frame

NONCE = "00ff00ff00ff00ff"


def _wrap(output: bytes, status: int, preamble: bytes = b"") -> bytes:
    opening = f"\n{NONCE} begin\n".encode()
    return preamble + opening + output + f"\n{NONCE} end {status}\n".encode()


@given(
    preamble=st.binary(max_size=40),
    output=st.binary(max_size=200),
    status=st.integers(0, 255),
    cuts=st.lists(st.integers(0, 300), max_size=8),
)
def test_output_and_status_survive_any_cutting(
    preamble: bytes, output: bytes, status: int, cuts: list[int]
) -> None:
    wire = _wrap(output, status, preamble) + b"a child that still talks"
    at = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]
    frame = Frame(NONCE)

    pieces = [frame.feed(wire[a:b]) for a, b in itertools.pairwise(at)]

    assert (b"".join(pieces), frame.status) == (output, status)


def test_output_before_the_opening_line_is_not_the_scripts() -> None:
    frame = Frame(NONCE)

    seen = frame.feed(_wrap(b"yes", 0, b"Welcome to web1\nlast login: never"))

    assert seen == b"yes"


def test_a_script_that_is_cut_off_has_no_status() -> None:
    frame = Frame(NONCE)

    seen = frame.feed(_wrap(b"half", 0)[:-4])

    assert (seen, frame.begun, frame.status) == (b"half", True, None)


def test_output_is_passed_on_before_the_end_is_known() -> None:
    frame = Frame(NONCE)
    frame.feed(f"\n{NONCE} begin\n".encode())

    assert frame.feed(b"one\n") + frame.feed(b"two\n") == b"one\ntwo"
