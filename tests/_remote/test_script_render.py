from __future__ import annotations

import re
import subprocess
from importlib import resources

import pytest

from ghostasync import _remote as remote
from ghostasync._remote.script import command_line, quote, render

SCRIPTS = sorted(
    item.name.removesuffix(".sh")
    for item in resources.files(remote).iterdir()
    # What hosts run by themselves holds all that it calls: see fleet/test_boot.py.
    if item.name.endswith(".sh") and item.name not in {"boot.sh", "user_data.sh"}
)
PARTS = sorted(item.name for item in (resources.files(remote) / "parts").iterdir())
WIDTH = 100
WORDS = (
    "",
    "it's",
    "$(touch /nope)",
    "`x`",
    "new\nline",
    "back\\slash",
    "caf\udce9",
    "-n",
)


@pytest.mark.parametrize("word", WORDS)
def test_a_word_arrives_as_it_is(word: str) -> None:
    script = b"printf %s " + quote(word)

    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, check=True)

    assert done.stdout == word.encode(errors="surrogateescape")


def test_the_login_shell_sees_one_constant_line() -> None:
    line = command_line("switch", 123, sudo="root")

    assert line == (
        "exec sudo -n -u root /bin/sh -c "
        "'eval \"$(dd bs=123 count=1 iflag=fullblock 2>/dev/null"
        " || dd bs=1 count=123 2>/dev/null)\"' ghost-switch"
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_sent_without_its_comments(name: str) -> None:
    text = render(name, ("one", "two"), "00ff")

    assert b"# usage" not in text
    assert b"set -- 'one' 'two'" in text
    large = {"check", "lock", "pull", "share", "switch"}
    longest = 8192 if name in large else 4096
    assert len(text) < longest, "some hosts read it byte by byte"


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_trusts_a_name_in_tmp(name: str) -> None:
    """Ghost defect 16: it ran and sourced files with fixed names in /tmp as root."""
    text = render(name, (), "00ff").decode()

    for random in (
        "try=${TMPDIR:-/tmp}\ntry=$try/ghost-try.$nonce",
        'mktemp "${TMPDIR:-/tmp}/ghost-message.XXXXXX"',
    ):
        text = text.replace(random, "")
    assert "/tmp" not in text


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_says_how_it_is_used(name: str) -> None:
    text = _text(f"{name}.sh")

    assert text.startswith(f"#!/bin/sh\n# usage: {name}")


@pytest.mark.parametrize("part", PARTS)
def test_every_part_says_that_it_is_one(part: str) -> None:
    assert _text(f"parts/{part}").startswith("#!/bin/sh\n# Part of ")
    files = ["boot.sh", *(f"{name}.sh" for name in SCRIPTS)]
    files += [f"parts/{name}" for name in PARTS]
    assert any(f". ./parts/{part}" in _text(file) for file in files), "nothing uses it"


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_argument_has_the_name_that_the_usage_says(name: str) -> None:
    usage = _text(f"{name}.sh").splitlines()[1].partition("   (")[0]
    fixed = usage.partition(" [")[0].split()[3:]

    first = _first_lines(f"{name}.sh")

    for at, word in enumerate(fixed, start=1):
        names = (word.lower(), f"GHOST_{word}")
        assert any(f"{name}=${at}" in first.split() for name in names), word


@pytest.mark.parametrize("name", [*SCRIPTS, *(f"parts/{part[:-3]}" for part in PARTS)])
def test_lines_are_short(name: str) -> None:
    lines = _text(f"{name}.sh").expandtabs(4).splitlines()

    assert [line for line in lines if len(line) > WIDTH] == []


def test_the_layout_names_every_file_that_scripts_do() -> None:
    layout = _text("LAYOUT.md")
    texts = [_text(f"{name}.sh") for name in SCRIPTS]
    texts += [_text(f"parts/{part}") for part in PARTS]
    where = r"(?:\.ghost(?:/\$\w+)?|\$meta|\.\./ghost)/([a-z]+(?:[._][a-z]+)*)"

    named = {name for text in texts for name in re.findall(where, text)}

    assert {"fence", "activations", "environment.before", "manifest"} <= named
    halves = {name for name in named if name.endswith(".new")}
    told = set(re.findall(r"`([a-z._]+)[`/]", layout))
    assert sorted(named - halves - told) == []


def _text(file: str) -> str:
    return (resources.files(remote) / file).read_text()


def _first_lines(file: str) -> str:
    """Return the first lines of a script that are no comments."""
    lines = _text(file).splitlines()
    return "\n".join([line for line in lines if not line.startswith("#")][:3])
