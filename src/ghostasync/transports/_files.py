"""What is wrong with a file of this machine, said as people would."""

from __future__ import annotations

from pathlib import Path

__all__ = ["unusable"]


def unusable(exc: OSError | ValueError, path: Path | str = "") -> str:
    """Say what *exc* is about: the file that it names, or else *path*, comes first."""
    text = str(exc)
    if isinstance(exc, OSError) and exc.strerror:
        missing = isinstance(exc, FileNotFoundError)
        text = "no such file" if missing else exc.strerror.lower()
        path = exc.filename or path
    name = str(path)
    return text if not name or text.startswith(name) else f"{name}: {text}"
