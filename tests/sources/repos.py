"""Real git repositories, made by the real git."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import attrs

IDENTITY = {
    "GIT_AUTHOR_NAME": "A U Thor",
    "GIT_AUTHOR_EMAIL": "author@example.com",
    "GIT_AUTHOR_DATE": "1700000000 +0000",
    "GIT_COMMITTER_NAME": "C O Mitter",
    "GIT_COMMITTER_EMAIL": "committer@example.com",
    "GIT_COMMITTER_DATE": "1700000001 +0000",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
}


@attrs.frozen
class Repo:
    """A real repository, worked on with the real git."""

    path: Path

    def git(self, *args: str | bytes, stdin: bytes = b"") -> str:
        done = subprocess.run(
            ("git", *args),
            cwd=self.path,
            env={"PATH": os.environ["PATH"], **IDENTITY},
            input=stdin,
            check=True,
            capture_output=True,
        )
        return done.stdout.decode().strip()

    def commit(self, message: str | bytes = "change", **files: str) -> str:
        """Commit *files* (a path's slashes and dots as keyword arguments allow)."""
        for name, text in files.items():
            self.write(name, text)
        self.git("add", "--all")
        raw = message if isinstance(message, bytes) else message.encode()
        argv = ("commit", "--quiet", "--allow-empty", "--cleanup=verbatim", "-F", "-")
        self.git(*argv, stdin=raw)
        return self.head()

    def write(self, name: str, text: str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def head(self) -> str:
        return self.git("rev-parse", "HEAD")
