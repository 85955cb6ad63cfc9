"""The entries of the manual, one for each thing in the code that has words."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from types import NoneType
from typing import Final, Literal, get_args, get_origin, get_type_hints

import attrs

from .. import events
from ..config import _selection
from ..machine import TRANSITIONS
from ..model import ExitStatus, Outcome, State
from ._docstrings import of_class, of_constants, of_fields, of_module
from ._keys import Form, Key, find_keys
from ._variables import READ, VARIABLES

__all__ = ["GROUPS", "Entry", "Group", "entries", "find", "near"]


@attrs.frozen
class Group:
    """
    Things of one kind: what *one* is called, and *all* of them.

    *text* is what is to be known of all.
    """

    one: str
    all: str
    text: str = ""


GROUPS: Final[Mapping[str, Group]] = {
    "key": Group(
        "key of ghostasync.toml",
        "Keys of ghostasync.toml",
        "Relative paths are relative to the folder of the file; ~ is your home."
        " Unknown keys and values of another type are refused.",
    ),
    "choice": Group("choice of hosts", "Choices of hosts"),
    "state": Group(
        "state of a host",
        "States of a host",
        "Up to READY a failure costs nothing. From DRAINING on it is undone.",
    ),
    "outcome": Group("outcome of a run", "Outcomes of a run"),
    "exit": Group(
        "exit status",
        "Exit statuses",
        "Of those that apply, the first one in this order counts.",
    ),
    "event": Group(
        "event, a line of --output json",
        "Events",
        "--output json prints each as an object on a line, with its own keys and these:"
        " v (1), seq (from 1 on), at (RFC 3339, UTC), run, event (its name), and where"
        " they apply host, state (the host's, after the event) and wave.",
    ),
    "variable": Group(
        "variable of scripts",
        "Variables of scripts",
        "Values are data, and empty where they are unknown. app.env_vars and"
        " app.secrets come besides.",
    ),
    "setting": Group(
        "variable that ghostasync reads", "Variables that ghostasync reads"
    ),
}
"""The groups of entries, by name, in the order of the manual."""


@attrs.frozen
class Entry:
    """
    What the manual says about one thing.

    *group* is one of ``GROUPS``; *names* are all that it may be asked for by, its own
    first. *text* is Markdown: paragraphs of one line with a blank line between, the
    first of them a sentence that says it in short. *facts* are more, by their names.
    """

    group: str
    names: tuple[str, ...]
    text: str
    facts: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def name(self) -> str:
        """The name of its own."""
        return self.names[0]

    @property
    def summary(self) -> str:
        """The first sentence."""
        return self.text.partition("\n\n")[0]


@functools.cache
def entries() -> tuple[Entry, ...]:
    """Return the whole manual, group by group; exit statuses as they count."""
    keys = find_keys()
    return (
        *(_key(key, keys) for key in keys),
        *_choices(),
        *(_state(state, text) for state, text in of_fields(State).items()),
        *(
            Entry("outcome", (Outcome[name].value,), text)
            for name, text in of_fields(Outcome).items()
        ),
        *(
            Entry("exit", (number, f"exit {number}", name), text)
            for name, text in of_fields(ExitStatus).items()
            for number in [str(ExitStatus[name].value)]
        ),
        *_events(),
        *(
            Entry("variable", (name,), it.text, {"seen by": ", ".join(it.seen)})
            for name, it in VARIABLES.items()
        ),
        *(Entry("setting", (name,), text) for name, text in READ.items()),
    )


def find(word: str) -> list[Entry]:
    """
    Return what *word* may mean, in the order of the manual, or nothing.

    A key may be named without its tables. Capitals count only where there are some. The
    name of a group means all of it.
    """
    wanted = _bare(word)
    exact = [entry for entry in entries() if _is_called(entry, wanted)]
    if wanted != wanted.lower() and exact:
        return exact
    folded = wanted.lower()
    return [entry for entry in entries() if _is_called(entry, folded, fold=True)]


def near(word: str) -> list[str]:
    """Return the names that *word* may be a typing mistake of, the nearest first."""
    names = {
        part.lower(): name
        for entry in reversed(entries())
        for name in entry.names
        for part in (name, name.rpartition(".")[2])
    }
    close = get_close_matches(_bare(word).lower(), names, n=3)
    return list(dict.fromkeys(names[found] for found in close))


def _bare(word: str) -> str:
    """Return a name without what may stand around it: modules[0].path, $NAME."""
    return re.sub(r"\[\d+\]|[\[\]$]", "", word).strip()


def _is_called(entry: Entry, word: str, *, fold: bool = False) -> bool:
    names = [name.lower() if fold else name for name in entry.names]
    if entry.group == "key" and any(name.endswith(f".{word}") for name in names):
        return True
    return word in {*names, entry.group}


def _key(key: Key, keys: tuple[Key, ...]) -> Entry:
    facts = {}
    if key.form is not Form.TABLE:
        facts = {"takes": key.takes, "default": key.default or "none"}
    if inner := [other.name for other in keys if key.places[0] in other.tables]:
        facts["keys"] = ", ".join(inner)
    if also := ", ".join(key.places[1:]):
        facts["also"] = also
    return Entry("key", key.places, key.text, facts)


def _choices() -> Iterator[Entry]:
    name = _selection.__name__
    yield Entry("choice", ("limit", "--limit"), of_module(name))
    for constant, text in of_constants(name).items():
        value = getattr(_selection, constant)
        if isinstance(value, str):
            yield Entry("choice", (value,), text)


def _state(name: str, text: str) -> Entry:
    ways: dict[str, list[str]] = {}
    for event, to in TRANSITIONS[State[name]].items():
        ways.setdefault(to.name, []).append(event.__name__)
    leads = (f"{to} by {' or '.join(by)}" for to, by in ways.items())
    return Entry("state", (name,), text, {"leads to": ", ".join(leads) or "nothing"})


def _events() -> Iterator[Entry]:
    bases = (events.HostEvent, events.RunEvent)
    for name, kind in vars(events).items():
        if not (isinstance(kind, type) and issubclass(kind, bases)) or kind in bases:
            continue
        texts, hints = of_fields(kind), get_type_hints(kind)
        facts = {
            field: ". ".join(filter(None, (_json(hints[field]), texts.get(field))))
            for field in attrs.fields_dict(kind)
            if field != "host" or not issubclass(kind, events.HostEvent)
        }
        leads = [
            f"{state.name} to {ways[kind].name}"
            for state, ways in TRANSITIONS.items()
            if kind in ways
        ]
        if leads:
            facts["takes a host from"] = ", ".join(leads)
        yield Entry("event", (name,), of_class(kind), facts)


_JSON: Final[Mapping[object, str]] = {
    str: "string",
    int: "number",
    float: "number",
    bool: "true or false",
    State: "string, a state",
}


def _json(kind: object) -> str:
    """Say what a field of this type is in JSON."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        return f"string: {', '.join(args)}"
    if NoneType in args:
        return f"{_json(args[0])}, or null"
    if origin is tuple:
        return f"array of {_json(args[0])}s"
    if isinstance(kind, type) and attrs.has(kind):
        return f"object: {', '.join(attrs.fields_dict(kind))}"
    return _JSON.get(kind, "object")
