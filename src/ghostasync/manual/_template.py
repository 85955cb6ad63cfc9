"""A configuration with every key, each with its meaning."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from typing import Final

from ..config._structure import at
from ..config._template import quoted
from ._keys import Form, Key, find_keys

__all__ = ["complete"]

_HEAD: Final = """\
# What ghostasync deploys, and where: every key there is.
#
# A key that is commented out stands here with its default: the file means the same
# with and without it. More about one says: ghostasync explain KEY
"""


def complete(text: str) -> str:
    """
    Return a configuration that means what *text* means, and has every key.

    Keys that *text*, which has one module, does not set are commented out.
    """
    given = tomllib.loads(text)
    (given["modules"],) = given["modules"]
    keys = find_keys()
    parts = [_HEAD]
    # All scripts may be the same table, whose keys are told with the first of them.
    told: set[Key] = set()
    for table in keys:
        for place in table.places if table.form is Form.TABLE else ():
            head = f"[[{place}]]" if place == "modules" else f"[{place}]"
            parts.append(f"{_comment(table)}{head}\n")
            values = _at(given, place)
            for key in keys:
                if place in key.tables and key.form is not Form.TABLE:
                    inner = [k for k in keys if key.places[0] in k.tables]
                    parts.append("".join(_key(key, inner, values, told)))
    return "\n".join(parts)


def _key(
    key: Key, inner: list[Key], values: Mapping[str, object], told: set[Key]
) -> Iterator[str]:
    yield _comment(key)
    for part in inner:
        if part not in told:
            told.add(part)
            yield f"#   {part.name}: {_summary(part)}\n"
    set_here = key.name in values
    value = _toml(values[key.name]) if set_here else key.default
    yield f"{'' if set_here else '# '}{key.name} = {value}\n"


def _comment(key: Key) -> str:
    return f"# {_summary(key)}\n"


def _summary(key: Key) -> str:
    return key.text.partition("\n\n")[0]


def _at(given: Mapping[str, object], place: str) -> Mapping[str, object]:
    """Return the table at *place*, an empty one where it is not there."""
    table: object = given
    for name in place.split("."):
        table = table.get(name, {}) if isinstance(table, Mapping) else {}
    return table if isinstance(table, Mapping) else {}


def _toml(value: object) -> str:
    """Return a value that was read from TOML as a line of it."""
    match value:
        case str():
            return quoted(value)
        case list():
            return f"[{', '.join(map(_toml, value))}]"
        case dict():
            pairs = (f"{at('', key)} = {_toml(item)}" for key, item in value.items())
            return f"{{ {', '.join(pairs)} }}"
    return json.dumps(value)
