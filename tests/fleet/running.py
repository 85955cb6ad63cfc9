"""A command at work, to be watched and disturbed."""

from __future__ import annotations

import json
import signal
import threading
from typing import Any, Final

from tests.fleet.command import Command
from tests.fleet.console import Outcome

__all__ = ["ENDING", "Running"]

ENDING: Final = 90.0
"""Seconds that a run may take to end once a fault has struck: a dead peer is noticed
within 60."""


class Running:
    """A command at work; its events are read as they come."""

    def __init__(self, process: Command) -> None:
        self.process = process
        self._lines: list[str] = []
        self._errors: list[str] = []
        self._news = threading.Condition()
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in (
                (process.stdout, self._lines),
                (process.stderr, self._errors),
            )
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Any, lines: list[str]) -> None:  # TextIO or None
        for line in stream:
            with self._news:
                lines.append(line)
                self._news.notify_all()

    @property
    def events(self) -> list[dict[str, Any]]:  # JSON
        with self._news:
            return [json.loads(line) for line in self._lines]

    @property
    def run(self) -> str:
        """The run's id; it must have begun."""
        run: str = self.events[0]["run"]
        return run

    def until(self, name: str, host: str = "", seconds: float = 40) -> None:
        """Return once an event has come, of *host* where that is given."""

        def come() -> bool:
            return any(
                event["event"] == name and event.get("host", "") in {"", host or ""}
                for event in map(json.loads, self._lines)
            )

        with self._news:
            if not self._news.wait_for(come, seconds):
                raise TimeoutError(f"no {name} of {host or 'the run'} in {seconds} s")

    def signal(self, name: str) -> None:
        """Send the command a signal; one that has ended hears nothing."""
        self.process.send_signal(signal.Signals[name])

    def finish(self, seconds: float = ENDING) -> Outcome:
        """Wait for the command's end."""
        self.process.wait(timeout=seconds)
        for reader in self._readers:
            reader.join(timeout=5)
        whole = [line for line in self._lines if line.endswith("\n")]
        out, err = "".join(whole), "".join(self._errors)
        return Outcome(self.process.returncode, out, err)
