"""Three real hosts that serve version 1, and scripts that wait there."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import attrs

from ghostasync import Ssh
from tests.fleet.command import Command
from tests.fleet.console import Console, Outcome
from tests.fleet.sample_app import SCRIPTS, SampleApp

__all__ = ["HOSTS", "WAITS", "Fleet", "deployed", "end_of", "until"]

HOSTS = ("h1", "h2", "h3")
WAITS = 'touch "/ghost/$GHOST_HOST.waits"; until [ -e /ghost/go ]; do sleep 0.1; done'


@attrs.define
class Fleet:
    """Three hosts that serve version 1."""

    sample: SampleApp
    console: Console
    old: str

    def script(self, key: str, line: str) -> None:
        self.sample.repositories["site"].script(key, line + "\n" + SCRIPTS[key])
        self.sample.repositories["site"].commit("2")

    def heal(self) -> None:
        for key, text in SCRIPTS.items():
            self.sample.repositories["site"].script(key, text)
        self.sample.repositories["site"].commit("3")

    def path(self, host: str, path: str) -> Path:
        return self.sample.fleet.path(host, path)

    def let_go(self) -> None:
        for host in HOSTS:
            self.path(host, "/ghost/go").touch()

    def waits(self) -> bool:
        """Tell whether the script that waits has begun on every host."""
        return all(self.path(h, f"/ghost/{h}.waits").exists() for h in HOSTS)

    def silence(self) -> None:
        """Make every beat an old one, of two minutes ago."""
        for host in HOSTS:
            beat = self.path(host, "/ghost/shop/prod/web/blue/.ghost/beat")
            beat.write_text(f"{int(time.time()) - 120}\n")

    def assert_serves(self, release: str) -> None:
        assert self.sample.serves("site") == dict.fromkeys(HOSTS, release)
        for host in HOSTS:
            assert self.sample.leftovers(host, "site") == set()


def deployed(sample: SampleApp, ssh: Ssh | None = None) -> Fleet:
    console = Console(sample)
    console.configure(sample.plan(ssh=ssh))
    first = console.deploy()
    assert first.exit == 0, first.stderr
    return Fleet(sample, console, first.last["releases"]["site"])


def until(ready: Callable[[], bool], seconds: float = 40) -> None:
    """Wait for what only files and processes tell."""
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def end_of(process: Command) -> Outcome:
    out, err = process.communicate(timeout=60)
    return Outcome(process.returncode, out, err)
