"""The folder of one run on this machine: journal, report, and everybody's output."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import attrs

from ..errors import StoreError

__all__ = ["RunFolder"]

_SAFE = " @:+,=[]"
"""What stays as it is in the name of a log, besides letters, digits and ``_.-~``."""


@attrs.define(eq=False)
class RunFolder:
    """
    Where a run writes. Folders are 0700: output may say more than it should.

    The log of a host is best effort: a full disk here must not fail a deployment there,
    so *broken* is set instead, once.
    """

    path: Path
    broken: str = ""

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """
        Make the folder of a new run.

        Raises:
            StoreError: It cannot be made.
        """
        try:
            # mkdir(parents=True) gives only the last one its mode.
            missing = [folder for folder in path.parents if not folder.exists()]
            for folder in (*reversed(missing), path, path / "hosts", path / "build"):
                folder.mkdir(mode=0o700, exist_ok=folder != path)
        except OSError as exc:
            raise StoreError(f"{path}: {exc.strerror}; check store.url") from exc
        return cls(path)

    @property
    def journal(self) -> Path:
        """The file of the run's records."""
        return self.path / "journal.jsonl"

    def build_log(self, module: str) -> Path:
        """Return the file for what a module's scripts here print."""
        return self.path / "build" / f"{module}.log"

    def host_log(self, host: str) -> Path:
        """Return the file for what a host's scripts print."""
        name = quote(host, safe=_SAFE).removeprefix(".") or "_"
        return self.path / "hosts" / f"{name}.log"

    def write(self, host: str, data: bytes) -> None:
        """Append to the log of *host*; never raises."""
        try:
            with self.host_log(host).open("ab", buffering=0) as file:
                file.write(data)
        except OSError as exc:
            self.broken = self.broken or f"{self.host_log(host)}: {exc.strerror}"
