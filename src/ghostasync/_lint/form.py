"""
The form of a script: whether it can be started at all, wherever it runs.

An editor of Windows, or git's autocrlf there, leaves scripts that fail on every host
with words that name no cause, such as ``not found`` of a program that is there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

__all__ = ["LONGEST", "advice", "flaw"]

LONGEST: Final = 255
"""Bytes of the first line that Linux reads; the rest is cut off, or nothing starts."""

LONGEST_ONCE: Final = 127
"""The same before Linux 5.1, which RHEL 8 is."""

WIDE: Final = 8
"""Characters that have to be of two bytes each for a script to be UTF-16."""

SHELL: Final = re.compile(
    rb"(?:\S*/env\s+(?:-\S+\s+)*)?(?:\S*/)?(?:sh|ash|bash|dash|ksh|mksh|zsh)\b"
)
"""What names a shell behind ``#!``."""

STRICT: Final = re.compile(r"/(?:sh|ash|bash|dash)$")
"""Interpreters that know no option with blanks in it."""

SPLITS: Final = re.compile(r"-\w*S|--split-string")
"""The options of env that have it take its word apart."""


def flaw(text: bytes, file: str, tree: Path | None = None) -> str:
    """
    Return why a script cannot work as it is written, and the cure; empty where it can.

    Args:
        text: The script.

        file: Its name for the cure; empty where it stands in the configuration.

        tree: The folder that it runs in; None: whatever it needs will be there.
    """
    name = file or "FILE"
    if encoding := _wide(text):
        return f"is UTF-16: iconv -f {encoding} -t UTF-8 {name} has what works"
    if text.startswith(b"\xef\xbb\xbf"):
        return (
            "line 1 begins with a byte order mark, so that its first word is none: "
            rf"sed -i '1s/^\xEF\xBB\xBF//' {name}"
        )
    if b"\0" in text.partition(b"\n")[0]:
        return "is no text: have a script that calls it, or decrypt it first"
    # What follows a NUL is data, such as an archive that the script unpacks.
    lines = text.partition(b"\0")[0].split(b"\n")
    started = lines[0].startswith(b"#!")
    if number := _first_cr(lines, all_count=not started or _is_shell(lines[0])):
        return (
            f"line {number} ends in CR LF, and the CR becomes a part of its last word: "
            rf"sed -i 's/\r$//' {name}; in git, `* text eol=lf` in .gitattributes"
        )
    if started and b"\r" in lines[0]:
        return f"has lines that end in CR alone: tr '\\r' '\\n' <{name} has what works"
    return _flaw_of_first(lines[0], tree) if started else _late(lines)


def advice(key: str, text: bytes) -> str:
    """Return what may keep the script of *key* from working on some hosts."""
    length = len(text.partition(b"\n")[0])
    if not text.startswith(b"#!") or length <= LONGEST_ONCE:
        return ""
    return (
        f"{key}: line 1 has {length} bytes, and Linux before 5.1 reads {LONGEST_ONCE} "
        "of a #! line: write #!/usr/bin/env and a name"
    )


def _flaw_of_first(line: bytes, tree: Path | None) -> str:
    words = line[2:].split()
    if not words:
        return "line 1 is #! without an interpreter: write #!/bin/sh"
    program = words[0].decode("utf-8", "backslashreplace")
    if len(line) > LONGEST:
        return (
            f"line 1 has {len(line)} bytes, and Linux reads {LONGEST} of a #! line: "
            "write #!/usr/bin/env and a name, or #! and a link to the interpreter"
        )
    relative = not program.startswith("/")
    if relative and tree is not None and not (tree / program).exists():
        last = program.rpartition("/")[2]
        return (
            f"line 1 has the interpreter {program!r}, which is no absolute path: write "
            f"#!/usr/bin/env {last}"
        )
    return _one_word(program, words[1:])


def _one_word(program: str, arguments: list[bytes]) -> str:
    """Return the complaint about arguments that arrive as a single one."""
    text = b" ".join(arguments).decode("utf-8", "backslashreplace")
    is_env = program.endswith("/env")
    # Other programs may take such words apart by themselves, as perl does.
    if len(arguments) <= 1 or not (is_env or STRICT.search(program)):
        return ""
    if is_env and SPLITS.match(text):
        return ""
    whole = text if is_env else f"{program} {text}"
    return (
        f"line 1 gives {program} the single word {text!r}, for Linux takes none apart: "
        f"write #!/usr/bin/env -S {whole}"
    )


def _late(lines: list[bytes]) -> str:
    """Return the complaint about a ``#!`` that is not where it counts."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            wanted = line.lstrip()
            if wanted.startswith(b"#!") and not _is_shell(wanted):
                return (
                    f"line {number} is a #! that counts only as the first two bytes of "
                    "the script: remove what is before it"
                )
            break
    return ""


def _first_cr(lines: list[bytes], *, all_count: bool) -> int:
    for number, line in enumerate(lines if all_count else lines[:1], 1):
        if line.endswith(b"\r"):
            return number
    return 0


def _is_shell(line: bytes) -> bool:
    return SHELL.match(line[2:].strip()) is not None


def _wide(text: bytes) -> str:
    """Return the encoding of a text whose characters have two bytes each."""
    if text.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    first, second = text[: 2 * WIDE : 2], text[1 : 2 * WIDE : 2]
    zeros = bytes(WIDE)
    if (first == zeros) == (second == zeros):
        return ""
    return "UTF-16BE" if first == zeros else "UTF-16LE"
