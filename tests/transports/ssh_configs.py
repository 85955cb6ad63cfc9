"""Configurations of ssh made up from a seed, and what ssh says of a host."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path
from typing import Final

__all__ = ["HOSTS", "asked_of_ssh", "count", "made_up"]

HOSTS: Final = ("web1", "web2", "db.example.com", "gw", "10.0.0.1", "WEB1", "fe80::1")

PATTERNS: Final = (
    *("*", "web*", "web?", "!web1 *", "*.example.com", "web1 web2", "!gw web* gw"),
    *('"web1"', "gw", "10.*", "WEB1", "*:*", "db* !*.example.com", "web[12]"),
)

MATCHES: Final = (
    *("all", "host web*", "originalhost web1,gw", "!host web*", "user jdoe"),
    *("localuser root,nobody", "host *.example.com user *", "host !web1,*"),
    *('exec "test %h = web1"', "exec true", "final", "final host web*", "canonical"),
    *('host web* exec "true"', "originalhost nowhere exec true", 'user "jdoe"'),
)

VALUES: Final = {
    "HostName": (
        "%h.internal",
        "10.1.1.1",
        "Real-Host",
        "::1",
        '"quoted.host"',
        "a%%b",
    ),
    "Port": ("2201", "22", '"2202"'),
    "User": ("jdoe", "CORP\\jdoe", '"two words"', "caf\xe9", "o\\'neil", "a#b"),
    "ProxyJump": ("gw", "me@gw:2200", "a,b", "ssh://me@b:22", "[::1]:22", "none"),
    "ProxyCommand": ("nc %h %p", "sh -c 'x \"%h\"' # no comment", "none", "r %r %n"),
    "HostKeyAlias": ("Alias", "other"),
    "IdentityFile": ("~/.ssh/a", "%d/k-%h", '"/k/with blank"', "none", "/k/a\\ b"),
    "CertificateFile": ("/k/a-cert.pub", "~/c-cert.pub"),
    "IdentitiesOnly": ("yes", "no"),
    "GSSAPIAuthentication": ("yes", "no"),
    "IdentityAgent": ("none", "SSH_AUTH_SOCK", "$MY_AGENT", "~/agent"),
    "AddressFamily": ("any", "inet", "inet6"),
    "CanonicalizeHostname": ("no",),
    "ConnectTimeout": ("1m", "30s", "5"),
    "ServerAliveInterval": ("30s", "15"),
    "ControlPath": ("none",),
    "TunnelDevice": ("any:any",),
    "SendEnv": ("LANG LC_*",),
}


def count(default: int) -> int:
    """Return how many configurations to try; GHOSTASYNC_CONFIGS asks for more."""
    return int(os.environ.get("GHOSTASYNC_CONFIGS", default))


def made_up(seed: int, folder: Path) -> Path:
    """Write the configuration of *seed*, and what it includes; return its path."""
    choice = random.Random(seed)
    # The files are made in any order: a glob has to put them in one.
    parts = [folder / f"part-{name}.conf" for name in ("10", "9", "a", "B")]
    choice.shuffle(parts)
    inner = folder / "inner"
    _write(inner, _text(choice, "", ""))
    for part in parts:
        _write(part, _text(choice, "", f"Include {inner}"))
    config = folder / "config"
    include = choice.choice((f"Include {folder}/part-*.conf", f'Include "{parts[0]}"'))
    _write(config, _text(choice, include, f"Include {folder}/nothing*"))
    return config


def _write(path: Path, text: str) -> None:
    path.write_bytes(text.encode("latin-1"))


def _text(choice: random.Random, first: str, second: str) -> str:
    lines = ["# caf\xe9, in Latin-1"]
    for _ in range(choice.randrange(1, 5)):
        kind = choice.random()
        if kind < 0.6:
            lines.append(_line(choice, "Host", choice.choice(PATTERNS)))
        elif kind < 0.85:
            lines.append(_line(choice, "Match", choice.choice(MATCHES)))
        lines += [_option(choice) for _ in range(choice.randrange(4))]
        if choice.random() < 0.3:
            lines.append(choice.choice((first, second)))
    end = choice.choice(("\n", "\r\n", "\n\n"))
    return end.join(lines) + choice.choice(("", end))


def _option(choice: random.Random) -> str:
    name = choice.choice([*VALUES])
    return _line(choice, name, choice.choice(VALUES[name]))


def _line(choice: random.Random, name: str, value: str) -> str:
    name = choice.choice((name, name, name.lower(), name.upper()))
    between = choice.choice((" ", " ", "\t", "=", " = "))
    after = choice.choice(("", "", "", "  ", " # why", "\t#why"))
    # What follows a command belongs to it; and ssh 9.2 does not know "none # why".
    if name.lower() == "proxycommand" or value == "none":
        after = ""
    return f"{choice.choice(('', '  ', chr(9)))}{name}{between}{value}{after}"


def asked_of_ssh(
    config: Path, host: str, port: int = 0, user: str = ""
) -> dict[str, list[str]] | None:
    """Return what ``ssh -G`` says of *host*; None where it refuses to."""
    words = ["ssh", "-T", "-G", "-F", str(config)]
    words += ["-p", str(port)] * bool(port) + ["-l", user] * bool(user)
    done = subprocess.run([*words, host], check=False, capture_output=True)
    if done.returncode:
        return None
    said: dict[str, list[str]] = {}
    for line in done.stdout.decode(errors="surrogateescape").split("\n"):
        name, _, value = line.partition(" ")
        said.setdefault(name, []).append(value)
    return said
