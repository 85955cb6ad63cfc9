from __future__ import annotations

import subprocess
from importlib import resources

import pytest

from ghostasync import _remote as remote
from ghostasync._remote.script import command_line, quote, render

SCRIPTS = sorted(
    item.name.removesuffix(".sh")
    for item in resources.files(remote).iterdir()
    if item.name.endswith(".sh")
)
PARTS = ("family",)
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
    line = command_line("switch", 123, sudo=True)

    assert line == (
        "exec sudo -n /bin/sh -c "
        "'eval \"$(dd bs=123 count=1 iflag=fullblock 2>/dev/null"
        " || dd bs=1 count=123 2>/dev/null)\"' ghost-switch"
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_sent_without_its_comments(name: str) -> None:
    text = render(name, ("one", "two"), "00ff")

    assert b"# usage" not in text
    assert b"set -- 'one' 'two'" in text
    assert len(text) < 4096, "some hosts read it byte by byte"


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_trusts_a_name_in_tmp(name: str) -> None:
    """Ghost defect 16: it ran and sourced files with fixed names in /tmp as root."""
    text = render(name, (), "00ff").decode()

    assert "/tmp" not in text.replace(
        "try=${TMPDIR:-/tmp}\ntry=$try/ghost-try.$nonce", ""
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_says_how_it_is_used(name: str) -> None:
    text = (resources.files(remote) / f"{name}.sh").read_text()

    usage = "Part of other scripts" if name in PARTS else f"usage: {name}"
    assert text.startswith(f"#!/bin/sh\n# {usage}")
