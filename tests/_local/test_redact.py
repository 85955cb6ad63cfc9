from __future__ import annotations

from functools import partial

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostasync import events as e
from ghostasync._local.redact import _WRITTEN, Redactor
from ghostasync.errors import without_credentials
from ghostasync.model import Revision

KEY = "-----BEGIN KEY-----\nMIIEpAIBAAKCAQEA\n}\n-----END KEY-----\n"


masking = partial(Redactor, shortest=1)
"""Short texts stand for secrets here."""


def in_pieces(redactor: Redactor, *pieces: bytes) -> list[bytes]:
    stream = redactor.stream()
    return [*(stream.feed(piece) for piece in pieces), stream.flush()]


def test_secrets_are_masked_in_text_and_bytes() -> None:
    redactor = masking(["hunter2", "s3cret"])

    assert redactor.text("pw=hunter2 key=s3cret!") == "pw=*** key=***!"
    assert redactor.bytes(b"pw=hunter2 key=s3cret!") == b"pw=*** key=***!"


@pytest.mark.parametrize("secrets", [[], [""], [" ", "\n"]])
def test_without_secrets_everything_passes_unchanged(secrets: list[str]) -> None:
    redactor = masking(secrets)
    data = b"a \n\xff b"

    assert redactor.bytes(data) == data
    assert redactor.text("a \n b") == "a \n b"
    assert in_pieces(redactor, data) == [data, b""]


def test_a_secret_that_begins_another_leaves_nothing_of_the_longer_one() -> None:
    redactor = masking(["token", "token-with-more"])

    assert redactor.text("token token-with-more token-with") == "*** *** ***-with"


def test_overlapping_secrets_are_masked_as_one() -> None:
    redactor = masking(["abcd", "cdef"])

    assert redactor.text("<abcdef>") == "<***>"


def test_neighbours_are_masked_one_by_one() -> None:
    assert masking(["ab"]).text("ababx") == "******x"


def test_a_multi_line_secret_is_masked_whole_and_line_by_line() -> None:
    redactor = Redactor([KEY])

    assert redactor.text(f"<{KEY}>") == "<***>"
    assert redactor.text("key: MIIEpAIBAAKCAQEA }") == "key: *** }"


def test_what_is_short_stays_as_it_is() -> None:
    redactor = Redactor(["prod", " 7 chars", "8 charac", "\n  1234567\n"])

    assert redactor.text("prod 7 chars 8 charac 1234567") == "prod 7 chars *** 1234567"
    assert redactor.knowing(["x"]).text("x 8 charac") == "x ***"


def test_a_final_newline_in_the_secret_does_not_let_it_slip_through() -> None:
    assert masking(["pw\n"]).text("login pw ok") == "login *** ok"


def test_undecodable_bytes_of_a_secret_are_found() -> None:
    redactor = masking(["caf\udce9"])

    assert redactor.bytes(b"x caf\xe9 y") == b"x *** y"
    assert redactor.text("x caf\udce9 \udcff") == "x *** \udcff"


def test_a_secret_across_pieces_is_masked_and_only_its_beginning_is_held() -> None:
    redactor = masking(["hunter2"])

    pieces = in_pieces(redactor, b"pw=hun", b"ter2 and hunt", b"s\n")

    assert pieces == [b"pw=", b"*** and ", b"hunts\n", b""]


def test_a_beginning_that_never_went_on_comes_out_at_the_end() -> None:
    assert in_pieces(masking(["hunter2"]), b"a hunt") == [b"a ", b"hunt"]


def test_an_endless_run_of_overlaps_is_masked_once_and_not_hoarded() -> None:
    stream = masking(["aaaa"]).stream()

    out = [stream.feed(b"aaaaaaaa") for _ in range(100)]

    assert b"".join(out) == b"***"
    assert len(stream._held) < 4
    assert stream.feed(b"b") + stream.flush() == b"b"


@given(
    st.lists(st.text("ab\n", max_size=5), max_size=3),
    st.lists(st.binary(max_size=6).map(lambda raw: bytes(97 + b % 3 for b in raw))),
)
def test_how_the_bytes_are_cut_never_changes_what_comes_out(
    secrets: list[str], pieces: list[bytes]
) -> None:
    redactor = masking(secrets)

    whole = redactor.bytes(b"".join(pieces))

    assert b"".join(in_pieces(redactor, *pieces)) == whole
    assert not any(s.encode() in whole for s in secrets if s.strip())


@given(
    st.lists(
        st.sampled_from(
            [
                "https:",
                "//",
                "u:",
                "p4ss",
                "@",
                "h/x",
                "?",
                "token=",
                "p4ss",
                " ",
                "\n",
                ":",
            ]
        ),
        max_size=16,
    ).map("".join),
    st.data(),
)
def test_no_stream_has_credentials_of_urls_however_it_is_cut(
    text: str, data: st.DataObject
) -> None:
    """A submodule's URL in what git prints, with the token that the buildpack set."""
    cuts = data.draw(st.sets(st.integers(0, len(text))).map(sorted))
    pieces = [
        text[a:b].encode() for a, b in zip([0, *cuts], [*cuts, None], strict=True)
    ]

    for redactor in (Redactor(()), masking(["s3cr3t"])):
        assert b"".join(in_pieces(redactor, *pieces)) == redactor.text(text).encode()
    assert Redactor(()).text(text) == without_credentials(text)


def test_a_url_that_is_cut_in_its_scheme_keeps_no_token() -> None:
    pieces = in_pieces(Redactor(()), b"from=ht", b"tps://T0KEN:@h/x\n", b"end")

    assert b"".join(pieces) == b"from=https://h/x\nend"


def test_only_what_may_be_a_url_is_held_back() -> None:
    pieces = in_pieces(
        Redactor(()), b"got 7 of 9: at https://", b"u:p4ss@h/x", b"\nnext"
    )

    assert pieces == [b"got 7 of 9: at ", b"", b"https://h/x\nnext", b""]
    assert in_pieces(Redactor(()), b"a:" * 5000) == [b"a:" * 5000, b""]


def test_a_redactor_can_learn_more() -> None:
    first = masking(["of-today"])

    second = first.knowing(["of-yesterday"])

    assert second.text("of-today, of-yesterday") == "***, ***"
    assert first.text("of-today, of-yesterday") == "***, of-yesterday"
    assert second.knowing(["of-today"]) is second


def test_credentials_of_urls_are_no_text() -> None:
    text = "from https://u:p4ss@h/x?private_token=s3"

    assert Redactor(()).text(text) == "from https://h/x?private_token=***"


@pytest.mark.parametrize(
    ("event", "clean"),
    [
        (e.Warned("it is s3cr3t"), e.Warned("it is ***")),
        (e.Halted("s3cr3t", "why s3cr3t"), e.Halted("s3cr3t", "why ***")),
        (
            e.Resolved("s3cr3t", Revision(commit="s3cr3t", message="a s3cr3t")),
            e.Resolved("s3cr3t", Revision(commit="s3cr3t", message="a ***")),
        ),
        (
            e.Started("exec", "a", (), ("s3cr3t",), "me", script="echo s3cr3t"),
            e.Started("exec", "a", (), ("s3cr3t",), "me", script="echo ***"),
        ),
        (
            e.Output("h1", "site", "post_deploy", "s3cr3t"),
            e.Output("h1", "site", "post_deploy", "***"),
        ),
    ],
)
def test_of_an_event_words_are_redacted_and_names_stay(
    event: e.Event, clean: e.Event
) -> None:
    assert masking(["s3cr3t"]).event(event) == clean
    assert masking(["other"]).event(event) == event


def test_each_text_of_an_event_is_one_that_is_redacted_or_a_name() -> None:
    """A new field with words in it belongs into the list, or here."""
    names = {
        *("action", "after", "app", "begun_by", "color", "commit", "digest", "host"),
        *("key", "live", "log", "module", "of", "outcome", "package", "script"),
    }
    texts = {
        field.name
        for kind in vars(e).values()
        if isinstance(kind, type) and issubclass(kind, e.HostEvent | e.RunEvent)
        for field in attrs.fields(kind)
        if field.type in {"str", str}  # resolved by now, or not yet
    }

    assert texts - {*_WRITTEN} <= names
    assert {*_WRITTEN} <= texts
