"""Carries out the faults of a plan, beside the run that it happens to."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from tests.fleet.fault_fleet import FaultFleet
from tests.fleet.fault_plans import Fault
from tests.fleet.gates import Gate
from tests.fleet.running import Running

__all__ = ["FaultInjector"]

CUTS: Final = {
    "half-open": {"up": True, "down": True},
    "mute": {"up": True, "down": False},
    "deaf": {"up": False, "down": True},
}
"""Which ways of its connections carry nothing any more."""

AWAY: Final = 2.0
"""Seconds that a host is gone which comes back by itself."""


class FaultInjector:
    """Does what is to happen to a run, each thing in its time."""

    def __init__(
        self,
        faulty: FaultFleet,
        running: Running,
        faults: Sequence[Fault],
        gates: ExitStack,
    ) -> None:
        self._faulty, self._running = faulty, running
        self._over = threading.Event()
        self.cut: set[str] = set()
        self._failed: list[str] = []
        armed: set[tuple[str, str]] = set()
        self._threads = []
        for fault in faults:
            gate = None
            if isinstance(fault.at, str) and (fault.host, fault.at) not in armed:
                armed.add((fault.host, fault.at))
                gate = gates.enter_context(faulty.gate(fault.host, fault.at))
            thread = threading.Thread(target=self._await, args=(fault, gate))
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

    def _await(self, fault: Fault, gate: Gate | None) -> None:
        try:
            self._play(fault, gate)
        except (OSError, RuntimeError) as exc:
            self._failed.append(f"{fault}: {exc!r}")

    def _play(self, fault: Fault, gate: Gate | None) -> None:
        if gate is None:
            self._running.until("Started")
            at = fault.at if isinstance(fault.at, float) else 0.0
            if not self._over.wait(at):
                self._do(fault)
            return
        while not self._over.is_set():
            try:
                gate.wait(0.1)
            except TimeoutError:
                continue
            self._do(fault)
            if fault.kind == "fails":
                gate.go("echo broken; exit 7")
            elif fault.kind == "dawdles":
                self._over.wait(1)
                gate.go()
            elif fault.kind != "hangs":
                gate.go()
            return

    def _do(self, fault: Fault) -> None:
        faulty, host = self._faulty, fault.host
        if fault.kind in CUTS:
            self.cut.add(host)
            faulty.proxies[host].silence(**CUTS[fault.kind])
        match fault.kind:
            case "reset":
                faulty.reset(host)
            case "killed":
                faulty.kill(host)
            case "stopped":
                faulty.stop(host)
            case "reboots" | "naps":
                away = faulty.kill if fault.kind == "reboots" else faulty.stop
                away(host)
                self._over.wait(AWAY)
                faulty.revive(host)
            case "disk full":
                faulty.fill(host)
            case "lies":
                faulty.lie(host, *fault.lie)
            case "SIGKILL" | "SIGINT" | "SIGTERM" as name:
                self._running.signal(name)
