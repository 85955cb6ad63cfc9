"""
The tokens of ssh_config(5), such as ``%h``, and the variables of the environment.

ssh leaves them in what ``ssh -G`` prints, and fills them in where it uses a value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

__all__ = ["fill", "fill_with_environment", "shell_safe"]

_SPECIAL: Final = re.compile(r"""^[-#~]|[\s\x00-\x1f\x7f'"`$;&<>|(){}*?\[\]!]""")


def fill(text: str, values: Mapping[str, str]) -> str:
    """
    Return *text* with its tokens filled in; what a value holds is no token.

    Raises:
        ValueError: There is no such token here.
    """

    def value(token: re.Match[str]) -> str:
        name = token[0][1:]
        if name == "%":
            return "%"
        if name not in values:
            known = " ".join(f"%{each}" for each in ("%", *values))
            raise ValueError(f"{text}: {token[0]} is none of the tokens {known}")
        return values[name]

    return re.sub("%.?", value, text, flags=re.DOTALL)


def fill_with_environment(
    text: str, values: Mapping[str, str], environ: Mapping[str, str]
) -> str:
    """
    Return *text* with tokens and variables, as ``${NAME}``, filled in.

    Raises:
        ValueError: There is no such token or variable.
    """

    def variable(found: re.Match[str]) -> str:
        if found[1] not in environ:
            raise ValueError(f"{text}: the variable {found[1]} is not set")
        return environ[found[1]].replace("%", "%%")

    return fill(re.sub(r"\$\{(\w+)\}", variable, text), values)


def shell_safe(values: Mapping[str, str]) -> Mapping[str, str]:
    """
    Return *values*, none of which a shell would take for more than a part of a word.

    Raises:
        ValueError: One has such characters.
    """
    for value in values.values():
        if _SPECIAL.search(value):
            raise ValueError(f"ProxyCommand: {value!r} is not safe in a shell's words")
    return values
