"""
TOML values -> frozen attrs values, strictly: no value is converted or guessed.

A value that does not fit is noted and its default used instead, so that one reading
finds everything that is wrong with a file.
"""

from __future__ import annotations

import functools
import json
import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import (
    Final,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import attrs

from ..errors import without_credentials

__all__ = ["Findings", "Reader", "at", "describe", "show"]

T = TypeVar("T", bound=attrs.AttrsInstance)

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_STEP: Final = re.compile(r"[.\[]")
_NUMBER: Final = re.compile(r"\[([0-9]{1,9})\]")
_LONGEST: Final = 60
_INT_BITS: Final = 64


@functools.cache
def _hints(cls: type) -> Mapping[str, object]:
    """
    Return the types of a class's fields: for thousands of hosts found out once.

    A literal reads as a string here. Which words it takes is a rule like any other:
    ``_rules.py`` says so in one sentence with all that is allowed.
    """
    return {
        name: str if get_origin(kind) is Literal else kind
        for name, kind in get_type_hints(cls).items()
    }


_KINDS: Final[Mapping[object, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
}


def at(where: str, key: str) -> str:
    """Return the place of *key* in the table at *where*."""
    name = key if _BARE_KEY.fullmatch(key) else json.dumps(key)
    return f"{where}.{name}" if where else name


def show(value: object) -> str:
    """Return *value* for a message: short, on one line, as TOML has it."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "an array"
    # tomllib takes numbers of any length, and Python refuses to write very long ones.
    if isinstance(value, int) and value.bit_length() > _INT_BITS:
        return "a number beyond 64 bits"
    text = json.dumps(value, ensure_ascii=False, default=str)
    # Before it is cut, lest half a URL be left, which nothing knows as one.
    text = without_credentials(text)
    # What a terminal would obey, or show as something else, is written out.
    text = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


@attrs.frozen
class Findings:
    """
    Findings by place; the first one at a place hides all others there and inside it.

    A table of the wrong type would otherwise be told of again for each of its keys.
    """

    _texts: dict[str, str] = attrs.field(factory=dict)

    def add(self, where: str, text: str) -> None:
        """Note *text*, unless the place or what it is part of is noted already."""
        if not self.spoiled(where):
            self._texts[where] = text

    def wrong(self, where: str, value: object, allowed: str) -> None:
        """Note that *value* is none of what is *allowed*."""
        self.add(where, f"is {show(value)}; allowed: {allowed}")

    def twice(self, named: Sequence[tuple[str, str]]) -> None:
        """Note each place in *named* whose name stands at an earlier one too."""
        first: dict[str, str] = {}
        for where, name in named:
            if name and first.setdefault(name, where) is not where:
                text = f"{show(name)} is the name of {first[name]} too"
                self.add(where, f"{text}; allowed: each name once")

    def spoiled(self, where: str) -> bool:
        """Tell whether something is noted at *where* or around it."""
        ends = [match.start() for match in _STEP.finditer(where)]
        return any(where[:end] in self._texts for end in (*ends, len(where)))

    def lines(self) -> list[str]:
        """Return one line for each finding, sorted by place, [2] before [10]."""

        def natural(where: str) -> list[str | int]:
            parts = _NUMBER.split(where)
            return [int(part) if n % 2 else part for n, part in enumerate(parts)]

        return [
            f"{where}: {self._texts[where]}"
            for where in sorted(self._texts, key=natural)
        ]


@attrs.frozen
class Reader:
    """
    Reads tables into values.

    Args:
        found: Where findings go.

        homes: Every known key, and the tables it belongs in.

        special: For types that are not written as they are kept: a function that
            reads one, given this reader, the raw value and its place.

        blanks: What stands for a required value of a type while it is wrong.

        hint: Returns what is allowed for a key of a class, or "" for the usual.
    """

    findings: Findings
    homes: Mapping[str, tuple[str, ...]]
    special: Mapping[object, Callable[[Reader, object, str], object]]
    blanks: Mapping[object, object]
    hint: Callable[[type, str], str]

    def keys(
        self, raw: object, known: tuple[str, ...], where: str, allowed: str = "a table"
    ) -> Mapping[str, object]:
        """Return the table *raw*, and note keys of it that are not *known*."""
        if not isinstance(raw, dict):
            self.findings.wrong(where, raw, allowed)
            return {}
        for key in raw:
            if key not in known:
                self.findings.add(at(where, key), self._stray(key, known))
        return raw

    def table(self, cls: type[T], raw: object, where: str) -> T:
        """Return the *cls* that *raw* describes, defaults where it is wrong."""
        hints, fields = _hints(cls), attrs.fields_dict(cls)
        given = self.keys(raw, tuple(fields), where)
        values = {}
        for name, field in fields.items():
            kind, place = hints[name], at(where, name)
            required = field.default is attrs.NOTHING
            allowed = self.hint(cls, name) or describe(kind)
            if name in given:
                value = self._value(kind, given[name], place, allowed)
            elif required:
                self.findings.add(place, f"is missing; allowed: {allowed}")
                value = None
            else:
                continue
            if value is not None:
                values[name] = value
            elif required:
                values[name] = self.blanks[kind]
        return cls(**values)

    def _value(
        self, kind: object, raw: object, where: str, allowed: str
    ) -> object | None:
        """Return what *raw* stands for, or None if it does not fit."""
        if kind in self.special:
            return self.special[kind](self, raw, where)
        if isinstance(kind, type) and attrs.has(kind):
            return self.table(kind, raw, where)
        misfits = list(_misfits(kind, raw, where))
        for place, value, inner in misfits:
            self.findings.wrong(
                place, value, allowed if inner is kind else describe(inner)
            )
        if misfits:
            return _mended(kind, raw)
        return tuple(raw) if isinstance(raw, list) else raw

    def _stray(self, key: str, known: tuple[str, ...]) -> str:
        here = f"allowed: {', '.join(known)}"
        if key in self.homes:
            return f"belongs in {' or '.join(self.homes[key])}; {here}"
        close = get_close_matches(key, known, n=1)
        meant = f" (did you mean {close[0]}?)" if close else ""
        return f"is unknown{meant}; {here}"


def _misfits(
    kind: object, raw: object, where: str
) -> Iterator[tuple[str, object, object]]:
    """Yield place, value and wanted type of everything in *raw* that is not *kind*."""
    origin, args = get_origin(kind), get_args(kind)
    if origin in {Union, types.UnionType}:
        branches = [list(_misfits(arg, raw, where)) for arg in args]
        if all(branches):
            # The value fits none of the types. An array with one wrong item gets a
            # finding about that item, and not about all that the key may be.
            deep = [b for b in branches if b[0][0] != where]
            yield from deep[0] if deep else [(where, raw, kind)]
    elif origin is tuple and isinstance(raw, list):
        for index, item in enumerate(raw):
            yield from _misfits(args[0], item, f"{where}[{index}]")
    elif origin is not None and origin is not tuple and isinstance(raw, dict):
        for key, item in raw.items():
            yield from _misfits(args[1], item, at(where, key))
    # isinstance would take true for a number of hosts: bool is an int.
    elif type(raw) is not kind and not (kind is float and type(raw) is int):
        yield where, raw, kind


def _mended(kind: object, raw: object) -> object | None:
    """Return the strings of an array or table, so that their rules are applied too."""
    if isinstance(raw, list) and get_args(kind) == (str, ...):
        return tuple(item if isinstance(item, str) else "" for item in raw)
    if isinstance(raw, dict) and get_args(kind) == (str, str):
        return {k: v if isinstance(v, str) else "" for k, v in raw.items()}
    return None


def describe(kind: object) -> str:
    """Return in words what a key of this type takes."""
    origin, args = get_origin(kind), get_args(kind)
    if kind in _KINDS:
        return _KINDS[kind]
    if origin in {Union, types.UnionType}:
        return " or ".join(map(describe, args))
    if origin is tuple:
        return "an array of strings"
    if origin is not None:
        return "a table of strings"
    return "a table"
