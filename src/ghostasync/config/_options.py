"""Options of plug-ins: the keys beside a plug-in's name, read like all others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TypeVar

import attrs

from ..errors import ConfigError
from ._rules import Rule
from ._structure import Findings, Reader, at

__all__ = ["Rule", "listed", "options_of"]

T = TypeVar("T", bound=attrs.AttrsInstance)


def options_of(
    cls: type[T],
    options: Mapping[str, object],
    where: str,
    rules: Mapping[str, Rule],
) -> T:
    """
    Return the *cls* that *options* describe.

    Args:
        cls: Its fields are the keys, their defaults what a missing key means.

        options: The keys of the configuration, as TOML has them.

        where: The table that they stand in, for messages.

        rules: What the keys take, beyond their types; of an array each item.

    Raises:
        ConfigError: A key is unknown, is missing, or has a value that it does not take.
    """
    findings = Findings()
    reader = Reader(
        findings, {}, {}, defaultdict(str), lambda _, name: _allowed(rules, name)
    )
    # A plan that is built in Python has tuples where TOML has arrays.
    raw = {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}
    made = reader.table(cls, raw, where)
    for name, rule in rules.items():
        value, place = getattr(made, name), at(where, name)
        if isinstance(value, tuple):
            for index, item in enumerate(value):
                if not rule.accepts(item):
                    findings.wrong(f"{place}[{index}]", item, rule.allowed)
        elif not rule.accepts(value):
            findings.wrong(place, value, rule.allowed)
        if name in raw and value == ():
            findings.add(place, f"is empty; allowed: {rule.allowed}")
    if lines := findings.lines():
        raise ConfigError(lines)
    return made


def listed(value: tuple[str, ...] | str) -> tuple[str, ...]:
    """Return one text, or an array of them, as an array."""
    return (value,) if isinstance(value, str) else value


def _allowed(rules: Mapping[str, Rule], name: str) -> str:
    return rules[name].allowed if name in rules else ""
