"""
The text that goes to a host: a script file, its arguments, the frame around it.

How it works. :func:`command_line` is all that the login shell sees: it reads so many
bytes from stdin and has ``/bin/sh`` evaluate them. :func:`render` makes these bytes.
Nothing depends on how the login shell quotes, arguments have no limit of 128 KiB, and
``ps`` shows no secret.
"""

from __future__ import annotations

import functools
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Final

import attrs

from .._build.environment import exports

__all__ = [
    "LOST",
    "Fence",
    "as_user",
    "body",
    "command_line",
    "outliving",
    "quote",
    "render",
    "timer",
]

LOST: Final = 999
"""Stands in the closing line in place of a status where the lock is not this run's any
more; a shell's own statuses end at 255."""

_PART: Final = re.compile(rb"\. \./((?:parts/)?\w+)\.sh\b")


@attrs.frozen
class Fence:
    """
    The condition under which a script begins: *holder*, by *process*, has the lock.

    *folder*, the app's records on the host, and *holder* are words of sh. *process* is
    a number and the time at which it began; it tells one session of a run from the
    next, for a script that a dead connection had sent must not begin late. Any process
    will do where it is empty.
    """

    folder: bytes
    holder: bytes
    process: bytes = b""


def quote(value: str) -> bytes:
    """Return *value* as one word of sh, byte for byte, surrogate escapes included."""
    return b"'" + os.fsencode(value).replace(b"'", b"'\\''") + b"'"


@functools.cache
def body(name: str) -> bytes:
    """
    Return a script without comments and indentation, which a host has no use for.

    A line ``. ./parts/PART.sh`` is replaced by that part: hosts have no such files.
    """
    text = resources.files(__package__).joinpath(f"{name}.sh").read_bytes()
    lines = (line.lstrip() for line in text.splitlines())
    return b"\n".join(
        body(os.fsdecode(part[1])) if (part := _PART.match(line)) else line
        for line in lines
        if line and not line.startswith(b"#")
    )


def render(
    name: str, args: tuple[str, ...], nonce: str, fence: Fence | None = None
) -> bytes:
    """
    Return the text that ``/bin/sh`` evaluates on the host.

    The body runs in a subshell, so that its ``exit`` and ``set -e`` end only itself and
    the closing line with its status always follows. Behind a *fence* it is put on the
    list of scripts, and runs only while the holder's process lives; else stderr says
    whose lock it is, and the status is ``LOST``.
    """
    lines = [
        b"nonce=" + nonce.encode(),
        b"set -- " + _words(args),
        b"printf '\\n%s begin\\n' \"$nonce\"",
        b"(",
        body(name),
        b")",
        b'printf \'\\n%s end %s\\n\' "$nonce" "$?"',
        b"",
    ]
    # After the opening line: a fence that does not hold is an answer, too. On the list
    # before the look: whoever takes the lock writes its name, and reads the list then.
    if fence is not None:
        lines[3:3] = [
            b"scripts=" + fence.folder + b"/scripts",
            body("parts/enrol"),
            body("parts/alive"),
            b"who= pid=",
            b"{ read -r who && read -r pid; } 2>/dev/null <"
            + fence.folder
            + b"/holder",
            b'if [ "$who" = '
            + fence.holder
            + b' ] && [ "$pid" = '
            + (b"'" + fence.process + b"'" if fence.process else b'"$pid"')
            + b" ] && alive $pid; then",
        ]
        lines[-1:] = [
            b"else",
            b'printf \'\\n%s lost %s\\n\' "$nonce" "$who" >&2',
            b"printf '\\n%s end %s\\n' \"$nonce\" " + str(LOST).encode(),
            b"fi",
            b"",
        ]
    return b"\n".join(lines)


def as_user(
    user: str, file: str, text: str, environment: str, more: Mapping[str, str]
) -> str:
    """
    Return sh that runs *file*, or else *text*, as *user* of the host.

    The text ends up in an argument list there, so *more* must hold no secret.

    Args:
        user: The user that runs it; the login must be allowed to change to it.

        file: A script that only the login can read; empty for *text*.

        text: The script itself.

        environment: A file of exports that only the login can read, in its own folder.

        more: Variables that are exported after these.
    """
    args = (
        user,
        file,
        text,
        environment,
        os.fsdecode(exports(more)),
        os.fsdecode(body("change_user")),
        os.fsdecode(body("run_as_inner")),
        os.fsdecode(body("parts/bytes")),
    )
    lines = [b"# as another user", b"set -- " + _words(args), body("run_as")]
    return os.fsdecode(b"\n".join(lines))


def timer(args: tuple[str, ...], moves: tuple[str, ...]) -> bytes:
    """
    Return the script of a timer, which puts links back where no beat comes.

    The text holds those of ``restore.sh`` and ``run.sh``: when the timer needs them, no
    controller is left that could send them.

    Args:
        args: The arguments of ``timer.sh``.

        moves: The arguments of ``restore.sh``.
    """
    return b"\n".join(
        [
            b"nonce=" + secrets.token_hex(8).encode(),
            b"restore() (",
            b"set -- " + _words(moves),
            body("restore"),
            b")",
            b"run() (",
            body("run"),
            b")",
            b"set -- " + _words(args),
            body("timer"),
            b"",
        ]
    )


def outliving(args: tuple[str, ...]) -> str:
    """
    Return the script for ``outlive.sh`` that runs a user's script.

    Args:
        args: The arguments of ``run.sh``.
    """
    lines = [b"run() (", body("run"), b")", b"set -- " + _words(args), body("outlived")]
    return os.fsdecode(b"\n".join(lines))


def _words(args: Iterable[str]) -> bytes:
    return b" ".join(quote(arg) for arg in args)


def command_line(name: str, nbytes: int, *, sudo: str = "") -> str:
    """
    Return the command for the login shell: constant but for a name and a number.

    The command parses alike in sh, bash, zsh, fish and csh. The reader,
    ``parts/bytes.sh``, has to leave the rest of stdin alone: ``dd`` does, in a few
    reads where it knows ``fullblock`` (GNU, busybox, toybox), else with one for each
    byte, which takes ten times as long. Source:
    ``benchmarks/skew.py``.
    """
    prefix = f"exec sudo -n -u {sudo} " if sudo else "exec "
    reader = body("parts/bytes").decode().replace('"$nbytes"', str(nbytes))
    return f"{prefix}/bin/sh -c 'eval \"$({reader})\"' ghost-{name}"
