from __future__ import annotations

from collections import Counter

import attrs
from hypothesis import given
from hypothesis import strategies as st

from ghostasync._packaging.differences import NAMED, differences
from ghostasync._packaging.manifest import Entry, Kind
from tests._packaging.manifests import ENTRIES, HEX, format_manifest

TREES = st.dictionaries(st.sampled_from([b".", b"a", b"b", b"c/d"]), ENTRIES).map(
    lambda tree: [attrs.evolve(entry, path=path) for path, entry in tree.items()]
)


def file(path: bytes, **fields: object) -> Entry:
    values = {"mode": 0o644, "mtime": 1, "size": 3, "sha256": HEX, **fields}
    return Entry(path, Kind.FILE, **values)  # type: ignore[arg-type]


def told(old: list[Entry], new: list[Entry]) -> tuple[str, ...]:
    return differences(format_manifest(old), format_manifest(new)).paths


@given(TREES, TREES)
def test_each_path_counts_once_for_what_became_of_it(
    old: list[Entry], new: list[Entry]
) -> None:
    was = {entry.path: attrs.evolve(entry, mtime=0) for entry in old}
    now = {entry.path: attrs.evolve(entry, mtime=0) for entry in new}

    found = differences(format_manifest(old), format_manifest(new))

    assert found.files == {
        "changed": sum(was[path] != now[path] for path in was.keys() & now.keys()),
        "added": len(now.keys() - was.keys()),
        "gone": len(was.keys() - now.keys()),
    }
    assert Counter(text.split()[0] for text in found.paths) == {
        word: count for word, count in found.files.items() if count
    }


def test_a_time_alone_is_no_difference() -> None:
    assert told([file(b"a")], [file(b"a", mtime=2)]) == ()


def test_it_is_said_what_about_a_path_changed() -> None:
    folder, link = Entry(b"x", Kind.FOLDER, 0o755, 1), Entry(b"l", Kind.LINK, 0o777, 1)
    old = [file(b"a"), file(b"b"), folder, attrs.evolve(link, target=b"y")]
    new = [
        file(b"a", sha256="0" * 64),
        file(b"b", mode=0o755),
        file(b"x"),
        attrs.evolve(link, target=b"z"),
    ]

    assert told(old, new) == (
        "changed a: content",
        "changed b: mode 0755, was 0644",
        "changed x: a file, was a folder",
        "changed l: leads to z, did to y",
    )


def test_many_paths_are_counted_and_a_few_are_named_the_changed_ones_first() -> None:
    old = [file(b"a"), *(file(b"old%d" % each) for each in range(100))]
    new = [file(b"new"), file(b"a", mode=0o600)]

    found = differences(format_manifest(old), format_manifest(new))

    assert found.files == {"changed": 1, "added": 1, "gone": 100}
    assert len(found.paths) == NAMED
    assert found.paths[:2] == ("changed a: mode 0600, was 0644", "added new")


def test_a_path_is_said_in_one_line() -> None:
    assert told([], [file(b"a\nb\xff")]) == ("added a\\0012b\\xff",)
