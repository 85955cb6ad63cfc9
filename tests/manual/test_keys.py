from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import get_args, get_type_hints

import attrs
import pytest

from ghostasync.manual._keys import Form, Key, find_keys
from ghostasync.model import Plan

KEYS = find_keys()
COLUMNS = 78
"""What is left of a terminal's 80 behind the "# " of a file."""


def fields_of(cls: type[attrs.AttrsInstance]) -> Iterator[tuple[type, str]]:
    """Yield all that a plan is made of; another way round than the manual goes."""
    for name, kind in get_type_hints(cls).items():
        if name in {"base", "checked", "options"} or (cls, name) == (Plan, "file"):
            continue  # of the reader, and of plug-ins
        yield cls, name
        for inner in (kind, *get_args(kind)):
            if isinstance(inner, type) and attrs.has(inner):
                yield from fields_of(inner)


def test_every_field_of_a_plan_is_one_key() -> None:
    fields = {*fields_of(Plan)}

    assert len(KEYS) == len(fields)
    assert sorted(key.name for key in KEYS) == sorted(name for _, name in fields)


def test_no_place_has_two_keys() -> None:
    places = [place for key in KEYS for place in key.places]

    assert len(places) == len({*places})
    assert {"rollout.undrain.run", "modules.after_all_deploy.file"} <= {*places}
    assert {"modules.before_switch.no_return", "modules.verify.run_as"} <= {*places}
    refused = {"modules.buildpack.run_as", "modules.pre_deploy.no_return"}
    assert not refused & {*places}, "the configuration takes none of them"


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.places[0])
def test_a_key_has_a_sentence_that_stands_on_a_line_and_says_what_it_takes(
    key: Key,
) -> None:
    summary = key.text.partition("\n\n")[0]

    assert key.text, f"{key.places[0]} has no docstring in model.py"
    assert summary.endswith(".")
    assert len(summary.split()) > 2
    assert len(summary) <= COLUMNS
    assert key.form is Form.TABLE or key.takes


def test_defaults_are_as_the_file_has_them() -> None:
    defaults = {key.places[0]: key.default for key in KEYS}

    assert defaults["rollout.waves"] == '["100%"]'
    assert defaults["app.env_vars"] == "{}"
    assert defaults["ssh.sudo"] == "false"
    assert defaults["modules.pre_deploy"] == '""'
    assert defaults["app.name"] is None
    assert defaults["rollout.drain"] is None
    for default in filter(None, defaults.values()):
        tomllib.loads(f"key = {default}")
