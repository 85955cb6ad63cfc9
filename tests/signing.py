"""Keys that sign, as ssh-keygen makes them."""

from __future__ import annotations

import subprocess
from pathlib import Path

__all__ = ["make_key", "public"]


def make_key(path: Path, *options: str) -> Path:
    """Make a key at *path*, and its public half beside it."""
    command = ["ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", str(path)]
    subprocess.run([*command, *options], check=True)
    return path


def public(key: Path) -> str:
    """Return the public half of a key, as a file of allowed signers has it."""
    return " ".join(key.with_name(f"{key.name}.pub").read_text().split()[:2])
