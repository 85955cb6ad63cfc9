"""The text of an error about a file of this machine, for people."""

from __future__ import annotations

from pathlib import Path

__all__ = ["unusable"]


def unusable(exc: OSError | ValueError, path: Path | str = "") -> str:
    """Return one line about *exc*; the file that it names, or else *path*, is first."""
    text = str(exc)
    if isinstance(exc, OSError) and exc.strerror:
        missing = isinstance(exc, FileNotFoundError)
        text = "no such file" if missing else exc.strerror.lower()
        path = exc.filename or path
    name = str(path)
    return text if not name or text.startswith(name) else f"{name}: {text}"
