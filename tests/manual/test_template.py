from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostasync.config import parse_plan, template
from ghostasync.manual import complete
from ghostasync.manual._keys import Form, find_keys

BASE = Path("/etc/shop")
SHORT = template("shop", hosts=["web[1-3]"])
FULL = complete(SHORT)
COMMENTED = re.compile(r"(?m)^# (?=\w+ = )")
LINES = [match.start() for match in COMMENTED.finditer(FULL)]


def test_it_means_what_the_short_one_means() -> None:
    assert parse_plan(FULL, BASE) == parse_plan(SHORT, BASE)


def test_it_has_every_key() -> None:
    keys = find_keys()
    raw = tomllib.loads(COMMENTED.sub("", FULL))
    raw["modules"] = raw["modules"][0]

    for key in keys:
        for place in key.places:
            table: object = raw
            *above, name = place.split(".")
            for part in above:
                table = table.get(part, {}) if isinstance(table, dict) else {}
            # Keys of a table that is written inline are told where it is.
            told = f"\n#   {name}: {key.text.partition(chr(10))[0]}\n" in FULL
            assert told or (isinstance(table, dict) and name in table), place
    assert {key.form for key in keys} == {*Form}


@pytest.mark.parametrize("start", LINES, ids=lambda at: FULL[at:].split(" ")[1])
def test_any_key_may_be_put_in_force_alone(start: int) -> None:
    text = FULL[:start] + COMMENTED.sub("", FULL[start:], count=1)

    assert len(text) == len(FULL) - 2
    assert parse_plan(text, BASE) == parse_plan(SHORT, BASE)


def test_all_keys_may_be_put_in_force() -> None:
    assert parse_plan(COMMENTED.sub("", FULL), BASE) == parse_plan(SHORT, BASE)


def test_no_line_is_wider_than_a_terminal() -> None:
    assert [line for line in FULL.splitlines() if len(line) > 88] == []


def test_all_that_is_set_stays_set() -> None:
    text = """
    [app]
    name = "shop"
    env = "prod"
    role = "web"
    env_vars = { "A" = "1" }
    [ssh]
    sudo = true
    [rollout]
    waves = [1, "25%"]
    drain = { run = "true" }
    [inventory]
    hosts = ["web1", { name = "web2", labels = { az = "a" } }]
    [[modules]]
    name = "site"
    path = "/srv/site"
    source = { git = "a:b", rev = "main" }
    pre_deploy = { inline = '''
echo "one"
echo two''' }
    """

    assert parse_plan(complete(text), BASE) == parse_plan(text, BASE)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_quoted(text: str) -> None:
    written = complete(template("shop", git="a:b", path=text, hosts=[text]))

    raw = tomllib.loads(written)

    assert (raw["modules"][0]["path"], raw["inventory"]["hosts"]) == (text, [text])
