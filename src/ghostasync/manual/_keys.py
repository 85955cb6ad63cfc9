"""The keys of ``ghostasync.toml``, as the classes of a plan have them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import Enum, auto
from typing import Any, Final, get_args, get_origin, get_type_hints

import attrs

from ..config._rules import RULES
from ..config._structure import at, describe
from ..config._tables import SCRIPT_ALLOWED, SIGNING_ALLOWED, SOURCE_ALLOWED
from ..config._together import USELESS
from ..model import Plan, Script, Signing, Source
from ._docstrings import of_fields

__all__ = ["Form", "Key", "find_keys"]

_PLACES: Final = {
    **{
        name: name for name in ("app", "store", "ssh", "layout", "rollout", "inventory")
    },
    "hosts": "inventory.hosts",
    "modules": "modules",
}
"""Fields of a plan, in the order of the file, and their places there."""


class Form(Enum):
    """What stands behind a key: a value, a table, or a value that may be a table."""

    VALUE = auto()
    TABLE = auto()
    INLINE = auto()


@attrs.frozen
class Key:
    """
    One key of the file.

    *places* are all that mean the same, such as ``rollout.drain.run`` and
    ``rollout.undrain.run``. *default* is as the file has it; None for a table, and for
    what has to be given.
    """

    places: tuple[str, ...]
    form: Form
    text: str
    takes: str
    default: str | None

    @property
    def name(self) -> str:
        """The last part of its place."""
        return self.places[0].rpartition(".")[2]

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that it stands in."""
        return tuple(place.rpartition(".")[0] for place in self.places)


def find_keys() -> tuple[Key, ...]:
    """Return every key, in the order of the file; each stands behind its table's."""
    found: dict[tuple[type, str], list[str]] = {}
    for top, where in _PLACES.items():
        for place, cls, field in _walk(Plan, top, where):
            found.setdefault((cls, field), []).append(place)
    return tuple(_key(cls, name, places) for (cls, name), places in found.items())


def _walk(cls: type, name: str, place: str) -> Iterator[tuple[str, type, str]]:
    yield place, cls, name
    for inner in _classes(get_type_hints(cls)[name]):
        for field in attrs.fields_dict(inner):
            # The keys of a plug-in are known to the plug-in alone.
            if field != "options" and (name, field) not in USELESS:
                yield from _walk(inner, field, at(place, field))


def _classes(kind: object) -> list[type[attrs.AttrsInstance]]:
    """Return the classes that a value of a type may be of."""
    kinds = (kind, *get_args(kind))
    return [one for one in kinds if isinstance(one, type) and attrs.has(one)]


def _key(cls: type, name: str, places: list[str]) -> Key:
    kind = get_type_hints(cls)[name]
    form = _form(name, kind)
    default: Any = attrs.fields_dict(cls)[name].default
    if default.__class__ is attrs.Factory:
        default = default.factory()
    given = default is attrs.NOTHING or form is Form.TABLE
    return Key(
        tuple(places),
        form,
        of_fields(cls).get(name, ""),
        _takes(cls, name, kind),
        None if given else json.dumps("" if kind in {Script, Signing} else default),
    )


def _form(name: str, kind: object) -> Form:
    if not _classes(kind):
        return Form.VALUE
    return (
        Form.INLINE
        if kind in {Script, Signing, Source} or name == "hosts"
        else Form.TABLE
    )


def _takes(cls: type, name: str, kind: object) -> str:
    """Say what a key takes."""
    special = {
        Script: SCRIPT_ALLOWED,
        Signing: SIGNING_ALLOWED,
        Source: SOURCE_ALLOWED,
    }
    if kind in special:
        return special[kind]
    if _classes(kind) and get_origin(kind) is tuple:
        return "an array of tables" if name == "modules" else "an array of hosts"
    rule = RULES.get(cls, {}).get(name)
    if rule is None:
        return describe(kind)
    if not rule.each:
        return rule.allowed
    each = "each" if get_origin(kind) is tuple else "names"
    return f"{describe(kind)}; {each}: {rule.allowed}"
