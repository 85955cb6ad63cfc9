from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostasync._packaging import Entry, Kind, parse_manifest
from ghostasync.errors import PackageError
from tests._packaging.manifests import ENTRIES, HEX, format_manifest


@given(st.lists(ENTRIES))
def test_whatever_a_manifest_holds_comes_back(entries: list[Entry]) -> None:
    assert parse_manifest(format_manifest(entries)) == tuple(entries)


def test_a_manifest_is_lines_that_sed_can_read() -> None:
    entries = [
        Entry(b".", Kind.FOLDER, 0o755, 7),
        Entry(b"a b/c", Kind.FILE, 0o4640, -1, 12, HEX),
        Entry(b"x\ny\\", Kind.LINK, 0o777, 0, target=b"../\t\xff"),
    ]

    text = format_manifest(entries)

    assert text.split(b"\n") == [
        b"ghostasync manifest 1",
        b"7 d 0755 0 - .",
        b"-1 f 4640 12 " + HEX.encode() + b" ./a b/c",
        b"0 l 0777 0 - ./x\\0012y\\0134\t../\\0011\xff",
        b"",
    ]


@pytest.mark.parametrize(
    "data",
    [b"", b"ghostasync manifest 1", b"ghostasync manifest 2\n", b"\n"],
)
def test_what_is_no_whole_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(PackageError, match="not a whole manifest"):
        parse_manifest(data)


def test_a_damaged_line_is_named() -> None:
    with pytest.raises(PackageError, match="line 3: not an entry: b'junk'"):
        parse_manifest(b"ghostasync manifest 1\n7 d 0755 0 - .\njunk\n")


def test_a_manifest_cut_within_a_line_is_refused() -> None:
    whole = format_manifest([Entry(b"a", Kind.FILE, 0o644, 1, 2, HEX)])

    with pytest.raises(PackageError):
        parse_manifest(whole[:-3])
