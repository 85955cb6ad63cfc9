"""Docstrings below fields, members and constants, which Python itself drops."""

from __future__ import annotations

import ast
import functools
import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

__all__ = ["of_class", "of_constants", "of_fields", "of_module"]

_MARKED: Final = re.compile(r"(?::\w+:`|``)~?(?:events\.)?([^`]+)``?")


def of_class(cls: type) -> str:
    """Return the docstring of a class: paragraphs of one line, a blank line between."""
    return _paragraphs(ast.get_docstring(_class(cls)) or "")


def of_fields(cls: type) -> Mapping[str, str]:
    """Return the docstrings of a class's fields, or an enum's members, by name."""
    return dict(_below(_class(cls).body))


def of_module(module: str) -> str:
    """Return the docstring of an imported module, as of a class."""
    return _paragraphs(ast.get_docstring(_tree(module)) or "")


def of_constants(module: str) -> Mapping[str, str]:
    """Return the docstrings of an imported module's constants, by name."""
    return dict(_below(_tree(module).body))


@functools.cache
def _tree(module: str) -> ast.Module:
    return ast.parse(inspect.getsource(sys.modules[module]))


def _class(cls: type) -> ast.ClassDef:
    body = _tree(cls.__module__).body
    named = (node for node in body if isinstance(node, ast.ClassDef))
    return next(node for node in named if node.name == cls.__name__)


def _below(body: Sequence[ast.stmt]) -> Iterator[tuple[str, str]]:
    for statement, below in pairwise(body):
        match statement, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name))
                | ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield name, _paragraphs(inspect.cleandoc(text))


def _paragraphs(text: str) -> str:
    """Return *text* with a line for each paragraph, and names between single marks."""
    whole = (" ".join(part.split()) for part in text.split("\n\n"))
    return _MARKED.sub(r"`\1`", "\n\n".join(whole).replace("::\n", ":\n"))
