"""
The reader of one word of a shell script: quotes, expansions and substitutions.

Rule: every method moves forward, or the text is at its end.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from bisect import bisect_right
from typing import Final

__all__ = ["DEPTH", "Words"]

DEPTH: Final = 40
"""
Substitutions within substitutions that are followed.

A hostile script may nest them deeper than Python's stack.
"""

_PLAIN: Final = re.compile(r"[^\s\\'\"`$;&|()<>#{}\[\]=!]+")
_TAKES_LIST: Final = re.compile(r"^[A-Za-z_]\w*(\[[^\]]*\])?\+?=$|[?*+@!]$")
"""An assignment to an array, or one of bash's patterns."""


class Words(ABC):
    """A place in a text, whose first line has the number *line*."""

    def __init__(self, text: str, line: int, depth: int = 0) -> None:
        self.text, self.at, self.first, self.depth = text, 0, line, depth
        self.breaks = [match.start() for match in re.finditer("\n", text)]

    @abstractmethod
    def commands_until(self, closer: str) -> None:
        """Read commands up to the *closer* of a substitution, or to the end."""

    @abstractmethod
    def substituted(self, body: str, line: int) -> None:
        """Read the commands in *body*, between backticks that begin at *line*."""

    @property
    def done(self) -> bool:
        """Whether the text is at its end."""
        return self.at >= len(self.text)

    def line(self, at: int) -> int:
        """Return the number of the line that holds the character *at*."""
        return self.first + bisect_right(self.breaks, at - 1)

    def here(self, length: int = 1) -> str:
        """Return the next characters."""
        return self.text[self.at : self.at + length]

    def find(self, sign: str, start: int | None = None) -> int:
        """Return where *sign* comes next, or the end."""
        at = self.text.find(sign, self.at if start is None else start)
        return len(self.text) if at < 0 else at

    def word(self) -> str:
        """Read one word; at least one character of the text, if there is any."""
        start, parts = self.at, []
        while not self.done:
            sign = self.here()
            if match := _PLAIN.match(self.text, self.at):
                parts.append(match[0])
                self.at = match.end()
            elif sign == "\\":
                parts.append(self.here(2)[1:].replace("\n", ""))
                self.at += 2
            elif sign == "'":
                end = self.find("'", self.at + 1)
                parts.append(self.text[self.at + 1 : end])
                self.at = end + 1
            elif sign == '"':
                self.at += 1
                parts.append(self.expandable('"'))
                self.at += 1
            elif sign in "$`" or self.here(2) in {"<(", ">("}:
                parts.append(self._expansion())
            elif sign == "(" and _TAKES_LIST.search("".join(parts)):
                parts.append(self._list())
            elif sign in " \t\r\n;&|()<>":
                break
            else:
                # Signs such as "=" and "[" mean something only to the called program.
                parts.append(sign)
                self.at += 1
        # A sign that begins no word, such as a stray parenthesis, is passed over.
        if self.at == start:
            self.at += 1
        # An escape at the very end of the text has moved past it.
        self.at = min(self.at, len(self.text))
        return "".join(parts)

    def expandable(self, closer: str) -> str:
        """Read text in which only ``$``, backtick and backslash mean something."""
        parts: list[str] = []
        while not self.done and self.here() != closer:
            if self.here() == "\\":
                escaped = self.here(2)[1:]
                parts.append(escaped if escaped in '$`"\\' else self.here(2))
                self.at += 2
            elif self.here() in "$`":
                parts.append(self._expansion())
            else:
                parts.append(self.here())
                self.at += 1
        return "".join(parts)

    def _expansion(self) -> str:
        """Read what begins with ``$``, a backtick, ``<(`` or ``>(``; return it."""
        start = self.at
        if self.here(3) == "$((":
            self.arithmetic()
        elif self.here() == "`":
            self._backticks()
        elif self.here(2) == "${":
            self._braces()
        elif self.here(2) in {"$(", "<(", ">("}:
            self.at += 2
            self._nested()
        elif self.here(2) == "$'":
            self.at += 2
            while not self.done and self.here() != "'":
                self.at += 2 if self.here() == "\\" else 1
            self.at += 1
        else:
            self.at += 1
        self.at = min(self.at, len(self.text))
        return self.text[start : self.at]

    def _nested(self) -> None:
        # Beyond the depth nothing is read any more: fewer commands, and an end.
        if self.depth >= DEPTH:
            self.at = len(self.text)
            return
        self.depth += 1
        self.commands_until(")")
        self.depth -= 1

    def _backticks(self) -> None:
        start = end = self.at + 1
        while end < len(self.text) and self.text[end] != "`":
            end += 2 if self.text[end] == "\\" else 1
        # Backticks within backticks are escaped: one level of backslashes goes.
        body = re.sub(r"\\([`\\$])", r"\1", self.text[start:end])
        self.substituted(body, self.line(start))
        self.at = end + 1

    def _braces(self) -> None:
        self.at += 2
        if self.depth >= DEPTH:
            self.at = len(self.text)
            return
        self.depth += 1
        while not self.done and self.here() != "}":
            if self.here() == "\\":
                self.at += 2
            elif self.here() == "'":
                self.at = self.find("'", self.at + 1) + 1
            elif self.here() in "$`":
                self._expansion()
            else:
                self.at += 1
        self.at += 1
        self.depth -= 1

    def arithmetic(self) -> None:
        """Skip a sum, from its parentheses on; nothing in it is a command."""
        self.at = self.find("(", self.at)
        depth = 0
        while not self.done:
            depth += {"(": 1, ")": -1}.get(self.here(), 0)
            self.at += 1
            if depth == 0:
                return

    def _list(self) -> str:
        start = self.at
        self.at += 1
        self.depth += 1
        if self.depth > DEPTH:
            self.at = len(self.text)
        while not self.done and self.here() != ")":
            if self.here() in " \t\r\n;&|(<>":
                self.at += 1
            elif self.here() == "#":
                self.at = self.find("\n")
            else:
                self.word()
        self.at = min(self.at + 1, len(self.text))
        self.depth -= 1
        return self.text[start : self.at]
