"""Entries of manifests, as they may be."""

from __future__ import annotations

from hypothesis import strategies as st

from ghostasync._packaging.manifest import HEADER, Entry, Kind, format_entry

__all__ = ["ENTRIES", "HEX", "format_manifest"]

HEX = "0123456789abcdef" * 4
NAMES = st.binary(min_size=1).filter(lambda name: b"\0" not in name)
COMMON = {"mode": st.integers(0, 0o7777), "mtime": st.integers(-(2**40), 2**40)}
ENTRIES = st.one_of(
    st.builds(Entry, path=NAMES, kind=st.just(Kind.FOLDER), **COMMON),
    st.builds(
        Entry,
        path=NAMES,
        kind=st.just(Kind.FILE),
        size=st.integers(0, 2**50),
        sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
        **COMMON,
    ),
    st.builds(Entry, path=NAMES, kind=st.just(Kind.LINK), target=NAMES, **COMMON),
)


def format_manifest(entries: list[Entry]) -> bytes:
    return b"".join(b"%b\n" % line for line in (HEADER, *map(format_entry, entries)))
