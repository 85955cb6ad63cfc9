"""The environment of scripts, its form on a host, and its digest."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Container, Iterable, Iterator, Mapping

from ..model import Action, App, Module, Revision

__all__ = [
    "FALLBACK_EPOCH",
    "LONGEST_VARIABLE",
    "MOST_VARIABLES",
    "app_variables",
    "changed",
    "digest",
    "exports",
    "module_variables",
    "parse_exports",
    "recorded_secrets",
    "run_variables",
    "secret_names",
    "secret_values",
    "shortened",
    "size_of",
    "split_secret_names",
]

FALLBACK_EPOCH = 315532800
"""``SOURCE_DATE_EPOCH`` where a source has no commit: 1980, which zip can hold."""

_MESSAGE_BYTES = 32_000
"""Bytes of a commit's message in ``GHOST_MODULE_COMMIT_MESSAGE``."""

_PASSING = frozenset({"GHOST_ACTION", "GHOST_MODULE_USER", "GHOST_MODULE_REV"})
"""Variables that change with each run."""

_EXPORT = re.compile(rb"export ([A-Za-z_][A-Za-z0-9_]*)='((?:[^']|'\\'')*)'\n")
_SECRETS = re.compile(rb"ghost_secrets='([A-Za-z0-9_ ]*)'\n")
_OTHER = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*='(?:[^']|'\\'')*'\n")

RECORD = b"environment\n"
"""The line before each environment that a host has on record, see ``recorded.sh``."""

_LONG = 8
"""Characters from which on a variable of which nothing is known may be a secret."""

LONGEST_VARIABLE = 131_000
"""Bytes of a variable with its name: Linux starts no program with more than 131,071."""

MOST_VARIABLES = 1_000_000
"""Bytes of all variables of users: for arguments and variables together Linux allows a
quarter of the stack's limit, which is 2 MiB where nobody has set it."""


def size_of(name: str, value: str) -> int:
    """Return the bytes that a variable takes in the environment of a program."""
    return len(os.fsencode(f"{name}={value}\0"))


def shortened(message: str) -> str:
    """Return as much of a commit's message as a variable is to hold."""
    data = os.fsencode(message)
    if len(data) <= _MESSAGE_BYTES:
        return message
    # A character of several bytes is left out as a whole.
    end = _MESSAGE_BYTES
    while data[end] & 0xC0 == 0x80 and end > _MESSAGE_BYTES - 3:
        end -= 1
    return os.fsdecode(data[:end]).rstrip("\n")


def module_variables(
    app: App,
    module: Module,
    revision: Revision,
    *,
    actor: str,
    action: Action,
    secrets: Mapping[str, str],
) -> dict[str, str]:
    """
    Return the variables that every script of *module* sees, here and on hosts.

    Values are data, empty where unknown; bytes that are no UTF-8 are surrogate escapes.
    """
    return {
        **run_variables(app, actor=actor, action=action, secrets=secrets),
        "GHOST_MODULE_NAME": module.name,
        "GHOST_MODULE_PATH": module.path,
        "GHOST_MODULE_REPO": revision.repo,
        "GHOST_MODULE_REV": revision.rev,
        "GHOST_MODULE_COMMIT": revision.commit,
        "GHOST_MODULE_COMMIT_MESSAGE": shortened(revision.message),
    }


def run_variables(
    app: App, *, actor: str, action: Action, secrets: Mapping[str, str]
) -> dict[str, str]:
    """Return the variables of commands that belong to no module: a module's are empty."""
    # Empty and not missing: a script under set -u can use any of them.
    unknown = (
        *("NAME", "PATH", "REPO", "REV"),
        *("COMMIT", "COMMIT_MESSAGE", "COMMIT_MESSAGE_FILE"),
    )
    return {
        **app_variables(app),
        **secrets,
        **{f"GHOST_MODULE_{name}": "" for name in unknown},
        "GHOST_MODULE_USER": actor,
        "GHOST_ACTION": action.value,
    }


def app_variables(app: App) -> dict[str, str]:
    """Return the variables that every command sees, in a run or outside of one."""
    # The user's own first: none of them can take the place of one of ours.
    return {
        **app.env_vars,
        "GHOST_APP": app.name,
        "GHOST_ENV": app.env,
        "GHOST_ROLE": app.role,
        "GHOST_ENV_COLOR": app.color,
        "GHOST_ACTIVE_COLOR": app.active_color,
    }


def exports(variables: Mapping[str, str]) -> bytes:
    """Return *variables* as lines that ``/bin/sh`` reads back byte for byte."""
    # In single quotes nothing but a single quote means anything. Sorted, so that equal
    # environments have equal digests.
    return b"".join(
        b"export %s='%s'\n"
        % (name.encode(), os.fsencode(value).replace(b"'", b"'\\''"))
        for name, value in sorted(variables.items())
    )


def parse_exports(data: bytes) -> dict[str, str]:
    """
    Return the variables that :func:`exports` wrote.

    Raises:
        ValueError: The data is something else; the message holds none of its values.
    """
    found, at = dict[str, str](), 0
    while at < len(data):
        match = _EXPORT.match(data, at)
        if match is None:
            raise ValueError("no list of exports")
        value = match[2].replace(b"'\\''", b"'")
        found[match[1].decode()], at = os.fsdecode(value), match.end()
    return found


def secret_names(names: Iterable[str]) -> bytes:
    """Return the line before exports that says which of them are secret."""
    return b"ghost_secrets='%s'\n" % " ".join(sorted({*names})).encode()


def split_secret_names(data: bytes) -> tuple[tuple[str, ...] | None, bytes]:
    """Return what :func:`secret_names` says at the head of *data*, and the rest."""
    # What was written by an earlier version does not say it.
    match = _SECRETS.match(data)
    if match is None:
        return None, data
    return tuple(match[1].decode().split()), data[match.end() :]


def recorded_secrets(data: bytes, plain: Container[str]) -> Iterator[str]:
    """
    Yield the values that are secret in environments that a host has on record.

    Total: what is no environment holds none. *plain* as in :func:`secret_values`.
    """
    names: set[str] | None = None
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(data):
        if data.startswith(RECORD, at):
            yield from secret_values(found, names, plain)
            names, found, at = None, [], at + len(RECORD)
        elif match := _SECRETS.match(data, at):
            names, at = {*(names or ()), *match[1].decode().split()}, match.end()
        elif match := _EXPORT.match(data, at):
            value = os.fsdecode(match[2].replace(b"'\\''", b"'"))
            found.append((match[1].decode(), value))
            at = match.end()
        elif match := _OTHER.match(data, at):
            at = match.end()
        else:
            break
    yield from secret_values(found, names, plain)


def secret_values(
    variables: Iterable[tuple[str, str]],
    names: Container[str] | None,
    plain: Container[str],
) -> Iterator[str]:
    """
    Yield the values of those *variables* that *names* says are secret.

    Where nobody has said, some may have had other names than today: all count then but
    ours, short ones, and those in *plain*, which are none by today's configuration.
    """
    for name, value in variables:
        unknown = not name.startswith("GHOST") and name not in plain
        if name in names if names is not None else unknown and len(value) >= _LONG:
            yield value


def digest(variables: Mapping[str, str]) -> str:
    """
    Return the SHA-256 of an environment, in hex, but for variables that change each run.

    The actor, the action and the name of the revision do not count: with the same
    commit, variables and secrets a host is in line, whoever deployed it.
    """
    lasting = {k: v for k, v in variables.items() if k not in _PASSING}
    return hashlib.sha256(exports(lasting)).hexdigest()


def changed(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of variables by which two environments differ in digest."""
    names = sorted({*old, *new} - _PASSING)
    return tuple(name for name in names if old.get(name) != new.get(name))
