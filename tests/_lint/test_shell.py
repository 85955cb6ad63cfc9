"""Scripts are read as a shell would, as far as commands and their words go."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostasync._lint.shell import read
from ghostasync._lint.shell_words import DEPTH


def words(text: str) -> list[tuple[str, ...]]:
    return [command.words for command in read(text).commands]


@pytest.mark.parametrize(
    "text",
    [
        "a; X", "a & X", "a && X", "a || X", "a | X", "a |& X", "a\nX", "! X", "(X)",
        "{ X; }",
        "if X; then :; fi", "if a; then X; fi", "if a; then b; else X; fi",
        "while X; do :; done", "until a; do X; done", "for i in a b; do X; done",
        "for i\ndo\nX\ndone", "for ((i = 0; i < 3; i++)); do X; done",
        "case $a in b|c) X;; esac", "case $a in (b) :;; (*) X; esac",
        "case $a in\n'b c')\n  X\n  ;;\nesac", "f() { X; }", "function f { X; }",
        "function f() {\nX\n}", "b=$(X)", 'echo "$(X)"', "echo `X`", 'echo "`X`"',
        "echo ${a:-$(X)}", "echo $(echo $(X))", "cat <(X)", "a=(b $(X))",
        "[[ a == b && c < d ]] && X", "[[ -n $(X) ]]", "echo a#b; X", "echo $#; X",
        "echo ${#a}; X", "echo $((1 << 2)); X", "(( a << 2 )); X", "echo \\; ; X",
        "X 2>&1 >/dev/null", "X &>log", "2>log X", "X <a >b", "echo 'it'\\''s'; X",
        "cat <<E\n$(X)\nE", "cat <<-E\n\ta\n\tE\nX", "cat <<'E'\nb\nE\nX",
        "cat <<A <<B\na\nA\nb\nB\nX", "echo \\\n  a; X", "# b\nX # c", "a;X;b", "X\r\n",
    ],
)  # fmt: skip
def test_a_command_is_found_wherever_one_may_stand(text: str) -> None:
    assert ("X",) in words(text)


@pytest.mark.parametrize(
    "text",
    [
        "echo X", "echo 'a; X'", 'echo "a; X"', "echo a \\; X", "# X", "echo a # ; X",
        "for X in X X; do :; done", "case X in X) :;; X|X) :; esac", "a=X",
        "a=(X X)",
        "cat <<E\nX\nE", "cat <<'E'\n$(X)\nE", "cat <<-E\n\tX\n\tE",
        "X() { :; }", "function X { :; }", "[[ X == X && X ]]",
        "echo $((X + X))", "echo >X", "cat <X",
        "echo ${X:-X}", "cat <<<X", "ls !(X)", "case a in (X) ;; esac",
        "echo $'a\\'; X'",
        "cat <<E\n\\$(X)\nE", "select X in X; do :; done",
    ],
)  # fmt: skip
def test_what_is_not_run_is_no_command(text: str) -> None:
    assert ("X",) not in words(text)


def test_words_come_without_their_quotes() -> None:
    line = r"""a 'b c'"d"e\ f "g\"\$h" "$i" $(j k) ${l} --m='n o' """

    *_, last = words(line)

    assert last == (
        "a", "b cde f", 'g"$h', "$i", "$(j k)", "${l}", "--m=n o",
    )  # fmt: skip


def test_commands_know_their_lines() -> None:
    text = "a\nb \\\n  c\n\n\n$(d\ne)\ncat <<E\nf\nE\ng"

    lines = {
        command.words[0]: (command.line, command.last)
        for command in read(text).commands
    }

    assert (lines["a"], lines["b"], lines["d"], lines["e"]) == (
        (1, 1), (2, 3), (6, 6), (7, 7),
    )  # fmt: skip
    assert lines["g"] == (11, 11)


def test_a_here_document_belongs_to_its_command() -> None:
    one, two = read("sh -e <<E; cat <<'F' | bash\na\nE\nb\nF\n").commands[:2]

    assert (one.stdin, one.stdin_line) == ("a\n", 2)
    assert (two.stdin, two.stdin_line) == ("b\n", 4)


def test_a_pipe_names_what_feeds_it() -> None:
    commands = read("a | b |\nc; d").commands

    feeders = [c.feeder.words if c.feeder else None for c in commands]
    assert feeders[:2] == [None, ("a",)]
    assert feeders[-1] is None


SIGNS = st.sampled_from(
    (
        *"\\'\"`$;&|()<>#{}[]=! \n\ta",
        *("<<", "<<-E", "\nE\n", "$((", "$(", "${", "<(", "))", "[[ ", " ]]", "a=("),
        *("case ", " in ", " esac", ";;", "for ", "&&", "if ", "fi"),
    )
)


@given(st.lists(SIGNS).map("".join) | st.text())
def test_nothing_makes_the_reader_raise_or_loop(text: str) -> None:
    script = read(text)

    assert all(command.words for command in script.commands)
    last = text.count("\n") + 1
    assert all(1 <= c.line <= c.last <= last for c in script.commands)


@pytest.mark.parametrize(
    "sign",
    ["$(", "`", "${a:-", '"$(', "a=(", "<(", "((", "[[ ", "case a in a)", "{ ", "!"],
)
def test_depth_is_bounded(sign: str) -> None:
    assert len(read(sign * 100 * DEPTH).commands) <= 100 * DEPTH + 1


@given(st.from_regex(re.compile(r"[a-z0-9/._-]+", re.ASCII), fullmatch=True))
def test_a_quoted_word_is_the_plain_one(word: str) -> None:
    (plain,) = words(f": {word}")
    (single,) = words(f": '{word}'")
    (double,) = words(f': "{word}"')

    assert plain == single == double
