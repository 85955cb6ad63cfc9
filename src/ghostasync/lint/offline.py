"""
The lines of a script that need the network, or install outside of the release.

pre- and post-deploy run on hosts, which may have no way out and should all get the
same; a buildpack may use the network, but packages that it installs outside the tree do
not reach the hosts.

How it works: ``shell`` reads the commands of a script, this file finds the program that
a command runs in the end (behind ``sudo``, ``env``, ``xargs``, in ``sh -c``), and
``rules`` has a rule for each program. Few false alarms matter more than finding
everything: a program whose name is in a variable is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import attrs

from .rules import INSTALLERS, NETWORK, Call
from .shell import ShellCommand, read

__all__ = ["ShellLine", "complaint", "findings", "warning"]

LIMIT: Final = 1 << 17
"""Characters of a script that are looked at; a longer one holds data."""

ALLOW: Final = re.compile(r"#\s*ghostasync:\s*allow\b")
SHELLS: Final = frozenset({"sh", "ash", "dash", "bash", "ksh", "mksh", "zsh"})
SHOWN: Final = 5
"""Calls that a complaint names; it counts the others."""

NESTED: Final = 5
"""Scripts within scripts that are followed."""

FILLED: Final = 4096
"""
Characters of a word whose variables are filled in.

A script may set a variable to itself twice, and again: without a bound a few lines
would fill the memory.
"""

WHY: Final = {
    "buildpack": "what is installed outside the tree does not reach the hosts",
    "pre_deploy": "hosts may have no network, and should all get the same package",
    "before_switch": "hosts may have no network, and should all get the same package",
    "post_deploy": "hosts may have no network, and should all get the same package",
}

_ASSIGNMENT: Final = re.compile(r"([A-Za-z_]\w*)\+?=(.*)", re.DOTALL)
_VARIABLE: Final = re.compile(r"\$(?:(\w+)|\{(\w+)\})")

_VALUED: Final[Mapping[str, frozenset[str]]] = {
    "builtin": frozenset(),
    "busybox": frozenset(),
    "chronic": frozenset(),
    "chroot": frozenset({"--userspec", "--groups"}),
    "command": frozenset(),
    "doas": frozenset({"-u", "-C"}),
    "eatmydata": frozenset(),
    "env": frozenset({"-u", "-C", "--unset", "--chdir"}),
    "exec": frozenset({"-a"}),
    "flock": frozenset({"-w", "-E", "--timeout", "--wait", "--conflict-exit-code"}),
    "ionice": frozenset({"-c", "-n", "--class", "--classdata"}),
    "nice": frozenset({"-n", "--adjustment"}),
    "nohup": frozenset(),
    "runuser": frozenset({"-u", "-g", "-G", "--user", "--group"}),
    "setsid": frozenset(),
    "stdbuf": frozenset({"-i", "-o", "-e"}),
    "sudo": frozenset(
        {"-u", "-g", "-h", "-p", "-C", "-r", "-t", "-T", "-U", "-D", "-R"}
        | {"--user", "--group", "--host", "--prompt", "--chdir", "--chroot"}
    ),
    "time": frozenset({"-f", "-o", "--format", "--output"}),
    "timeout": frozenset({"-k", "-s", "--kill-after", "--signal"}),
    "xargs": frozenset(
        {"-I", "-n", "-P", "-L", "-s", "-d", "-a", "-E"}
        | {"--max-args", "--max-procs", "--max-lines", "--arg-file", "--delimiter"}
    ),
}
"""Programs that run the rest of their line, and their options that take a value."""

_POSITIONS: Final = {"timeout": 1, "chroot": 1, "flock": 1}
"""Words after the options of such a program that come before the name of the other."""

_LOOKS_UP: Final = frozenset({"-v", "-V"})
"""Options with which ``command`` runs nothing and tells what it would run."""


@attrs.frozen
class ShellLine:
    """A finding: the command, as in ``pip install``, and the line where it begins."""

    number: int
    command: str


def warning(key: str, text: bytes) -> str:
    """Return the complaint about the script *text* of a module's *key*, or nothing."""
    if key not in WHY:
        return ""
    lines = findings(text.decode("utf-8", "replace"), key)
    return complaint(key, lines) if lines else ""


def findings(text: str, key: str) -> tuple[ShellLine, ...]:
    """
    Return the calls that a script should not make, in line order; never raises.

    Args:
        text: The script. A script whose ``#!`` names no shell is not looked at.

        key: The script's purpose: ``buildpack``, or one of those that run on hosts.
    """
    text = text[:LIMIT].replace("\r\n", "\n")
    if not _is_shell(text):
        return ()
    inspector = _Inspector(INSTALLERS if key == "buildpack" else NETWORK)
    # The same call twice on one line is told once.
    lines = dict.fromkeys(inspector.look(text, 1))
    return tuple(sorted(lines, key=lambda line: line.number))


def complaint(key: str, lines: Sequence[ShellLine]) -> str:
    """Return one line about the findings in a script."""
    calls = ", ".join(f"{line.command} (line {line.number})" for line in lines[:SHOWN])
    if len(lines) > SHOWN:
        calls += f" and {len(lines) - SHOWN} more"
    return f"{key} calls {calls}: {WHY[key]}; where it is meant: # ghostasync: allow"


def _is_shell(text: str) -> bool:
    # A script without "#!" is for /bin/sh, as when it is run; a program is no script.
    if not text.startswith("#!"):
        return "\0" not in text
    words = text.partition("\n")[0].removeprefix("#!").split()
    names = [word.rpartition("/")[2] for word in words]
    while names and (names[0] in {"env", "busybox"} or names[0].startswith("-")):
        del names[0]
    return bool(names) and names[0] in SHELLS


@attrs.define
class _Inspector:
    """
    The inspection of a script, and of the scripts that it holds as text.

    *known* are the variables that were given a value so far; *depth* counts the scripts
    around the one that is looked at.
    """

    rules: Mapping[str, Call]
    known: dict[str, str] = attrs.field(factory=dict)
    depth: int = 0

    def look(self, text: str, line: int) -> Iterator[ShellLine]:
        script = read(text, line)
        allowed = {at for at, note in script.comments.items() if ALLOW.search(note)}
        occupied = {command.last for command in script.commands}
        for command in script.commands:
            lines = set(range(command.line, command.last + 1))
            before = command.line - 1
            # A mark is for its own line, or alone on a line for the next. A mark behind
            # a command is that command's, and does not reach the next line too.
            if lines & allowed or (before in allowed and before not in occupied):
                # Variables that are set on a line that is meant still count.
                self._remember(command.words)
                continue
            yield from self._judge(command)

    def _judge(self, command: ShellCommand) -> Iterator[ShellLine]:
        variables, words = self._run(command.words)
        if not words:
            self._remember(command.words)
            return
        name, args = words[0].rpartition("/")[2], words[1:]
        if text := _text(name, args):
            yield from self._within(text, command.line)
        elif name in SHELLS and not any(not a.startswith("-") for a in args):
            # A shell without a file reads its script from stdin: a here-document of its
            # own, or one that cat pipes into it.
            source = command if command.stdin else command.feeder
            if source is not None and (source is command or source.words[0] == "cat"):
                yield from self._within(source.stdin, source.stdin_line)
        elif name == "find":
            yield from self._found(command, args)
        else:
            yield from self._matched(command, variables, words)
        self._remember(command.words)

    def _matched(
        self, command: ShellCommand, variables: Mapping[str, str], words: Sequence[str]
    ) -> Iterator[ShellLine]:
        name = _program(words[0])
        rule = self.rules.get(name)
        if rule and (call := rule(words, {**self.known, **variables})):
            yield ShellLine(command.line, call)

    def _found(self, command: ShellCommand, args: Sequence[str]) -> Iterator[ShellLine]:
        for at, word in enumerate(args):
            if word in {"-exec", "-execdir", "-ok", "-okdir"}:
                inner = ShellCommand(tuple(args[at + 1 :]), command.line, command.last)
                yield from self._judge(inner)
                return

    def _within(self, text: str, line: int) -> Iterator[ShellLine]:
        if self.depth < NESTED:
            self.depth += 1
            yield from self.look(text, line)
            self.depth -= 1

    def _run(self, words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
        """Return a command's own variables, and the words that it runs."""
        variables: dict[str, str] = {}
        rest = [self._filled(word) for word in words]
        while rest:
            if match := _ASSIGNMENT.fullmatch(rest[0]):
                variables[match[1]] = match[2]
                del rest[0]
                continue
            name = rest[0].rpartition("/")[2]
            if name not in _VALUED:
                break
            # "command -v curl" only asks whether there is a curl.
            if name == "command" and _LOOKS_UP & set(rest[1:2]):
                return variables, []
            rest = _after(name, rest[1:], variables)
        return variables, rest

    def _remember(self, words: Sequence[str]) -> None:
        """Keep the variables that a command sets, for the lines below it."""
        if words and words[0] in {"export", "readonly", "local", "declare", "typeset"}:
            words = words[1:]
        for word in words:
            match = _ASSIGNMENT.fullmatch(word)
            if match is None:
                break
            self.known[match[1]] = self._filled(match[2])
        # A virtual environment that was entered, and a prefix that was configured, make
        # later installations harmless.
        if words and words[-1].endswith("/activate"):
            self.known["VIRTUAL_ENV"] = words[-1]
        if any("INSTALL_PREFIX=" in w or w.startswith("--prefix") for w in words):
            self.known["PREFIX"] = words[-1]

    def _filled(self, word: str) -> str:
        def value(match: re.Match[str]) -> str:
            return self.known.get(match[1] or match[2], match[0])

        return _VARIABLE.sub(value, word)[:FILLED] if "$" in word else word


def _after(name: str, args: list[str], variables: dict[str, str]) -> list[str]:
    """Return the rest of *args* behind the options and variables of program *name*."""
    valued = _VALUED[name]
    at = 0
    while at < len(args):
        word = args[at]
        at += 1
        if word == "--":
            break
        if word.startswith("-") and len(word) > 1:
            at += word in valued
        elif match := _ASSIGNMENT.fullmatch(word):
            variables[match[1]] = match[2]
        else:
            at -= 1
            break
    return args[at + _POSITIONS.get(name, 0) :]


def _text(name: str, args: Sequence[str]) -> str:
    """Return the script that a command is given as text; empty where it is not."""
    if name == "eval":
        return " ".join(args)
    # "trap - EXIT" and "trap 'text' EXIT" have a signal behind the text.
    if name == "trap":
        return args[0] if len(args) > 1 else ""
    if name in SHELLS or name == "su":
        for at, word in enumerate(args[:-1]):
            if re.fullmatch(r"-[a-z]*c|--command", word):
                return args[at + 1]
    return ""


def _program(word: str) -> str:
    """Return a program's name as the rules have it, without folder and version."""
    name = word.rpartition("/")[2]
    return re.sub(r"^(pip|python|easy_install|gem|npm)[\d.-]+$", r"\1", name)
