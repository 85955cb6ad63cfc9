from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostasync._local.attributes import (
    drop_acls,
    narrowed,
    read_attributes,
    restorable,
    summary,
)

ACL = "system.posix_acl_access"
NONE = 2**32 - 1
Entry = tuple[int, int, int]


def acl(entries: list[Entry]) -> bytes:
    packed = (struct.pack("<HHI", *entry) for entry in sorted(entries))
    return struct.pack("<I", 2) + b"".join(packed)


def may_by_acl(entries: list[Entry], user: int, groups: frozenset[int]) -> int:
    """Return what Linux lets *user* do, who is not the owner; group 0 owns the file."""
    by = {(tag, who): bits for tag, bits, who in entries}
    mask = by.get((0x10, NONE), 7)
    if (0x02, user) in by:
        return by[0x02, user] & mask
    granted = [by[0x08, g] & mask for g in groups if (0x08, g) in by]
    if 0 in groups:
        granted.append(by[0x04, NONE] & mask)
    if not granted:
        return by[0x20, NONE]
    # One entry has to grant all that is asked for; this is the most that it can be.
    most = 0
    for bits in granted:
        most |= bits
    return most


def may_by_mode(mode: int, groups: frozenset[int]) -> int:
    return mode >> 3 & 7 if 0 in groups else mode & 7


bits = st.integers(0, 7)
ids = st.integers(1, 3)
acls = st.builds(
    lambda users, groups, group, mask, other: [
        *((0x02, may, who) for who, may in users.items()),
        *((0x08, may, who) for who, may in groups.items()),
        (0x01, 6, NONE), (0x04, group, NONE), (0x10, mask, NONE), (0x20, other, NONE),
    ],
    st.dictionaries(ids, bits, max_size=3),
    st.dictionaries(ids, bits, max_size=3),
    bits, bits, bits,
)  # fmt: skip


@given(acls, ids, st.frozensets(st.integers(0, 3)))
def test_without_its_acl_a_file_gives_nobody_more(
    entries: list[Entry], user: int, groups: frozenset[int]
) -> None:
    by = {tag: may for tag, may, _ in entries}
    mode = 0o4600 | by[0x10] << 3 | by[0x20]  # as stat(2) tells it

    left = narrowed(mode, {ACL: acl(entries)})

    assert left & 0o7700 == 0o4600
    allowed, before = may_by_mode(left, groups), may_by_acl(entries, user, groups)
    assert allowed & ~before == 0


def test_a_mask_gives_the_group_nothing(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.touch(mode=0o600)
    subprocess.run(["setfacl", "-m", "u:4242:rw", file], check=True)
    mode = file.stat().st_mode & 0o7777
    with file.open() as opened:
        attributes = read_attributes(opened.fileno())

    assert mode == 0o660
    assert narrowed(mode, attributes) == 0o600


def test_a_mode_without_an_acl_stays() -> None:
    assert narrowed(0o4775, {"user.x": b""}) == 0o4775


def test_what_belongs_to_the_machine_is_not_seen(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("other names take root")
    file = tmp_path / "f"
    file.touch()
    for name in ("trusted.x", "security.selinux", "user.x"):
        os.setxattr(file, name, b"1")

    with file.open() as opened:
        assert read_attributes(opened.fileno()) == {"user.x": b"1"}


def test_the_text_is_what_getfattr_prints(tmp_path: Path) -> None:
    name = "odd \\ =\n\r'é\udcff"
    (tmp_path / name).touch()
    values = {"user.a=\\\n": b"\0\xff", "user.empty": b""}
    for each, value in values.items():
        os.setxattr(tmp_path / name, each, value)
    command = ["getfattr", "-de", "hex", "--absolute-names", f"./{name}"]

    printed = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)

    assert restorable({os.fsencode(name): values}) == printed.stdout


def test_a_folder_hands_no_acl_down_any_more(tmp_path: Path) -> None:
    subprocess.run(["setfacl", "-dm", "u:4242:rwx", tmp_path], check=True)
    made = tmp_path / "made"
    made.mkdir()
    assert os.listxattr(made)

    drop_acls(made)
    (made / "inner").mkdir()

    assert os.listxattr(made) == os.listxattr(made / "inner") == []


def test_few_paths_are_named_and_more_are_counted() -> None:
    found = {name: ["security.capability", "user.x"] for name in "abcde"}

    assert summary(found).endswith("c (capabilities, user.x), 2 more")
    assert summary({}) == ""
