"""Files of this machine: where they are, and the text of an error about one."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["expanded", "unusable"]


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
