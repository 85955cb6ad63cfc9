"""Visitors of a fleet: each reads what its host serves, again and again."""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import Final, Self

from tests.fleet.fault_fleet import FaultFleet

__all__ = ["Readers"]

PAUSE: Final = 0.01
"""Seconds between two visits, so that they leave the machine to the deploys."""


class Readers:
    """
    One thread a host that reads ``version`` and ``twin`` through one folder handle.

    Whoever finds no release, or files of two, notes it down for :meth:`wrong`.
    """

    def __init__(self, faulty: FaultFleet) -> None:
        self._faulty = faulty
        self._over = threading.Event()
        self._found: list[str] = []
        self.visits = 0
        self._threads: list[threading.Thread] = []

    @property
    def reading(self) -> bool:
        return bool(self._threads)

    def wrong(self) -> list[str]:
        """Return what visitors complained of so far."""
        return list(self._found)

    def __enter__(self) -> Self:
        for host in self._faulty.names:
            thread = threading.Thread(target=self._visit, args=(host,))
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _visit(self, host: str) -> None:
        while not self._over.wait(PAUSE):
            self.visits += 1
            try:
                version, twin = self._read(host)
            except OSError as exc:
                self._found.append(f"a visitor of {host} got {exc}")
            else:
                if version != twin:
                    self._found.append(f"a visitor of {host} got {version!r}, {twin!r}")

    def _read(self, host: str) -> tuple[bytes, bytes]:
        link = self._faulty.sample.link(host, "site")
        folder = os.open(self._faulty.fleet.path(host, link), os.O_DIRECTORY)
        try:
            return _content("version", folder), _content("twin", folder)
        finally:
            os.close(folder)


def _content(name: str, folder: int) -> bytes:
    file = os.open(name, os.O_RDONLY, dir_fd=folder)
    try:
        return os.read(file, 100)
    finally:
        os.close(file)
