"""
The reader of shell scripts: their commands, with lines and words.

The reader knows sh and the parts of bash that people use: comments, quotes, expansions,
here-documents and the places where a command begins, so that text is not taken for
commands. The reader never raises: text that it does not understand gives fewer
commands.

How it works: a script is a series of simple commands between separators; keywords such
as ``if`` and ``do`` are passed over, since a command may begin behind them. A
substitution is a series of its own, read where it stands. The text of a here-document
is read at the end of its line and handed to the commands that it belongs to.

Rule: every method of the reader moves forward, or the text is at its end.
"""

from __future__ import annotations

import re
from typing import Final

import attrs

from .shell_words import DEPTH, Words

__all__ = ["ShellCommand", "ShellScript", "read"]

_OPENERS: Final = frozenset(
    {"if", "then", "elif", "else", "fi", "while", "until", "do", "done", "!", "{", "}"}
)
"""Words after which, or as which, a command may begin."""

_DATA: Final = frozenset({"for", "select", "function"})
"""Words that begin a line of names, none of which is run."""

_SPACE: Final = " \t\r"
_REDIRECTION: Final = re.compile(r"\d*(&>>?|<<<|<<-?|<>|<&|>&|>>|>\||[<>](?!\())")
_SEPARATOR: Final = re.compile(r";;&|;;|;&|;|&&|\|\||\|&|&|\||\n|\(|\)")


@attrs.define(eq=False)
class ShellCommand:
    """
    One simple command: its *words* without quotes, expansions as they were written.

    *line* and *last* are the lines of its first and last word; *stdin* is the text of a
    here-document and *stdin_line* the line where that begins; *feeder* is the command
    before it in a pipe.
    """

    words: tuple[str, ...]
    line: int
    last: int
    stdin: str = ""
    stdin_line: int = 0
    feeder: ShellCommand | None = None


@attrs.frozen
class ShellScript:
    """The commands of a script, and its comments by their line."""

    commands: tuple[ShellCommand, ...]
    comments: dict[int, str]


def read(text: str, line: int = 1) -> ShellScript:
    """Read *text*, whose first line has the number *line*; never raises."""
    reader = _Reader(text, line)
    while not reader.done:
        reader.commands_until("")
    return ShellScript(tuple(reader.commands), reader.comments)


@attrs.define(eq=False)
class _Pending:
    """A here-document whose text begins after the line."""

    delimiter: str
    tabs: bool
    quoted: bool
    owner: list[ShellCommand] = attrs.field(factory=list)


@attrs.define(eq=False)
class _Draft:
    """A command that is being read."""

    words: list[str] = attrs.field(factory=list)
    start: int = 0
    end: int = 0
    pending: list[_Pending] = attrs.field(factory=list)


@attrs.define(eq=False)
class _Series:
    """
    Commands one after the other, as far as they have been read.

    *feeder* is the command that pipes into the next one; *cases* has an entry for each
    open ``case``: whether a pattern comes next.
    """

    draft: _Draft = attrs.field(factory=_Draft)
    feeder: ShellCommand | None = None
    cases: list[bool] = attrs.field(factory=list)

    @property
    def in_pattern(self) -> bool:
        return bool(self.cases) and self.cases[-1]


class _Reader(Words):
    def __init__(self, text: str, line: int, depth: int = 0) -> None:
        super().__init__(text, line, depth)
        self.commands: list[ShellCommand] = []
        self.comments: dict[int, str] = {}
        self.pending: list[_Pending] = []

    # --- Commands ----------------------------------------------------------------

    def commands_until(self, closer: str) -> None:
        """Read commands up to the *closer* of a substitution, or to the end."""
        # A here-document within a substitution has its text there, not at the end of
        # the line around it.
        outer, self.pending = self.pending, []
        self._series(closer)
        self.pending = outer

    def _series(self, closer: str) -> None:
        series = _Series()
        while not self.done:
            self._skip_blank()
            if self.done:
                break
            if self._redirection(series.draft):
                continue
            match = _SEPARATOR.match(self.text, self.at)
            if match is None:
                self._take_word(series)
            elif self._separate(series, match[0], closer):
                return
        self._finish(series)

    def _separate(self, series: _Series, sign: str, closer: str) -> bool:
        """Read what ends a command; tell whether it was the *closer*."""
        self.at += len(sign)
        if series.in_pattern:
            # The parenthesis behind a pattern of "case" closes nothing else.
            if sign == ")":
                series.cases[-1] = False
            elif sign == "\n":
                self._here_documents()
            return False
        # A word before a parenthesis is the name of a function, which runs nothing.
        if sign == "(" and series.draft.words:
            series.draft.words.clear()
        ended = self._finish(series)
        series.feeder = ended if sign in {"|", "|&"} else None
        if sign == closer:
            return True
        if sign in {";;", ";&", ";;&"} and series.cases:
            series.cases[-1] = True
        elif sign == "\n":
            self._here_documents()
        elif sign == "(" and self.here() == "(":
            self.arithmetic()
        return False

    def _take_word(self, series: _Series) -> None:
        start = self.at
        word = self.word()
        # A keyword in quotes is an ordinary word.
        bare = self.text[start : self.at] == word
        if series.in_pattern:
            if bare and word == "esac":
                series.cases.pop()
            return
        draft = series.draft
        if not draft.words and bare and self._reserved(series, word):
            return
        if not draft.words:
            draft.start = start
        draft.words.append(word)
        draft.end = max(start, self.at - 1)

    def _reserved(self, series: _Series, word: str) -> bool:
        """Read on where *word* is one of the shell's own; tell whether it is."""
        if word == "esac" and series.cases:
            series.cases.pop()
        elif word == "case":
            self._skip_to_in()
            series.cases.append(True)
        elif word == "[[":
            self._condition()
        elif word in _DATA:
            self._skip_names()
        else:
            return word in _OPENERS
        return True

    def _finish(self, series: _Series) -> ShellCommand | None:
        """Note the command that has been read, if there is one."""
        draft, series.draft = series.draft, _Draft()
        if not draft.words:
            return None
        words, last = tuple(draft.words), self.line(draft.end)
        command = ShellCommand(
            words, self.line(draft.start), last, feeder=series.feeder
        )
        self.commands.append(command)
        for pending in draft.pending:
            pending.owner.append(command)
        return command

    def _skip_blank(self) -> None:
        while not self.done:
            if self.here() in _SPACE:
                self.at += 1
            elif self.here(2) == "\\\n":
                self.at += 2
            elif self.here() == "#":
                end = self.find("\n")
                self.comments[self.line(self.at)] = self.text[self.at : end]
                self.at = end
            else:
                return

    def _redirection(self, draft: _Draft) -> bool:
        """Read a redirection, with its target; tell whether there was one."""
        match = _REDIRECTION.match(self.text, self.at)
        if match is None:
            return False
        self.at = match.end()
        while not self.done and self.here() in _SPACE:
            self.at += 1
        target_at = self.at
        target = self.word()
        if match[1] in {"<<", "<<-"} and target:
            # Quotes around the delimiter keep the text from being expanded.
            raw = self.text[target_at : self.at]
            pending = _Pending(target, match[1] == "<<-", raw != target)
            self.pending.append(pending)
            draft.pending.append(pending)
        return True

    def _here_documents(self) -> None:
        pending, self.pending = self.pending, []
        for document in pending:
            start = self.at
            lines: list[str] = []
            while not self.done:
                end = self.find("\n")
                line = self.text[self.at : end]
                self.at = min(end + 1, len(self.text))
                line = line.lstrip("\t") if document.tabs else line
                if line == document.delimiter:
                    break
                lines.append(line)
            body = "".join(f"{line}\n" for line in lines)
            for owner in document.owner:
                owner.stdin, owner.stdin_line = body, self.line(start)
            if not document.quoted:
                self._expansions(body, self.line(start))

    def _expansions(self, body: str, line: int) -> None:
        """Find the commands that a here-document runs while it is made."""
        if self.depth < DEPTH:
            inner = _Reader(body, line, self.depth + 1)
            inner.expandable("")
            self.commands += inner.commands

    def substituted(self, body: str, line: int) -> None:
        """Read the commands in *body*, between backticks that begin at *line*."""
        if self.depth < DEPTH:
            inner = _Reader(body, line, self.depth + 1)
            while not inner.done:
                inner.commands_until("")
            self.commands += inner.commands

    # --- What holds no commands -----------------------------------------------------

    def _condition(self) -> None:
        """Skip to the end of ``[[``; substitutions in it are read."""
        while not self.done and self.here() != "\n":
            self._skip_blank()
            if self.here() in "()<>|&;":
                self.at += 1
            elif self.here() != "\n" and self.word() == "]]":
                return

    def _skip_to_in(self) -> None:
        while not self.done:
            self._skip_blank()
            if self.word() == "in":
                return

    def _skip_names(self) -> None:
        while not self.done:
            self._skip_blank()
            if self.here() in "\n;({":
                return
            self.word()
