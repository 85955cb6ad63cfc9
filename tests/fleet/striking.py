"""Carries out what a plot says, beside the run that it happens to."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from tests.fleet.gates import Gate
from tests.fleet.ground import Ground
from tests.fleet.plots import Strike
from tests.fleet.running import Running

__all__ = ["Striking"]

CUTS: Final = {
    "half-open": {"up": True, "down": True},
    "mute": {"up": True, "down": False},
    "deaf": {"up": False, "down": True},
}
"""Which ways of its connections carry nothing any more."""

AWAY: Final = 2.0
"""Seconds that a host is gone which comes back by itself."""


class Striking:
    """Does what is to happen to a run, each thing in its time."""

    def __init__(
        self,
        ground: Ground,
        running: Running,
        strikes: Sequence[Strike],
        gates: ExitStack,
    ) -> None:
        self._ground, self._running = ground, running
        self._over = threading.Event()
        self.cut: set[str] = set()
        self._failed: list[str] = []
        armed: set[tuple[str, str]] = set()
        self._threads = []
        for strike in strikes:
            gate = None
            if isinstance(strike.at, str) and (strike.host, strike.at) not in armed:
                armed.add((strike.host, strike.at))
                gate = gates.enter_context(ground.gate(strike.host, strike.at))
            thread = threading.Thread(target=self._await, args=(strike, gate))
            self._threads.append(thread)
            thread.start()

    def end(self) -> None:
        """
        Whatever has not happened by now does not.

        Raises:
            RuntimeError: Something could not be done.
        """
        self._over.set()
        for thread in self._threads:
            thread.join()
        if self._failed:
            raise RuntimeError("; ".join(self._failed))

    def _await(self, strike: Strike, gate: Gate | None) -> None:
        try:
            self._play(strike, gate)
        except (OSError, RuntimeError) as exc:
            self._failed.append(f"{strike}: {exc!r}")

    def _play(self, strike: Strike, gate: Gate | None) -> None:
        if gate is None:
            self._running.until("Started")
            at = strike.at if isinstance(strike.at, float) else 0.0
            if not self._over.wait(at):
                self._do(strike)
            return
        while not self._over.is_set():
            try:
                gate.wait(0.1)
            except TimeoutError:
                continue
            self._do(strike)
            if strike.fault == "fails":
                gate.go("echo broken; exit 7")
            elif strike.fault == "dawdles":
                self._over.wait(1)
                gate.go()
            elif strike.fault != "hangs":
                gate.go()
            return

    def _do(self, strike: Strike) -> None:
        ground, host = self._ground, strike.host
        if strike.fault in CUTS:
            self.cut.add(host)
            ground.roads[host].silence(**CUTS[strike.fault])
        match strike.fault:
            case "reset":
                ground.reset(host)
            case "killed":
                ground.kill(host)
            case "stopped":
                ground.stop(host)
            case "reboots" | "naps":
                away = ground.kill if strike.fault == "reboots" else ground.stop
                away(host)
                self._over.wait(AWAY)
                ground.revive(host)
            case "disk full":
                ground.fill(host)
            case "SIGKILL" | "SIGINT" | "SIGTERM" as name:
                self._running.signal(name)
