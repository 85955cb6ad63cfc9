"""Files of this machine: where they are, and the text of an error about one."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import ConfigError
from ..model import Ssh

__all__ = ["expanded", "require_homes", "unusable"]


def require_homes(settings: Ssh) -> None:
    """
    Do nothing where the home folders are known that *settings* and asyncssh ask for.

    Raises:
        ConfigError: Who runs this has none, or nobody has the one of a ``~name``.
    """
    # asyncssh looks into it, whatever it is told.
    if _unknown("~"):
        raise ConfigError(["there is no home folder here: set HOME"])
    files = {"identity": settings.identity, "known_hosts": settings.known_hosts}
    for key, path in {**files, "config": settings.config}.items():
        if isinstance(path, str) and _unknown(path):
            text = f"ssh.{key}: {path}: there is no such home folder"
            raise ConfigError([f"{text}: write the whole path"])


def _unknown(path: str) -> bool:
    return os.path.expanduser(path).startswith("~")  # noqa: PTH111  Path's raises


def expanded(path: str) -> Path:
    """Return *path*, absolute, with ``~`` filled in if there is a home."""
    # Path.expanduser, which asyncssh uses as well, raises where there is none.
    return Path(os.path.abspath(os.path.expanduser(path)))  # noqa: PTH100, PTH111


def unusable(exc: OSError | ValueError, path: Path | str = "") -> str:
    """Return one line about *exc*; the file that it names, or else *path*, is first."""
    text = str(exc)
    if isinstance(exc, OSError) and exc.strerror:
        missing = isinstance(exc, FileNotFoundError)
        text = "no such file" if missing else exc.strerror.lower()
        path = exc.filename or path
    name = str(path)
    return text if not name or text.startswith(name) else f"{name}: {text}"
