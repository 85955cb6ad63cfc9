"""Whatever a host prints becomes values within bounds, or nonsense; nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostasync._local.paths import is_package_id
from ghostasync._remote import answers
from ghostasync._remote.answers import Nonsense
from ghostasync._remote.facts import Facts, Identity
from ghostasync.model import Verify
from tests import hostile

ALL = {**hostile.READERS, **hostile.ERRORS}


def _texts(value: object) -> Iterator[str]:
    """Yield all texts in *value*, keys of tables included."""
    if isinstance(value, str):
        yield value
    elif attrs.has(kind := type(value)):
        for field in attrs.fields(kind):
            yield from _texts(getattr(value, field.name))
    elif isinstance(value, dict):
        yield from _texts((*value.keys(), *value.values()))
    elif isinstance(value, tuple | list | set | frozenset):
        for each in value:
            yield from _texts(each)


def _require_bounds(value: object) -> None:
    """Make sure of what the rest of the program may rely on."""
    for text in _texts(value):
        os.fsencode(text)  # it may become an argument
        assert len(text) <= 1 << 20
    match value:
        case Identity():
            assert value.home.startswith("/")
            assert 0 <= value.uid < 10**10
        case Facts():
            assert value.fence is None or 0 <= value.fence < 10**15
            assert value.highest < 10**15
            for target in value.targets.values():
                assert not target.live or is_package_id(target.live)
                assert all(map(is_package_id, target.releases))
                for move in target.activations:
                    assert is_package_id(move.release)
                    assert 0 <= move.age <= move.generation
                    assert move.seconds >= 0
                    assert "/" not in move.run
                    assert "\x00" not in move.previous + move.target


def _read(name: str, data: bytes) -> None:
    try:
        value = ALL[name](data.decode(errors="surrogateescape"))
    except Nonsense:
        return
    _require_bounds(value)


@pytest.mark.parametrize("name", ALL)
def test_an_honest_answer_is_read(name: str) -> None:
    value = ALL[name](hostile.TRUE[name])

    _require_bounds(value)


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=60)
@given(data=st.binary(max_size=300))
def test_any_bytes_are_values_or_nonsense(name: str, data: bytes) -> None:
    _read(name, data)


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=150)
@given(data=st.data())
def test_a_mangled_answer_is_values_or_nonsense(name: str, data: st.DataObject) -> None:
    _read(name, data.draw(hostile.mangled(hostile.TRUE[name])))


@pytest.mark.parametrize(
    ("name", "lie"),
    [(name, lie) for name, lies in hostile.LIES.items() for lie in lies],
)
def test_a_lie_is_nonsense(name: str, lie: str) -> None:
    with pytest.raises(Nonsense):
        ALL[name](lie)


def test_an_honest_check_says_all_that_it_has() -> None:
    facts = hostile.READERS["check"](hostile.CHECKED)

    assert isinstance(facts, Facts)
    target = facts.targets["site"]
    assert target.live == "2_site_0a1b2c3"
    assert target.releases == {"1_site_0a1b2c3", "2_site_0a1b2c3"}
    assert [move.reason for move in target.activations] == ["a\nfix"]
    assert (facts.free_bytes, facts.free_inodes) == (999_999 << 10, 999_999)
    assert (facts.fence, facts.highest) == (7, 7)


@pytest.mark.parametrize(
    "line",
    [
        "release=../../etc/passwd",
        "run=../20261127T101500Z-0a1b2c",
        "previous=/srv/a\\0000b",
        "outcome=sold",
    ],
)
def test_a_record_that_no_run_wrote_is_left_out(line: str) -> None:
    key = line.partition("=")[0]
    told = [
        f"7:{line}" if each.startswith(f"7:{key}=") else each
        for each in hostile.CHECKED.split("\n")
    ]

    facts = hostile.READERS["check"]("\n".join(told))

    assert isinstance(facts, Facts)
    assert facts.targets["site"].activations == ()


def test_a_folder_that_is_no_release_is_none() -> None:
    said = hostile.CHECKED.replace("2_site_0a1b2c3", "x_backup")

    facts = hostile.READERS["check"](said)

    assert isinstance(facts, Facts)
    target = facts.targets["site"]
    assert target.foreign == f"a link to {hostile.FOLDER}/x_backup"
    assert target.releases == {"1_site_0a1b2c3"}


@pytest.mark.parametrize(
    ("text", "health", "run_as"),
    [
        ("", Verify(), ""),
        ("{}", Verify(), ""),
        ('{"newer_key": 1, "command": "true"}', Verify(command="true"), ""),
        ('{"interval": 2, "post_deploy_as": "www"}', Verify(interval=2.0), "www"),
    ],
)
def test_a_health_check_that_another_version_wrote_is_read(
    text: str, health: Verify, run_as: str
) -> None:
    assert answers.health(text) == (health, run_as)


def test_warnings_are_counted_where_there_are_too_many() -> None:
    told = answers.warnings("warning: x\n" * 5000)

    assert told == (*["x"] * 20, "and 4980 more warnings")
