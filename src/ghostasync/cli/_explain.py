"""``ghostasync explain``: the manual, a word at a time; it needs no configuration."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import Final

import attrs

from ..errors import PlanError
from ..manual import GROUPS, Entry, entries, find, near
from . import COMMANDS
from ._options import COMMON, Common
from ._sink import show

__all__ = ["explain"]

_WIDEST: Final = 80
"""Columns; longer lines are hard to read."""

_NARROWEST: Final = 40
_INDENT: Final = "  "


def explain(*words: str, options: Common = COMMON) -> int:
    """
    Say what a word means: a key, a state, an exit status, an event, a variable.

    Args:
        words: Such as max_failures, HALTED, exit 6, Uploaded, GHOST_WAVE or @failed;
            without any, all that can be asked for is listed.

        options: As everywhere.
    """
    word = " ".join(words)
    found = find(word) if word else entries()
    if not found and word not in COMMANDS:
        close = f"; did you mean {', '.join(near(word))}?" if near(word) else "."
        raise PlanError(
            f"explain: nothing is called {word}{close} All words: ghostasync explain"
        )
    if options.output == "json":
        show((json.dumps(attrs.asdict(entry)) for entry in found), sys.stdout)
        return 0
    columns = shutil.get_terminal_size((_WIDEST, 0)).columns
    width = max(_NARROWEST, min(columns, _WIDEST))
    show(_entries(word, found, width) if word else _words(width), sys.stdout)
    return 0


def _words(width: int) -> Iterator[str]:
    """List all words, those of a table of keys together."""
    yield from wrap(
        "ghostasync explain WORD says more about each of these, or about a whole group"
        " by the word in brackets. A key does without its table.",
        width,
    )
    for name, group in GROUPS.items():
        listed = [entry for entry in entries() if entry.group == name]
        yield f"\n{group.all} ({name})"
        if name == "key":
            for entry in listed:
                if keys := entry.facts.get("keys"):
                    yield from _lines(f"{entry.name}: {keys}", width, hang=4)
        else:
            yield from _lines(", ".join(entry.name for entry in listed), width)
    yield "\nCommands"
    yield from _lines(f"{', '.join(COMMANDS)}: ghostasync COMMAND --help", width)


def _entries(word: str, found: Sequence[Entry], width: int) -> Iterator[str]:
    for number, entry in enumerate(found):
        yield from [""] * bool(number)
        kind = GROUPS[entry.group].one
        yield f"{entry.name}{kind:>{max(width - len(entry.name), len(kind) + 2)}}"
        for paragraph in entry.text.split("\n\n"):
            yield ""
            yield from _lines(_plain(paragraph), width)
        yield from [""] * bool(entry.facts)
        left = max(map(len, entry.facts), default=0)
        for fact, text in entry.facts.items():
            yield from _lines(f"{fact:<{left}}  {_plain(text)}", width, hang=left + 2)
    if word in COMMANDS:
        yield from [""] * bool(found)
        yield f"{word} is a command: ghostasync {word} --help"


def _lines(text: str, width: int, *, hang: int = 0) -> list[str]:
    """Return *text* as indented lines, those behind the first by *hang* more."""
    # wrap() would fold the blanks that stand between a name and what it is.
    first = text[:hang] if text[:hang].endswith("  ") else ""
    return wrap(
        text.removeprefix(first),
        width,
        initial_indent=_INDENT + first,
        subsequent_indent=_INDENT + " " * hang,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _plain(text: str) -> str:
    """Return *text* without marks that say no more than a word's own look does."""
    return text.replace("`", "")
