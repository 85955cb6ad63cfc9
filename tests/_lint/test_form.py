from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ghostasync._lint.form import advice, flaw

SH = b"#!/bin/sh\nset -eu\ntrue\n"


def written(folder: Path, text: bytes) -> Path:
    path = folder / "script"
    path.write_bytes(text)
    path.chmod(0o755)
    return path


def works(folder: Path, text: bytes) -> bool:
    """Tell what this machine's kernel and shell make of a script."""
    path = written(folder, text)
    argv = [str(path)] if text.startswith(b"#!") else ["/bin/sh", str(path)]
    try:
        done = subprocess.run(argv, cwd=folder, capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0 and not done.stderr


CR = (
    " ends in CR LF, and the CR becomes a part of its last word: "
    "sed -i 's/\\r$//' run.sh; in git, `* text eol=lf` in .gitattributes"
)
MARK = (
    "line 1 begins with a byte order mark, so that its first word is none: "
    r"sed -i '1s/^\xEF\xBB\xBF//' run.sh"
)
EMPTY = "line 1 is #! without an interpreter: write #!/bin/sh"
HAS = "line 1 has the interpreter"
RELATIVE = "which is no absolute path: write #!/usr/bin/env"
LONG = (
    "line 1 has 263 bytes, and Linux reads 255 of a #! line: write #!/usr/bin/env and "
    "a name, or #! and a link to the interpreter"
)
LATE = (
    "line 2 is a #! that counts only as the first two bytes of the script: "
    "remove what is before it"
)
GIVES, APART = (
    "line 1 gives",
    "for Linux takes none apart: write #!/usr/bin/env -S",
)
ENDS = "tr '\\r' '\\n' <run.sh has what works"
BINARY = "is no text: have a script that calls it, or decrypt it first"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (SH.replace(b"\n", b"\r\n"), f"line 1{CR}"),
        (b"set -e\r\n", f"line 1{CR}"),
        (SH + b"cd /tmp\r\n", f"line 4{CR}"),
        (b"#!/usr/bin/env bash\ncd /tmp\r\n", f"line 2{CR}"),
        (b"#!/usr/bin/python3\r\nprint()\r\n", f"line 1{CR}"),
        (b"\xef\xbb\xbf" + SH, MARK),
        (b"\xef\xbb\xbfset -e\n", MARK),
        (b"#!\ntrue\n", EMPTY),
        (b"#! \t\ntrue\n", EMPTY),
        (
            b"#!bin/bash\ntrue\n",
            f"{HAS} 'bin/bash', {RELATIVE} bash",
        ),
        (b"#!sh\ntrue\n", f"{HAS} 'sh', {RELATIVE} sh"),
        (b"#!/" + b"./" * 127 + b"bin/sh\ntrue\n", LONG),
        (b"\n #!/usr/bin/python3\nimport sys\n", LATE),
        (
            b"#!/usr/bin/env sh -e\ntrue\n",
            f"{GIVES} /usr/bin/env the single word 'sh -e', {APART} sh -e",
        ),
        (
            b"#!/usr/bin/env -i sh\ntrue\n",
            f"{GIVES} /usr/bin/env the single word '-i sh', {APART} -i sh",
        ),
        (
            b"#! /bin/sh -e -u\ntrue\n",
            f"{GIVES} /bin/sh the single word '-e -u', {APART} /bin/sh -e -u",
        ),
        (b"#!/bin/sh\rset -e\rtrue", f"has lines that end in CR alone: {ENDS}"),
        (b"\x7fELF\x02\0\1\n\0", BINARY),
        (b"\0GITCRYPT\0\x9c\n", BINARY),
    ],
)
def test_a_script_that_cannot_work_is_told_with_line_and_cure(
    tmp_path: Path, text: bytes, why: str
) -> None:
    assert flaw(text, "run.sh", tmp_path) == why
    assert not works(tmp_path, text)


@pytest.mark.parametrize("encoding", ["UTF-16", "UTF-16LE", "UTF-16BE"])
def test_a_script_of_wide_characters_is_told(encoding: str) -> None:
    """dash passes over the zeros, and other shells do not."""
    assert flaw(SH.decode().encode(encoding), "run.sh") == (
        f"is UTF-16: iconv -f {encoding} -t UTF-8 run.sh has what works"
    )


@pytest.mark.parametrize(
    "text",
    [
        b"",
        SH,
        b"true",
        b"# caf\xe9\ntrue\n",
        b"#! /bin/sh -e\ntrue\n",
        b"#!/usr/bin/env sh\ntrue\n",
        b"#!/usr/bin/env -S sh -e\ntrue\n",
        b"#!/usr/bin/env -iS sh -e\ntrue\n",
        b"#!/usr/bin/perl -w -T\n",
        b"#!/usr/bin/python3 -X dev\n",
        b": '\r'\ntrue",
        b"\n#!/bin/sh\ntrue\n",
        b"#!/usr/bin/env python3\nimport sys\r\nsys.exit(0)\r\n",
        b"exit 0\n" + b"\x1f\x8b\0data\r\nmore\r\n",
        b"#!./own\ntrue\n",
        b"#!/" + b"./" * 123 + b"bin/sh\ntrue\n",
    ],
)
def test_a_script_that_works_is_left_alone(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "own").symlink_to("/bin/sh")

    assert works(tmp_path, text)
    assert flaw(text, "run.sh", tmp_path) == ""


@pytest.mark.parametrize("length", range(250, 261))
@pytest.mark.parametrize("end", [b"sh", b"sh -e"])
def test_a_first_line_is_as_long_as_linux_reads(
    tmp_path: Path, length: int, end: bytes
) -> None:
    rest = length - len(b"#!/bin/" + end)
    line = b"#!" + b"/" * (rest + 1) + b"bin/" + end
    assert len(line) == length

    assert (flaw(line + b"\ntrue\n", "", None) == "") == (length <= 255)
    if length <= 255:
        assert works(tmp_path, line + b"\ntrue\n")


def test_a_first_line_that_older_kernels_cut_is_advised_against() -> None:
    assert advice("pre_deploy", b"#!/" + b"x" * 124 + b"\n") == ""
    assert advice("pre_deploy", b"#" * 200) == ""
    assert advice("pre_deploy", b"#!/" + b"x" * 125 + b"\n") == (
        "pre_deploy: line 1 has 128 bytes, and Linux before 5.1 reads 127 of a #! "
        "line: write #!/usr/bin/env and a name"
    )


@pytest.mark.parametrize(
    "text",
    [SH.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + SH, SH.decode().encode("utf-16")],
)
def test_the_cure_cures(tmp_path: Path, text: bytes) -> None:
    path = written(tmp_path, text)
    cure = flaw(text, "script").partition(": ")[2].partition(";")[0]
    if cure.startswith("iconv"):
        cure = cure.removesuffix(" has what works") + " >new && mv new script"

    subprocess.run(["/bin/sh", "-c", cure], cwd=tmp_path, check=True)
    os.chmod(path, 0o755)  # noqa: PTH101  as a person does

    assert path.read_bytes() == SH
    assert works(tmp_path, path.read_bytes())
