"""Calls of scripts: however a host answers, it is that host's error, and bounded."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostasync._remote import call as remote
from ghostasync.errors import BadAnswer, HostError, RemoteError
from tests import hostile
from tests.hostile import RawSession

MIB = 1 << 20


def _framed(text: bytes, status: bytes = b"0") -> bytes:
    return b"\nNONCE begin\n" + text + b"\nNONCE end " + status + b"\n"


async def _ask(name: str, session: RawSession) -> object:
    if name == "lock":
        _, said = await remote.hold(session, name, read=hostile.READERS[name])
        return said
    return await remote.query(session, name, read=hostile.READERS[name])


@pytest.mark.parametrize("name", hostile.READERS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_bytes_in_any_frame_are_values_or_an_error_of_the_host(
    name: str, data: st.DataObject
) -> None:
    frame = st.sampled_from(
        (b"", b"\nNONCE begin\n", b"\nNONCE end ", b"0\n", b"9" * 9)
    )
    body = hostile.mangled(hostile.TRUE[name])
    pieces = st.lists(st.one_of(frame, body, st.binary(max_size=20)), max_size=6)
    wire = b"".join(data.draw(pieces))
    errors = b"".join(data.draw(pieces))
    status = data.draw(st.sampled_from((None, 0, 1, 75, 2**31)))

    with suppress(HostError):
        anyio.run(_ask, name, RawSession(wire, status, errors))


@pytest.mark.parametrize("name", [n for n in hostile.LIES if n != "lock"])
async def test_an_error_names_the_script_and_quotes_the_answer(name: str) -> None:
    lie = hostile.LIES[name][1]

    with pytest.raises(BadAnswer, match=f"^{name} answered nonsense") as caught:
        await _ask(name, RawSession(_framed(lie.encode())))

    text = str(caught.value)
    assert len(text) < 300
    assert repr(lie[:10])[:-1] in text


async def test_what_an_error_quotes_is_escaped() -> None:
    session = RawSession(_framed("home=\x1b[2J\u202e\u2028\n".encode()))

    with pytest.raises(BadAnswer) as caught:
        await _ask("probe", session)

    assert r"'home=\x1b[2J\u202e\u2028\n'" in str(caught.value)


@pytest.mark.parametrize("status", [b"x", b"-1", b"", b"2" * 900, "²".encode()])
async def test_a_script_that_ends_with_no_status_has_not_ended_well(
    status: bytes,
) -> None:
    with pytest.raises(BadAnswer, match="no exit status"):
        await _ask("probe", RawSession(_framed(b"uid=0\n", status)))


@pytest.mark.parametrize("name", ["probe", "check", "restore", "lock"])
@pytest.mark.parametrize("begun", [b"", b"\nNONCE begin\n", b"\nNONCE begin\nx\n"])
async def test_a_host_that_floods_is_not_listened_to(name: str, begun: bytes) -> None:
    session = RawSession(begun, flood=b"z" * MIB)
    if name == "lock" and begun.endswith(b"x\n"):
        return  # that is one line, and has an end
    tracemalloc.start()
    try:
        with pytest.raises(BadAnswer) as caught, anyio.fail_after(20):
            await _ask(name, session)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert f"{name} answered nonsense" in str(caught.value)
    assert session.nbytes <= 4 * MIB
    assert peak < 12 * MIB


async def test_a_held_lock_that_floods_is_dropped() -> None:
    session = RawSession(b"\nNONCE begin\nlocked 7 9\n\n", flood=b"z" * MIB)
    tracemalloc.start()
    try:
        channel, held = await remote.hold(session, "lock", read=hostile.READERS["lock"])
        with anyio.fail_after(20):
            assert await channel.wait() is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert getattr(held, "process", "") == "7 9"
    assert session.nbytes <= 4 * MIB
    assert peak < 12 * MIB


async def test_a_lock_that_ends_without_a_word_is_not_held() -> None:
    with pytest.raises(BadAnswer, match="it ended"):
        await _ask("lock", RawSession(_framed(b"")))


async def test_a_lock_that_fails_says_why() -> None:
    session = RawSession(_framed(b"", b"75"), errors=b"run 7 by ann\n")

    with pytest.raises(RemoteError) as caught:
        await _ask("lock", session)

    assert (caught.value.status, caught.value.tail) == (75, "run 7 by ann\n")


async def test_a_line_that_comes_in_pieces_is_read_as_a_whole() -> None:
    session = RawSession(b"\nNONCE begin\nlocked 12 3", flood=b"4\n\n")

    held = await _ask("lock", session)

    assert getattr(held, "process", "") == "12 34"


async def test_a_line_of_a_lock_has_an_end() -> None:
    flood = b"locked 7 9, taken over from "
    session = RawSession(b"\nNONCE begin\n" + flood, flood=b"x" * 100)

    with pytest.raises(BadAnswer, match="lock answered nonsense"), anyio.fail_after(5):
        await _ask("lock", session)

    assert session.nbytes < 10_000
