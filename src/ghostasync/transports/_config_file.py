"""
A reader of ssh's configuration, for where there is no ssh to ask.

It knows what this project makes use of, in the words of ssh_config(5), and refuses what
only ssh itself can tell: ``Match exec``, ``CanonicalizeHostname`` and their like. It is
compared with ssh by the tests.
"""

from __future__ import annotations

import contextlib
import getpass
import glob
import importlib.util
import os
import pwd
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs

from ._files import expanded

__all__ = ["Options", "counts", "evaluate", "files_of", "home", "local_user"]

Options = dict[str, list[str]]
"""Values by option, its name in small letters, as ``ssh -G`` prints them."""

LISTS: Final = {"identityfile", "certificatefile"}

TICKETS: Final = {"gssapiauthentication", "gssapidelegatecredentials"}

COUNTED: Final = (
    LISTS
    | TICKETS
    | {
        *("hostname", "port", "user", "proxyjump", "proxycommand", "hostkeyalias"),
        *("identitiesonly", "identityagent", "addressfamily", "controlpath"),
        *("proxyusefdpass", "canonicalizehostname"),
    }
)
"""Options that are made use of, or that lead elsewhere."""

DEEPEST: Final = 16
"""Files that may include each other; ssh's own limit."""

_BARE: Final = {"all", "final", "canonical"}
"""Criteria without a value."""

_BLANKS: Final = " \t\r\n\f"


@attrs.frozen
class _Line:
    """One line; *rest* is what follows its keyword, as it is written."""

    where: str
    keyword: str
    rest: str

    def words(self) -> list[str]:
        """Return the words of the line, without quotes and comment."""
        words = list(_words(self.rest, self.where))
        if not words:
            raise ValueError(f"{self.where}: {self.keyword} names nothing")
        return words


def evaluate(
    files: Sequence[Path], address: str, port: int = 0, user: str = ""
) -> Options:
    """
    Return what *files* say of a host; *port* and *user* are given already.

    Raises:
        ValueError: The file is wrong, or asks for what only ssh can tell.
        OSError: It cannot be read.
    """
    reader = _Reader(address)
    if port:
        reader.options["port"] = [str(port)]
    if user:
        reader.options["user"] = [user]
    for path in files:
        reader.read(path)
    # Once more, with the host's own name for the one that was asked for.
    if reader.goes_on:
        reader.final = True
        reader.name = reader.hostname().lower()
        reader.options["hostname"] = [reader.name]
        for path in files:
            reader.read(path)
    options = reader.options
    options["hostname"] = [reader.hostname().lower()]
    options["hostkeyalias"] = [a.lower() for a in options.get("hostkeyalias", [])]
    options.setdefault("port", ["22"])
    options.setdefault("user", [local_user()])
    return options


def files_of(path: Path) -> Iterator[Path]:
    """Yield the file at *path* and those that it includes, each once."""
    seen: set[Path] = set()
    waiting = [path]
    while waiting:
        at = waiting.pop()
        if at in seen or not at.is_file():
            continue
        seen.add(at)
        yield at
        for line in _lines(at):
            if line.keyword == "include":
                waiting += _included(line.words(), at)


def counts(path: Path) -> bool:
    """Tell whether the file at *path*, or one that it includes, leads anywhere."""
    lines = (line for file in files_of(path) for line in _lines(file))
    # Debian's file has every host take tickets, which takes a module to do.
    leads = COUNTED if importlib.util.find_spec("gssapi") else COUNTED - TICKETS
    return any(line.keyword in leads for line in lines)


def local_user() -> str:
    """Return the name of who runs this, as ssh finds it; empty where there is none."""
    # As ssh does, whatever USER says; a uid without a name may be called one there.
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(os.getuid()).pw_name
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def home() -> Path:
    """Return the home folder as ssh finds it, whatever HOME says."""
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return expanded("~")


class _Reader:
    """
    What has been said of *address* so far; of two values the first counts.

    *goes_on* tells whether ssh would go through all files once more, for which *final*
    is set; *name* is what ``Host`` is about.
    """

    def __init__(self, address: str) -> None:
        self._address = self.name = address
        self.goes_on = self.final = False
        self.options: Options = {}

    def hostname(self) -> str:
        name = self.options.get("hostname", ["%h"])[0]
        tokens = {"%%": "%", "%h": self._address}
        return re.sub("%[%h]", lambda token: tokens[token[0]], name)

    def read(self, path: Path, *, active: bool = True, depth: int = 0) -> None:
        if depth > DEEPEST:
            raise ValueError(f"{path}: too many files include each other")
        # Nothing in a file counts that is included for other hosts, whatever it says.
        never = not active
        for line in _lines(path):
            if line.keyword == "host":
                active = not never and _any(line.words(), self.name)
            elif line.keyword == "match":
                active = self._matches(line, never=never)
            elif line.keyword == "include":
                for file in _included(line.words(), path):
                    self.read(file, active=active, depth=depth + 1)
            elif active and line.keyword in COUNTED:
                self._take(line)

    def _take(self, line: _Line) -> None:
        name = line.keyword
        raw = name == "proxycommand"
        value = line.rest.strip(_BLANKS) if raw else line.words()[0]
        if name == "canonicalizehostname" and value.lower() not in {"no", "false"}:
            raise _needs_ssh(line, line.keyword)
        # As for ssh, the first rules the other one out, but "ProxyJump none" does not.
        jump = self.options.get("proxyjump", ["none"]) != ["none"]
        command = "proxycommand" in self.options
        if (name == "proxycommand" and jump) or (name == "proxyjump" and command):
            return
        if name in LISTS:
            values = self.options.setdefault(name, [])
            values += [value] * (value not in values)
        else:
            self.options.setdefault(name, [value])

    def _matches(self, line: _Line, *, never: bool) -> bool:
        words = line.words()
        # Wherever it stands.
        if "final" in [word.lower().lstrip("!") for word in words]:
            self.goes_on = True
        if len(words) == 1 and words[0].lower() == "all":
            return not never
        holds = not never
        while words:
            criterion = words.pop(0)
            name = criterion.lower().lstrip("!")
            wanted = words.pop(0) if words and name not in _BARE else ""
            if not holds:
                continue
            if name in _BARE:
                holds = (name == "all" or self.final) != criterion.startswith("!")
                continue
            known = {"host": self.hostname(), "originalhost": self._address}
            known["localuser"] = local_user()
            known["user"] = self.options.get("user", [known["localuser"]])[0]
            if name not in known:
                raise _needs_ssh(line, f"match {name}")
            value = known[name]
            # Names of hosts are in small letters here, and in "Host" as they are typed.
            if name.endswith("host"):
                wanted, value = wanted.lower(), value.lower()
            found = _any(wanted.split(","), value)
            holds = found != criterion.startswith("!")
        return holds


def _needs_ssh(line: _Line, what: str) -> ValueError:
    return ValueError(
        f"{line.where}: {what} takes ssh itself, which is not here (openssh-client), "
        f"or knows no name of uid {os.getuid()} (/etc/passwd)"
    )


def _any(patterns: list[str], name: str) -> bool:
    """Tell whether *name* matches: a pattern with ``!`` that does rules it out."""
    found = False
    for pattern in patterns:
        if _like(pattern.lstrip("!"), name):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _like(pattern: str, name: str) -> bool:
    parts = {"*": ".*", "?": "."}
    expression = "".join(parts.get(each, re.escape(each)) for each in pattern)
    return re.fullmatch(expression, name, re.DOTALL) is not None


def _lines(path: Path) -> Iterator[_Line]:
    # A comment may be in any encoding, and a name in that of the terminal.
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    for number, line in enumerate(text.split("\n"), 1):
        bare = line.strip(_BLANKS)
        if not bare or bare.startswith("#"):
            continue
        keyword, rest = _split(bare)
        yield _Line(f"{path} line {number}", keyword, rest)


def _split(line: str) -> tuple[str, str]:
    """Return the keyword of a line, and the rest: a blank or ``=`` is between them."""
    _, keyword, rest = re.split(r'^"?([^\s="]*)"?\s*=?\s*', line, maxsplit=1)
    return keyword.lower(), rest


def _words(text: str, where: str) -> Iterator[str]:
    """Yield the words of *text*: quotes join, a backslash takes a quote or itself."""
    at, end = 0, len(text)
    while at < end:
        if text[at] in " \t":
            at += 1
            continue
        if text[at] == "#":
            return
        word, quote = "", ""
        while at < end and (quote or text[at] not in " \t"):
            char = text[at]
            taken = "\"'\\" if quote else "\"'\\ "
            if char == "\\" and text[at + 1 : at + 2] in [*taken]:
                at += 1
                word += text[at]
            elif char in "\"'" and quote in {"", char}:
                quote = "" if quote else char
            else:
                word += char
            at += 1
        if quote:
            raise ValueError(f"{where}: a quote is not closed")
        yield word


def _included(patterns: list[str], by: Path) -> list[Path]:
    """Return the files of an Include, in ssh's order; those of users are in ~/.ssh."""
    base = Path("/etc/ssh") if by.is_relative_to("/etc/ssh") else home() / ".ssh"
    files = []
    for pattern in patterns:
        path = home() / pattern[2:] if pattern.startswith("~/") else base / pattern
        files += sorted(glob.glob(str(path)), key=os.fsencode)  # noqa: PTH207  as given
    return [Path(file) for file in files]
